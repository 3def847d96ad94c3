//! Lines become records, records become deliveries, deliveries become a summary.
//!
//! Invariant: a record counts as acknowledged only when its own delivery said so.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use millstream_client::{Delivery, ProduceError, Producer, ProducerRecord, RecordMetadata};
use millstream_protocol::ids::{PartitionIndex, TopicName};
use serde::Serialize;
use tokio::sync::mpsc;

use super::lines::Block;
use super::record::Keys;
use crate::failure::{Failure, Result};
use crate::format;
use crate::parse::Pair;

/// Deliveries that are remembered; beyond, sending waits for the oldest.
const MAX_PENDING: usize = 1 << 20;
/// The bar is told in steps of so many bytes.
const BAR_STEP: u64 = 64 << 10;

/// What records are made of besides their lines.
pub(super) struct Target {
    /// The topic.
    pub(super) topic: TopicName,
    /// The partition, when the user chose it.
    pub(super) partition: Option<PartitionIndex>,
    /// Headers of every record.
    pub(super) headers: Vec<Pair>,
    /// Where keys come from.
    pub(super) keys: Keys,
    /// Lines to leave out at the beginning.
    pub(super) skip_lines: u64,
}

/// Sends lines and keeps count.
pub(super) struct Sender {
    producer: Producer,
    target: Target,
    tally: Tally,
}

impl Sender {
    /// A sender that has sent nothing yet. `bar` is told how many bytes of lines are done with.
    pub(super) fn new(producer: Producer, target: Target, bar: ProgressBar) -> Self {
        Self { producer, target, tally: Tally::new(bar) }
    }

    /// Sends all lines, up to the first that cannot be sent.
    pub(super) async fn send_all(&mut self, mut blocks: mpsc::Receiver<Result<Block>>) -> Result {
        let Self { producer, target, tally } = self;
        let headers =
            target.headers.iter().map(|pair| (pair.key.as_str(), Some(pair.value.as_bytes())));
        let headers: Vec<_> = headers.collect();
        while let Some(block) = blocks.recv().await {
            for (number, line) in block?.lines() {
                tally.line(line);
                if number <= target.skip_lines {
                    continue;
                }
                let wrong = |wrong| Failure::new(format!("line {number} {wrong}"));
                let parts = target.keys.split(line).map_err(wrong)?;
                let record = ProducerRecord {
                    topic: target.topic.as_str(),
                    partition: target.partition,
                    key: parts.key.as_deref(),
                    value: Some(parts.value),
                    headers: &headers,
                    timestamp: None,
                };
                let sent = producer.send(record).await;
                let delivery =
                    sent.map_err(|error| Failure::from(error).context(format!("line {number}")))?;
                tally
                    .sent(delivery, parts.value.len() + parts.key.map_or(0, |key| key.len()))
                    .await?;
            }
        }
        Ok(())
    }

    /// Waits for what is on its way and sums up. `ended` is how sending ended.
    pub(super) async fn finish(self, ended: Result) -> Result<Summary> {
        let Self { producer, target, mut tally } = self;
        let flushed = producer.close().await.map_err(Failure::from);
        let settled = tally.settle_all().await;
        let summary = tally.summary(&target.topic);
        match ended.and(settled).and(flushed) {
            Ok(()) => Ok(summary),
            Err(failure) => Err(failure.with(format!(
                "of {} sent, {} acknowledged",
                format::count(summary.records, "record"),
                if summary.acknowledged == 1 {
                    "1 was".to_owned()
                } else {
                    format!("{} were", format::thousands(summary.acknowledged))
                },
            ))),
        }
    }
}

/// What was sent and what became of it.
struct Tally {
    bar: ProgressBar,
    started: Instant,
    pending: VecDeque<Delivery>,
    records: u64,
    acknowledged: u64,
    bytes: u64,
    /// Bytes of lines that the bar was not told of yet.
    unseen: u64,
}

impl Tally {
    fn new(bar: ProgressBar) -> Self {
        let pending = VecDeque::new();
        Self {
            bar,
            started: Instant::now(),
            pending,
            records: 0,
            acknowledged: 0,
            bytes: 0,
            unseen: 0,
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.unseen += line.len() as u64 + 1;
        if self.unseen >= BAR_STEP {
            self.bar.inc(std::mem::take(&mut self.unseen));
        }
    }

    /// Notes a record, and looks after those whose fate is known by now.
    async fn sent(&mut self, delivery: Delivery, bytes: usize) -> Result {
        self.records += 1;
        self.bytes += bytes as u64;
        self.pending.push_back(delivery);
        if self.pending.len() > MAX_PENDING {
            self.settle_oldest().await?;
        }
        // Two for each one that is added: so that the queue never grows by much while all goes well.
        for _ in 0..2 {
            let Some(result) = self.pending.front().and_then(Delivery::try_result) else {
                break;
            };
            self.pending.pop_front();
            self.count(result)?;
        }
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Result {
        match self.pending.pop_front() {
            Some(oldest) => self.count(oldest.await),
            None => Ok(()),
        }
    }

    /// Waits for every fate; answers with the first failure, after all are known.
    async fn settle_all(&mut self) -> Result {
        let mut first = Ok(());
        while !self.pending.is_empty() {
            first = first.and(self.settle_oldest().await);
        }
        first
    }

    fn count(&mut self, result: std::result::Result<RecordMetadata, ProduceError>) -> Result {
        let written = result?;
        self.acknowledged += u64::from(written.offset.is_some());
        Ok(())
    }

    fn summary(&self, topic: &TopicName) -> Summary {
        let took = self.started.elapsed();
        let seconds = took.as_secs_f64().max(1e-9);
        Summary {
            topic: topic.to_string(),
            records: self.records,
            acknowledged: self.acknowledged,
            bytes: self.bytes,
            seconds,
            records_per_second: self.records as f64 / seconds,
            bytes_per_second: self.bytes as f64 / seconds,
        }
    }
}

/// What came of the lines. Bytes are those of keys and values.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    topic: String,
    records: u64,
    acknowledged: u64,
    bytes: u64,
    seconds: f64,
    records_per_second: f64,
    bytes_per_second: f64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = Duration::from_secs_f64(self.seconds);
        write!(
            f,
            "{} into {} ({} acknowledged), {} in {:.2} s: {} records/s, {:.1} MB/s",
            format::count(self.records, "record"),
            self.topic,
            format::thousands(self.acknowledged),
            format::bytes(self.bytes),
            self.seconds,
            format::rate(self.records, took),
            self.bytes_per_second / 1e6,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_for_people_and_for_programs() {
        let summary = Summary {
            topic: "flights".to_owned(),
            records: 27_004,
            acknowledged: 27_004,
            bytes: 2_700_400,
            seconds: 0.5,
            records_per_second: 54_008.0,
            bytes_per_second: 5_400_800.0,
        };
        insta::assert_snapshot!(format!("{summary}\n{}", crate::output::json(&summary)));
    }
}
