//! Where a group stands: how far behind it is.
//!
//! Invariant: what cannot be known now (a partition without a leader) is left out, not guessed.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_client::Client;
use millstream_protocol::ids::{Offset, PartitionIndex, TopicName, TopicPartition};
use millstream_protocol::message::group::GroupOffset;
use millstream_protocol::message::offsets::{ListOffsets, OffsetSpec};

use crate::connection::call;
use crate::failure::Result;
use crate::names::Names;

/// How far behind a group is in one partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lag {
    pub(super) end: Offset,
    /// Records that are committed in the log and not yet in the group.
    pub(super) records: u64,
    /// How old the first of them is, in seconds.
    pub(super) seconds: Option<f64>,
}

/// How far behind a group is, where that can be known.
pub(super) struct Lags(BTreeMap<TopicPartition, Lag>);

impl Lags {
    pub(super) async fn of(
        client: &Client,
        names: &Names,
        offsets: &[GroupOffset],
    ) -> Result<Self> {
        let mut lags = BTreeMap::new();
        for offset in offsets {
            let of = offset.partition;
            if let Some(topic) = names.get(of.topic) {
                let lag = lag(client, topic, of.partition, offset.committed.offset).await;
                lags.extend(lag.map(|lag| (of, lag)));
            }
        }
        Ok(Self(lags))
    }

    pub(super) fn get(&self, of: TopicPartition) -> Option<Lag> {
        self.0.get(&of).copied()
    }
}

async fn lag(
    client: &Client,
    topic: &TopicName,
    partition: PartitionIndex,
    committed: Offset,
) -> Option<Lag> {
    let end = find(client, topic, partition, OffsetSpec::Latest).await.ok()?.0;
    let records = end.saturating_distance(committed);
    let seconds = if records == 0 {
        Some(0.0)
    } else {
        let first = find(client, topic, partition, OffsetSpec::At(committed)).await.ok()?.1;
        first.map(seconds_since)
    };
    Some(Lag { end, records, seconds })
}

/// An offset of a partition, and the timestamp of the record there if it was looked at.
pub(super) async fn find(
    client: &Client,
    topic: &TopicName,
    partition: PartitionIndex,
    at: OffsetSpec,
) -> Result<(Offset, Option<i64>)> {
    let request = ListOffsets { topic: topic.clone(), partition: Some(partition), at };
    let found = call(client, request).await?;
    let found = found.into_iter().next().ok_or_else(|| {
        crate::failure::Failure::new(format!("no offset for partition {partition} of {topic}"))
    })?;
    Ok((found.offset, found.timestamp.map(|time| time.get())))
}

fn seconds_since(millis: i64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let behind = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(millis).max(0);
    #[expect(clippy::cast_precision_loss, reason = "a time to a millisecond, for people")]
    let seconds = behind as f64 / 1_000.0;
    seconds
}
