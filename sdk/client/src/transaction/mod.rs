//! Transactions: records to several partitions, and offsets of a group, that count together or not at all.
//!
//! ```text
//!  begin ─▶ Transaction ── send ──▶ lanes (a batch waits until its partition is part of the transaction)
//!               │  commit_offsets ─▶ the group's coordinator
//!               └─ commit: flush, then the coordinator decides ─▶ the next transaction's identity
//! ```
//! Reading order: `config`, this file, `session` (what the lanes go by).
//!
//! Invariant: nothing is committed before every batch of it is acknowledged; one transaction is open at a time; after
//! an end of which nothing was heard the id is taken over anew before anything else is written under it.

mod config;
mod session;

use std::fmt;
use std::sync::Arc;

use millstream_protocol::error::ErrorCode;
use millstream_protocol::ids::{GroupName, TransactionalId};
use millstream_protocol::message::group::{CommitOffsets, OffsetCommit};
use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::{
    AddToTransaction, CommitOffsetsInTransaction, EndTransaction, InitTransactions,
};

pub use config::TransactionConfig;
pub(crate) use session::Session;

use crate::client::Client;
use crate::error::{ClientError, CommitError, ProduceError, TransactionError};
use crate::group::{GroupConsumer, Noted};
use crate::producer::{Delivery, Producer, ProducerRecord};

/// A producer whose records are written in transactions. Whoever makes another with the same transactional id takes
/// over: what this one left open is aborted, and it is fenced.
///
/// ```
/// use millstream_client::{Client, ClientConfig, ProducerRecord, TransactionConfig};
///
/// # millstream_tests_cluster::example::run(async {
/// # use millstream_tests_cluster::example::ClientConfig;
/// let client = Client::connect(ClientConfig::new(["127.0.0.1:9440"]).ca_file("ca.pem")).await?;
/// # client.admin().create_topic("debits", 1).await?;
/// # client.admin().create_topic("credits", 1).await?;
/// let mut producer = client.transactional_producer(TransactionConfig::new("billing-7")).await?;
///
/// let transaction = producer.begin().await?;
/// transaction.send(ProducerRecord::new("debits").value(b"7")).await?;
/// transaction.send(ProducerRecord::new("credits").value(b"7")).await?;
/// transaction.commit().await?;
///
/// producer.close().await?;
/// # Ok(()) });
/// ```
pub struct TransactionalProducer {
    client: Client,
    producer: Producer,
    session: Arc<Session>,
    config: TransactionConfig,
    state: State,
}

/// What has to be done before the next transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Ready,
    /// A transaction was begun and not ended.
    Open,
    /// It is not known how the last one ended.
    Unsure,
}

impl TransactionalProducer {
    pub(crate) async fn new(
        client: Client,
        config: TransactionConfig,
    ) -> Result<Self, TransactionError> {
        let id = TransactionalId::new(&config.id).map_err(ClientError::from)?;
        let session = Arc::new(Session::new(client.clone(), id));
        let mut producer = config.producer.clone();
        producer.acks = millstream_protocol::message::produce::Acks::All;
        producer.idempotent = true;
        let producer = Producer::in_session(client.clone(), producer, Arc::clone(&session))?;
        let mut this = Self { client, producer, session, config, state: State::Unsure };
        this.take_over().await?;
        Ok(this)
    }

    /// Begins a transaction. One that was begun and dropped is aborted first.
    ///
    /// # Errors
    /// [`TransactionError::Fenced`], or why the coordinator cannot be reached.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, TransactionError> {
        self.settle().await?;
        self.state = State::Open;
        Ok(Transaction { of: self, noted: parking_lot::Mutex::default() })
    }

    /// Ends what is open or in doubt: after it every transaction of this id is committed or aborted, for good. To go on
    /// after an error, before [`GroupConsumer::rewind`].
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn settle(&mut self) -> Result<(), TransactionError> {
        match self.state {
            State::Ready => Ok(()),
            State::Open => self.roll_back().await,
            State::Unsure => self.take_over().await,
        }
    }

    /// The identity under which it writes now.
    #[must_use]
    pub fn identity(&self) -> ProducerIdentity {
        self.session.identity()
    }

    /// Aborts what is open, and ends the producer's tasks.
    ///
    /// # Errors
    /// As [`Transaction::abort`].
    pub async fn close(mut self) -> Result<(), TransactionError> {
        let ended = match self.state {
            State::Open => self.roll_back().await,
            State::Ready | State::Unsure => Ok(()),
        };
        // Nothing is left that could fail.
        let _ = self.producer.close().await;
        ended
    }

    /// Begins another life under the id.
    async fn take_over(&mut self) -> Result<(), TransactionError> {
        self.producer.give_up();
        let _ = self.producer.flush().await;
        let timeout_ms = u32::try_from(self.config.timeout.as_millis()).unwrap_or(u32::MAX);
        let call = InitTransactions { id: self.session.id().clone(), timeout_ms };
        let identity = self.client.call_of_transaction(self.session.id(), call).await?;
        self.session.next(identity);
        self.state = State::Ready;
        Ok(())
    }

    async fn roll_back(&mut self) -> Result<(), TransactionError> {
        self.producer.give_up();
        // What is on its way is written or not: it does not count either way.
        let _ = self.producer.flush().await;
        self.end(false).await
    }

    async fn end(&mut self, commit: bool) -> Result<(), TransactionError> {
        if self.session.is_untouched() {
            self.state = State::Ready;
            return Ok(());
        }
        self.state = State::Unsure;
        let (id, producer) = (self.session.id().clone(), self.session.identity());
        let call = EndTransaction { id, producer, commit };
        match self.client.call_of_transaction(self.session.id(), call).await {
            Ok(identity) => {
                self.session.next(identity);
                self.state = State::Ready;
                Ok(())
            }
            Err(ClientError::Refused(error)) if error.code == ErrorCode::ProducerFenced => {
                Err(TransactionError::Fenced(error))
            }
            Err(ClientError::Refused(error)) if !error.is_retriable() => {
                Err(TransactionError::Client(ClientError::Refused(error)))
            }
            Err(error) => Err(TransactionError::Unsure { commit, error }),
        }
    }
}

impl fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TransactionalProducer");
        shown.field("id", &self.config.id).field("state", &self.state).finish_non_exhaustive()
    }
}

/// An open transaction. Dropped without [`commit`](Self::commit), it is aborted: when the next one begins, when the
/// producer is closed, or when its timeout has passed.
#[must_use = "a transaction that is not committed is aborted"]
pub struct Transaction<'a> {
    of: &'a mut TransactionalProducer,
    /// Offsets that are committed with it.
    noted: parking_lot::Mutex<Vec<Noted>>,
}

impl Transaction<'_> {
    /// Copies a record into its partition's batch, as [`Producer::send`] does. Its delivery says that it was written,
    /// not that it counts.
    ///
    /// # Errors
    /// As [`Producer::send`]: the transaction can only be aborted then.
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, ProduceError> {
        self.of.producer.send(record).await
    }

    /// Commits, as a part of the transaction, everything that the consumer has handed out: its group goes on there
    /// when the transaction is committed, and where it was when it is aborted
    /// ([`GroupConsumer::rewind`] then makes this consumer read it again).
    ///
    /// # Errors
    /// [`CommitError`]: the transaction can only be aborted then.
    pub async fn commit_offsets(&self, consumer: &GroupConsumer) -> Result<(), CommitError> {
        let noted = consumer.note()?;
        if noted.offsets().is_empty() {
            return Ok(());
        }
        self.commit_in_group(noted.commit()).await?;
        self.noted.lock().push(noted);
        Ok(())
    }

    /// The same for a group that has no members, whose offsets the program keeps by itself.
    ///
    /// # Errors
    /// [`CommitError`]: the transaction can only be aborted then.
    pub async fn commit_offsets_of(
        &self,
        group: &str,
        offsets: Vec<OffsetCommit>,
    ) -> Result<(), CommitError> {
        let group = GroupName::new(group).map_err(ClientError::from)?;
        self.commit_in_group(CommitOffsets { group, member: None, offsets }).await
    }

    async fn commit_in_group(&self, commit: CommitOffsets) -> Result<(), CommitError> {
        let (client, session) = (&self.of.client, &self.of.session);
        let (group, producer) = (commit.group.clone(), session.identity());
        if !session.has_group(&group) {
            let (id, groups) = (session.id().clone(), vec![group.clone()]);
            let add = AddToTransaction { id, producer, partitions: Vec::new(), groups };
            client.call_of_transaction(session.id(), add).await?;
            session.added_group(group.clone());
        }
        let call = CommitOffsetsInTransaction { producer, commit };
        match client.call_of_group(&group, call).await {
            Ok(answer) => match answer.refused.into_iter().next() {
                None => Ok(()),
                Some((of, error)) => Err(CommitError::RefusedInTransaction { of, error }),
            },
            Err(ClientError::Refused(error)) if error.code == ErrorCode::MemberFenced => {
                Err(CommitError::Fenced(error))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until everything is written, and commits it.
    ///
    /// # Errors
    /// [`TransactionError::Aborted`] when something could not be written: nothing of it counts.
    /// [`TransactionError::Fenced`] when another producer has taken over, or the timeout has passed: nothing counts.
    /// [`TransactionError::Unsure`] when nothing was heard: all of it counts, or nothing.
    pub async fn commit(self) -> Result<(), TransactionError> {
        if let Err(error) = self.of.producer.flush().await {
            self.of.roll_back().await?;
            return Err(TransactionError::Aborted(error));
        }
        self.of.end(true).await?;
        self.noted.lock().iter().for_each(Noted::is_committed);
        Ok(())
    }

    /// Aborts it: nothing of it counts.
    ///
    /// # Errors
    /// [`TransactionError::Fenced`], or [`TransactionError::Unsure`]: it is aborted at the latest when its timeout has
    /// passed.
    pub async fn abort(self) -> Result<(), TransactionError> {
        self.of.roll_back().await
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("of", &self.of).finish_non_exhaustive()
    }
}
