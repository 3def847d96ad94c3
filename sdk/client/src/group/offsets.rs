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
type Name = (TopicName, PartitionIndex);

/// See the module.
pub(super) struct Ledger {
    client: Client,
    shared: Arc<Shared>,
    accounts: Mutex<BTreeMap<Name, Account>>,
    /// Held while a commit is under way.
    committing: tokio::sync::Mutex<()>,
}

struct Account {
    of: TopicPartition,
    handed_out: Option<Position>,
    processed: Option<Position>,
    committed: Option<Offset>,
}

/// What is to be committed of a partition.
struct Wanted {
    name: Name,
    of: TopicPartition,
    position: Position,
}

impl Wanted {
    fn as_commit(&self) -> OffsetCommit {
        let (offset, epoch) = self.position;
        let committed = Committed { offset, epoch, metadata: String::new() };
        OffsetCommit { partition: self.of, committed }
    }
}

/// Offsets that are committed with a transaction.
pub(crate) struct Noted {
    ledger: Arc<Ledger>,
    wanted: Vec<Wanted>,
}

impl Noted {
    pub(crate) fn offsets(&self) -> Vec<OffsetCommit> {
        self.wanted.iter().map(Wanted::as_commit).collect()
    }

    pub(crate) fn commit(&self) -> CommitOffsets {
        let shared = &self.ledger.shared;
        let (group, member) = (shared.group.clone(), Some(shared.identity()));
        CommitOffsets { group, member, offsets: self.offsets() }
    }

    /// The transaction is committed.
    pub(crate) fn is_committed(&self) {
        let mut accounts = self.ledger.accounts.lock();
        for Wanted { name, position: (offset, _), .. } in &self.wanted {
            if let Some(account) = accounts.get_mut(name) {
                account.committed = account.committed.max(Some(*offset));
            }
        }
    }
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
            of: taken.of,
            handed_out: None,
            processed: None,
            committed: taken.committed.as_ref().map(|committed| committed.offset),
        };
        self.accounts.lock().insert(taken.name(), account);
    }

    /// A partition is not this member's any more.
    pub(super) fn end(&self, topic: &TopicName, partition: PartitionIndex) {
        self.accounts.lock().remove(&(topic.clone(), partition));
    }

    /// Whether a partition is this member's.
    pub(super) fn has(&self, topic: &TopicName, partition: PartitionIndex) -> bool {
        self.accounts.lock().contains_key(&(topic.clone(), partition))
    }

    pub(super) fn handed_out(&self, fetched: &Fetched) {
        let name = (fetched.topic().clone(), fetched.partition());
        if let Some(account) = self.accounts.lock().get_mut(&name) {
            account.handed_out = Some((fetched.next_offset(), fetched.next_epoch()));
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
        let name = (fetched.topic().clone(), fetched.partition());
        let position = (fetched.next_offset(), fetched.next_epoch());
        let of = self.accounts.lock().get(&name).map(|account| account.of);
        self.commit(of.map(|of| Wanted { name, of, position }).into_iter().collect()).await
    }

    pub(super) async fn commit_up_to(
        &self,
        topic: &TopicName,
        partition: PartitionIndex,
        offset: Offset,
    ) -> Result<(), CommitError> {
        let _turn = self.committing.lock().await;
        let name = (topic.clone(), partition);
        let wanted = {
            let accounts = self.accounts.lock();
            let not_owned = || CommitError::NotOwned { topic: topic.clone(), partition };
            let account = accounts.get(&name).ok_or_else(not_owned)?;
            let epoch = match account.handed_out {
                Some((known, epoch)) if known == offset => epoch,
                Some((known, _)) if offset < known => None,
                handed_out => {
                    let handed_out = handed_out.map(|(offset, _)| offset).or(account.committed);
                    let (topic, given) = (topic.clone(), offset);
                    return Err(CommitError::Undelivered { topic, partition, given, handed_out });
                }
            };
            Wanted { of: account.of, name, position: (offset, epoch) }
        };
        self.commit(vec![wanted]).await
    }

    /// What a transaction is to commit: everything that was handed out.
    pub(super) fn note(self: &Arc<Self>) -> Noted {
        let wanted = self.news(|account| account.handed_out);
        Noted { ledger: Arc::clone(self), wanted }
    }

    /// Nothing counts as handed out any more: it will be again. Returns what is owned.
    pub(super) fn forget_handed_out(&self) -> Vec<(Name, TopicPartition)> {
        let mut accounts = self.accounts.lock();
        for account in accounts.values_mut() {
            (account.handed_out, account.processed) = (None, None);
        }
        accounts.iter().map(|(name, account)| (name.clone(), account.of)).collect()
    }

    /// What the coordinator says of a partition.
    pub(super) fn is_committed(&self, name: &Name, offset: Option<Offset>) {
        if let Some(account) = self.accounts.lock().get_mut(name) {
            account.committed = account.committed.max(offset);
        }
    }

    /// Partitions that are further than what is committed.
    fn news(&self, of_account: impl Fn(&Account) -> Option<Position>) -> Vec<Wanted> {
        let accounts = self.accounts.lock();
        let further = accounts.iter().filter_map(|(name, account)| {
            let position = of_account(account).filter(|at| account.committed < Some(at.0))?;
            Some(Wanted { name: name.clone(), of: account.of, position })
        });
        further.collect()
    }

    async fn commit(&self, wanted: Vec<Wanted>) -> Result<(), CommitError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let group = self.shared.group.clone();
        let commit = CommitOffsets {
            group: group.clone(),
            member: Some(self.shared.identity()),
            offsets: wanted.iter().map(Wanted::as_commit).collect(),
        };
        let answer = self.client.call_of_group(&group, commit).await;
        let refused: BTreeMap<_, _> = match answer {
            Ok(answer) => answer.refused.into_iter().collect(),
            Err(ClientError::Refused(error)) if error.code == ErrorCode::MemberFenced => {
                return Err(CommitError::Fenced(error));
            }
            Err(error) => return Err(error.into()),
        };
        let (mut accounts, mut first) = (self.accounts.lock(), None);
        for Wanted { name, of, position: (offset, _) } in wanted {
            if let Some(error) = refused.get(&of) {
                let ((topic, partition), error) = (name, error.clone());
                first = first.or(Some(CommitError::Refused { topic, partition, error }));
            } else if let Some(account) = accounts.get_mut(&name) {
                tracing::debug!(topic = %name.0, partition = %name.1, %offset, "committed");
                account.committed = account.committed.max(Some(offset));
            }
        }
        first.map_or(Ok(()), Err)
    }
}
