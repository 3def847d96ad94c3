//! Numbers with a meaning: offsets, epochs, identifiers, timestamps.
//!
//! Invariant: arithmetic that could leave a number's range is checked, or asserted.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// The place of a record in its partition: 0 for the first ever written, counted up, never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Offset(pub u64);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);
    /// The largest offset: the wire format is a signed 64-bit number.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// `self - n`, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    /// How many offsets lie between `earlier` and this one; 0 when `earlier` is later.
    #[must_use]
    pub const fn saturating_distance(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Offset {
    type Output = Self;
    fn add(self, n: u64) -> Self {
        Self(self.0 + n)
    }
}

impl Sub for Offset {
    type Output = u64;
    fn sub(self, earlier: Self) -> u64 {
        assert!(earlier <= self, "offset {self} is before {earlier}");
        self.0 - earlier.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl $name {
            /// The plain number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numbers! {
    /// The term of a partition's leader: each election counts one up, and every batch carries it.
    LeaderEpoch(u32);
    /// A topic, for ever: a topic that is deleted and made again has another id.
    TopicId(u32);
    /// A partition's number inside its topic, from 0.
    PartitionIndex(u32);
    /// A broker.
    NodeId(u32);
    /// A job, for ever: ids are not used again, since producer identities are made of them.
    JobId(u32);
    /// Milliseconds since 1970-01-01T00:00:00Z, negative before; [`Timestamp::NONE`] when unknown.
    Timestamp(i64);
}

impl LeaderEpoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Timestamp {
    /// No timestamp.
    pub const NONE: Self = Self(-1);
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition inside it.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}
