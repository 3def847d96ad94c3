//! Names that people choose: topics, modules, jobs, groups.
//!
//! Invariant: `[A-Za-z0-9._-]`, 1 to 249 characters, never `.` or `..`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::MAX_NAME_CHARS;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidName {
    /// Nothing was given.
    #[error("{what} name is empty: use 1 to {MAX_NAME_CHARS} characters of A-Z a-z 0-9 . _ -")]
    Empty {
        /// What was being named.
        what: &'static str,
    },
    /// Too many characters.
    #[error("{what} name has {chars} characters: the most is {MAX_NAME_CHARS}")]
    TooLong {
        /// What was being named.
        what: &'static str,
        /// How many characters were given.
        chars: usize,
    },
    /// A character outside the allowed set.
    #[error("{what} name {name:?} has {found:?} in it: use only A-Z a-z 0-9 . _ -")]
    Character {
        /// What was being named.
        what: &'static str,
        /// The name as given.
        name: String,
        /// The first character that is not allowed.
        found: char,
    },
    /// `.` or `..`.
    #[error("{what} name {name:?} is a path, not a name: choose another")]
    Dots {
        /// What was being named.
        what: &'static str,
        /// The name as given.
        name: String,
    },
    /// A module reference that is not `NAME@VERSION`.
    #[error("{given:?} is not a module version: write NAME@VERSION, such as redact@3")]
    Reference {
        /// The text as given.
        given: String,
    },
}

fn validate(what: &'static str, name: &str) -> Result<(), InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty { what });
    }
    let chars = name.chars().count();
    if chars > MAX_NAME_CHARS {
        return Err(InvalidName::TooLong { what, chars });
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(found) = name.chars().find(|c| !allowed(c)) {
        return Err(InvalidName::Character { what, name: name.to_owned(), found });
    }
    if name == "." || name == ".." {
        return Err(InvalidName::Dots { what, name: name.to_owned() });
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates and takes a name.
            ///
            /// # Errors
            /// [`InvalidName`] says which rule it breaks.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                validate($what, name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    )*};
}

names! {
    /// The name of a topic.
    TopicName = "topic";
    /// The name of a module, without its version.
    ModuleName = "module";
    /// The name of a job.
    JobName = "job";
    /// The name of a consumer group.
    GroupName = "group";
    /// The name that a static member keeps from one life to the next.
    InstanceName = "instance";
    /// The name under which a producer's transactions are known from one of its lives to the next.
    TransactionalId = "transactional id";
}

impl TopicName {
    /// Whether it is one of the broker's own topics, which only the broker makes and writes.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.as_str().starts_with("__")
    }
}

/// One immutable version of a module, printed `name@version`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModuleRef {
    /// The module.
    pub name: ModuleName,
    /// Its version, from 1.
    pub version: u32,
}

impl fmt::Display for ModuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.name, self.version))
    }
}

impl FromStr for ModuleRef {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let wrong = || InvalidName::Reference { given: text.to_owned() };
        let (name, version) = text.split_once('@').ok_or_else(wrong)?;
        let version = version.parse().map_err(|_| wrong())?;
        Ok(Self { name: ModuleName::new(name)?, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_not_a_name() {
        for bad in ["", ".", "..", "a/b", "../x", "a b", "é", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "flights.late-2013_v2", "...", &"x".repeat(249)] {
            assert!(TopicName::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_name_is_validated_when_it_is_decoded() {
        let bytes = postcard::to_stdvec("../etc").expect("encodes");
        assert!(postcard::from_bytes::<TopicName>(&bytes).is_err());
    }

    #[test]
    fn a_module_version_reads_as_it_prints() {
        let r: ModuleRef = "redact@3".parse().expect("a reference");
        assert_eq!(r.to_string(), "redact@3");
        for bad in ["redact", "redact@", "redact@x", "@1", "a/b@1"] {
            assert!(bad.parse::<ModuleRef>().is_err(), "{bad}");
        }
    }
}
