//! Offsets: what was handed out of each partition, what of it is processed, and what is committed.
//!
//! Invariant: one commit is under way at a time, so that they arrive in order; nothing is committed that was not handed
//! out, and nothing lower than before.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_protocol::error::ErrorCode;
use millstream_protocol::ids::{LeaderEpoch, Offset, PartitionIndex, TopicName, TopicPartition};
use millstream_protocol::message::group::{CommitOffsets, Committed, OffsetCommit};
use parking_lot::Mutex;

use super::shared::{Shared, Taken};
use crate::client::Client;
use crate::consumer::Fetched;
use crate::error::{ClientError, CommitError};

type Position = (Offset, Option<LeaderEpoch>);

/// See the module.
pub(super) struct Ledger {
    client: Client,
    shared: Arc<Shared>,
    accounts: Mutex<BTreeMap<TopicPartition, Account>>,
    /// Held while a commit is under way.
    committing: tokio::sync::Mutex<()>,
}

struct Account {
    topic: TopicName,
    handed_out: Option<Position>,
    processed: Option<Position>,
    committed: Option<Offset>,
}

impl Ledger {
    pub(super) fn new(client: Client, shared: Arc<Shared>) -> Self {
        Self {
            client,
            shared,
            accounts: Mutex::default(),
            committing: tokio::sync::Mutex::default(),
        }
    }

    /// A partition is read from now on.
    pub(super) fn begin(&self, taken: &Taken) {
        let account = Account {
            topic: taken.topic.clone(),
            handed_out: None,
            processed: None,
            committed: taken.committed.as_ref().map(|committed| committed.offset),
        };
        self.accounts.lock().insert(taken.of, account);
    }

    /// A partition is not this member's any more.
    pub(super) fn end(&self, of: TopicPartition) {
        self.accounts.lock().remove(&of);
    }

    /// Whether a partition is this member's.
    pub(super) fn has(&self, of: TopicPartition) -> bool {
        self.accounts.lock().contains_key(&of)
    }

    pub(super) fn handed_out(&self, fetched: &Fetched) {
        if let Some(account) = find(&mut self.accounts.lock(), fetched.topic(), fetched.partition())
        {
            account.1.handed_out = Some((fetched.next_offset(), fetched.next_epoch()));
        }
    }

    pub(super) fn everything_is_processed(&self) {
        for account in self.accounts.lock().values_mut() {
            account.processed = account.handed_out;
        }
    }

    pub(super) async fn commit_handed_out(&self) -> Result<(), CommitError> {
        let _turn = self.committing.lock().await;
        let wanted = self.news(|account| account.handed_out);
        self.commit(wanted).await
    }

    pub(super) async fn commit_processed(&self) -> Result<(), CommitError> {
        let _turn = self.committing.lock().await;
        let wanted = self.news(|account| account.processed);
        self.commit(wanted).await
    }

    pub(super) async fn commit_before_delivery(
        &self,
        fetched: &Fetched,
    ) -> Result<(), CommitError> {
        let _turn = self.committing.lock().await;
        let wanted = {
            let mut accounts = self.accounts.lock();
            let found = find(&mut accounts, fetched.topic(), fetched.partition());
            found.map(|(of, _)| (of, (fetched.next_offset(), fetched.next_epoch())))
        };
        self.commit(wanted.into_iter().collect()).await
    }

    pub(super) async fn commit_up_to(
        &self,
        topic: &TopicName,
        partition: PartitionIndex,
        offset: Offset,
    ) -> Result<(), CommitError> {
        let _turn = self.committing.lock().await;
        let wanted = {
            let mut accounts = self.accounts.lock();
            let not_owned = || CommitError::NotOwned { topic: topic.clone(), partition };
            let (of, account) = find(&mut accounts, topic, partition).ok_or_else(not_owned)?;
            match account.handed_out {
                Some((known, epoch)) if known == offset => (of, (offset, epoch)),
                Some((known, _)) if offset < known => (of, (offset, None)),
                handed_out => {
                    let handed_out = handed_out.map(|(offset, _)| offset).or(account.committed);
                    let (topic, given) = (topic.clone(), offset);
                    return Err(CommitError::Undelivered { topic, partition, given, handed_out });
                }
            }
        };
        self.commit(vec![wanted]).await
    }

    /// Partitions that are further than what is committed.
    fn news(
        &self,
        of_account: impl Fn(&Account) -> Option<Position>,
    ) -> Vec<(TopicPartition, Position)> {
        let accounts = self.accounts.lock();
        let further = accounts.iter().filter_map(|(of, account)| {
            let position = of_account(account)?;
            (account.committed < Some(position.0)).then_some((*of, position))
        });
        further.collect()
    }

    async fn commit(&self, wanted: Vec<(TopicPartition, Position)>) -> Result<(), CommitError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let one = |(partition, (offset, epoch)): &(TopicPartition, Position)| OffsetCommit {
            partition: *partition,
            committed: Committed { offset: *offset, epoch: *epoch, metadata: String::new() },
        };
        let group = self.shared.group.clone();
        let commit = CommitOffsets {
            group: group.clone(),
            member: Some(self.shared.identity()),
            offsets: wanted.iter().map(one).collect(),
        };
        let answer = self.client.call_of_group(&group, commit).await;
        let refused = match answer {
            Ok(answer) => answer.refused,
            Err(ClientError::Refused(error)) if error.code == ErrorCode::MemberFenced => {
                return Err(CommitError::Fenced(error));
            }
            Err(error) => return Err(error.into()),
        };
        let mut accounts = self.accounts.lock();
        for (of, (offset, _)) in wanted {
            let is_refused = refused.iter().any(|(refused, _)| *refused == of);
            if let Some(account) = accounts.get_mut(&of).filter(|_| !is_refused) {
                let (topic, partition) = (&account.topic, of.partition);
                tracing::debug!(%topic, %partition, %offset, "committed");
                account.committed = account.committed.max(Some(offset));
            }
        }
        match refused.into_iter().next() {
            None => Ok(()),
            Some((of, error)) => {
                let topic = accounts.get(&of).map(|account| account.topic.clone());
                Err(CommitError::Refused { topic, partition: of.partition, error })
            }
        }
    }
}

fn find<'a>(
    accounts: &'a mut BTreeMap<TopicPartition, Account>,
    topic: &TopicName,
    partition: PartitionIndex,
) -> Option<(TopicPartition, &'a mut Account)> {
    let of = |of: &TopicPartition, account: &Account| {
        of.partition == partition && account.topic == *topic
    };
    accounts.iter_mut().find(|(key, account)| of(key, account)).map(|(of, account)| (*of, account))
}
