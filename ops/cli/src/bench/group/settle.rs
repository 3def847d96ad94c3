//! Settling: all members start at once, until each owns its share and nothing moves any more.

use std::time::{Duration, Instant};

use millstream_client::{Client, GroupConfig, GroupConsumer};
use millstream_protocol::ids::TopicName;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::brokers::Fleet;
use super::super::topic;
use super::PATIENCE;
use crate::failure::{Failure, Result};

const GROUP: &str = "settling";

/// From the first start until all own what they should, as each of them has it.
pub(super) async fn measure(
    (fleet, client): (&Fleet, &Client),
    (members, partitions): (u32, u32),
    factor: u16,
) -> Result<Duration> {
    let name = TopicName::new("settling").map_err(Failure::new)?;
    topic::create(client, &name, partitions, factor, Default::default()).await?;
    // The topic of the groups is there before.
    let _ = client.admin().list_groups().await?;
    // A program each: one connection takes no thousand streams of a thousand partitions that move.
    let mut clients = Vec::new();
    for _ in 0..members {
        clients.push(fleet.client().await?);
    }
    let (owns, mut told) = mpsc::channel(1_024);
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for (number, client) in (0..).zip(&clients) {
        let consumer = client.group_consumer(GroupConfig::new(GROUP, [name.as_str()]))?;
        let owns = owns.clone();
        tasks.spawn(member(number, consumer, owns));
    }
    let settled = tokio::time::timeout(PATIENCE, settled(&mut told, (members, partitions))).await;
    let settled = settled.map_err(|_| Failure::new("the group does not settle"))?;
    tasks.shutdown().await;
    Ok(settled - begun)
}

/// Says how many partitions a member owns, as often as that changes.
async fn member(number: u32, consumer: GroupConsumer, owns: mpsc::Sender<(u32, usize, Instant)>) {
    let mut before = usize::MAX;
    loop {
        // The topic is empty: this only deals with what comes and goes.
        let _ = tokio::time::timeout(Duration::from_millis(5), consumer.next()).await;
        let now = consumer.assignment().len();
        if now != before && owns.send((number, now, Instant::now())).await.is_err() {
            return;
        }
        before = now;
    }
}

/// When everybody owned its share, and that stayed so.
async fn settled(
    told: &mut mpsc::Receiver<(u32, usize, Instant)>,
    (members, partitions): (u32, u32),
) -> Instant {
    let (least, more) = ((partitions / members) as usize, (partitions % members) as usize);
    let mut owned = vec![0; members as usize];
    let mut last = Instant::now();
    loop {
        let even = owned.iter().filter(|n| **n == least + 1).count() == more
            && owned.iter().all(|n| *n == least || *n == least + 1);
        let news = if even {
            match tokio::time::timeout(Duration::from_secs(1), told.recv()).await {
                Ok(news) => news,
                Err(_) => return last,
            }
        } else {
            told.recv().await
        };
        if let Some((member, count, at)) = news {
            owned[member as usize] = count;
            last = last.max(at);
        }
    }
}
