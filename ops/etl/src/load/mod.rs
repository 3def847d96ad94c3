//! A load: the rows of files into a topic, each exactly once.
//!
//! ```text
//!  files ─▶ batches (a thread) ─▶ transaction { records, position } ─▶ …
//!                 ▲                                │ not known how it ended
//!                 └────── committed position ◀─────┘
//! ```
//! Reading order: [`files`] (that they are the same), [`position`] (what the cluster remembers), [`batches`], this
//! file.
//!
//! Invariant: a row and the position behind it count together or not at all, and reading begins at a
//! position that is committed, after whatever was open is aborted.

mod batches;
mod files;
mod position;

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_client::{
    Client, ClientError, ProduceError, ProducerRecord, Transaction, TransactionConfig,
    TransactionError, TransactionalProducer,
};
use millstream_protocol::ids::{PartitionIndex, Timestamp, TopicPartition};

use crate::error::EtlError;
use crate::progress::Progress;
use crate::spec::load::LoadSpec;
use crate::summary::LoadSummary;
use batches::{Batch, Batches};
use files::FileSet;
use position::Position;

/// Attempts in a row that come no further, and the pause between them.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(300);

/// A load at work.
struct Load<'a> {
    client: &'a Client,
    spec: &'a LoadSpec,
    files: FileSet,
    /// Whose offset is the position.
    place: TopicPartition,
    progress: Arc<Progress>,
    transactions: u64,
}

/// Loads what `spec` says. What an earlier attempt has committed is not loaded again.
///
/// # Errors
/// [`EtlError`]; the same call again goes on behind what is committed.
pub async fn load(
    client: &Client,
    spec: &LoadSpec,
    progress: Arc<Progress>,
) -> Result<LoadSummary, EtlError> {
    let started = Instant::now();
    let files = FileSet::read(&spec.files)?;
    let topic = client.admin().describe_topic(spec.topic.as_str()).await?.id;
    let place = TopicPartition { topic, partition: PartitionIndex(0) };
    let mut load = Load { client, spec, files, place, progress, transactions: 0 };
    let (first, last) = load.all().await?;
    let summary = LoadSummary {
        name: spec.name.clone(),
        was_done: first == last,
        rows: last.rows,
        loaded: (last.rows - last.skipped) - (first.rows - first.skipped),
        skipped: last.skipped,
        files: spec.files.len() as u64,
        bytes: load.files.bytes(),
        transactions: load.transactions,
        ..LoadSummary::default()
    };
    Ok(summary.took(started))
}

/// Why an attempt ended.
enum Ended {
    /// Nothing is left.
    AtEnd(Position),
    /// It may go on from what is committed.
    InDoubt(EtlError),
}

impl Load<'_> {
    /// Loads everything; tells where it began and where it ended.
    async fn all(&mut self) -> Result<(Position, Position), EtlError> {
        let (mut first, mut before, mut attempts) = (None, 0, 0);
        loop {
            let (mut producer, position) = match self.take_over().await {
                Ok(begun) => begun,
                Err(error) if may_pass(&error) && attempts < ATTEMPTS => {
                    attempts += 1;
                    tokio::time::sleep(PAUSE * attempts).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            first.get_or_insert(position);
            let ended = self.from(&mut producer, position).await;
            // What is open is aborted by whoever takes over next, if not here.
            let _ = producer.close().await;
            match ended? {
                Ended::AtEnd(last) => return Ok((first.unwrap_or(last), last)),
                Ended::InDoubt(error) => {
                    attempts = if before < position.rows { 1 } else { attempts + 1 };
                    before = position.rows;
                    if ATTEMPTS <= attempts {
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE * attempts).await;
                }
            }
        }
    }

    /// Aborts what an earlier life left open, and keeps it from going on. Nothing changes how far it is any
    /// more then.
    async fn take_over(&self) -> Result<(TransactionalProducer, Position), EtlError> {
        let config = TransactionConfig::new(self.spec.id());
        let producer = self.client.transactional_producer(config).await;
        let producer = producer.map_err(|error| self.fenced(error))?;
        let position = position::committed(self.client, self.spec, self.place, &self.files);
        Ok((producer, position.await?))
    }

    async fn from(
        &mut self,
        producer: &mut TransactionalProducer,
        mut position: Position,
    ) -> Result<Ended, EtlError> {
        let done = self.files.bytes_before(&position);
        self.progress.begin(self.files.bytes(), done);
        let mut batches = Batches::begin(self.spec, position);
        let mut at = done;
        while let Some(batch) = batches.next().await? {
            match self.commit(producer, &batch).await {
                Ok(()) => {}
                Err(error) if may_pass(&error) => return Ok(Ended::InDoubt(error)),
                Err(error) => return Err(error),
            }
            position = batch.after;
            self.transactions += 1;
            let now = self.files.bytes_before(&position);
            self.progress.advance(now.saturating_sub(at));
            self.progress.wrote(batch.rows.len() as u64, 0);
            at = now;
        }
        Ok(Ended::AtEnd(position))
    }

    /// Has a batch and the position behind it count.
    async fn commit(
        &self,
        producer: &mut TransactionalProducer,
        batch: &Batch,
    ) -> Result<(), EtlError> {
        let transaction = producer.begin().await.map_err(|error| self.fenced(error))?;
        match self.fill(&transaction, batch).await {
            Ok(()) => transaction.commit().await.map_err(|error| self.fenced(error)),
            Err(error) => match transaction.abort().await {
                // That is why it could not be written.
                Err(fenced @ TransactionError::Fenced(_)) => Err(self.fenced(fenced)),
                _ => Err(error),
            },
        }
    }

    async fn fill(&self, transaction: &Transaction<'_>, batch: &Batch) -> Result<(), EtlError> {
        for row in &batch.rows {
            let record = ProducerRecord {
                key: row.key.as_deref(),
                value: Some(&row.value),
                timestamp: row.timestamp.map(Timestamp),
                ..ProducerRecord::new(self.spec.topic.as_str())
            };
            // The commit waits for it.
            drop(transaction.send(record).await?);
        }
        let commit = position::commit(self.place, &batch.after, &self.files);
        Ok(transaction.commit_offsets_of(&self.spec.id(), vec![commit]).await?)
    }

    fn fenced(&self, error: TransactionError) -> EtlError {
        match error {
            TransactionError::Fenced(_) => EtlError::Fenced(self.spec.name.clone()),
            error => error.into(),
        }
    }
}

/// Whether beginning again at what is committed may help.
fn may_pass(error: &EtlError) -> bool {
    let client = ClientError::is_retriable;
    match error {
        EtlError::Transaction(error) => match error {
            TransactionError::Unsure { .. } => true,
            TransactionError::Aborted(error) => is_passing(error),
            TransactionError::Client(error) => client(error),
            TransactionError::Fenced(_) => false,
        },
        EtlError::Produce(error) => is_passing(error),
        EtlError::Commit(millstream_client::CommitError::Client(error))
        | EtlError::Client(error) => client(error),
        EtlError::Commit(millstream_client::CommitError::RefusedInTransaction {
            error, ..
        }) => error.is_retriable(),
        _ => false,
    }
}

fn is_passing(error: &ProduceError) -> bool {
    match error {
        ProduceError::TimedOut { .. } | ProduceError::TransactionFailed { .. } => true,
        ProduceError::Refused { error, .. } => error.is_retriable(),
        ProduceError::Client(error) => error.is_retriable(),
        _ => false,
    }
}
