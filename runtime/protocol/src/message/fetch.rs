//! Fetching: a long-lived stream of batches out of one partition, filled up to the consumer's credit.
//!
//! ```text
//! client                                broker
//!   Open::Fetch(OpenFetch) ───────────▶
//!   ◀──────────── Result<FetchReady, WireError>
//!   ◀──── Result<FetchData, WireError> + sealed batches     while there is credit; waits at the end
//!   Credit ───────────────────────────▶
//! ```
//!
//! A seek is a new stream. An error is the stream's last frame.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::transaction::{Aborted, Isolation};
use crate::ids::{LeaderEpoch, ModuleRef, Offset, PartitionIndex, TopicId, TopicName};

/// Opens a fetch stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFetch {
    /// The topic.
    pub topic: TopicName,
    /// Its identity when the client knows it.
    pub id: Option<TopicId>,
    /// The partition.
    pub partition: PartitionIndex,
    /// The offset to start at. The first batch may begin before it: the client skips.
    pub offset: Offset,
    /// The epoch of the record before it, when the client knows: how it learns of a truncation. A leader
    /// whose log has something else there answers `LogTruncated`, one in an older epoch `NotLeader`.
    pub epoch: Option<LeaderEpoch>,
    /// Bytes of bodies that may be sent before more is granted.
    pub credit: u64,
    /// The most bytes of one body; a single batch may be larger.
    pub max_body_bytes: u32,
    /// A module that decides on the broker what this consumer gets.
    pub filter: Option<FetchFilter>,
    /// What it is shown of transactions.
    pub isolation: Isolation,
}

/// A filter for one consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchFilter {
    /// The module.
    pub module: ModuleRef,
    /// Its parameters.
    pub params: BTreeMap<String, String>,
}

/// The broker is ready to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchReady {
    /// The topic's identity.
    pub id: TopicId,
    /// The epoch the broker leads in.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is kept.
    pub log_start: Offset,
    /// Everything before this offset is committed.
    pub high_watermark: Offset,
}

/// In front of each body of sealed batches, which may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchData {
    /// Everything before this offset is committed.
    pub high_watermark: Offset,
    /// The first offset that is kept.
    pub log_start: Offset,
    /// Where the stream is after this body: with a filter, possibly far behind the last record in it.
    pub next_offset: Offset,
    /// Records that a filter looked at for this body; 0 without one.
    pub examined: u64,
    /// Transactions whose records in this body count as never written, for a reader of what is committed.
    pub aborted: Vec<Aborted>,
}

/// Grants more bytes of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// How many.
    pub bytes: u64,
}
