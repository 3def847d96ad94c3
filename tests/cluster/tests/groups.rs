//! Consumer groups of real processes that join, die and return under load: one group shares, each group sees all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_client::Client;
use millstream_tests_cluster::cluster::Cluster;
use millstream_tests_cluster::load::{Plan, unacknowledged};
use millstream_tests_cluster::members::{Account, Group, Member, audit};
use millstream_tests_cluster::{Load, Random, read_all, until};

const PARTITIONS: u32 = 4;

async fn with_topic(cluster: &Cluster) -> Client {
    let create = ["topic", "create", "load", "--partitions", "4", "--replication-factor", "3"];
    let created = cluster.cli(1, &create);
    assert!(created.status.success(), "{created:?}");
    let client = cluster.client().await;
    cluster.settles(&client, "load").await;
    client
}

fn group(cluster: &mut Cluster, dir: &tempfile::TempDir, name: &str) -> Group {
    let count = cluster.count();
    let brokers: Vec<_> = (1..=count).map(|n| cluster.broker(n).advertised().to_string()).collect();
    Group {
        name: name.to_owned(),
        topic: "load".to_owned(),
        brokers: brokers.join(","),
        ca: cluster.broker(1).data_dir().join("ca.pem"),
        dir: dir.path().to_owned(),
    }
}

/// The members of one group, those that are there and what became of the others.
struct Team {
    group: Group,
    there: Vec<Member>,
    gone: Vec<Account>,
    started: usize,
}

impl Team {
    fn new(group: Group, members: usize) -> Self {
        let mut team = Self { group, there: Vec::new(), gone: Vec::new(), started: 0 };
        (0..members).for_each(|_| team.join());
        team
    }

    fn join(&mut self) {
        self.started += 1;
        self.there.push(self.group.member(self.started));
    }

    /// One of them dies, leaves or stands still, or one comes.
    async fn change(&mut self, random: &mut Random) {
        let at = usize::try_from(random.below(self.there.len() as u64)).unwrap();
        match random.below(4) {
            0 => {
                let mut member = self.there.remove(at);
                member.kill();
                self.gone.push(member.account());
                self.join();
            }
            1 => {
                let mut member = self.there.remove(at);
                member.stop();
                self.gone.push(member.account());
                self.join();
            }
            2 => {
                self.there[at].freeze(true);
                tokio::time::sleep(Duration::from_millis(random.below(3_500))).await;
                self.there[at].freeze(false);
            }
            _ if self.there.len() < 6 => self.join(),
            _ => {}
        }
    }

    /// Waits until the group has committed everything up to these ends.
    async fn catches_up(&self, client: &Client) {
        let name = self.group.name.as_str();
        until("the group", Duration::from_secs(60), async || {
            let mut ends = Vec::new();
            for topic in client.admin().describe_topic("load").await.unwrap().partitions {
                ends.push((topic.index, topic.high_watermark));
            }
            let offsets = client.admin().group_offsets(name).await.map_err(|e| e.to_string())?;
            let behind = ends.iter().find(|(index, end)| {
                let known = offsets.iter().find(|offset| offset.partition.partition == *index);
                known.is_none_or(|known| known.committed.offset < *end)
            });
            behind.map_or(Ok(()), |behind| Err(format!("{behind:?} in {offsets:?}")))
        })
        .await;
    }

    fn finish(mut self) -> Vec<Account> {
        for mut member in self.there.drain(..) {
            member.stop();
            self.gone.push(member.account());
        }
        self.gone
    }
}

async fn written(client: &Client) -> BTreeSet<(u32, u64)> {
    read_all(client, "load").await.iter().map(|seen| (seen.partition, seen.offset)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_die_and_return_share_every_record_and_each_group_sees_all() {
    let (mut random, mut cluster) = (Random::new(), Cluster::start(3).await);
    let client = with_topic(&cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));
    let mut teams = [
        Team::new(group(&mut cluster, &dir, "queue"), 3),
        Team::new(group(&mut cluster, &dir, "audit"), 2),
    ];
    for round in 0..10 {
        load.acknowledges(200 + random.below(400)).await;
        teams[round % 2].change(&mut random).await;
        if round % 4 == 3 {
            // Who coordinates, perhaps.
            let broker = u32::try_from(1 + random.below(3)).unwrap();
            cluster.broker(broker).kill();
            load.acknowledges(300).await;
            cluster.restart(broker).await;
        }
    }
    assert_eq!(unacknowledged(&load.finish().await), Vec::<&_>::new());
    for team in &teams {
        team.catches_up(&client).await;
    }
    let written = written(&client).await;
    for team in teams {
        audit(&team.finish(), &written);
    }
}
