//! The transactional ids that one partition of `__transactions` holds, and how the newest transaction of each stands.
//!
//! Invariant: a producer id belongs to one transactional id.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::ids::{
    GroupName, ProducerEpoch, ProducerId, Timestamp, TopicPartition, TransactionalId,
};
use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::{MarkedPlace, Marker, TransactionState};
use serde::{Deserialize, Serialize};

/// All ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    pub(super) ids: BTreeMap<TransactionalId, Transaction>,
    /// Whose a producer is, or was until its epochs were used up and its last transaction has ended.
    pub(super) producers: BTreeMap<ProducerId, TransactionalId>,
}

/// One id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Who writes under it: what the next batch has to be stamped with.
    pub producer: ProducerIdentity,
    /// A transaction that is open for so many milliseconds is aborted.
    pub timeout_ms: u32,
    /// How the newest transaction stands.
    pub state: State,
    /// The identity under which the last one was ended, and whether it was committed: who asks again is told the
    /// same. Absent after another life has taken over.
    pub(super) last: Option<(ProducerIdentity, bool)>,
    /// When it last changed.
    pub changed: Timestamp,
}

/// How the newest transaction of an id stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// None has begun.
    Empty,
    /// It is open.
    Ongoing {
        /// Since when.
        begun: Timestamp,
        /// Where it writes.
        places: Places,
    },
    /// It is decided, and markers are being written.
    Ending {
        /// Since when it was open.
        begun: Timestamp,
        /// The producer and epoch of its records.
        of: ProducerIdentity,
        /// Whether they count.
        commit: bool,
        /// Where markers are to be written.
        places: Places,
    },
    /// It has ended everywhere.
    Ended {
        /// Whether it was committed.
        commit: bool,
    },
}

/// Where a transaction writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The partitions.
    pub partitions: BTreeSet<TopicPartition>,
    /// The groups.
    pub groups: BTreeSet<GroupName>,
}

impl Places {
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.groups.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.partitions.len() + self.groups.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = MarkedPlace> + '_ {
        let partitions = self.partitions.iter().copied().map(MarkedPlace::Partition);
        partitions.chain(self.groups.iter().cloned().map(MarkedPlace::Group))
    }

    pub(super) fn remove(&mut self, place: &MarkedPlace) {
        match place {
            MarkedPlace::Partition(partition) => drop(self.partitions.remove(partition)),
            MarkedPlace::Group(group) => drop(self.groups.remove(group)),
        }
    }
}

impl Transactions {
    /// What is known of an id.
    #[must_use]
    pub fn get(&self, id: &TransactionalId) -> Option<&Transaction> {
        self.ids.get(id)
    }

    /// Every id, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&TransactionalId, &Transaction)> {
        self.ids.iter()
    }

    /// Whether a transaction that is open in a partition is known, and its marker still to come there.
    #[must_use]
    pub fn holds(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        partition: TopicPartition,
    ) -> bool {
        let known = self.producers.get(&producer).and_then(|id| self.ids.get(id));
        known.is_some_and(|known| match &known.state {
            State::Ongoing { places, .. } => {
                let same = known.producer == ProducerIdentity { id: producer, epoch };
                same && places.partitions.contains(&partition)
            }
            State::Ending { of, places, .. } => {
                let same = *of == ProducerIdentity { id: producer, epoch };
                same && places.partitions.contains(&partition)
            }
            State::Empty | State::Ended { .. } => false,
        })
    }

    /// The index from producers, from scratch.
    pub(super) fn index(&mut self) {
        self.producers.clear();
        for (id, transaction) in &self.ids {
            for producer in transaction.producers() {
                self.producers.insert(producer, id.clone());
            }
        }
    }
}

impl Transaction {
    /// How it stands, for people.
    #[must_use]
    pub const fn name(&self) -> TransactionState {
        match self.state {
            State::Empty => TransactionState::Empty,
            State::Ongoing { .. } => TransactionState::Ongoing,
            State::Ending { commit: true, .. } => TransactionState::Committing,
            State::Ending { commit: false, .. } => TransactionState::Aborting,
            State::Ended { commit: true } => TransactionState::Committed,
            State::Ended { commit: false } => TransactionState::Aborted,
        }
    }

    /// Since when it is open, and where it writes.
    #[must_use]
    pub const fn open(&self) -> Option<(Timestamp, &Places)> {
        match &self.state {
            State::Ongoing { begun, places } | State::Ending { begun, places, .. } => {
                Some((*begun, places))
            }
            State::Empty | State::Ended { .. } => None,
        }
    }

    /// The markers that are to be written.
    pub(super) fn markers(&self) -> Vec<Marker> {
        let State::Ending { of, commit, places, .. } = &self.state else { return Vec::new() };
        let marker = |at| Marker { at, producer: of.id, epoch: of.epoch, commit: *commit };
        places.iter().map(marker).collect()
    }

    /// The producers that it has to do with.
    pub(super) fn producers(&self) -> impl Iterator<Item = ProducerId> {
        let ending = match &self.state {
            State::Ending { of, .. } => Some(of.id),
            _ => None,
        };
        [self.producer.id].into_iter().chain(ending)
    }
}
