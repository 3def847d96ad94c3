//! Who wrote a batch: producer id, epoch and sequence, as in Kafka's idempotent producer (KIP-98).
//!
//! Invariant: bit 62 of a producer id says that it belongs to a job; a client is never given one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{JobId, PartitionIndex};

const JOB_BIT: i64 = 1 << 62;
const PARTITION_BITS: u32 = 22;
const INPUT_BITS: u32 = 8;

/// A producer identity: [`ProducerId::NONE`], one given to a client, or one made of a job's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// A producer that is not idempotent.
    pub const NONE: Self = Self(-1);
    /// Partitions that a job's input may have: the identity has room for so many.
    pub const MAX_JOB_PARTITIONS: u32 = 1 << PARTITION_BITS;

    /// The identity under which a job writes what it made of one input partition.
    ///
    /// Layout: bit 62 set, 32 bits job id, 8 bits input topic's index in the job, 22 bits partition.
    #[must_use]
    pub fn for_job(job: JobId, input: u8, partition: PartitionIndex) -> Self {
        assert!(partition.0 < Self::MAX_JOB_PARTITIONS, "partition {partition} of a job's input");
        let job = i64::from(job.0) << (PARTITION_BITS + INPUT_BITS);
        Self(JOB_BIT | job | i64::from(input) << PARTITION_BITS | i64::from(partition.0))
    }

    /// Whether this identity belongs to a job.
    #[must_use]
    pub const fn is_job(self) -> bool {
        self.0 > 0 && self.0 & JOB_BIT != 0
    }

    /// The job that this identity belongs to, if it does to one.
    #[must_use]
    pub fn job(self) -> Option<JobId> {
        let job = (self.0 & !JOB_BIT) >> (PARTITION_BITS + INPUT_BITS);
        self.is_job().then(|| JobId(u32::try_from(job).expect("62 bits less 30 are 32")))
    }

    /// Whether batches of this producer carry sequences at all.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 >= 0
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The generation of a producer identity: a newer one fences the older.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ProducerEpoch(pub i16);

impl ProducerEpoch {
    /// The epoch of what a job makes of an input batch that was written in this leader epoch; wraps
    /// from 2^15-1 to 0.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "it is masked to 15 bits")]
    pub const fn of_input(epoch: super::LeaderEpoch) -> Self {
        Self((epoch.0 & i16::MAX as u32) as i16)
    }

    /// Whether this one comes after `other`, on the circle of 2^15.
    #[must_use]
    pub fn is_after(self, other: Self) -> bool {
        let ahead = (i32::from(self.0) - i32::from(other.0)) & i32::from(i16::MAX);
        ahead != 0 && ahead < 1 << 14
    }
}

/// A record's place in what its producer wrote to one partition; wraps from 2^31-1 to 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sequence(pub i32);

impl Sequence {
    /// No sequence: the batch is not idempotent.
    pub const NONE: Self = Self(-1);
    /// In place of a sequence in the header of a marker that commits a transaction: so that headers alone say how
    /// transactions ended.
    pub const COMMIT: Self = Self(-1);
    /// The same, of one that aborts it.
    pub const ABORT: Self = Self(-2);
    /// A marker's place in what its producer wrote: what follows in its epoch begins at 0.
    pub const BEFORE_FIRST: Self = Self(i32::MAX);

    /// The sequence `n` records later.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "masked to 31 bits")]
    pub fn plus(self, n: u32) -> Self {
        Self(((i64::from(self.0) + i64::from(n)) & i64::from(i32::MAX)) as i32)
    }

    /// The sequence of a job's output: its input batch's base offset, modulo 2^31.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "masked to 31 bits")]
    pub fn of_input(base_offset: super::Offset) -> Self {
        Self((base_offset.0 & i32::MAX as u64) as i32)
    }

    /// Whether this one comes after `other`, on the circle of 2^31 (RFC 1982).
    #[must_use]
    pub fn is_after(self, other: Self) -> bool {
        let ahead = (i64::from(self.0) - i64::from(other.0)) & i64::from(i32::MAX);
        ahead != 0 && ahead < 1 << 30
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_and_still_compare() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert!(Sequence(3).is_after(Sequence(i32::MAX)));
        assert!(!Sequence(i32::MAX).is_after(Sequence(3)));
        assert!(!Sequence(7).is_after(Sequence(7)));
    }

    #[test]
    fn a_jobs_identities_differ_by_job_input_and_partition() {
        let id = ProducerId::for_job(JobId(7), 1, PartitionIndex(9));
        assert!(id.is_job() && id.is_some());
        assert_eq!(id.job(), Some(JobId(7)));
        for other in [
            ProducerId::for_job(JobId(8), 1, PartitionIndex(9)),
            ProducerId::for_job(JobId(7), 2, PartitionIndex(9)),
            ProducerId::for_job(JobId(7), 1, PartitionIndex(8)),
        ] {
            assert_ne!(id, other);
        }
        let last = ProducerId::for_job(JobId(u32::MAX), 255, PartitionIndex(0));
        assert_eq!(last.job(), Some(JobId(u32::MAX)));
        assert!(!ProducerId::NONE.is_job());
        assert!(!ProducerId(12).is_job());
        assert_eq!((ProducerId::NONE.job(), ProducerId(12).job()), (None, None));
    }
}
