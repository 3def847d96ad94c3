//! Between brokers: heartbeats, replica messages and who leads what, on streams of one connection each way.
//!
//! ```text
//! broker A                                    broker B
//!   Open::Peer(Control) ─────────────────▶    Beat, Replicas, Leads: small, and never behind a batch
//!   Open::Peer(Data), Open::Peer(Bulk) ──▶    Envelope + sealed batches; bulk is for those who catch up
//! ```
//! Each broker calls each other one, and speaks on the connection that it made. Only who has proved to be the
//! broker that it says it is, by its certificate, may open such a stream.

use serde::{Deserialize, Serialize};

use super::replica::{Envelope, LogEnd};
use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, ReplicaId, TopicId, TopicPartition};

/// Opens a stream from one broker to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPeer {
    /// Who speaks.
    pub from: ReplicaId,
    /// What comes on the stream.
    pub kind: PeerStream,
}

/// What comes on a stream between brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerStream {
    /// [`PeerFrame`]s.
    Control,
    /// [`Envelope`]s with bodies.
    Data,
    /// The same, for replicas that catch up.
    Bulk,
}

/// One frame of a control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerFrame {
    /// A heartbeat.
    Beat {
        /// The speaker's life, and which connection of it: another number when either is another.
        session: u64,
        /// Whether it hears the one it speaks to.
        hears: bool,
    },
    /// Messages between replicas that have no body.
    Replicas(Vec<Envelope>),
    /// What the speaker leads now, or does not lead any more.
    Leads(Vec<Leadership>),
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leadership {
    /// The partition.
    pub partition: TopicPartition,
    /// In which epoch.
    pub epoch: LeaderEpoch,
    /// Whether the speaker leads in it.
    pub leads: bool,
}

/// Has the metadata's leader write a batch of commands, which is the request's body; only brokers ask. Answered when it
/// is committed: what came of each command, the asker learns as it applies them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propose {}

/// A broker asks to be part of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinCluster {
    /// The broker, and the incarnation of its disk.
    pub replica: ReplicaId,
    /// Where it is, `host:port`.
    pub address: String,
    /// What it shares the fate of, for placement.
    pub rack: Option<String>,
}

/// What a broker has to know to take part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedCluster {
    /// The cluster's identity.
    pub cluster: u128,
    /// Who votes on metadata.
    pub voters: Vec<ReplicaId>,
    /// Where in the metadata log that stands.
    pub voters_at: LogEnd,
    /// Where the brokers are.
    pub brokers: Vec<super::topic::BrokerAddress>,
}

/// Asks a broker about partitions that it leads; only brokers ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The topic.
    pub topic: TopicId,
    /// The partitions.
    pub partitions: Vec<PartitionIndex>,
}

/// Asks for a part of a module's bytes; only brokers ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadModule {
    /// SHA-256 of the module, in lowercase hex.
    pub sha256: String,
    /// Where the part begins.
    pub offset: u64,
}

/// Has a broker keep a copy of a module before a version of it is decided; only brokers ask, those that have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyModule {
    /// SHA-256 of the module, in lowercase hex.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
}

/// Asks for a part of a snapshot of everything that is decided; only brokers ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadSnapshot {
    /// Which snapshot is read on; a new one when nothing is said.
    pub applied: Option<Offset>,
    /// Where the part begins.
    pub offset: u64,
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPart {
    /// The offset of the metadata log that it is as of.
    pub applied: Offset,
    /// Bytes of the whole snapshot.
    pub size: u64,
    /// The part.
    pub bytes: Vec<u8>,
}

/// Asks up to where replicas were compacted; only brokers ask. Nothing is said of those that are not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanedTo {
    /// The partitions.
    pub partitions: Vec<TopicPartition>,
}

/// Tells a broker to give the leadership of a partition away; only brokers ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// The partition.
    pub partition: TopicPartition,
    /// To whom.
    pub to: NodeId,
}
