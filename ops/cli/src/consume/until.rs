//! How far to read: to the ends as they were at the start, or on and on.
//!
//! Invariant: a partition whose end is reached is given back, so that it is not fetched any further.

use std::collections::BTreeMap;

use indicatif::ProgressBar;
use millstream_client::{Client, Consumer, Fetched};
use millstream_protocol::error::ErrorCode;
use millstream_protocol::ids::{Offset, PartitionIndex, TopicName};
use millstream_protocol::message::offsets::{ListOffsets, OffsetSpec};

use crate::connection::call;
use crate::failure::{Failure, Result};
use crate::parse::Place;
use crate::progress;

/// Where reading ends.
pub(super) struct Until {
    /// The ends of the partitions that are still read, or `None` when there is no end.
    ends: Option<BTreeMap<PartitionIndex, Offset>>,
    /// The positions that the bar knows.
    seen: BTreeMap<PartitionIndex, Offset>,
    bar: ProgressBar,
}

impl Until {
    /// Never, but for a signal.
    pub(super) fn stopped() -> Self {
        Self { ends: None, seen: BTreeMap::new(), bar: progress::none() }
    }

    /// At what is committed now.
    pub(super) async fn end_of(
        client: &Client,
        topic: &TopicName,
        partition: Option<PartitionIndex>,
    ) -> Result<Self> {
        let request = ListOffsets { topic: topic.clone(), partition, at: OffsetSpec::Latest };
        let ends = call(client, request).await?;
        let ends = ends.into_iter().map(|end| (end.partition, end.offset)).collect();
        Ok(Self { ends: Some(ends), ..Self::stopped() })
    }

    /// Notes where reading starts, and gives back what is at its end already.
    pub(super) fn begin(&mut self, consumer: &Consumer, topic: &TopicName, from: Place) -> Result {
        let Some(ends) = &mut self.ends else {
            return Ok(());
        };
        let mut total = 0;
        // A partition that was added after the ends were asked for has none.
        for (_, partition) in consumer.assignment() {
            let position = consumer.position(topic.as_str(), partition)?;
            let end = ends.get(&partition).copied().unwrap_or_default();
            if end <= position {
                if end < position && matches!(from, Place::Offset(_)) {
                    return Err(beyond(topic, partition, position, end));
                }
                ends.remove(&partition);
                consumer.unassign(topic.as_str(), partition)?;
            } else {
                total += end - position;
                self.seen.insert(partition, position);
            }
        }
        if super::may_draw() {
            self.bar = progress::records("consuming", total);
        }
        Ok(())
    }

    /// Whether there is nothing more to read.
    pub(super) fn is_reached(&self) -> bool {
        self.ends.as_ref().is_some_and(BTreeMap::is_empty)
    }

    /// The first offset of a partition that is not wanted.
    pub(super) fn end(&self, partition: PartitionIndex) -> Option<Offset> {
        self.ends.as_ref()?.get(&partition).copied()
    }

    /// Notes what was read.
    pub(super) fn advance(&mut self, consumer: &Consumer, fetched: &Fetched) -> Result {
        let Some(ends) = &mut self.ends else {
            return Ok(());
        };
        let (partition, next) = (fetched.partition(), fetched.next_offset());
        let Some(&end) = ends.get(&partition) else {
            return Ok(());
        };
        let reached = next.min(end);
        if let Some(before) = self.seen.insert(partition, reached) {
            self.bar.inc(reached.saturating_distance(before));
        }
        if end <= next {
            ends.remove(&partition);
            consumer.unassign(fetched.topic().as_str(), partition)?;
        }
        Ok(())
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn beyond(topic: &TopicName, partition: PartitionIndex, offset: Offset, end: Offset) -> Failure {
    Failure::new(format!(
        "offset {offset} is beyond the end of partition {partition} of {topic}: {end}"
    ))
    .advised(ErrorCode::OffsetOutOfRange)
}
