//! `KEY=VALUE` arguments.
//!
//! Invariant: a key is not empty and is given once.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::failure::{Failure, Result};

/// One `KEY=VALUE`; the value may be empty and may hold more `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Before the first `=`.
    pub(crate) key: String,
    /// After it.
    pub(crate) value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(format!("{text:?} is not a pair: write KEY=VALUE")),
        }
    }
}

/// Pairs by key. `flag` names the argument in the refusal of a key given twice.
pub(crate) fn collect(pairs: Vec<Pair>, flag: &str) -> Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for Pair { key, value } in pairs {
        if map.contains_key(&key) {
            return Err(Failure::usage(format!("{flag} {key}=… is given twice: keep one of them")));
        }
        map.insert(key, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_split_at_its_first_equals_sign() {
        let pair: Pair = "where=a=b".parse().expect("a pair");
        assert_eq!((pair.key.as_str(), pair.value.as_str()), ("where", "a=b"));
        assert!("retention".parse::<Pair>().is_err());
        assert!("=1".parse::<Pair>().is_err());
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        let pairs = ["a=1", "a=2"].map(|pair| pair.parse().expect("a pair")).to_vec();
        assert!(collect(pairs, "--config").is_err());
    }
}
