//! Compaction: of the records of a compacted topic with one key, the newest is kept, replica by replica.
//!
//! ```text
//!   is enough of it dirty? ──▶ plan (the log's writer) ──▶ pass (a thread of its own, at a rate) ──▶ swap (the writer)
//! ```
//! Every replica compacts its own log. A record without a value may go when its time has passed and every replica has
//! been cleaned beyond it, which the brokers ask each other: one that does not answer keeps it everywhere.
//!
//! Invariant: one pass is under way on a broker at a time, and none on a log that is being closed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::metadata::CompactionPolicy;
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::ids::{NodeId, Offset, Timestamp, TopicPartition};
use millstream_protocol::message::peer::CleanedTo;
use millstream_storage::disk::AnyDisk;
use millstream_storage::log::{
    Compacted, Compaction, CompactionError, CompactionRules, Dirt, SwapError,
};

use tokio::runtime::Handle as Runtime;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::drivers::partition::{Handle, Message, View};
use crate::filter::is_aborted;
use crate::modules::blocking;
use crate::partitions::Partition;

/// How long another broker may take to say how clean its replicas are.
const ANSWER: Duration = Duration::from_secs(5);

/// What is remembered of a partition between two rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// When the first tombstone may go that is there.
    horizon: Option<Timestamp>,
    /// Below which tombstones could go when it was last compacted.
    floor: Offset,
    /// Where the log ended when it was last looked at.
    end: Offset,
}

/// Compacts what is due, round after round, until the broker stops.
pub(crate) async fn run(broker: Arc<Broker>, every: Duration, bytes_per_second: u64) {
    let mut known = BTreeMap::new();
    let rounds = async {
        loop {
            tokio::time::sleep(every).await;
            let mut here = BTreeMap::new();
            for (_, topic) in broker.partitions.all() {
                for partition in topic.partitions.into_iter().flatten() {
                    let id = partition.id();
                    let before = known.get(&id).copied().unwrap_or_default();
                    here.insert(id, look(&broker, &partition, before, bytes_per_second).await);
                }
            }
            known = here;
        }
    };
    let _: Option<()> = broker.stop.run_until_cancelled(rounds).await;
}

async fn look(broker: &Broker, partition: &Partition, known: Known, rate: u64) -> Known {
    let Some(policy) = partition.settings().compaction else { return Known::default() };
    match compact(broker, partition, (policy, known), rate).await {
        Ok(known) => known,
        Err(problem) => {
            let (topic, index) = (partition.topic(), partition.id().partition);
            tracing::warn!(%problem, "{topic}/{index} was not compacted: it is tried again");
            known
        }
    }
}

/// Compacts a partition if that is due. Says what is known of it then.
async fn compact(
    broker: &Broker,
    partition: &Partition,
    (policy, known): (CompactionPolicy, Known),
    rate: u64,
) -> Result<Known, String> {
    let view = partition.view();
    let until = view.high_watermark.min(view.last_stable);
    if known.end < view.log_end {
        // Only what recovery need not look at again is compacted. An error means that the partition is being closed.
        drop(partition.send(Message::Checkpoint).await);
    }
    let known = Known { end: view.log_end, ..known };
    let Some(dirt) = partition.dirt(until).await else { return Ok(known) };
    let now = Clock::wall();
    let tombstones = known.horizon.is_some_and(|horizon| horizon <= now);
    let floor = if tombstones { floor(broker, partition).await } else { Offset::ZERO };
    let due = is_dirty(&dirt, policy) || (tombstones && known.floor < floor);
    if !due {
        return Ok(known);
    }
    // Of tombstones whose time is not known yet nothing can go.
    let rules = rules(partition, &view, (policy, floor), now).await;
    let Some(plan) = partition.plan_compaction(rules).await else { return Ok(known) };
    let begun = Instant::now();
    let compacted = match pass(partition, plan, rate).await {
        Ok(compacted) => compacted,
        // The next round sees it as it is then.
        Err(CompactionError::Overtaken | CompactionError::Cancelled) => return Ok(known),
        Err(error) => return Err(error.to_string()),
    };
    let swapped = match partition.swap_compacted(compacted).await {
        Some(Ok(swapped)) => swapped,
        Some(Err(SwapError::Overtaken)) | None => return Ok(known),
        Some(Err(error)) => return Err(error.to_string()),
    };
    let report = swapped.report;
    // Large files give their room back slowly.
    let given_back = blocking(move || {
        drop(swapped);
        Ok(())
    });
    drop(given_back.await);
    tracing::info!(
        topic = %partition.topic(), partition = %partition.id().partition, took = ?begun.elapsed(),
        records = report.records_before, kept = report.records_after,
        bytes = report.bytes_before, left = report.bytes_after, cleaned_to = %report.cleaned_to,
        "compacted"
    );
    partition.metrics().compacted(report.bytes_before.saturating_sub(report.bytes_after));
    Ok(Known { horizon: report.next_horizon, floor, ..known })
}

fn is_dirty(dirt: &Dirt, policy: CompactionPolicy) -> bool {
    0 < dirt.dirty_bytes && f64::from(policy.dirty_thousandths) <= dirt.ratio() * 1_000.0
}

async fn rules(
    partition: &Partition,
    view: &View,
    (policy, floor): (CompactionPolicy, Offset),
    now: Timestamp,
) -> CompactionRules {
    let until = view.high_watermark.min(view.last_stable);
    let aborted = Arc::clone(&view.aborted);
    let is_aborted = move |header: &BatchHeader| is_aborted(header, &aborted);
    let remembered = partition.remembered_producers().await;
    CompactionRules {
        tombstone_floor: floor,
        delete_retention: policy.delete_retention,
        aborted: Box::new(is_aborted),
        remembered: Box::new(move |producer| {
            remembered.as_ref().is_none_or(|known| known.contains(&producer))
        }),
        ..CompactionRules::new(until, now)
    }
}

/// Runs a pass on a thread of its own, and holds it up so that it stays below its rate.
async fn pass(
    partition: &Partition,
    plan: Compaction<AnyDisk>,
    bytes_per_second: u64,
) -> Result<Compacted<AnyDisk>, CompactionError> {
    let handle: Handle = (**partition).clone();
    // Whoever removes the files waits for it.
    let held = handle.compacting().await;
    let runtime = Runtime::current();
    let run = move || {
        let _held = held;
        let begun = Instant::now();
        let mut bytes = 0;
        let mut pace = |more: u64| {
            bytes += more;
            let due = bytes.saturating_mul(1_000).checked_div(bytes_per_second).unwrap_or(0);
            let wait = Duration::from_millis(due).saturating_sub(begun.elapsed());
            match runtime.block_on(handle.stops_within(wait)) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        Ok(plan.run(&mut pace))
    };
    blocking(run).await.unwrap_or(Err(CompactionError::Cancelled))
}

/// Up to where every replica has been cleaned, also those that are away or still joining.
async fn floor(broker: &Broker, partition: &Partition) -> Offset {
    let id = partition.id();
    let image = broker.image();
    let topic = image.topics().get(&id.topic);
    let placed = topic.and_then(|topic| topic.partitions.get(id.partition.0 as usize));
    let Some(placed) = placed else { return Offset::ZERO };
    let voters = placed.voters.iter().map(|voter| voter.node);
    let nodes: BTreeSet<_> = placed.replicas.iter().copied().chain(voters).collect();
    let mut floor = partition.reader().cleaned_to();
    for node in nodes.into_iter().filter(|node| *node != broker.node) {
        floor = floor.min(cleaned_at(broker, node, id).await);
    }
    floor
}

async fn cleaned_at(broker: &Broker, node: NodeId, id: TopicPartition) -> Offset {
    let asked = CleanedTo { partitions: vec![id] };
    let told = broker.peers.call(node, asked, ANSWER).await;
    told.ok().and_then(|told| told.first().copied().flatten()).unwrap_or(Offset::ZERO)
}
