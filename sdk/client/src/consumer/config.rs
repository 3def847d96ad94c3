//! What a consumer can be told: how much to hold, where to go when the position is gone.
//!
//! Invariant: by default nothing moves a position but the program; and where the log lost what was read,
//! nothing else ever does.

use millstream_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use millstream_protocol::limits::{MAX_FETCH_BODY_BYTES, MAX_FETCH_CREDIT_BYTES};
use millstream_protocol::message::fetch::FetchFilter;
use millstream_protocol::message::transaction::Isolation;

use crate::error::ClientError;

/// How a consumer fetches.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Bytes that may lie here unconsumed, or be on their way, for each partition.
    pub credit_bytes: u64,
    /// The most bytes that come in one piece; a single batch may be larger.
    pub max_body_bytes: u32,
    /// A module that decides on the broker what this consumer gets.
    pub filter: Option<FetchFilter>,
    /// What it is shown of transactions: by default records up to the first that is undecided, and none that was
    /// aborted.
    pub isolation: Isolation,
    /// Whether each batch's checksum is compared before its records are handed out.
    pub check_crcs: bool,
    /// What happens when the position is not in the log (any more).
    pub out_of_range: OutOfRange,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            credit_bytes: 8 << 20,
            max_body_bytes: 1 << 20,
            filter: None,
            isolation: Isolation::ReadCommitted,
            check_crcs: true,
            out_of_range: OutOfRange::Error,
        }
    }
}

/// What happens when the position is not in the log: retention has passed it, or it never was there.
/// Where the log lost what was read before it, that is always [`crate::ConsumeError::Truncated`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// [`crate::ConsumeError::OutOfRange`], until the program seeks: nothing is skipped silently.
    #[default]
    Error,
    /// On with the first record that is kept.
    Earliest,
    /// On with the next record that is written.
    Latest,
}

/// Where to start in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With the first record that is kept.
    Earliest,
    /// With the next record that is committed.
    Latest,
    /// With this offset.
    Offset(Offset),
    /// With this offset, if the record before it is still the one of this epoch: a position that was
    /// kept ([`crate::Fetched::next_offset`] and [`crate::Fetched::next_epoch`]), and is checked.
    Position(Offset, LeaderEpoch),
    /// With the first record whose timestamp is at or after this one.
    Timestamp(Timestamp),
}

impl ConsumerConfig {
    /// Refuses what cannot work, by name.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`] for the first setting that is out of its range.
    pub fn validate(&self) -> Result<(), ClientError> {
        let invalid = |name, value: u64, rule| {
            Err(ClientError::InvalidConfig { name, value: value.to_string(), rule })
        };
        let body = u64::from(self.max_body_bytes);
        if !(1..=MAX_FETCH_CREDIT_BYTES).contains(&self.credit_bytes) {
            return invalid("credit_bytes", self.credit_bytes, "between 1 and 268435456");
        }
        if !(1..=MAX_FETCH_BODY_BYTES as u64).contains(&body) {
            return invalid("max_body_bytes", body, "between 1 and 33554432");
        }
        Ok(())
    }
}
