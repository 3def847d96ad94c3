//! Killing: from the SIGKILL of a member until another has read a record of each of its partitions.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use millstream_client::{Client, GroupConfig};
use millstream_protocol::ids::TopicName;

use super::super::brokers::{Fleet, until};
use super::super::report::Times;
use super::super::topic;
use super::leave::{feed, owns, watch};
use crate::failure::{Failure, Result};

const PARTITIONS: u32 = 4;
const GROUP: &str = "killing";

struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) async fn measure(
    fleet: &Fleet,
    client: &Client,
    rounds: u32,
    factor: u16,
) -> Result<Times> {
    let name = TopicName::new("killing").map_err(Failure::new)?;
    topic::create(client, &name, PARTITIONS, factor, Default::default()).await?;
    let feeding = feed(client, name.as_str())?;
    let stays = Arc::new(client.group_consumer(GroupConfig::new(GROUP, [name.as_str()]))?);
    let (seen, staying) = watch(Arc::clone(&stays));
    owns(&stays, PARTITIONS).await?;
    let mut killed = Times::new();
    for _ in 0..rounds {
        let victim = spawn(fleet, &name)?;
        owns(&stays, PARTITIONS / 2).await?;
        // It is owned and committed by the victim, too.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let kept = stays.assignment();
        let lost: Vec<_> = (0..PARTITIONS)
            .filter(|n| !kept.iter().any(|(_, partition)| partition.0 == *n))
            .map(|n| n as usize)
            .collect();
        let moment = Instant::now();
        drop(victim);
        until("its partitions to be read", async || {
            let seen = seen.lock();
            Ok(lost.iter().all(|partition| seen.since(*partition, moment).is_some()))
        })
        .await?;
        killed.record(moment.elapsed());
    }
    feeding.abort();
    staying.abort();
    Ok(killed)
}

fn spawn(fleet: &Fleet, topic: &TopicName) -> Result<Victim> {
    let (brokers, authority) = fleet.reached_by();
    let child = Command::new(std::env::current_exe()?)
        .args(["consume", topic.as_str(), "--group", GROUP])
        .env("MILLSTREAM_BROKER", brokers)
        .env("MILLSTREAM_CA", authority)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    Ok(Victim(child))
}
