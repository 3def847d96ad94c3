//! Commits: as many groups at once as there are in flight, one commit a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use millstream_client::Client;
use millstream_protocol::ids::{Offset, PartitionIndex, TopicName, TopicPartition};
use millstream_protocol::message::group::{Committed, OffsetCommit};
use tokio::task::JoinSet;

use super::super::topic;
use crate::failure::{Failure, Result};

/// Commits under way at a time.
const IN_FLIGHT: u64 = 256;

/// Commits a second.
pub(super) async fn measure(client: &Client, count: u64) -> Result<f64> {
    let name = TopicName::new("commits").map_err(Failure::new)?;
    topic::create(client, &name, 1, 1, Default::default()).await?;
    let id = client.admin().describe_topic(name.as_str()).await?.id;
    let of = TopicPartition { topic: id, partition: PartitionIndex(0) };
    // The first one makes the topic of the groups.
    commit(client, of, 0, 0).await?;
    let next = Arc::new(AtomicU64::new(1));
    let mut tasks = JoinSet::<Result>::new();
    let begun = Instant::now();
    for group in 0..IN_FLIGHT {
        let (client, next) = (client.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if count < number {
                    return Ok(());
                }
                commit(&client, of, group, number).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(Failure::new)??;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

async fn commit(client: &Client, partition: TopicPartition, group: u64, offset: u64) -> Result {
    let committed = Committed { offset: Offset(offset), epoch: None, metadata: String::new() };
    let offsets = vec![OffsetCommit { partition, committed }];
    let refused = client.admin().commit_offsets(&format!("commits-{group}"), offsets).await?;
    refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error.into()))
}
