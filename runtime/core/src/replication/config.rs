//! What a partition is given when it is opened.
//!
//! Invariant: everything that could grow has its bound here.

use std::time::Duration;

use millstream_protocol::ids::Offset;

use super::io::Durability;
use super::voter::{ReplicaId, Vote, VoterSet};
use crate::log::epochs::EpochTable;
use crate::log::producers::ProducerTable;

/// How much may be taken from producers and not yet be committed. Beyond it, produces are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightLimits {
    /// Batches, and retries that wait for one.
    pub batches: usize,
    /// Bytes of batches. One batch is always taken, however large.
    pub bytes: u64,
}

impl Default for InFlightLimits {
    fn default() -> Self {
        Self { batches: 1_024, bytes: 64 << 20 }
    }
}

/// How a partition behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This replica.
    pub replica: ReplicaId,
    /// The replicas that elect and commit.
    pub voters: VoterSet,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// How much may be in flight.
    pub in_flight: InFlightLimits,
    /// How long a follower waits for its leader before it stands for election, at the longest.
    pub election_timeout: Duration,
    /// A producer snapshot is written after so many bytes of log.
    pub snapshot_bytes: u64,
    /// And after so much time, when something was written at all.
    pub snapshot_age: Duration,
    /// Where this replica's chance comes from; different on every replica.
    pub seed: u64,
}

impl Config {
    /// The defaults, for a broker that is alone.
    #[must_use]
    pub fn alone(replica: ReplicaId, durability: Durability, seed: u64) -> Self {
        Self {
            replica,
            voters: VoterSet::new([replica]),
            durability,
            in_flight: InFlightLimits::default(),
            election_timeout: Duration::from_secs(1),
            snapshot_bytes: 256 << 20,
            snapshot_age: Duration::from_mins(5),
            seed,
        }
    }
}

/// What recovery found on the disk.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The first offset.
    pub log_start: Offset,
    /// The offset after the last record.
    pub log_end: Offset,
    /// Everything before it is known to be durable.
    pub synced: Offset,
    /// The newest vote made durable.
    pub vote: Vote,
    /// From the headers of the log.
    pub epochs: EpochTable,
    /// From the newest snapshot, with the headers after it replayed.
    pub producers: ProducerTable,
}
