//! A topic's configuration: keys as Kafka names them, values as text, meanings with their ranges.
//!
//! Only what somebody set is stored, so that a default can be told from a choice.
//!
//! Invariant: what is stored has been resolved once without an error; an error names key, value and
//! what is allowed.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_protocol::ids::ModuleRef;
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_protocol::message::topic::ConfigEntry;
use thiserror::Error;

use crate::log::retention::RetentionPolicy;
use crate::replication::Durability;

/// Parameters of a topic's filter have keys with this prefix: `filter.params.NAME`.
pub(super) const FILTER_PARAM: &str = "filter.params.";
/// The most parameters of a filter.
pub(super) const MAX_PARAMS: usize = 64;
/// The most bytes of a parameter's name, and of its value.
pub(super) const MAX_PARAM_BYTES: usize = 4_096;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// What a topic's configuration means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// `retention.ms` and `retention.bytes`, where `cleanup.policy` has `delete`: how much is kept; -1 is no limit.
    pub retention: RetentionPolicy,
    /// Where `cleanup.policy` has `compact`: of all records with one key the newest is kept.
    pub compaction: Option<CompactionPolicy>,
    /// `segment.bytes`: a segment is closed before it grows beyond this.
    pub segment_bytes: u64,
    /// `segment.ms`: and when its first record is so old.
    pub segment_age: Duration,
    /// `max.message.bytes`: the largest batch that is taken.
    pub max_batch_bytes: u32,
    /// `durability`: what an acknowledgement promises.
    pub durability: Durability,
    /// `filter`: the module every batch passes before it is appended.
    pub filter: Option<ModuleRef>,
    /// `filter.params.NAME`: that module's parameters.
    pub filter_params: BTreeMap<String, String>,
}

/// How a topic is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// `min.cleanable.dirty.ratio`, in thousandths: a log is compacted when so much of it was not.
    pub dirty_thousandths: u16,
    /// `delete.retention.ms`: how long a record without a value is kept, so that who reads on meanwhile sees it.
    pub delete_retention: Duration,
}

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No such key.
    #[error("configuration key {key:?} is not known: the keys are {}, {FILTER_PARAM}NAME", known())]
    UnknownKey {
        /// The key as given.
        key: String,
    },
    /// A value that the key does not take.
    #[error("configuration {key}={value:?}: the value must be {allowed}")]
    Value {
        /// The key.
        key: String,
        /// The value as given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Parameters without a filter, or too many of them.
    #[error("configuration {key}: {problem}")]
    Params {
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
enum Range {
    /// A whole number, and -1 for no limit if `unlimited`.
    Number { least: u64, most: u64, unlimited: bool },
    /// One of these words.
    Words(&'static [&'static str]),
    /// A number from 0 to 1.
    Ratio,
    /// A module version, or nothing.
    Module,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    name: &'static str,
    default: &'static str,
    range: Range,
}

const fn number(name: &'static str, default: &'static str, least: u64, most: u64) -> Key {
    Key { name, default, range: Range::Number { least, most, unlimited: false } }
}

const fn limit(name: &'static str, default: &'static str) -> Key {
    let range = Range::Number { least: 1, most: i64::MAX as u64, unlimited: true };
    Key { name, default, range }
}

const fn words(name: &'static str, words: &'static [&'static str]) -> Key {
    Key { name, default: words[0], range: Range::Words(words) }
}

/// Every key, in the order of their names. The first word of a list is the default.
const KEYS: &[Key] = &[
    words("cleanup.policy", &["delete", "compact", "compact,delete", "delete,compact"]),
    words("compression.type", &["producer"]),
    number("delete.retention.ms", "86400000", 0, 3_650 * DAY_MS),
    words("durability", &["fsync", "memory"]),
    Key { name: "filter", default: "", range: Range::Module },
    number("max.message.bytes", "16777216", KIB, MAX_BATCH_BYTES as u64),
    Key { name: "min.cleanable.dirty.ratio", default: "0.5", range: Range::Ratio },
    limit("retention.bytes", "-1"),
    limit("retention.ms", "604800000"),
    number("segment.bytes", "1073741824", 16 * KIB, 2 * GIB - 1),
    number("segment.ms", "604800000", 1_000, 3_650 * DAY_MS),
];

/// The names of all keys, in order; filter parameters come on top.
pub fn config_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

fn known() -> String {
    config_keys().collect::<Vec<_>>().join(", ")
}

impl Key {
    fn check(&self, value: &str) -> Result<(), ConfigError> {
        let fits = match self.range {
            Range::Number { least, most, unlimited } => {
                let in_range = |n: u64| (least..=most).contains(&n);
                (unlimited && value == "-1") || value.parse().is_ok_and(in_range)
            }
            Range::Words(words) => words.contains(&value),
            Range::Ratio => ratio(value).is_some(),
            Range::Module => value.is_empty() || value.parse::<ModuleRef>().is_ok(),
        };
        if fits {
            return Ok(());
        }
        let (key, value) = (self.name.to_owned(), value.to_owned());
        Err(ConfigError::Value { key, value, allowed: self.allowed() })
    }

    fn allowed(&self) -> String {
        match self.range {
            Range::Number { least, most, unlimited: false } => {
                format!("a whole number from {least} to {most}")
            }
            Range::Number { least, most, unlimited: true } => {
                format!("-1 for no limit, or a whole number from {least} to {most}")
            }
            Range::Words(words) => words.join(" or "),
            Range::Ratio => "a number from 0 to 1, such as 0.5".into(),
            Range::Module => "a module version such as redact@3, or nothing for no filter".into(),
        }
    }
}

/// In thousandths: a configuration is compared, and fractions are not.
fn ratio(value: &str) -> Option<u16> {
    let ratio: f64 = value.parse().ok()?;
    let thousandths = (0.0..=1.0).contains(&ratio).then(|| (ratio * 1_000.0).round())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    Some(thousandths as u16)
}

/// The value in force of one key.
fn value<'a>(set: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    let default = || KEYS.iter().find(|key| key.name == name).expect("a key of the table").default;
    set.get(name).map_or_else(default, String::as_str)
}

impl TopicConfig {
    /// What a set of values means; keys that are not in it have their defaults.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is not known or whose value is not allowed.
    pub fn resolve(set: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut filter_params = BTreeMap::new();
        for (name, value) in set {
            match (KEYS.iter().find(|key| key.name == name), name.strip_prefix(FILTER_PARAM)) {
                (Some(key), _) => key.check(value)?,
                (None, Some(param)) => {
                    check_param(name, param, value)?;
                    filter_params.insert(param.to_owned(), value.clone());
                }
                (None, None) => return Err(ConfigError::UnknownKey { key: name.clone() }),
            }
        }
        let config = Self::of_checked(set, filter_params);
        config.check_params()?;
        Ok(config)
    }

    fn of_checked(set: &BTreeMap<String, String>, filter_params: BTreeMap<String, String>) -> Self {
        let limit = |name| value(set, name).parse::<u64>().ok();
        let number = |name| limit(name).expect("was checked");
        let durability = match value(set, "durability") {
            "memory" => Durability::Memory,
            _ => Durability::Fsync,
        };
        let age = limit("retention.ms").map(Duration::from_millis);
        let policy = value(set, "cleanup.policy");
        let retention = match policy.contains("delete") {
            true => RetentionPolicy { bytes: limit("retention.bytes"), age },
            false => RetentionPolicy { bytes: None, age: None },
        };
        let compaction = policy.contains("compact").then(|| CompactionPolicy {
            dirty_thousandths: ratio(value(set, "min.cleanable.dirty.ratio")).expect("was checked"),
            delete_retention: Duration::from_millis(number("delete.retention.ms")),
        });
        Self {
            retention,
            compaction,
            segment_bytes: number("segment.bytes"),
            segment_age: Duration::from_millis(number("segment.ms")),
            max_batch_bytes: u32::try_from(number("max.message.bytes")).expect("was checked"),
            durability,
            filter: value(set, "filter").parse().ok(),
            filter_params,
        }
    }

    fn check_params(&self) -> Result<(), ConfigError> {
        let problem = match self.filter_params.len() {
            0 => return Ok(()),
            _ if self.filter.is_none() => "there is no filter to give it to: set filter too".into(),
            1..=MAX_PARAMS => return Ok(()),
            count => format!("{count} parameters are more than {MAX_PARAMS}: set fewer"),
        };
        Err(ConfigError::Params { key: format!("{FILTER_PARAM}*"), problem })
    }

    /// Every key with the value in force, and the filter's parameters.
    #[must_use]
    pub fn entries(set: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
        let keys = KEYS.iter().map(|key| ConfigEntry {
            key: key.name.to_owned(),
            value: value(set, key.name).to_owned(),
            is_default: !set.contains_key(key.name),
        });
        let params = set.iter().filter(|(key, _)| key.starts_with(FILTER_PARAM));
        let params = params.map(|(key, value)| ConfigEntry {
            key: key.clone(),
            value: value.clone(),
            is_default: false,
        });
        let mut entries: Vec<_> = keys.chain(params).collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries
    }
}

fn check_param(key: &str, name: &str, value: &str) -> Result<(), ConfigError> {
    if !name.is_empty() && name.len() <= MAX_PARAM_BYTES && value.len() <= MAX_PARAM_BYTES {
        return Ok(());
    }
    let problem =
        format!("a parameter has a name, and name and value up to {MAX_PARAM_BYTES} bytes");
    Err(ConfigError::Params { key: key.chars().take(100).collect(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn refused(key: &str, value: &str) -> String {
        TopicConfig::resolve(&set(&[(key, value)])).unwrap_err().to_string()
    }

    #[test]
    fn every_default_is_allowed_and_the_keys_are_in_order() {
        for key in KEYS {
            key.check(key.default).unwrap();
        }
        assert!(config_keys().is_sorted());
        let config = TopicConfig::resolve(&BTreeMap::new()).unwrap();
        assert_eq!(config.retention.age, Some(Duration::from_hours(7 * 24)));
        assert_eq!(config.retention.bytes, None);
        assert_eq!(config.durability, Durability::Fsync);
        assert_eq!(config.filter, None);
    }

    #[test]
    fn a_refusal_names_key_value_and_what_is_allowed() {
        insta::assert_snapshot!(refused("retention.ms", "0"), @r#"configuration retention.ms="0": the value must be -1 for no limit, or a whole number from 1 to 9223372036854775807"#);
        insta::assert_snapshot!(refused("segment.bytes", "1GB"), @r#"configuration segment.bytes="1GB": the value must be a whole number from 16384 to 2147483647"#);
        insta::assert_snapshot!(refused("durability", "Fsync"), @r#"configuration durability="Fsync": the value must be fsync or memory"#);
        insta::assert_snapshot!(refused("cleanup.policy", "keep"), @r#"configuration cleanup.policy="keep": the value must be delete or compact or compact,delete or delete,compact"#);
        insta::assert_snapshot!(refused("min.cleanable.dirty.ratio", "50"), @r#"configuration min.cleanable.dirty.ratio="50": the value must be a number from 0 to 1, such as 0.5"#);
        insta::assert_snapshot!(refused("filter", "redact"), @r#"configuration filter="redact": the value must be a module version such as redact@3, or nothing for no filter"#);
        insta::assert_snapshot!(refused("retention.msec", "1"), @r#"configuration key "retention.msec" is not known: the keys are cleanup.policy, compression.type, delete.retention.ms, durability, filter, max.message.bytes, min.cleanable.dirty.ratio, retention.bytes, retention.ms, segment.bytes, segment.ms, filter.params.NAME"#);
        insta::assert_snapshot!(refused("filter.params.column", "4"), @"configuration filter.params.*: there is no filter to give it to: set filter too");
    }

    #[test]
    fn a_topic_that_is_only_compacted_has_no_retention() {
        let both = TopicConfig::resolve(&set(&[("cleanup.policy", "compact,delete")])).unwrap();
        assert!(both.compaction.is_some() && both.retention.age.is_some());
        let ratio = ("min.cleanable.dirty.ratio", "0.25");
        let config = TopicConfig::resolve(&set(&[("cleanup.policy", "compact"), ratio])).unwrap();
        assert_eq!(config.retention, RetentionPolicy { bytes: None, age: None });
        assert_eq!(config.compaction.unwrap().dirty_thousandths, 250);
    }

    #[test]
    fn a_filter_and_its_parameters_are_read_from_keys() {
        let set = set(&[("filter", "redact@3"), ("filter.params.field", "name")]);
        let config = TopicConfig::resolve(&set).unwrap();
        assert_eq!(config.filter.unwrap().to_string(), "redact@3");
        assert_eq!(config.filter_params["field"], "name");
        let entries = TopicConfig::entries(&set);
        assert_eq!(entries.len(), KEYS.len() + 1);
        assert!(entries.iter().any(|e| e.key == "filter.params.field" && !e.is_default));
        assert!(entries.iter().any(|e| e.key == "segment.ms" && e.is_default));
    }
}
