//! Who has written what: the table that stores each producer's batch once.
//!
//! ```text
//!   check(stamp) ── Fresh ──▶ append at an offset ──▶ record(stamp, offset) ──▶ settle(committed)
//!        ├───────── Duplicate{place} ──▶ acknowledged with the first attempt's offset
//!        └───────── error ──▶ refused, nothing is written
//! ```
//!
//! Invariant: for one producer and epoch, what is fresh is exactly the next sequence (a client) or a
//! newer one (a job, by epoch first); so whatever is retried, reordered or replayed, each sequence is
//! stored once. A producer that is not known starts at sequence 0: anything else could be a retry of
//! what was stored and forgotten.

mod snapshot;
mod window;

#[cfg(test)]
mod model;

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_protocol::batch::BatchHeader;
use millstream_protocol::error::ErrorCode;
use millstream_protocol::ids::{
    JobId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
};
use thiserror::Error;

use crate::log::transactions::{Part, Transactions};
use crate::machine::Time;
use crate::mutation::{self, Mutation};
pub use snapshot::SnapshotError;
pub use window::Verdict;
use window::{Kind, Window};

/// What a batch says about who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer.
    pub producer: ProducerId,
    /// Its generation.
    pub epoch: ProducerEpoch,
    /// The sequence of its first record; for a job, the offset of its input batch.
    pub first: Sequence,
    /// How many offsets the batch takes.
    pub count: u64,
    /// Its part in a transaction.
    pub part: Part,
}

impl Stamp {
    /// The stamp in a batch's header.
    #[must_use]
    pub fn of(header: &BatchHeader) -> Self {
        let part = Part::of(header);
        Self {
            producer: header.producer_id,
            epoch: header.producer_epoch,
            first: if part.is_marker() { Sequence::BEFORE_FIRST } else { header.base_sequence },
            count: u64::from(header.last_offset_delta) + 1,
            part,
        }
    }

    /// The stamp of the marker that ends the transaction of that epoch.
    ///
    /// # Panics
    /// For the last epoch there is: it is no transaction's.
    #[must_use]
    pub fn of_marker(producer: ProducerId, ended: ProducerEpoch, commit: bool) -> Self {
        let epoch = ProducerEpoch(ended.0.checked_add(1).expect("the last epoch has no records"));
        let part = if commit { Part::Commit } else { Part::Abort };
        Self { producer, epoch, first: Sequence::BEFORE_FIRST, count: 1, part }
    }
}

/// Why a stamp was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProducerError {
    /// The sequence is neither the next one nor a known one.
    #[error(
        "producer {producer} sent sequence {got}, but {expected} is next: \
         send what lies between first, in order"
    )]
    OutOfOrder {
        /// The producer.
        producer: ProducerId,
        /// The sequence that would be taken.
        expected: Sequence,
        /// The sequence that came.
        got: Sequence,
    },
    /// A newer generation of this producer has written here.
    #[error(
        "producer {producer} has epoch {}, but epoch {} took over: stop this one",
        .got.0, .current.0
    )]
    Fenced {
        /// The producer.
        producer: ProducerId,
        /// The newest epoch seen.
        current: ProducerEpoch,
        /// The epoch that came.
        got: ProducerEpoch,
    },
    /// Nothing is known of this producer, and it does not start at sequence 0.
    #[error(
        "producer {producer} is not known here and starts at sequence {got}: \
         take a new producer identity and start at 0"
    )]
    Unknown {
        /// The producer.
        producer: ProducerId,
        /// The sequence that came.
        got: Sequence,
    },
    /// Too many producers write here at once.
    #[error(
        "{limit} producers wrote to this partition lately, which is the limit: try again later"
    )]
    Full {
        /// The most that are remembered.
        limit: usize,
    },
    /// The producer's transaction is open here, and the batch is not a part of it.
    #[error(
        "producer {producer} has a transaction open in epoch {}, and the batch is not a part of it: \
         end the transaction first",
        .open.0
    )]
    OutsideTransaction {
        /// The producer.
        producer: ProducerId,
        /// The epoch of the transaction.
        open: ProducerEpoch,
    },
    /// The producer's transaction before is still open here.
    #[error(
        "the transaction of producer {producer} in epoch {} has not ended here yet: send the batch again",
        .open.0
    )]
    NotEnded {
        /// The producer.
        producer: ProducerId,
        /// The epoch of the transaction.
        open: ProducerEpoch,
    },
    /// Epoch or sequence are negative, or the batch is too long to have one.
    #[error(
        "producer {producer} sent epoch {}, sequence {first}, {count} offsets: \
         epoch and sequence are never negative, and a batch has 1 to 2^30 offsets",
        .epoch.0
    )]
    Malformed {
        /// The producer.
        producer: ProducerId,
        /// The epoch that came.
        epoch: ProducerEpoch,
        /// The sequence that came.
        first: Sequence,
        /// The number of offsets that came.
        count: u64,
    },
}

impl ProducerError {
    /// The code a client is told.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfOrder { .. } => ErrorCode::OutOfOrderSequence,
            Self::Fenced { .. } => ErrorCode::ProducerFenced,
            Self::Unknown { .. } => ErrorCode::UnknownProducer,
            Self::Full { .. } => ErrorCode::Overloaded,
            Self::OutsideTransaction { .. } => ErrorCode::InvalidTransaction,
            Self::NotEnded { .. } => ErrorCode::ConcurrentTransactions,
            Self::Malformed { .. } => ErrorCode::InvalidRequest,
        }
    }
}

/// How much the table remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerLimits {
    /// The most clients.
    pub clients: usize,
    /// The most job identities. They are not forgotten by time: a job may be paused for long.
    pub jobs: usize,
    /// Runs of sequences over all producers, above which each producer keeps only a few.
    pub runs: usize,
    /// A client that wrote nothing for so long is forgotten.
    pub expiry: Duration,
    /// When the table is full, a client idle for so long makes room. No client may retry a batch for
    /// longer than this.
    pub spare: Duration,
}

impl Default for ProducerLimits {
    fn default() -> Self {
        Self {
            clients: 65_536,
            jobs: 65_536,
            runs: 262_144,
            expiry: Duration::from_hours(7 * 24),
            spare: Duration::from_mins(15),
        }
    }
}

/// How long a full table waits before it looks for idle producers again.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// The producers of one partition.
#[derive(Clone, Debug)]
pub struct ProducerTable {
    limits: ProducerLimits,
    windows: BTreeMap<ProducerId, Window>,
    transactions: Transactions,
    clients: usize,
    runs: usize,
    /// Everything before it stays, whatever happens: what rollback can never reach.
    settled: Offset,
    /// Batches before it are in the table already.
    end: Offset,
    swept: Option<Time>,
}

impl ProducerTable {
    /// A table of a log without producers.
    #[must_use]
    pub fn new(limits: ProducerLimits) -> Self {
        Self {
            limits,
            windows: BTreeMap::new(),
            transactions: Transactions::default(),
            clients: 0,
            runs: 0,
            settled: Offset::ZERO,
            end: Offset::ZERO,
            swept: None,
        }
    }

    /// How many producers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Who is remembered.
    pub fn ids(&self) -> impl Iterator<Item = ProducerId> + '_ {
        self.windows.keys().copied()
    }

    /// Whether no producer is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// The transactions.
    #[must_use]
    pub const fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// Says what to do with a batch, without remembering it.
    ///
    /// # Errors
    /// [`ProducerError`]: the batch must not be written.
    pub fn check(&mut self, now: Time, stamp: &Stamp) -> Result<Verdict, ProducerError> {
        check_form(stamp)?;
        if let Some(window) = self.windows.get(&stamp.producer) {
            let verdict = window.verdict(stamp)?;
            if verdict == Verdict::Fresh {
                self.check_part(stamp)?;
            }
            return Ok(verdict);
        }
        if Kind::of(stamp.producer) == Kind::Client && stamp.first != Sequence(0) {
            return Err(ProducerError::Unknown { producer: stamp.producer, got: stamp.first });
        }
        self.make_room(now, stamp.producer)?;
        Ok(Verdict::Fresh)
    }

    /// Says whether a marker is to be written. It is not when its transaction, or a later one, was ended before,
    /// and it is where nothing of the transaction was seen: what comes of it later is then fenced.
    ///
    /// # Errors
    /// [`ProducerError::Full`].
    pub fn check_marker(&mut self, now: Time, marker: &Stamp) -> Result<bool, ProducerError> {
        check_form(marker)?;
        let Some(window) = self.windows.get(&marker.producer) else {
            self.make_room(now, marker.producer)?;
            return Ok(true);
        };
        let ends = |epoch: ProducerEpoch| epoch < marker.epoch;
        let open = self.transactions.open(marker.producer).map(|open| open.epoch);
        if mutation::is(Mutation::LateMarkerEndsAll) {
            return Ok(true);
        }
        Ok(open.map_or_else(|| ends(window.epoch()), ends))
    }

    fn check_part(&self, stamp: &Stamp) -> Result<(), ProducerError> {
        let producer = stamp.producer;
        let Some(open) = self.transactions.open(producer).map(|open| open.epoch) else {
            return Ok(());
        };
        match stamp.part {
            Part::Data if open == stamp.epoch => Ok(()),
            Part::Data => Err(ProducerError::NotEnded { producer, open }),
            _ => Err(ProducerError::OutsideTransaction { producer, open }),
        }
    }

    /// Whether this batch, or a newer one of its producer, is in the log.
    #[must_use]
    pub fn has(&self, stamp: &Stamp) -> bool {
        let window = self.windows.get(&stamp.producer);
        window.is_some_and(|window| window.verdict(stamp) != Ok(Verdict::Fresh))
    }

    /// Remembers a fresh batch that was given `base`. Batches are recorded in the order of the log.
    pub fn record(&mut self, now: Time, stamp: &Stamp, base: Offset) {
        assert!(self.end <= base, "a batch at {base} is recorded after the end {}", self.end);
        self.end = base + stamp.count;
        let kind = Kind::of(stamp.producer);
        let keep = kind.keeps(self.runs >= self.limits.runs);
        let clients = &mut self.clients;
        let window = self.windows.entry(stamp.producer).or_insert_with(|| {
            *clients += usize::from(kind == Kind::Client);
            Window::new(kind)
        });
        let before = window.len();
        window.push(now, stamp, base);
        window.trim(keep, self.settled);
        self.runs = self.runs + window.len() - before;
        self.transactions.record(now, (stamp.producer, stamp.epoch), stamp.part, base);
    }

    /// Remembers a batch that is in the log already: recovery, or a follower's copy. A batch that the
    /// table holds already is passed over.
    pub fn replay(&mut self, now: Time, header: &BatchHeader) {
        self.replay_stamp(now, &Stamp::of(header), header.base_offset);
    }

    pub(crate) fn replay_stamp(&mut self, now: Time, stamp: &Stamp, base: Offset) {
        if base < self.end {
            return;
        }
        if check_form(stamp).is_ok() {
            self.record(now, stamp, base);
        }
        self.end = base + stamp.count;
    }

    /// Everything before `offset` is committed and will never be taken back.
    pub fn settle(&mut self, offset: Offset) {
        self.settled = self.settled.max(offset);
    }

    /// What lies before `offset` is settled, and durable here.
    pub fn settle_durable(&mut self, offset: Offset) {
        self.transactions.settle(offset);
    }

    /// Records before `start` are gone.
    pub fn advance_start(&mut self, start: Offset) {
        self.transactions.advance_start(start);
    }

    /// Forgets every batch at or after `from`: it was never committed, so a retry of it is fresh.
    pub fn cut(&mut self, now: Time, from: Offset) {
        assert!(self.settled <= from, "a cut at {from} is below the settled {}", self.settled);
        self.end = self.end.min(from);
        self.transactions.cut(now, from);
        self.windows.retain(|_, window| {
            window.cut(from);
            !window.is_empty()
        });
        self.recount();
    }

    /// Forgets everybody.
    pub(crate) fn forget(&mut self) {
        self.windows.clear();
        self.recount();
    }

    /// Forgets clients that wrote nothing for the time of [`ProducerLimits::expiry`].
    pub fn expire(&mut self, now: Time) {
        self.forget_idle(now, self.limits.expiry);
    }

    /// Forgets the identities of a job that was deleted: its id is never used again.
    pub fn forget_job(&mut self, job: JobId) {
        let last = PartitionIndex(ProducerId::MAX_JOB_PARTITIONS - 1);
        let from = ProducerId::for_job(job, 0, PartitionIndex(0));
        let to = ProducerId::for_job(job, u8::MAX, last);
        let ids: Vec<_> = self.windows.range(from..=to).map(|(id, _)| *id).collect();
        for id in ids {
            self.windows.remove(&id);
        }
        self.recount();
    }

    /// Forgets the identities of every job that is not known any more. A crash may have come between the
    /// end of a job and [`Self::forget_job`], and what the log is replayed from may be older than both.
    pub fn keep_jobs(&mut self, known: impl Fn(JobId) -> bool) {
        self.windows.retain(|id, _| id.job().is_none_or(&known));
        self.recount();
    }

    fn make_room(&mut self, now: Time, newcomer: ProducerId) -> Result<(), ProducerError> {
        let jobs = self.windows.len() - self.clients;
        match Kind::of(newcomer) {
            Kind::Job if jobs < self.limits.jobs => return Ok(()),
            Kind::Job => {
                return Err(ProducerError::Full { limit: self.limits.jobs });
            }
            Kind::Client if self.clients < self.limits.clients => return Ok(()),
            Kind::Client => {}
        }
        if self.swept.is_none_or(|swept| swept + SWEEP_EVERY <= now) {
            self.swept = Some(now);
            self.forget_idle(now, self.limits.spare);
        }
        if self.clients < self.limits.clients {
            return Ok(());
        }
        Err(ProducerError::Full { limit: self.limits.clients })
    }

    fn forget_idle(&mut self, now: Time, idle: Duration) {
        let (settled, transactions) = (self.settled, &self.transactions);
        self.windows.retain(|id, window| {
            let busy = now < window.active() + idle || settled < window.end();
            window.kind() == Kind::Job || busy || transactions.open(*id).is_some()
        });
        self.recount();
    }

    fn recount(&mut self) {
        self.clients = self.windows.values().filter(|w| w.kind() == Kind::Client).count();
        self.runs = self.windows.values().map(Window::len).sum();
    }
}

fn check_form(stamp: &Stamp) -> Result<(), ProducerError> {
    let Stamp { producer, epoch, first, count, .. } = *stamp;
    let formed = producer.is_some() && epoch.0 >= 0 && first.0 >= 0;
    if formed && (1..=1 << 30).contains(&count) {
        return Ok(());
    }
    Err(ProducerError::Malformed { producer, epoch, first, count })
}
