//! Names of a log's files.
//!
//! Invariant: a file belongs to the log only if its name is exactly what the log would have called it.

use millstream_protocol::ids::Offset;

/// What a segment's name ends with.
pub(crate) const SEGMENT_SUFFIX: &str = ".log";
const DIGITS: usize = 20;

/// The file name of the segment that begins at `base`.
pub(crate) fn segment_name(base: Offset) -> String {
    format!("{:020}{SEGMENT_SUFFIX}", base.get())
}

/// What the name of a segment that compaction has written ends with, before it has its place.
const COMPACTED_SUFFIX: &str = ".compacted";

/// The file name of the segment that will begin at `base`, written by the pass of this number.
pub(crate) fn compacted_name(base: Offset, pass: u64) -> String {
    format!("{:020}.{pass}{COMPACTED_SUFFIX}", base.get())
}

/// Whether a file was written by a pass of compaction and has not got its place.
pub(crate) fn is_compacted(name: &str) -> bool {
    let stem = name.strip_suffix(COMPACTED_SUFFIX);
    let parts = stem.and_then(|stem| stem.split_once('.'));
    parts.is_some_and(|(base, pass)| {
        offset_in(base, "").is_some() && pass.parse::<u64>().is_ok_and(|n| n.to_string() == pass)
    })
}

/// The offset in a file name of 20 digits and this suffix.
pub(crate) fn offset_in(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    let offset = Offset(digits.parse().ok().filter(|_| plain)?);
    (offset <= Offset::MAX).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_the_log_would_give_are_its_own() {
        let name = segment_name(Offset(42));
        assert_eq!(name, "00000000000000000042.log");
        assert_eq!(offset_in(&name, SEGMENT_SUFFIX), Some(Offset(42)));
        for other in ["42.log", "+0000000000000000042.log", "00000000000000000042.log.tmp", ".log"]
        {
            assert_eq!(offset_in(other, SEGMENT_SUFFIX), None, "{other}");
        }
        assert_eq!(offset_in("99999999999999999999.log", SEGMENT_SUFFIX), None);
        let name = compacted_name(Offset(42), 7);
        assert!(is_compacted(&name) && offset_in(&name, SEGMENT_SUFFIX).is_none(), "{name}");
        for other in ["42.7.compacted", "00000000000000000042.compacted", "a.7.compacted"] {
            assert!(!is_compacted(other), "{other}");
        }
    }
}
