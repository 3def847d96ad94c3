//! What a partition is given when it is opened.
//!
//! Invariant: everything that could grow has its bound here.

use std::time::Duration;

use millstream_protocol::ids::{Offset, ReplicaId};
use millstream_protocol::message::replica::LogEnd;

use super::ballot::Ballot;
use super::io::Durability;
use super::voter::VoterSet;
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

/// How long a replica waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Who knows of no leader stands for election after this, at the longest, and again after it.
    pub election: Duration,
    /// Whose leader's broker was lost stands after this, at the longest.
    pub takeover: Duration,
    /// A leader speaks again to a replica that does not answer after this, and then less and less often.
    pub resend: Duration,
    /// What was committed is told to idle followers after this, unless a batch tells them before.
    pub commit_linger: Duration,
    /// A leader that gives its leadership away takes it back when nobody took it within this.
    pub transfer: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            election: Duration::from_millis(600),
            takeover: Duration::from_millis(60),
            resend: Duration::from_millis(200),
            commit_linger: Duration::from_millis(20),
            transfer: Duration::from_secs(1),
        }
    }
}

/// How a partition behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This replica.
    pub replica: ReplicaId,
    /// The replicas that elect and commit, as far as the cluster's metadata knows.
    pub voters: VoterSet,
    /// Where in the log these voters stand: the beginning for those that the partition began with.
    pub voters_at: LogEnd,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// How much may be in flight.
    pub in_flight: InFlightLimits,
    /// How long it waits for others.
    pub timing: Timing,
    /// A producer snapshot is written after so many bytes of log.
    pub snapshot_bytes: u64,
    /// And after so much time, when something was written at all.
    pub snapshot_age: Duration,
    /// Where this replica's chance comes from; different on every replica.
    pub seed: u64,
    /// A larger number each time that this replica is opened.
    pub life: u64,
}

impl Config {
    /// The defaults, for a broker that is alone.
    #[must_use]
    pub fn alone(replica: ReplicaId, durability: Durability, seed: u64) -> Self {
        Self {
            replica,
            voters: VoterSet::new([replica]),
            voters_at: LogEnd::default(),
            durability,
            in_flight: InFlightLimits::default(),
            timing: Timing::default(),
            snapshot_bytes: 256 << 20,
            snapshot_age: Duration::from_mins(5),
            seed,
            life: 0,
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
    /// The newest ballot made durable.
    pub ballot: Ballot,
    /// From the headers of the log.
    pub epochs: EpochTable,
    /// From the newest snapshot, with the headers after it replayed.
    pub producers: ProducerTable,
}
