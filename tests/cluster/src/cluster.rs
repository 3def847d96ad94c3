//! A cluster: brokers that replicate to each other, each a process of its own.
//!
//! Invariant: each is part of the cluster and ready when `start` returns; the first founded it.

use std::time::Duration;

use millstream_client::protocol::ids::NodeId;
use millstream_client::{BackoffConfig, Client, ClientConfig};
use tempfile::TempDir;

use crate::binary;
use crate::process::{Broker, Turn};
use crate::wait::until;

/// How long the brokers may take to agree on who leads.
const AGREE: Duration = Duration::from_secs(30);

/// Brokers 1 to N.
#[derive(Debug)]
pub struct Cluster {
    /// Dropped before the directory that they lie in.
    brokers: Vec<Broker>,
    temp: TempDir,
    _turn: Turn,
}

impl Cluster {
    /// Starts so many brokers; each votes on metadata when this returns.
    ///
    /// # Panics
    /// If one of them does not become ready.
    pub async fn start(count: u32) -> Self {
        let turn = Turn::take().await;
        let temp = tempfile::Builder::new().prefix("millstream-").tempdir();
        let temp = temp.expect("a temporary directory");
        let mut cluster = Self { brokers: Vec::new(), temp, _turn: turn };
        for _ in 0..count {
            cluster.add().await;
        }
        let client = cluster.client().await;
        until("every broker's vote", AGREE, async || {
            let status = client.admin().cluster_status().await.map_err(|e| e.to_string())?;
            let voters = status.voters.len();
            if voters == count as usize { Ok(()) } else { Err(format!("{voters} of {count}")) }
        })
        .await;
        cluster
    }

    /// Starts one more. Returns its number.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn add(&mut self) -> u32 {
        let number = u32::try_from(self.brokers.len()).expect("a few") + 1;
        let data = self.temp.path().join(format!("data-{number}"));
        let log = self.temp.path().join(format!("broker-{number}.log"));
        let (id, join) = (number.to_string(), self.addresses().join(","));
        if let Some(first) = self.brokers.first() {
            let (out, of) = (data.to_string_lossy(), first.data_dir().to_string_lossy());
            let made = binary::run(&[
                "cluster",
                "add",
                "--node-id",
                &id,
                "--host",
                "127.0.0.1",
                "--out",
                &out,
                "--data-dir",
                &of,
            ]);
            assert!(made.status.success(), "{made:?}");
        }
        let config = [("SERVER_NODE_ID", id.as_str()), ("SERVER_JOIN", join.as_str())];
        let mut broker = Broker::stopped(data, log, &config);
        broker.restart().await;
        self.brokers.push(broker);
        number
    }

    /// Broker `number`, from 1.
    ///
    /// # Panics
    /// If there is none.
    pub fn broker(&mut self, number: u32) -> &mut Broker {
        &mut self.brokers[number as usize - 1]
    }

    fn addresses(&self) -> Vec<String> {
        self.brokers.iter().map(|broker| broker.address().to_string()).collect()
    }

    /// A client that knows all brokers, and does not pause for long between attempts.
    ///
    /// # Panics
    /// If none of them can be reached.
    pub async fn client(&self) -> Client {
        let ca = self.brokers[0].data_dir().join("ca.pem");
        let backoff =
            BackoffConfig { first: Duration::from_millis(5), most: Duration::from_millis(50) };
        let config = ClientConfig::new(self.addresses()).ca_file(ca);
        let config = ClientConfig { backoff, ..config };
        Client::connect(config).await.expect("a broker that is ready can be reached")
    }

    /// Runs a verb of the command line against broker `number`.
    pub fn cli(&self, number: u32, args: &[&str]) -> std::process::Output {
        self.brokers[number as usize - 1].cli(args)
    }

    /// The broker that leads a partition.
    ///
    /// # Panics
    /// If nobody does for long.
    pub async fn leader(&self, client: &Client, topic: &str, partition: usize) -> u32 {
        let NodeId(leader) = until("a leader", AGREE, async || {
            let topic = client.admin().describe_topic(topic).await.map_err(|e| e.to_string())?;
            let leader = topic.partitions[partition].leader;
            leader.ok_or_else(|| format!("{:?}", topic.partitions[partition]))
        })
        .await;
        leader
    }

    /// Waits until every replica of a topic has what is committed, and votes.
    ///
    /// # Panics
    /// If that takes long.
    pub async fn settles(&self, client: &Client, topic: &str) {
        until("every replica's vote", AGREE, async || {
            let topic = client.admin().describe_topic(topic).await.map_err(|e| e.to_string())?;
            let whole = |p: &millstream_client::protocol::message::topic::PartitionDescription| {
                p.voters.len() == p.replicas.len() && p.leader.is_some()
            };
            if topic.partitions.iter().all(whole) { Ok(()) } else { Err(format!("{topic:?}")) }
        })
        .await;
    }
}
