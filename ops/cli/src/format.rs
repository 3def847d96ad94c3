//! Numbers as people read them: bytes, times, rates.
//!
//! Invariant: only tables and messages use these; JSON carries plain numbers in base units.

use std::time::Duration;

use millstream_protocol::ids::Timestamp;

/// Bytes with one decimal of a binary unit: `0 B`, `1.5 KiB`, `64 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let text = format!("{value:.1}");
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// A timestamp as RFC 3339 with milliseconds, or `-` where there is none.
pub(crate) fn timestamp(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.get()) {
        Ok(time) if at != Timestamp::NONE => format!("{time:.3}"),
        _ => "-".to_owned(),
    }
}

/// How many a second, with thousands separated.
pub(crate) fn rate(count: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(1e-9);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float becomes the nearest integer there is"
    )]
    thousands((count as f64 / seconds).round() as u64)
}

/// A number with its thousands separated by commas.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 record`, `2 records`, `3 batches`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = match (number, noun.ends_with("ch")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {noun}{plural}", thousands(number))
}

/// A text as a shell takes it for one word: as it is, or in quotes where that would be several.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_at_a_glance() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            ((1 << 30) - 1, "1 GiB"),
        ];
        for (given, expected) in cases {
            assert_eq!(bytes(given), expected);
        }
        assert_eq!(bytes(u64::MAX), "16384 PiB");
    }

    #[test]
    fn times_and_counts_are_read_at_a_glance() {
        assert_eq!(timestamp(Timestamp(1_388_534_400_000)), "2014-01-01T00:00:00.000Z");
        assert_eq!(timestamp(Timestamp::NONE), "-");
        assert_eq!(timestamp(Timestamp(i64::MAX)), "-");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(
            [count(1, "record"), count(0, "record"), count(2, "batch")],
            ["1 record", "0 records", "2 batches"]
        );
        assert_eq!(rate(3_000, Duration::from_secs(2)), "1,500");
    }
    #[test]
    fn a_word_is_one_word_to_a_shell() {
        let cases = [
            ("/srv/broker-2", "/srv/broker-2"),
            ("broker 2", "'broker 2'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("~/$HOME", "'~/$HOME'"),
        ];
        for (given, expected) in cases {
            assert_eq!(shell_word(given), expected);
        }
    }
}
