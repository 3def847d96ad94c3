//! A number of bytes, as people write it.

use serde::de::{Deserialize, Deserializer, Error};

/// A number of bytes: `67108864`, or `"64MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("", 1),
];

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = (text[..split].trim(), text[split..].trim());
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*scale).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, expecting = "a size is a number of bytes, or a text such as \"64MiB\"")]
        enum Plain {
            Bytes(u64),
            Text(String),
        }
        match Plain::deserialize(from)? {
            Plain::Bytes(bytes) => Ok(Self(bytes)),
            Plain::Text(text) => Self::parse(&text).ok_or_else(|| {
                let units = "a whole number with B, kB, MB, GB, KiB, MiB or GiB, such as 64MiB";
                D::Error::custom(format!("{text:?} is no size: write {units}"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_or_is_bytes() {
        assert_eq!(Size::parse("64MiB"), Some(Size(64 << 20)));
        assert_eq!(Size::parse("10 kB"), Some(Size(10_000)));
        assert_eq!(Size::parse("12"), Some(Size(12)));
        for wrong in ["64M", "", "MiB", "-1", "1.5MiB", "18446744073709551615kB"] {
            assert_eq!(Size::parse(wrong), None, "{wrong}");
        }
    }
}
