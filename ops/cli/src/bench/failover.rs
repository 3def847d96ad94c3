//! `millstream bench failover`: what a client sees when a leader dies, and when one is asked to go.
//!
//! ```text
//!   kill -9 ──▶ … ──▶ first acknowledgement of a record that was due after the kill
//!   move asked for ──▶ the longest that a record waited for its acknowledgement until it had moved
//! ```
//!
//! Invariant: records are due at fixed times, whatever became of those before; every record's fate is known at the
//! end, and the topic is read back and held against it.

mod load;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use millstream_client::Client;
use millstream_protocol::ids::{PartitionIndex, TopicName};
use millstream_protocol::message::cluster::{BalanceCluster, ClusterStatus, MovePartition};
use millstream_protocol::message::topic::{DescribeTopic, PartitionDescription};
use serde::Serialize;

use self::load::{Audit, Load};
use super::brokers::{Fleet, until};
use super::report::{Latency, Rows, Times, Told};
use super::topic;
use crate::connection::call;
use crate::failure::{Failure, Result};
use crate::output::{Output, print};
use crate::{format, progress};

const TOPIC: &str = "failover";
/// Records are acknowledged for so long before the next thing happens: what follows is a cluster at work.
const BETWEEN: Duration = Duration::from_millis(200);

/// Measure how long a client waits when a leader is killed, or is moved.
///
/// Starts a cluster of its own with default settings in a temporary directory, writes to it at a fixed
/// rate with acks=all, and kills the leader of one partition after the other with SIGKILL; then moves
/// leaders on request. At the end every record is looked for.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How many leaders are killed.
    #[arg(long, value_name = "N", default_value_t = 50)]
    kills: u32,
    /// How many leaders are moved.
    #[arg(long, value_name = "N", default_value_t = 50)]
    moves: u32,
    /// Brokers of the cluster.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=9))]
    brokers: u16,
    /// Partitions of the topic.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    partitions: u32,
    /// Records a second, over all partitions.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Where the brokers keep their data meanwhile [default: the system's temporary directory].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document {
    brokers: u16,
    partitions: u32,
    rate: u32,
    /// From a kill to the first acknowledgement of a record that was due after it.
    failover: Latency,
    /// The longest that a record waited for its acknowledgement, for each move.
    moved: Latency,
    #[serde(flatten)]
    audit: Audit,
}

pub(super) fn run(args: &Args, output: Output) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let temp = match &args.dir {
            Some(dir) => tempfile::tempdir_in(dir)?,
            None => tempfile::tempdir()?,
        };
        let fleet = Fleet::start(args.brokers.into(), temp.path()).await?;
        let client = fleet.client().await?;
        let (topic, partitions) = (TopicName::new(TOPIC).map_err(Failure::new)?, args.partitions);
        topic::create(&client, &topic, partitions, args.brokers.min(3), Default::default()).await?;
        let load = Load::start(&client, &topic, partitions, args.rate)?;
        let mut trial = Trial { fleet, client, topic, load };

        let bar = progress::steps("killing and moving leaders", u64::from(args.kills + args.moves));
        let (mut failover, mut moved) = (Times::new(), Times::new());
        trial.settle().await?;
        for number in 0..args.kills {
            failover.record(trial.kill(PartitionIndex(number % partitions)).await?);
            trial.settle().await?;
            bar.inc(1);
        }
        for number in 0..args.moves {
            moved.record(trial.shift(PartitionIndex(number % partitions)).await?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let Trial { fleet, client, topic, load } = trial;
        let audit = load.finish(&client, &topic).await?;
        client.close().await;
        fleet.stop()?;
        let faithful = audit.is_faithful();
        print(
            &Told(Document {
                brokers: args.brokers,
                partitions,
                rate: args.rate,
                failover: Latency::of(&failover),
                moved: Latency::of(&moved),
                audit,
            }),
            output,
        )?;
        if faithful {
            return Ok(());
        }
        Err(Failure::new("an acknowledged record is lost, one is there twice, or a send failed"))
    })
}

/// A cluster at work.
struct Trial {
    fleet: Fleet,
    client: Client,
    topic: TopicName,
    load: Load,
}

impl Trial {
    /// Kills the leader of a partition. Returns how long nobody could write to it.
    async fn kill(&mut self, partition: PartitionIndex) -> Result<Duration> {
        let leader = self.describe(partition).await?.leader;
        let leader = leader.ok_or_else(|| Failure::new("the partition has no leader"))?;
        let killed = Instant::now();
        self.fleet.kill(leader)?;
        let acknowledged = self.load.acknowledged_since(partition, killed).await?;
        self.fleet.restart(leader)?;
        Ok(acknowledged - killed)
    }

    /// Moves the leadership of a partition on request. Returns the longest that a record waited meanwhile.
    async fn shift(&self, partition: PartitionIndex) -> Result<Duration> {
        let standing = self.describe(partition).await?;
        let mut replicas = standing.replicas;
        replicas.rotate_left(1);
        let to = replicas[0];
        let topic = self.topic.clone();
        call(&self.client, MovePartition { topic, partition, replicas }).await?;
        let asked = Instant::now();
        call(&self.client, BalanceCluster { dry_run: false }).await?;
        until(
            "the leader to move",
            async || Ok(self.describe(partition).await?.leader == Some(to)),
        )
        .await?;
        let moved = Instant::now();
        self.load.acknowledged_since(partition, moved + BETWEEN).await?;
        Ok(self.load.longest_wait(partition, asked..moved))
    }

    /// Waits until every broker is back, leads what it should lead, and was given records.
    async fn settle(&self) -> Result {
        until("the brokers to be well again", async || {
            let status = call(&self.client, ClusterStatus {}).await?;
            if !status.standings.iter().all(|broker| broker.reachable) {
                return Ok(false);
            }
            // Who is given a partition has all of it.
            call(&self.client, BalanceCluster { dry_run: false }).await?;
            let plan = call(&self.client, BalanceCluster { dry_run: true }).await?;
            Ok(plan.leaders == 0 && plan.moves.is_empty())
        })
        .await?;
        let from = Instant::now() + BETWEEN;
        for partition in 0..self.load.partitions() {
            self.load.acknowledged_since(PartitionIndex(partition), from).await?;
        }
        Ok(())
    }

    async fn describe(&self, partition: PartitionIndex) -> Result<PartitionDescription> {
        let topic = call(&self.client, DescribeTopic { name: self.topic.clone() }).await?;
        let found = topic.partitions.into_iter().nth(partition.0 as usize);
        found.ok_or_else(|| Failure::new("the partition is not there any more"))
    }
}

impl Rows for Document {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let Self { brokers, partitions, rate, audit, .. } = self;
        vec![
            ("cluster", format!("{brokers} brokers, {partitions} partitions, {rate} records/s")),
            ("leader killed", self.failover.line()),
            ("leader moved", self.moved.line()),
            ("acknowledged", format::thousands(audit.acknowledged)),
            ("failed", format::thousands(audit.failed)),
            ("lost", format::thousands(audit.lost)),
            ("repeated", format::thousands(audit.repeated)),
        ]
    }
}
