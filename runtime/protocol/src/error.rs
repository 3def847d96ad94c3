//! What a client is told when a request fails.
//!
//! Invariant: whether a retry can help is a property of the code, not of the text.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::MAX_ERROR_CHARS;

/// The kind of failure. New kinds are added at the end: their number is the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The broker failed in a way it did not foresee.
    Internal,
    /// The request makes no sense as it stands.
    InvalidRequest,
    /// Both sides have no protocol version in common.
    UnsupportedVersion,
    /// No such topic.
    UnknownTopic,
    /// No such partition in the topic.
    UnknownPartition,
    /// A topic of that name is there already.
    TopicExists,
    /// A configuration key or value was refused.
    InvalidConfig,
    /// This broker does not lead the partition (now).
    NotLeader,
    /// The broker is stopping; another or a later attempt will be served.
    ShuttingDown,
    /// The batch is damaged or malformed.
    CorruptBatch,
    /// The batch or a record in it is larger than the topic allows.
    TooLarge,
    /// The producer's sequence leaves a gap.
    OutOfOrderSequence,
    /// The producer's epoch is older than the newest one seen.
    ProducerFenced,
    /// The broker no longer knows this producer.
    UnknownProducer,
    /// More is in flight than the broker takes; slow down.
    Overloaded,
    /// The disk has no room; writes resume when it has.
    DiskFull,
    /// The log of this partition has stopped accepting writes after a storage error.
    StorageStopped,
    /// The stored bytes do not match their checksum.
    CorruptLog,
    /// The offset is before the log's start or after its end.
    OffsetOutOfRange,
    /// The uploaded bytes are no module that this broker can run.
    InvalidModule,
    /// No such module or version.
    UnknownModule,
    /// A module or topic is still used by a job or a topic.
    InUse,
    /// No such job.
    UnknownJob,
    /// A job of that name is there already.
    JobExists,
    /// A guest failed on the records it was given.
    GuestFailed,
    /// The time given for the request ran out.
    TimedOut,
    /// The log no longer has what the client read before the offset: histories parted.
    LogTruncated,
    /// No such consumer group.
    UnknownGroup,
    /// The member is not, or no longer, part of the group: it owns nothing, and has to join anew.
    MemberFenced,
    /// The partition is not, or no longer, the member's.
    NotOwner,
    /// The group has members, and what was asked needs it to have none.
    GroupInUse,
    /// Another member of the group has that instance name.
    InstanceInUse,
    /// The group has committed a later offset: only a reset takes it back.
    OffsetRegression,
    /// The transaction is not as the request takes it to be.
    InvalidTransaction,
    /// The transaction before is still being ended; ask again.
    ConcurrentTransactions,
    /// No such transactional id.
    UnknownTransaction,
    /// An open transaction is about to move the group's offset; ask again.
    OffsetsPending,
}

impl ErrorCode {
    /// Whether the same request may succeed later without anybody changing it.
    #[must_use]
    pub const fn is_retriable(self) -> bool {
        matches!(
            self,
            Self::NotLeader
                | Self::ShuttingDown
                | Self::Overloaded
                | Self::DiskFull
                | Self::TimedOut
                | Self::InstanceInUse
                | Self::ConcurrentTransactions
                | Self::OffsetsPending
        )
    }

    /// The code as it is written in logs, metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::InvalidRequest => "invalid_request",
            Self::UnsupportedVersion => "unsupported_version",
            Self::UnknownTopic => "unknown_topic",
            Self::UnknownPartition => "unknown_partition",
            Self::TopicExists => "topic_exists",
            Self::InvalidConfig => "invalid_config",
            Self::NotLeader => "not_leader",
            Self::ShuttingDown => "shutting_down",
            Self::CorruptBatch => "corrupt_batch",
            Self::TooLarge => "too_large",
            Self::OutOfOrderSequence => "out_of_order_sequence",
            Self::ProducerFenced => "producer_fenced",
            Self::UnknownProducer => "unknown_producer",
            Self::Overloaded => "overloaded",
            Self::DiskFull => "disk_full",
            Self::StorageStopped => "storage_stopped",
            Self::CorruptLog => "corrupt_log",
            Self::OffsetOutOfRange => "offset_out_of_range",
            Self::InvalidModule => "invalid_module",
            Self::UnknownModule => "unknown_module",
            Self::InUse => "in_use",
            Self::UnknownJob => "unknown_job",
            Self::JobExists => "job_exists",
            Self::GuestFailed => "guest_failed",
            Self::TimedOut => "timed_out",
            Self::LogTruncated => "log_truncated",
            Self::UnknownGroup => "unknown_group",
            Self::MemberFenced => "member_fenced",
            Self::NotOwner => "not_owner",
            Self::GroupInUse => "group_in_use",
            Self::InstanceInUse => "instance_in_use",
            Self::OffsetRegression => "offset_regression",
            Self::InvalidTransaction => "invalid_transaction",
            Self::ConcurrentTransactions => "concurrent_transactions",
            Self::UnknownTransaction => "unknown_transaction",
            Self::OffsetsPending => "offsets_pending",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An answer that is a refusal: a code for programs, a text for people.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{message} ({code})")]
pub struct WireError {
    /// What kind of failure it is.
    pub code: ErrorCode,
    /// What was wrong, where, and what to do.
    pub message: String,
}

impl WireError {
    /// Makes an error; a text over [`MAX_ERROR_CHARS`] is cut.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl fmt::Display) -> Self {
        let mut message = message.to_string();
        if let Some((cut, _)) = message.char_indices().nth(MAX_ERROR_CHARS) {
            message.truncate(cut);
        }
        Self { code, message }
    }

    /// See [`ErrorCode::is_retriable`].
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        self.code.is_retriable()
    }
}
