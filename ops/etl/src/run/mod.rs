//! A run: a bounded range of a topic into files, each record exactly once.
//!
//! ```text
//!  plan ─▶ journal: begin ─▶ for each partition: consumer ─▶ writer (a thread) ─▶ part files ─▶ journal: part
//!                                                                     all done ─▶ manifest ─▶ journal: done
//! ```
//! Reading order: [`history`] (what the journal tells), [`plan`] (what is to be read), [`writer`] (a partition's
//! files), [`manifest`], this file.
//!
//! Invariant: the range is in the journal before anything is read, and a file before anything relies on
//! it. So whatever moment a run is killed at, the next one covers the same range, keeps what is in the
//! journal, removes what is not, and goes on behind it.

mod history;
mod manifest;
mod plan;
#[cfg(test)]
mod tests;
mod writer;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use millstream_client::{
    Client, ConsumeError, Consumer, ConsumerConfig, Fetched, Isolation, StartAt,
};
use millstream_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::error::EtlError;
use crate::folder::Folder;
use crate::journal::{Begin, Entry, Journal};
use crate::progress::Progress;
use crate::spec::run::RunSpec;
use crate::summary::RunSummary;
use history::{History, Place};
use writer::Writer;

/// Pieces of a partition that wait for its writer.
const WAITING: usize = 4;

/// A run that has begun: what its partitions share.
struct Run {
    spec: RunSpec,
    folder: Folder,
    journal: Mutex<Journal>,
    begin: Begin,
    progress: Arc<Progress>,
}

/// Reads what `spec` says into files. What an earlier attempt has finished is not read again.
///
/// # Errors
/// [`EtlError`]; the same call again goes on behind what was finished.
pub async fn run(
    client: &Client,
    spec: &RunSpec,
    progress: Arc<Progress>,
) -> Result<RunSummary, EtlError> {
    let started = Instant::now();
    let folder = Folder::open(&spec.output.directory)?;
    let (mut journal, entries) = Journal::open(&folder)?;
    let history = History::new(entries);
    let begin = match history.what_next(&folder, spec)? {
        history::Next::Nothing(run) => {
            let summary = history.summary(run, true);
            return Ok(summary.took(started));
        }
        history::Next::Resume(begin) => {
            plan::check(client, begin, &history).await?;
            begin.clone()
        }
        history::Next::Begin(run) => {
            let begin = plan::plan(client, spec, &history, run).await?;
            journal.append(&folder, &Entry::Begin(begin.clone()))?;
            begin
        }
    };
    history.tidy(&folder, begin.run)?;
    let places = history.places(&begin);
    let journal = Mutex::new(journal);
    let run = Arc::new(Run { spec: spec.clone(), folder, journal, begin, progress });
    run.all(client, places).await?;
    run.finish().map(|summary| summary.took(started))
}

impl Run {
    /// Reads every partition from its place, some at a time.
    async fn all(self: &Arc<Self>, client: &Client, places: Vec<Place>) -> Result<(), EtlError> {
        let total: u64 = self.begin.ranges.iter().map(|range| range.to - range.from).sum();
        let left: u64 = places.iter().map(|place| place.to - place.from).sum();
        self.progress.begin(total, total - left);
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let parallel = self.spec.parallel.map_or_else(cores, NonZeroUsize::get);
        let turns = Arc::new(Semaphore::new(parallel));
        let mut tasks = JoinSet::new();
        for place in places {
            let (run, client, turns) = (Arc::clone(self), client.clone(), Arc::clone(&turns));
            tasks.spawn(async move {
                let _turn = turns.acquire().await;
                run.partition(&client, place).await
            });
        }
        // The first error ends the others: dropping the set does.
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| EtlError::Task(error.to_string()))??;
        }
        Ok(())
    }

    /// Reads one partition: here what comes from the broker, on a thread what becomes of it.
    async fn partition(self: Arc<Self>, client: &Client, place: Place) -> Result<(), EtlError> {
        let (pieces, mut waiting) = mpsc::channel::<Fetched>(WAITING);
        let run = Arc::clone(&self);
        let thread = tokio::task::spawn_blocking(move || {
            let mut writer = Writer::new(&run, place);
            while let Some(fetched) = waiting.blocking_recv() {
                writer.fetched(&fetched)?;
            }
            Ok(())
        });
        let read = self.read(client, place, &pieces).await;
        drop(pieces);
        let written = thread.await.map_err(|error| EtlError::Task(error.to_string()))?;
        // What is wrong with a record is why nothing more was taken.
        written.and(read)
    }

    async fn read(
        &self,
        client: &Client,
        place: Place,
        pieces: &mpsc::Sender<Fetched>,
    ) -> Result<(), EtlError> {
        let consumer = client.consumer(self.consumer_config()).map_err(ConsumeError::from)?;
        let read = self.read_with(&consumer, place, pieces).await;
        consumer.close().await;
        read.map_err(|error| match error {
            ConsumeError::OutOfRange { reason, .. } => EtlError::Range {
                topic: self.begin.topic.clone(),
                partition: place.partition,
                problem: format!(
                    "{reason}: records of the range were deleted before they were read, by retention; \
                     {}",
                    plan::AFTER_A_GAP
                ),
            },
            error => error.into(),
        })
    }

    async fn read_with(
        &self,
        consumer: &Consumer,
        place: Place,
        pieces: &mpsc::Sender<Fetched>,
    ) -> Result<(), ConsumeError> {
        let (partition, from) = (PartitionIndex(place.partition), Offset(place.from));
        let at = match place.epoch {
            Some(epoch) => StartAt::Position(from, LeaderEpoch(epoch)),
            None => StartAt::Offset(from),
        };
        consumer.assign(&self.begin.topic, partition, at).await?;
        loop {
            let fetched = tokio::select! {
                fetched = consumer.next() => fetched?,
                // The writer has ended early, and says why.
                () = pieces.closed() => return Ok(()),
            };
            let next = fetched.next_offset();
            if pieces.send(fetched).await.is_err() || Offset(place.to) <= next {
                return Ok(());
            }
        }
    }

    fn consumer_config(&self) -> ConsumerConfig {
        let isolation = match self.spec.read_uncommitted {
            true => Isolation::ReadUncommitted,
            false => Isolation::ReadCommitted,
        };
        let filter = self.spec.fetch_filter();
        ConsumerConfig { isolation, filter, ..ConsumerConfig::default() }
    }

    /// Writes down what is finished.
    fn record(&self, entry: &Entry) -> Result<(), EtlError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.append(&self.folder, entry)
    }

    /// Says in the manifest, then in the journal, that everything is there.
    fn finish(&self) -> Result<RunSummary, EtlError> {
        let done = Entry::Done { run: self.begin.run, at: now() };
        let (_, mut entries) = Journal::open(&self.folder)?;
        entries.push(done.clone());
        let history = History::new(entries);
        if !history.is_whole(&self.begin) {
            let (directory, run) = (self.folder.path().to_owned(), self.begin.run);
            let problem = format!("run {run} has not written all of its range: run it again");
            return Err(EtlError::Directory { directory, problem });
        }
        manifest::write(&self.folder, &history)?;
        self.record(&done)?;
        Ok(history.summary(self.begin.run, false))
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
