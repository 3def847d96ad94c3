//! A place in a log: earliest, latest, an offset, a time.
//!
//! Invariant: a bare number is an offset, never a time; milliseconds carry an `@`.

use std::str::FromStr;

use jiff::{RoundMode, TimestampRound, Unit};
use millstream_protocol::ids::{Offset, Timestamp};

/// Where reading starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the first record that is kept.
    #[default]
    Earliest,
    /// After the last record.
    Latest,
    /// At this offset.
    Offset(Offset),
    /// At the first record of this time or later.
    Time(Timestamp),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return offset(text).map(Self::Offset);
        }
        if let Some(millis) = text.strip_prefix('@') {
            let millis = millis.parse().map_err(|_| wrong(text))?;
            return Ok(Self::Time(Timestamp(millis)));
        }
        time(text).map(Self::Time)
    }
}

fn offset(digits: &str) -> Result<Offset, String> {
    let number: Option<u64> = digits.parse().ok();
    let offset = number.map(Offset).filter(|offset| *offset <= Offset::MAX);
    offset.ok_or_else(|| format!("{digits} is larger than any offset"))
}

/// A time with its zone, rounded up to the millisecond: no record before it is meant.
fn time(text: &str) -> Result<Timestamp, String> {
    let time: jiff::Timestamp = text.parse().map_err(|_| wrong(text))?;
    let up = TimestampRound::new().smallest(Unit::Millisecond).mode(RoundMode::Ceil);
    let time = time.round(up).map_err(|_| wrong(text))?;
    Ok(Timestamp(time.as_millisecond()))
}

fn wrong(text: &str) -> String {
    format!(
        "{text:?} is no place in a log: write earliest, latest, an offset such as 1200, a time such as \
         2014-01-31T12:00:00Z, or milliseconds since 1970 such as @1391169600000"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_place_is_read() {
        let cases = [
            ("earliest", Place::Earliest),
            ("latest", Place::Latest),
            ("0", Place::Offset(Offset(0))),
            ("1200", Place::Offset(Offset(1200))),
            ("@1391169600000", Place::Time(Timestamp(1_391_169_600_000))),
            ("@-5", Place::Time(Timestamp(-5))),
            ("2014-01-31T12:00:00Z", Place::Time(Timestamp(1_391_169_600_000))),
            ("2014-01-31T12:00:00.0001Z", Place::Time(Timestamp(1_391_169_600_001))),
            ("2014-01-31T13:00:00.250+01:00", Place::Time(Timestamp(1_391_169_600_250))),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for text in [
            "",
            "Earliest",
            "-1",
            "@",
            "@x",
            "2014-01-31",
            "2014-01-31T12:00:00",
            "99999999999999999999",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        assert!("9223372036854775808".parse::<Place>().is_err(), "beyond the wire's offsets");
    }
}
