//! Sizes and durations as people write them: `64MiB`, `1.5GB`, `30s`, `7d`.
//!
//! Invariant: what is printed reads back as the same quantity.

use std::fmt;
use std::str::FromStr;
use std::time::Duration as StdDuration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a quantity was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{given:?} is not a {what}: write {example}")]
pub struct InvalidQuantity {
    given: String,
    what: &'static str,
    example: &'static str,
}

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "String")]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = InvalidQuantity;
    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let wrong = || InvalidQuantity {
            given: text.to_owned(),
            what: "size",
            example: "a number with B, kB, MB, GB, KiB, MiB or GiB, such as 64MiB",
        };
        let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = (text[..split].trim(), text[split..].trim());
        let scale = match unit {
            "" => 1,
            unit => {
                SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?.1
            }
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(scale).map(Self).ok_or_else(wrong);
        }
        let number: f64 = number.parse().map_err(|_| wrong())?;
        #[expect(clippy::cast_precision_loss, reason = "a fraction of a unit is approximate")]
        let bytes = number * scale as f64;
        if !(0.0..9e18).contains(&bytes) {
            return Err(wrong());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "range checked"
        )]
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, scale): &&(&str, u64)| self.0 >= *scale && self.0.is_multiple_of(*scale);
        let (unit, scale) = SIZES.iter().find(fits).copied().unwrap_or(("B", 1));
        f.pad(&format!("{}{unit}", self.0 / scale))
    }
}

/// A span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "String")]
pub struct Duration(pub StdDuration);

impl Duration {
    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(StdDuration::from_secs(seconds))
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(StdDuration::from_millis(millis))
    }
}

const SPANS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Duration {
    type Err = InvalidQuantity;
    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let wrong = || InvalidQuantity {
            given: text.to_owned(),
            what: "duration",
            example: "a number with ms, s, m, h or d, such as 30s",
        };
        let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let number: u64 = text[..split].trim().parse().map_err(|_| wrong())?;
        let unit = text[split..].trim();
        let (_, scale) = SPANS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        number.checked_mul(*scale).map(StdDuration::from_millis).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = |(_, scale): &&(&str, u64)| millis >= *scale && millis.is_multiple_of(*scale);
        let (unit, scale) = SPANS.iter().find(fits).copied().unwrap_or(("ms", 1));
        f.pad(&format!("{}{unit}", millis / scale))
    }
}

/// A quantity in a file: a text with a unit, or a plain number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Plain {
    Number(u64),
    Text(String),
}

impl TryFrom<Plain> for Bytes {
    type Error = InvalidQuantity;
    fn try_from(plain: Plain) -> Result<Self, InvalidQuantity> {
        match plain {
            Plain::Number(bytes) => Ok(Self(bytes)),
            Plain::Text(text) => text.parse(),
        }
    }
}

impl TryFrom<Plain> for Duration {
    type Error = InvalidQuantity;
    fn try_from(plain: Plain) -> Result<Self, InvalidQuantity> {
        match plain {
            Plain::Number(number) => number.to_string().parse(),
            Plain::Text(text) => text.parse(),
        }
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.to_string()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.to_string()
    }
}
