//! A group as it is printed.
//!
//! Invariant: a member without partitions is shown, and why: it waits because there are more members than partitions,
//! or for others to let go.

use std::collections::BTreeMap;

use millstream_protocol::ids::TopicPartition;
use millstream_protocol::message::group::{
    GroupDescription, GroupOffset, GroupSummary, MemberDescription,
};
use serde::Serialize;

use super::places::{Lag, Lags};
use crate::names::Names;
use crate::output::{Report, columns, pairs};

/// One group, whole.
#[derive(Serialize)]
pub(super) struct Group {
    name: String,
    state: &'static str,
    assignor: &'static str,
    epoch: u64,
    coordinator: u32,
    members: Vec<Member>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Member {
    id: String,
    client: String,
    instance: Option<String>,
    status: &'static str,
    subscribed: Vec<String>,
    pattern: Option<String>,
    owned: Vec<Place>,
    revoking: Vec<Place>,
    awaiting: Vec<Place>,
}

#[derive(Serialize)]
struct Place {
    topic: String,
    partition: u32,
}

#[derive(Serialize)]
struct Partition {
    topic: String,
    partition: u32,
    committed: Option<u64>,
    end: Option<u64>,
    lag: Option<u64>,
    lag_seconds: Option<f64>,
    owner: Option<String>,
    metadata: String,
}

impl Group {
    pub(super) fn new(group: GroupDescription, names: &Names, lags: &Lags) -> Self {
        let mut owners = BTreeMap::new();
        for member in &group.members {
            let owned = member.owned.iter().chain(&member.revoking);
            owners.extend(owned.map(|of| (*of, member.id.to_string())));
        }
        let offsets: BTreeMap<_, _> = group.offsets.into_iter().map(|o| (o.partition, o)).collect();
        let mut all: Vec<TopicPartition> = offsets.keys().chain(owners.keys()).copied().collect();
        all.sort();
        all.dedup();
        let partition = |of: TopicPartition| {
            Partition::new(of, names, offsets.get(&of), lags.get(of), owners.get(&of))
        };
        Self {
            name: group.name.to_string(),
            state: group.state.name(),
            assignor: group.assignor.name(),
            epoch: group.epoch.0,
            coordinator: group.coordinator.get(),
            members: group.members.into_iter().map(|member| Member::new(member, names)).collect(),
            partitions: all.into_iter().map(partition).collect(),
        }
    }
}

impl Member {
    fn new(member: MemberDescription, names: &Names) -> Self {
        let places = |held: &[TopicPartition]| {
            let place = |of: &TopicPartition| Place {
                topic: names.show(of.topic),
                partition: of.partition.get(),
            };
            held.iter().map(place).collect()
        };
        let status = match () {
            () if member.away => "away",
            () if !member.revoking.is_empty() => "letting go",
            () if !member.awaiting.is_empty() => "awaiting",
            () if member.owned.is_empty() => "idle",
            () => "owner",
        };
        Self {
            id: member.id.to_string(),
            client: member.details.client,
            instance: member.details.instance.map(|name| name.to_string()),
            status,
            subscribed: member
                .details
                .subscription
                .topics
                .iter()
                .map(ToString::to_string)
                .collect(),
            pattern: member.details.subscription.pattern,
            owned: places(&member.owned),
            revoking: places(&member.revoking),
            awaiting: places(&member.awaiting),
        }
    }

    fn row(&self) -> [String; 5] {
        let mut by_topic = BTreeMap::<&str, Vec<String>>::new();
        for place in &self.owned {
            by_topic.entry(&place.topic).or_default().push(place.partition.to_string());
        }
        let owned: Vec<_> = by_topic.iter().map(|(t, n)| format!("{t}/{}", n.join(","))).collect();
        let owned = if owned.is_empty() { "-".to_owned() } else { owned.join(" ") };
        let instance = self.instance.clone().unwrap_or_else(|| "-".to_owned());
        [self.id.clone(), self.client.clone(), instance, self.status.to_owned(), owned]
    }
}

impl Partition {
    fn new(
        of: TopicPartition,
        names: &Names,
        offset: Option<&GroupOffset>,
        lag: Option<Lag>,
        owner: Option<&String>,
    ) -> Self {
        Self {
            topic: names.show(of.topic),
            partition: of.partition.get(),
            committed: offset.map(|offset| offset.committed.offset.get()),
            end: lag.map(|lag| lag.end.get()),
            lag: lag.map(|lag| lag.records),
            lag_seconds: lag.and_then(|lag| lag.seconds),
            owner: owner.cloned(),
            metadata: offset.map(|offset| offset.committed.metadata.clone()).unwrap_or_default(),
        }
    }

    fn row(&self) -> [String; 7] {
        let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let seconds = self.lag_seconds.map_or_else(|| "-".to_owned(), |s| format!("{s:.1}"));
        [
            self.topic.clone(),
            self.partition.to_string(),
            number(self.committed),
            number(self.end),
            number(self.lag),
            seconds,
            self.owner.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

impl Report for Group {
    fn table(&self) -> String {
        let head = pairs([
            ("GROUP", self.name.clone()),
            ("STATE", self.state.to_owned()),
            ("ASSIGNOR", self.assignor.to_owned()),
            ("COORDINATOR", self.coordinator.to_string()),
        ]);
        let members = columns(
            &["MEMBER", "CLIENT", "INSTANCE", "STATUS", "OWNS"],
            &[],
            self.members.iter().map(Member::row),
        );
        let partitions = columns(
            &["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "SECONDS", "OWNER"],
            &["PARTITION", "COMMITTED", "END", "LAG", "SECONDS"],
            self.partitions.iter().map(Partition::row),
        );
        format!("{head}\n{members}\n{partitions}")
    }
}

/// Several groups, a line each.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Groups(Vec<Row>);

#[derive(Serialize)]
struct Row {
    name: String,
    state: &'static str,
    members: u64,
    partitions: u64,
}

impl From<Vec<GroupSummary>> for Groups {
    fn from(groups: Vec<GroupSummary>) -> Self {
        let row = |group: GroupSummary| Row {
            name: group.name.to_string(),
            state: group.state.name(),
            members: group.members,
            partitions: group.offsets,
        };
        Self(groups.into_iter().map(row).collect())
    }
}

impl Report for Groups {
    fn table(&self) -> String {
        columns(
            &["NAME", "STATE", "MEMBERS", "PARTITIONS"],
            &["MEMBERS", "PARTITIONS"],
            self.0.iter().map(|group| {
                let (members, partitions) =
                    (group.members.to_string(), group.partitions.to_string());
                [group.name.clone(), group.state.to_owned(), members, partitions]
            }),
        )
    }
}
