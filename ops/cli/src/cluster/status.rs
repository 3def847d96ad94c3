//! `millstream cluster status`.

use millstream_client::Client;
use millstream_protocol::message::cluster::{BrokerStanding, ClusterDescription, ClusterStatus};
use serde::Serialize;

use crate::connection::call;
use crate::failure::Result;
use crate::output::{Output, Report, columns, pairs, print};

#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(_: Args, client: &Client, output: Output) -> Result {
    let status = call(client, ClusterStatus {}).await?;
    print(&Status::from(status), output)
}

/// The cluster as the broker that answered sees it.
#[derive(Serialize)]
struct Status {
    cluster_id: String,
    controller: Option<u32>,
    voters: Vec<u32>,
    topics: u64,
    partitions: u64,
    leaderless: u64,
    moving: u64,
    jobs: u64,
    feature_level: u32,
    newest_feature_level: u32,
    brokers: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    node_id: u32,
    address: String,
    rack: Option<String>,
    reachable: bool,
    draining: bool,
    replicas: u64,
    leads: u64,
}

impl From<ClusterDescription> for Status {
    fn from(cluster: ClusterDescription) -> Self {
        let address = |standing: &BrokerStanding| {
            let known = cluster.brokers.iter().find(|broker| broker.node == standing.node);
            known.map(|broker| broker.address.clone()).unwrap_or_default()
        };
        let row = |standing: &BrokerStanding| Row {
            node_id: standing.node.get(),
            address: address(standing),
            rack: standing.rack.clone(),
            reachable: standing.reachable,
            draining: standing.draining,
            replicas: standing.replicas,
            leads: standing.leads,
        };
        Self {
            controller: cluster.controller.map(|node| node.get()),
            voters: cluster.voters.iter().map(|node| node.get()).collect(),
            topics: cluster.topics,
            partitions: cluster.partitions,
            leaderless: cluster.leaderless,
            moving: cluster.moving,
            jobs: cluster.jobs,
            feature_level: cluster.feature_level,
            newest_feature_level: cluster.newest_feature_level,
            brokers: cluster.standings.iter().map(row).collect(),
            cluster_id: cluster.cluster_id,
        }
    }
}

impl Status {
    fn level(&self) -> String {
        let (level, newest) = (self.feature_level, self.newest_feature_level);
        if level < newest {
            return format!("{level}; all brokers support {newest}: `millstream cluster upgrade`");
        }
        level.to_string()
    }
}

impl Report for Status {
    fn table(&self) -> String {
        let voters: Vec<_> = self.voters.iter().map(u32::to_string).collect();
        let head = pairs([
            ("CLUSTER", self.cluster_id.clone()),
            ("CONTROLLER", or_dash(self.controller)),
            ("METADATA VOTERS", voters.join(",")),
            ("TOPICS", self.topics.to_string()),
            ("PARTITIONS", self.partitions.to_string()),
            ("WITHOUT LEADER", self.leaderless.to_string()),
            ("MOVING", self.moving.to_string()),
            ("JOBS", self.jobs.to_string()),
            ("FEATURE LEVEL", self.level()),
        ]);
        let brokers = columns(
            &["BROKER", "ADDRESS", "RACK", "REPLICAS", "LEADS", "STATE"],
            &["BROKER", "REPLICAS", "LEADS"],
            self.brokers.iter().map(Row::cells),
        );
        format!("{head}\n{brokers}")
    }
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let state = match (self.reachable, self.draining) {
            (true, false) => "up",
            (true, true) => "up, draining",
            (false, false) => "not reached",
            (false, true) => "not reached, draining",
        };
        [
            self.node_id.to_string(),
            self.address.clone(),
            self.rack.clone().unwrap_or_else(|| "-".to_owned()),
            self.replicas.to_string(),
            self.leads.to_string(),
            state.to_owned(),
        ]
    }
}

fn or_dash(node: Option<u32>) -> String {
    node.map_or_else(|| "-".to_owned(), |node| node.to_string())
}
