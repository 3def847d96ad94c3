//! Which records: from where to where, or what came since the last run.
//!
//! Invariant: every range has an end that is known before anything is read.

use std::collections::BTreeMap;
use std::fmt;

use millstream_protocol::ids::Timestamp;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum RangeSpec {
    /// From where the last completed run in the directory ended (the first record that is kept, if there
    /// is none) to what is committed now.
    SinceLastRun,
    /// From a place to a place.
    Between {
        /// The first record.
        from: Bound,
        /// The first record that is not wanted any more.
        to: Bound,
    },
}

/// A place in each partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Bound {
    /// The first record that is kept.
    Earliest,
    /// Behind the last that is committed.
    Latest,
    /// The first record of this time or later.
    Time(Timestamp),
    /// This offset, in every partition.
    Offset(u64),
    /// An offset in each partition.
    Each(BTreeMap<u32, u64>),
}

impl Default for RangeSpec {
    fn default() -> Self {
        Self::Between { from: Bound::Earliest, to: Bound::Latest }
    }
}

impl<'de> Deserialize<'de> for RangeSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Ranges;
        impl<'de> Visitor<'de> for Ranges {
            type Value = RangeSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"since-last-run\", or a table with from and to")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RangeSpec, E> {
                match text {
                    "since-last-run" => Ok(RangeSpec::SinceLastRun),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RangeSpec, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Bounds {
                    from: Option<Bound>,
                    to: Option<Bound>,
                }
                let bounds = Bounds::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(RangeSpec::Between {
                    from: bounds.from.unwrap_or(Bound::Earliest),
                    to: bounds.to.unwrap_or(Bound::Latest),
                })
            }
        }
        from.deserialize_any(Ranges)
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bounds;
        impl<'de> Visitor<'de> for Bounds {
            type Value = Bound;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "\"earliest\", \"latest\", a time such as \"2013-01-31T12:00:00Z\", an offset, or a \
                     table of partitions and offsets",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bound, E> {
                match text {
                    "earliest" => Ok(Bound::Earliest),
                    "latest" => Ok(Bound::Latest),
                    _ => {
                        time(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
                    }
                }
            }

            fn visit_i64<E: de::Error>(self, offset: i64) -> Result<Bound, E> {
                let wrong = || E::invalid_value(de::Unexpected::Signed(offset), &self);
                u64::try_from(offset).map(Bound::Offset).map_err(|_| wrong())
            }

            fn visit_u64<E: de::Error>(self, offset: u64) -> Result<Bound, E> {
                Ok(Bound::Offset(offset))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bound, A::Error> {
                let mut each = BTreeMap::new();
                while let Some((key, offset)) = map.next_entry::<String, u64>()? {
                    let partition = key.parse().map_err(|_| {
                        de::Error::custom(format!("{key:?} is no partition: write its number"))
                    })?;
                    each.insert(partition, offset);
                }
                Ok(Bound::Each(each))
            }
        }
        from.deserialize_any(Bounds)
    }
}

/// A time with its zone, rounded up to the millisecond: no record before it is meant.
fn time(text: &str) -> Option<Bound> {
    let time: jiff::Timestamp = text.parse().ok()?;
    let up =
        jiff::TimestampRound::new().smallest(jiff::Unit::Millisecond).mode(jiff::RoundMode::Ceil);
    Some(Bound::Time(Timestamp(time.round(up).ok()?.as_millisecond())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RangeSpec, String> {
        #[derive(Deserialize)]
        struct File {
            range: RangeSpec,
        }
        toml::from_str::<File>(text).map(|file| file.range).map_err(|error| error.to_string())
    }

    #[test]
    fn every_way_to_write_a_range_is_read_and_others_are_refused() {
        let between = |from, to| Ok(RangeSpec::Between { from, to });
        assert_eq!(parse("range = 'since-last-run'"), Ok(RangeSpec::SinceLastRun));
        assert_eq!(parse("range = {}"), between(Bound::Earliest, Bound::Latest));
        assert_eq!(parse("[range]\nfrom = 12"), between(Bound::Offset(12), Bound::Latest));
        let each = Bound::Each([(0, 5), (1, 7)].into());
        assert_eq!(parse("range.to = { 0 = 5, 1 = 7 }"), between(Bound::Earliest, each));
        let time = Bound::Time(Timestamp(1_391_169_600_000));
        assert_eq!(parse("range.from = '2014-01-31T12:00:00Z'"), between(time, Bound::Latest));
        for wrong in [
            "range = 'all'",
            "range.form = 1",
            "range.from = -1",
            "range.to = {a = 1}",
            "range = 3",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
