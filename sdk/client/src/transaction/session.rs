//! What the lanes of a transactional producer go by: the identity of the open transaction, and where it writes.
//!
//! Invariant: a partition is part of the transaction at its coordinator before a batch is numbered for it.

use std::collections::BTreeSet;

use millstream_protocol::ids::{
    GroupName, ProducerEpoch, ProducerId, TopicPartition, TransactionalId,
};
use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::AddToTransaction;
use parking_lot::Mutex;

use crate::client::Client;
use crate::error::ClientError;

/// See the module.
pub(crate) struct Session {
    client: Client,
    id: TransactionalId,
    state: Mutex<State>,
    /// Held while partitions are added: those that are wanted meanwhile go together.
    adding: tokio::sync::Mutex<()>,
}

struct State {
    identity: ProducerIdentity,
    wanted: BTreeSet<TopicPartition>,
    partitions: BTreeSet<TopicPartition>,
    groups: BTreeSet<GroupName>,
}

impl Session {
    pub(super) fn new(client: Client, id: TransactionalId) -> Self {
        let identity = ProducerIdentity { id: ProducerId::NONE, epoch: ProducerEpoch(-1) };
        let state = State {
            identity,
            wanted: BTreeSet::new(),
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
        };
        Self { client, id, state: Mutex::new(state), adding: tokio::sync::Mutex::default() }
    }

    pub(super) const fn id(&self) -> &TransactionalId {
        &self.id
    }

    /// The identity of the open transaction, or of the next.
    pub(crate) fn identity(&self) -> ProducerIdentity {
        self.state.lock().identity
    }

    /// The next transaction has this identity.
    pub(super) fn next(&self, identity: ProducerIdentity) {
        let mut state = self.state.lock();
        state.identity = identity;
        state.wanted.clear();
        state.partitions.clear();
        state.groups.clear();
    }

    /// Whether nothing was added to the transaction.
    pub(super) fn is_untouched(&self) -> bool {
        let state = self.state.lock();
        state.wanted.is_empty() && state.partitions.is_empty() && state.groups.is_empty()
    }

    pub(super) fn has_group(&self, group: &GroupName) -> bool {
        self.state.lock().groups.contains(group)
    }

    pub(super) fn added_group(&self, group: GroupName) {
        self.state.lock().groups.insert(group);
    }

    /// Whether a partition is part of the transaction.
    pub(crate) fn has(&self, partition: TopicPartition) -> bool {
        self.state.lock().partitions.contains(&partition)
    }

    /// Makes a partition part of the transaction.
    pub(crate) async fn add(&self, partition: TopicPartition) -> Result<(), ClientError> {
        self.state.lock().wanted.insert(partition);
        // Other lanes may be about to want the same.
        tokio::task::yield_now().await;
        let _one_at_a_time = self.adding.lock().await;
        let (producer, wanted) = {
            let state = self.state.lock();
            if state.partitions.contains(&partition) {
                return Ok(());
            }
            (state.identity, state.wanted.clone())
        };
        let (id, partitions) = (self.id.clone(), wanted.iter().copied().collect());
        let call = AddToTransaction { id, producer, partitions, groups: Vec::new() };
        self.client.call_of_transaction(&self.id, call).await?;
        let mut state = self.state.lock();
        if state.identity == producer {
            state.wanted.retain(|partition| !wanted.contains(partition));
            state.partitions.extend(wanted);
        }
        Ok(())
    }
}
