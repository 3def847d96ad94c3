//! Sharing: a topic read to its end as a group of one, in turn with the same by assignment.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millstream_client::{Client, CommitMode, GroupConfig, ProducerConfig, ProducerRecord};
use millstream_protocol::ids::TopicName;

use super::super::payload::{Pool, digest};
use super::super::{consume, topic};
use crate::failure::{Failure, Result};

const VALUE_BYTES: usize = 1_024;
const TURNS: usize = 5;

/// MB/s by assignment and as a group, in turn.
pub(super) async fn measure(client: &Client, records: u64, factor: u16) -> Result<Vec<(f64, f64)>> {
    let name = TopicName::new("sharing").map_err(Failure::new)?;
    topic::create(client, &name, 4, factor, Default::default()).await?;
    let pool = Pool::new(records, VALUE_BYTES);
    let producer = client.producer(ProducerConfig::default())?;
    for value in pool.values(records) {
        // The flush says whether all of it was written.
        drop(producer.send(ProducerRecord::new(name.as_str()).value(value)).await?);
    }
    producer.flush().await?;
    producer.close().await?;
    let bytes = records as f64 * VALUE_BYTES as f64 / 1e6;
    let mut shares = Vec::new();
    for turn in 0..TURNS {
        let assigned = consume::read_all(client, &name, None, &[]).await?.spent.seconds;
        let shared = shared(client, &name, turn).await?;
        shares.push((bytes / assigned, bytes / shared.as_secs_f64()));
    }
    Ok(shares)
}

/// From when the first record has come: joining takes as long as it takes, however long the topic is.
async fn shared(client: &Client, topic: &TopicName, turn: usize) -> Result<Duration> {
    let mut ends: BTreeMap<_, _> = topic::ends(client, topic).await?;
    ends.retain(|_, end| end.get() != 0);
    let config = GroupConfig::new(format!("sharing-{turn}"), [topic.as_str()]);
    let consumer = client.group_consumer(config.commit(CommitMode::Periodic(PERIOD)))?;
    let (mut begun, mut sum) = (None, 0_u64);
    while !ends.is_empty() {
        let fetched = consumer.next().await?;
        let _ = begun.get_or_insert_with(Instant::now);
        for record in &fetched {
            sum = sum.wrapping_add(digest(record?.value.unwrap_or_default()));
        }
        if ends.get(&fetched.partition()).is_some_and(|end| *end <= fetched.next_offset()) {
            ends.remove(&fetched.partition());
        }
    }
    let took = begun.map(|begun| begun.elapsed()).unwrap_or_default();
    std::hint::black_box(sum);
    consumer.close().await.map_err(Failure::new)?;
    Ok(took)
}

/// Between two commits: often enough to count.
const PERIOD: Duration = Duration::from_millis(100);
