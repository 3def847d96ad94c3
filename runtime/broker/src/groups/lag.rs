//! Lag: how far the groups that are coordinated here are behind, looked up every now and then for the metrics.
//!
//! Invariant: what cannot be known now (a partition without a leader) is left out, not guessed; a group that is gone is
//! on no page after the next look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use millstream_protocol::ids::{GroupName, Offset, TopicId, TopicName, TopicPartition};
use millstream_protocol::message::offsets::{ListOffsets, OffsetSpec};
use parking_lot::RwLock;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::serve::list_offsets;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// Partitions that are looked up at a time.
const AT_ONCE: usize = 16;

/// How far a group is behind in one partition.
#[derive(Clone, Debug)]
pub(crate) struct Lag {
    pub(crate) group: GroupName,
    pub(crate) topic: TopicName,
    pub(crate) partition: u32,
    /// Offsets that are committed in the log and not yet in the group.
    pub(crate) offsets: u64,
    /// How old the first of these is.
    pub(crate) seconds: Option<f64>,
}

/// What was found last.
#[derive(Debug, Default)]
pub(crate) struct Lags(RwLock<Arc<Vec<Lag>>>);

impl Lags {
    pub(crate) fn last(&self) -> Arc<Vec<Lag>> {
        Arc::clone(&self.0.read())
    }
}

/// Looks until the broker stops.
pub(crate) async fn run(broker: Arc<Broker>) {
    loop {
        tokio::select! {
            () = broker.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let found = look(&broker).await;
        *broker.group_lags.0.write() = Arc::new(found);
    }
}

async fn look(broker: &Broker) -> Vec<Lag> {
    let places = |group: &GroupName, known: &millstream_core::groups::Group| {
        let offsets = known.offsets().map(|one| (one.partition, one.committed.offset));
        (group.clone(), offsets.collect::<Vec<_>>())
    };
    let groups = broker.groups.look_at_all(places).await;
    let image = broker.image();
    let names: BTreeMap<TopicId, TopicName> =
        image.topics().iter().map(|(id, topic)| (*id, topic.name.clone())).collect();
    let wanted = groups.into_iter().flat_map(|(group, offsets)| {
        offsets.into_iter().map(move |(of, committed)| (group.clone(), of, committed))
    });
    let lags = stream::iter(wanted).map(|(group, of, committed)| {
        let topic = names.get(&of.topic).cloned();
        async move { lag(broker, group, (topic?, of), committed).await }
    });
    lags.buffer_unordered(AT_ONCE).filter_map(|lag| async move { lag }).collect().await
}

async fn lag(
    broker: &Broker,
    group: GroupName,
    (topic, of): (TopicName, TopicPartition),
    committed: Offset,
) -> Option<Lag> {
    let find = async |at| {
        let asked = ListOffsets { topic: topic.clone(), partition: Some(of.partition), at };
        list_offsets::serve(broker, None, &asked).await.ok()?.into_iter().next()
    };
    let end = find(OffsetSpec::Latest).await?.offset;
    let offsets = end.saturating_distance(committed);
    let seconds = if offsets == 0 {
        Some(0.0)
    } else {
        let first = find(OffsetSpec::At(committed)).await?.timestamp;
        first.map(|first| {
            let since = Clock::wall().get().saturating_sub(first.get()).max(0);
            Duration::from_millis(since.unsigned_abs()).as_secs_f64()
        })
    };
    let partition = of.partition.0;
    Some(Lag { group, topic, partition, offsets, seconds })
}
