//! What travels between the simulated brokers and clients, really encoded.
//!
//! Invariant: a packet is decoded from the bytes that were sent, and a body rides behind it as raw bytes.

use std::fmt;

use bytes::Bytes;
use millstream_core::metadata::Command;
use millstream_protocol::error::WireError;
use millstream_protocol::frame::{self, FrameHeader, FrameLimits, HEADER_SIZE};
use millstream_protocol::ids::{
    LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, TopicPartition,
};
use millstream_protocol::limits::{MAX_FETCH_BODY_BYTES, MAX_MESSAGE_BYTES};
use millstream_protocol::message::group::{
    CommitOffsets, MemberFrame, OffsetsCommitted, OpenGroup, Standing,
};
use millstream_protocol::message::replica::{Content, Envelope, LogEnd, Progress};
use millstream_protocol::message::transaction::{Aborted, Isolation};
use serde::{Deserialize, Serialize};

/// One packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Packet {
    /// A heartbeat between brokers.
    Beat { session: u64, hears: bool },
    /// Between two replicas of a partition.
    Replica(Envelope),
    /// A client's batch, which is the body.
    Produce { partition: TopicPartition, request: u64 },
    /// A transaction is to end in a partition. Answered like a batch.
    EndTransaction {
        partition: TopicPartition,
        request: u64,
        producer: ProducerId,
        epoch: ProducerEpoch,
        commit: bool,
    },
    /// Its answer.
    Produced { request: u64, result: Result<Offset, Refusal> },
    /// A client wants batches from an offset on.
    Fetch { partition: TopicPartition, request: u64, position: LogEnd, isolation: Isolation },
    /// The answer: sealed batches in the body.
    Fetched { request: u64, result: Result<Offset, Refusal>, aborted: Vec<Aborted> },
    /// Somebody wants a decision.
    Propose { request: u64, command: Command },
    /// Whether it was written; what it did is seen in the image.
    Proposed { request: u64, result: Result<Offset, Refusal> },
    /// A broker wants everything that is decided.
    WantSnapshot,
    /// Everything that is decided, in the body.
    Snapshot { applied: Offset },
    /// A frame of a member's stream; its first opens the stream.
    Member { stream: u64, serial: u64, open: OpenGroup, frame: MemberFrame },
    /// A frame to a member, and with an error who leads, as far as is known.
    Told { stream: u64, serial: u64, told: Result<Standing, WireError>, leader: Option<NodeId> },
    /// A member commits.
    Commit { request: u64, commit: CommitOffsets },
    /// What of it was refused; or why all of it was, and who leads.
    Committed { request: u64, result: Result<OffsetsCommitted, WireError>, leader: Option<NodeId> },
}

/// The number of a frame that comes from who does not know the stream: it is at its end, wherever it was.
pub(crate) const RESET: u64 = u64::MAX;

/// Why a request was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// Another broker leads, perhaps this one.
    NotLeader(Option<NodeId>),
    /// Later perhaps.
    Busy,
    /// The producer left a gap.
    OutOfOrder,
    /// The producer is not known.
    Unknown,
    /// The log stopped under the batch: its fate is not known.
    Unsure,
    /// The log begins here now.
    OutOfRange(Offset),
    /// The position's history is another; it parted here.
    Truncated { epoch: LeaderEpoch, offset: Offset },
}

impl fmt::Display for Packet {
    /// Short, for people who read traces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beat { session, hears } => write!(f, "beat {session} hears {hears}"),
            Self::Replica(Envelope { partition, message, .. }) => {
                write!(f, "{partition} e{}: ", message.epoch)?;
                content(f, &message.content)
            }
            Self::Produce { partition, request } => write!(f, "{partition} produce #{request}"),
            Self::Fetch { partition, request, position, .. } => {
                write!(f, "{partition} fetch #{request} at {}", end(*position))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

fn end(end: LogEnd) -> String {
    format!("{}/e{}", end.offset, end.epoch)
}

fn content(f: &mut fmt::Formatter<'_>, content: &Content) -> fmt::Result {
    match content {
        Content::Canvass(at) => write!(f, "canvass {}", end(*at)),
        Content::Stand(at) => write!(f, "stand {}", end(*at)),
        Content::Fetch { end: at, progress, .. } => {
            let Progress { appended, synced, committed } = progress;
            write!(f, "fetch {} appended {appended} synced {synced} hw {committed}", end(*at))
        }
        Content::Progress(Progress { appended, synced, committed }) => {
            write!(f, "progress appended {appended} synced {synced} hw {committed}")
        }
        Content::Batches { base, high_watermark, log_start } => {
            write!(f, "batches from {base} hw {high_watermark} start {log_start}")
        }
        Content::Diverged { end: at, .. } => write!(f, "diverged {}", end(*at)),
        Content::StartOver { start, .. } => write!(f, "start over {}", end(*start)),
        other => write!(f, "{other:?}"),
    }
}

const LIMITS: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: MAX_FETCH_BODY_BYTES };

impl Packet {
    pub(crate) fn encode(&self, body: &[u8]) -> Bytes {
        let mut bytes = frame::encode(self, body.len());
        bytes.extend_from_slice(body);
        Bytes::from(bytes)
    }

    pub(crate) fn decode(bytes: &Bytes) -> (Self, Bytes) {
        let head = bytes.first_chunk::<HEADER_SIZE>().expect("a packet has a header");
        let head = FrameHeader::parse(*head, LIMITS).expect("a packet is within its limits");
        let end = HEADER_SIZE + head.message_len as usize;
        let packet = frame::decode(&bytes[HEADER_SIZE..end]).expect("a packet decodes");
        let body = bytes.slice(end..);
        assert_eq!(body.len(), head.body_len as usize, "a body is as long as it says");
        (packet, body)
    }
}
