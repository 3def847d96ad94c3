//! What a partition is asked, in the words of the broker.
//!
//! Invariant: who waits for an answer gets one, or learns that the partition was closed.

use bytes::Bytes;
use millstream_core::log::producers::Stamp;
use millstream_core::replication::Durability;
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{JobId, LeaderEpoch};
use millstream_protocol::message::produce::{Acks, ProduceAck};
use millstream_storage::log::LogConfig;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{History, Stream};
use crate::drivers::log_writer::Task;

/// The fate of a batch.
pub(crate) type Answer = Result<ProduceAck, WireError>;

/// What a partition is asked.
#[derive(Debug)]
pub(crate) enum Message {
    /// Take a batch.
    Produce(Produce),
    /// The topic's configuration changed.
    Reconfigure(Reconfigure),
    /// Whether a batch, or a newer one of its producer, was taken.
    Ask(Stamp, oneshot::Sender<Option<bool>>),
    /// Where what was written up to an epoch ends.
    FindEpochEnd(LeaderEpoch, oneshot::Sender<History>),
    /// A job was deleted: its identities will not write again.
    ForgetJob(JobId),
    /// Look after the log: retention, checkpoint.
    Trim(Task),
}

/// A topic's configuration, as it matters to a partition.
#[derive(Debug)]
pub(crate) struct Reconfigure {
    pub(crate) log: LogConfig,
    pub(crate) durability: Durability,
    /// The largest batch that is taken.
    pub(crate) max_batch_bytes: usize,
    /// Told when every batch that was handed over before has its place or its refusal.
    pub(crate) taken: oneshot::Sender<()>,
}

/// A batch that was received whole and checked.
#[derive(Debug)]
pub(crate) struct Produce {
    pub(crate) header: BatchHeader,
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) acks: Acks,
    /// The stream it came on; a job's batches come on none.
    pub(crate) stream: Option<Stream>,
    /// Room in the broker's memory that the batch takes.
    pub(crate) room: Option<OwnedSemaphorePermit>,
    /// Where the answer goes; nowhere with acks 0.
    pub(crate) answer: Option<oneshot::Sender<Answer>>,
}
