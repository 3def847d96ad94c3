//! A cluster: brokers that replicate to each other, each a process of its own.
//!
//! Invariant: each is part of the cluster and ready when `start` returns; the first founded it.

use std::path::PathBuf;
use std::time::Duration;

use millstream_client::protocol::ids::NodeId;
use millstream_client::{BackoffConfig, Client, ClientConfig};
use tempfile::TempDir;

use crate::binary;
use crate::links::Links;
use crate::process::{Broker, Turn};
use crate::wait::until;

/// How long the brokers may take to agree on who leads.
const AGREE: Duration = Duration::from_secs(30);
/// How many vote on metadata at the most.
const MOST_CONTROLLERS: u32 = 5;

/// Brokers 1 to N.
#[derive(Debug)]
pub struct Cluster {
    /// Dropped before the directory that they lie in.
    brokers: Vec<Broker>,
    temp: TempDir,
    links: Option<Links>,
    shape: Shape,
    _turn: Turn,
}

/// What of a cluster is not as it is by default.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Whether everything that is said to a broker goes by [`Links`], to be cut and to lose datagrams.
    pub links: bool,
    /// Configuration of every broker, by environment.
    pub config: Vec<(&'static str, &'static str)>,
    /// Where a broker keeps its data, if not beside the others.
    pub elsewhere: Option<(u32, PathBuf)>,
}

impl Cluster {
    /// Starts so many brokers; each votes on metadata when this returns, if there are no more than may.
    ///
    /// # Panics
    /// If one of them does not become ready.
    pub async fn start(count: u32) -> Self {
        Self::start_with(count, Shape::default()).await
    }

    /// The same, with something that is not as it is by default.
    ///
    /// # Panics
    /// If one of them does not become ready.
    pub async fn start_with(count: u32, shape: Shape) -> Self {
        let turn = Turn::take().await;
        let temp = tempfile::Builder::new().prefix("millstream-").tempdir();
        let temp = temp.expect("a temporary directory");
        let links = shape.links.then(Links::default);
        let mut cluster = Self { brokers: Vec::new(), temp, links, shape, _turn: turn };
        for _ in 0..count {
            cluster.add().await;
        }
        let client = cluster.client().await;
        until("every broker's vote", AGREE, async || {
            let status = client.admin().cluster_status().await.map_err(|e| e.to_string())?;
            let voters = status.voters.len();
            // An odd number of them.
            let wanted = (count.min(MOST_CONTROLLERS) - 1) as usize / 2 * 2 + 1;
            if voters == wanted { Ok(()) } else { Err(format!("{voters} of {count}")) }
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
        let elsewhere = self.shape.elsewhere.as_ref().filter(|(of, _)| *of == number);
        let beside = || self.temp.path().join(format!("data-{number}"));
        let data = elsewhere.map_or_else(beside, |(_, data)| data.clone());
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
        let mut config = vec![("SERVER_NODE_ID", id.as_str()), ("SERVER_JOIN", join.as_str())];
        config.extend(&self.shape.config);
        let mut broker = Broker::stopped(data, log, &config);
        if let Some(links) = &self.links {
            let front = links.lead_to(number, broker.address()).await;
            broker.advertise(front);
        }
        broker.restart().await;
        self.note(number, &broker);
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

    /// Starts a broker again and waits until it is ready.
    ///
    /// # Panics
    /// If it runs, or does not become ready.
    pub async fn restart(&mut self, number: u32) {
        self.spawn(number);
        self.broker(number).ready().await;
    }

    /// Starts a broker again and does not wait.
    ///
    /// # Panics
    /// If it runs.
    pub fn spawn(&mut self, number: u32) {
        self.broker(number).spawn();
        self.note(number, &self.brokers[number as usize - 1]);
    }

    fn note(&self, number: u32, broker: &Broker) {
        if let Some(links) = &self.links {
            links.spoken_on_by(number, broker.id());
        }
    }

    /// What lies between the brokers.
    ///
    /// # Panics
    /// If the cluster was started without.
    #[must_use]
    pub const fn links(&self) -> &Links {
        self.links.as_ref().expect("the cluster was started with links")
    }

    /// How many brokers there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.brokers.len()).expect("a few")
    }

    fn addresses(&self) -> Vec<String> {
        self.brokers.iter().map(|broker| broker.advertised().to_string()).collect()
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

    /// Waits until every replica of a topic votes, and keeps up with its leader.
    ///
    /// # Panics
    /// If that takes long.
    pub async fn settles(&self, client: &Client, topic: &str) {
        until("every replica's vote", AGREE, async || {
            let topic = client.admin().describe_topic(topic).await.map_err(|e| e.to_string())?;
            let whole = |p: &millstream_client::protocol::message::topic::PartitionDescription| {
                p.voters.len() == p.replicas.len() && p.in_sync.len() == p.replicas.len()
            };
            if topic.partitions.iter().all(whole) { Ok(()) } else { Err(format!("{topic:?}")) }
        })
        .await;
    }
}
