//! What is known beforehand, counted with awk alone (see ops/demo/README.md).
//!
//! Invariant: these numbers come from the files, never from a run of the broker.

/// What must come out of one input file.
pub(super) struct Expected {
    /// Rows without the header.
    pub(super) rows: u64,
    /// Rows with `arr_delay` > 60.
    pub(super) late: u64,
    /// Those, by carrier.
    pub(super) carriers: [(&'static str, u64); 16],
}

/// New York, January 2013.
pub(super) const JANUARY: Expected = Expected {
    rows: 27_004,
    late: 1_862,
    carriers: [
        ("9E", 152),
        ("AA", 132),
        ("AS", 4),
        ("B6", 266),
        ("DL", 121),
        ("EV", 689),
        ("F9", 5),
        ("FL", 13),
        ("HA", 3),
        ("MQ", 148),
        ("OO", 1),
        ("UA", 212),
        ("US", 51),
        ("VX", 3),
        ("WN", 58),
        ("YV", 4),
    ],
};

/// New York, the whole of 2013.
pub(super) const YEAR: Expected = Expected {
    rows: 336_776,
    late: 27_789,
    carriers: [
        ("9E", 1_830),
        ("AA", 2_070),
        ("AS", 33),
        ("B6", 4_965),
        ("DL", 2_927),
        ("EV", 6_803),
        ("F9", 87),
        ("FL", 360),
        ("HA", 8),
        ("MQ", 2_323),
        ("OO", 4),
        ("UA", 3_931),
        ("US", 937),
        ("VX", 374),
        ("WN", 1_063),
        ("YV", 74),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carriers_add_up() {
        for expected in [JANUARY, YEAR] {
            let sum: u64 = expected.carriers.iter().map(|(_, count)| count).sum();
            assert_eq!(sum, expected.late);
        }
    }
}
