//! A member of a consumer group: who it is, and which of its assignments it goes by.
//!
//! Invariant: a member's id is drawn at random by the client each time it joins, so that what an earlier membership
//! said is never taken for the present one's.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One membership in a group, from a join until the member leaves or is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId(pub u128);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The number of a member's last change of assignment. Every change in a group, whichever member's, takes the group's
/// next number, so that a later assignment always has a larger one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct MemberEpoch(pub u64);

impl MemberEpoch {
    /// Of who has not joined yet.
    pub const JOINING: Self = Self(0);
}

impl fmt::Display for MemberEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
