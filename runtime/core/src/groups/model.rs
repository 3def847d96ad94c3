//! Random groups, held against what their members believe: messages late, lost and out of order, members that die, a
//! coordinator that dies, topics that grow and go.
//!
//! Oracle: no two members believe that they own the same partition, except one that was fenced and has not heard of it;
//! such a one commits nothing; a committed offset never goes back; rows put one over the other are the groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::ids::{
    GroupName, MemberEpoch, MemberId, Offset, Timestamp, TopicId, TopicName, TopicPartition,
};
use millstream_protocol::message::group::{
    Assignor, Beat, CommitOffsets, Committed, MemberDetails, OffsetCommit, Standing, Subscription,
};
use proptest::prelude::*;

use super::rows::Rows;
use super::{
    Ask, Coordinator, CoordinatorConfig, Groups, Input, KnownTopic, Output, Response, Topics,
};
use crate::machine::{Machine, Time, Token};
use crate::random::Random;

const TOPICS: u32 = 3;

/// A member, as it sees itself.
#[derive(Debug, Default)]
struct Client {
    joined: Option<MemberEpoch>,
    epoch: MemberEpoch,
    owned: BTreeSet<TopicPartition>,
    /// What it was told to let go of and is not done with.
    finishing: BTreeSet<TopicPartition>,
    details: Option<MemberDetails>,
    gone: bool,
}

struct World {
    random: Random,
    now: Time,
    coordinator: Coordinator,
    topics: Vec<KnownTopic>,
    next_topic: u32,
    /// What is committed.
    log: Rows,
    writing: Option<Rows>,
    clients: BTreeMap<MemberId, Client>,
    /// On the way to the coordinator, and from it.
    beats: Vec<(MemberId, Beat)>,
    standings: Vec<(MemberId, Option<Standing>)>,
    asked: BTreeMap<u64, Asked>,
    tokens: u64,
    acknowledged: BTreeMap<TopicPartition, u64>,
}

enum Asked {
    Beat(MemberId),
    Commit(MemberId, TopicPartition, u64, bool),
    Leave,
}

fn group() -> GroupName {
    GroupName::new("g").expect("a name")
}

impl World {
    fn new(seed: u64) -> Self {
        let topics: Vec<_> =
            (0..TOPICS).map(|id| KnownTopic { id: TopicId(id), partitions: 2 }).collect();
        let known = known(&topics, TOPICS);
        let config = CoordinatorConfig::default();
        Self {
            random: Random::new(seed),
            now: Time::ZERO,
            coordinator: Coordinator::new(config, Groups::default(), known, Time::ZERO),
            topics,
            next_topic: TOPICS,
            log: Rows::new(),
            writing: None,
            clients: BTreeMap::new(),
            beats: Vec::new(),
            standings: Vec::new(),
            asked: BTreeMap::new(),
            tokens: 0,
            acknowledged: BTreeMap::new(),
        }
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.random.below(n as u64)).expect("it was one")
    }

    fn someone(&mut self) -> Option<MemberId> {
        let there: Vec<_> =
            self.clients.iter().filter(|(_, client)| !client.gone).map(|(id, _)| *id).collect();
        (!there.is_empty()).then(|| there[self.below(there.len())])
    }

    fn step(&mut self, input: Input) {
        let mut out = Vec::new();
        self.coordinator.step(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Write(rows) => assert!(self.writing.replace(rows).is_none()),
                Output::Tell { member, standing, .. } => self.standings.push((member, standing)),
                Output::Answer { token, answer } => match (self.asked.remove(&token.0), answer) {
                    (Some(Asked::Beat(member)), Ok(Response::Standing(standing))) => {
                        self.standings.push((member, Some(standing)));
                    }
                    (Some(Asked::Beat(member)), Err(_)) => self.standings.push((member, None)),
                    (Some(Asked::Commit(member, of, offset, others)), answer) => {
                        self.committed(
                            member,
                            of,
                            (offset, others),
                            answer.is_ok_and(|r| r == Response::Committed(vec![])),
                        );
                    }
                    (_, answer) => drop(answer),
                },
            }
        }
        self.check();
    }

    fn committed(
        &mut self,
        member: MemberId,
        of: TopicPartition,
        (offset, others): (u64, bool),
        taken: bool,
    ) {
        if taken {
            assert!(!others, "{member} committed for {of}, which another owned");
            let known = self.acknowledged.entry(of).or_default();
            assert!(*known <= offset, "{of} went back from {known} to {offset}");
            *known = offset;
        }
    }

    fn ask(&mut self, asked: Asked, ask: Ask) {
        self.tokens += 1;
        self.asked.insert(self.tokens, asked);
        self.step(Input::Ask { token: Token(self.tokens), wall: Timestamp(0), ask });
    }

    /// No two believe that they own the same, of those that the log has as members.
    fn check(&self) {
        let log = loaded(&self.log);
        let Some(group) = log.get(&group()) else { return };
        let mut owners = BTreeMap::new();
        for (id, client) in &self.clients {
            let member = group.members().get(id);
            if client.gone || !member.is_some_and(|m| !m.away && m.joined <= client.epoch) {
                continue;
            }
            for of in client.owned.iter().chain(&client.finishing) {
                let other = owners.insert(*of, *id);
                assert!(other.is_none(), "{of} is owned by {other:?} and {id}");
            }
        }
    }

    fn act(&mut self, action: u8) {
        match action {
            0..=9 => self.join(),
            10..=59 => self.say(),
            60..=109 => self.hear(),
            110..=159 => self.tell(),
            160..=189 => self.write(),
            190..=209 => self.commit(),
            210..=214 => self.leave(),
            215..=219 => self.die(),
            220..=234 => self.pass(),
            235..=239 => self.fail_over(),
            240..=247 => self.change_topics(),
            _ => self.resubscribe(),
        }
    }

    fn join(&mut self) {
        if 6 < self.clients.values().filter(|client| !client.gone).count() {
            return;
        }
        let id = MemberId(u128::from(self.random.next_u64()));
        let details = Some(self.details());
        self.clients.insert(id, Client { details, ..Client::default() });
        self.say_as(id);
    }

    fn details(&mut self) -> MemberDetails {
        let topics = (0..TOPICS).filter(|_| self.random.below(3) != 0).map(name).collect();
        let pattern = (self.random.below(4) == 0).then(|| "t[0-9]+".to_owned());
        let instance = (self.random.below(4) == 0)
            .then(|| format!("i{}", self.random.below(2)).parse().expect("a name"));
        let assignor = if self.random.below(3) == 0 { Assignor::Range } else { Assignor::Uniform };
        MemberDetails {
            instance,
            client: String::new(),
            subscription: Subscription { topics, pattern },
            assignor,
            session_timeout_ms: 1_000,
            rebalance_timeout_ms: 3_000,
        }
    }

    fn say(&mut self) {
        if let Some(id) = self.someone() {
            self.say_as(id);
        }
    }

    fn say_as(&mut self, id: MemberId) {
        let done = self.random.below(2) == 0;
        let client = self.clients.get_mut(&id).expect("it is there");
        if done {
            client.finishing.clear();
        }
        let owned = client.owned.union(&client.finishing).copied().collect();
        let beat = Beat { epoch: client.epoch, details: client.details.clone(), owned };
        self.beats.push((id, beat));
    }

    /// A beat arrives: any of them, once or twice.
    fn hear(&mut self) {
        if self.beats.is_empty() {
            return;
        }
        let at = self.below(self.beats.len());
        let (member, beat) =
            if self.random.below(5) == 0 { self.beats[at].clone() } else { self.beats.remove(at) };
        self.ask(Asked::Beat(member), Ask::Beat { group: group(), member, beat });
    }

    /// A standing arrives: any of them, or it is lost.
    fn tell(&mut self) {
        if self.standings.is_empty() {
            return;
        }
        let at = self.below(self.standings.len());
        let (id, standing) = self.standings.remove(at);
        let lost = self.random.below(5) == 0;
        let client = self.clients.get_mut(&id).expect("it was one");
        match standing {
            _ if lost || client.gone => {}
            None => client.gone = true,
            // An earlier membership of its, or a later one: it was fenced.
            Some(standing) if client.joined.is_some_and(|joined| joined != standing.joined) => {
                client.gone |= client.joined < Some(standing.joined);
            }
            Some(Standing { joined, epoch, topics: Some(topics), .. }) if client.epoch < epoch => {
                let may: BTreeSet<_> = topics
                    .iter()
                    .flat_map(|t| t.partitions.iter().map(|p| (t.id, p.index)))
                    .map(|(topic, partition)| TopicPartition { topic, partition })
                    .collect();
                (client.joined, client.epoch) = (Some(joined), epoch);
                let lost: Vec<_> = client.owned.difference(&may).copied().collect();
                client.finishing.extend(lost);
                client.finishing.retain(|of| !may.contains(of));
                client.owned = may;
            }
            Some(_) => {}
        }
        self.check();
    }

    fn write(&mut self) {
        if let Some(rows) = self.writing.take() {
            self.log.extend(rows);
            self.step(Input::Written);
        }
    }

    fn commit(&mut self) {
        let Some(id) = self.someone() else { return };
        let client = &self.clients[&id];
        let (epoch, count) = (client.epoch, client.owned.len() + client.finishing.len());
        // Now and then for what it does not own.
        let of = if count == 0 || self.random.below(6) == 0 {
            let topic = TopicId(u32::try_from(self.below(3)).expect("small"));
            TopicPartition { topic, partition: Default::default() }
        } else {
            let at = self.below(count);
            let client = &self.clients[&id];
            *client.owned.iter().chain(&client.finishing).nth(at).expect("counted")
        };
        let others = self.others_own(id, of);
        let offset = self.random.below(100);
        let committed = Committed { offset: Offset(offset), epoch: None, metadata: String::new() };
        let offsets = vec![OffsetCommit { partition: of, committed }];
        let member = Some((id, epoch));
        let ask = Ask::Commit(CommitOffsets { group: group(), member, offsets });
        self.ask(Asked::Commit(id, of, offset, others), ask);
    }

    fn others_own(&self, id: MemberId, of: TopicPartition) -> bool {
        let log = loaded(&self.log);
        let members = log.get(&group()).map(|group| group.members().clone()).unwrap_or_default();
        let owns = |client: &Client| client.owned.contains(&of) || client.finishing.contains(&of);
        let mut others =
            self.clients.iter().filter(|(other, client)| **other != id && !client.gone);
        let is_member = |id, client: &Client| {
            members.get(id).is_some_and(|member| member.joined <= client.epoch)
        };
        others.any(|(other, client)| is_member(other, client) && owns(client))
    }

    fn leave(&mut self) {
        let Some(member) = self.someone() else { return };
        let forget = self.random.below(2) == 0;
        self.clients.get_mut(&member).expect("it is there").gone = true;
        self.ask(Asked::Leave, Ask::Leave { group: group(), member, forget });
    }

    fn die(&mut self) {
        if let Some(id) = self.someone() {
            self.clients.get_mut(&id).expect("it is there").gone = true;
        }
    }

    fn pass(&mut self) {
        let time = Duration::from_millis(self.random.below(900));
        // Or the coordinator's broker is paused meanwhile.
        if self.random.below(4) == 0 {
            self.now = self.now + time;
            self.step(Input::Tick { wall: Timestamp(0) });
        } else {
            self.wait(time);
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.coordinator.deadline().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.step(Input::Tick { wall: Timestamp(0) });
        }
        self.now = until;
    }

    /// The coordinator dies, with or without what it was writing; another takes over.
    fn fail_over(&mut self) {
        if let Some(rows) = self.writing.take()
            && self.random.below(2) == 0
        {
            // A part of it, too.
            let some = self.below(rows.len() + 1);
            self.log.extend(rows.into_iter().take(some));
        }
        self.asked.clear();
        let topics = known(&self.topics, self.next_topic);
        let config = CoordinatorConfig::default();
        self.coordinator = Coordinator::new(config, loaded(&self.log), topics, self.now);
        self.step(Input::Tick { wall: Timestamp(0) });
    }

    fn change_topics(&mut self) {
        let at = self.below(self.topics.len());
        match self.random.below(3) {
            0 if self.topics[at].id.0 < TOPICS && self.random.below(4) == 0 => {
                let id = self.topics[at].id;
                self.topics.remove(at);
                self.acknowledged.retain(|of, _| of.topic != id);
                self.topics.push(KnownTopic { id: TopicId(self.next_topic), partitions: 1 });
                self.next_topic += 1;
            }
            _ => self.topics[at].partitions = (self.topics[at].partitions + 1).min(6),
        }
        let topics = known(&self.topics, self.next_topic);
        self.step(Input::Topics(topics));
    }

    fn resubscribe(&mut self) {
        if let Some(id) = self.someone() {
            let details = self.details();
            let client = self.clients.get_mut(&id).expect("it is there");
            let instance = client.details.as_ref().and_then(|known| known.instance.clone());
            client.details = Some(MemberDetails { instance, ..details });
        }
    }

    /// Everybody who is alive hears and speaks until nothing changes any more.
    fn settle(&mut self) {
        for round in 0..40 {
            self.write();
            while !self.standings.is_empty() {
                self.tell();
            }
            let living: Vec<_> =
                self.clients.iter().filter(|(_, c)| !c.gone).map(|(id, _)| *id).collect();
            for id in living {
                self.beats.clear();
                self.clients.get_mut(&id).expect("it is there").finishing.clear();
                self.say_as(id);
                let (member, beat) = self.beats.remove(0);
                self.ask(Asked::Beat(member), Ask::Beat { group: group(), member, beat });
                self.write();
            }
            if round % 2 == 0 {
                self.wait(Duration::from_millis(700));
            }
        }
    }

    fn check_settled(&self) {
        let mut rows = self.log.clone();
        rows.retain(|_, value| value.is_some());
        assert_eq!(&loaded(&rows), self.coordinator.groups(), "rows are the groups");
        let Some(group) = self.coordinator.groups().get(&group()) else { return };
        for (of, offset) in &self.acknowledged {
            let kept = group.committed(*of).map(|committed| committed.offset.get());
            assert!(kept.is_none_or(|kept| *offset <= kept), "{of}: {kept:?} < {offset}");
        }
        for (id, member) in group.members() {
            assert!(member.is_settled(), "{id} is not where it should be: {member:?}");
        }
    }
}

fn name(id: u32) -> TopicName {
    TopicName::new(&format!("t{id}")).expect("a name")
}

fn known(topics: &[KnownTopic], next: u32) -> Arc<Topics> {
    let named = topics.iter().map(|topic| (name(topic.id.0), *topic));
    Arc::new(Topics::new(named, TopicId(next)))
}

fn loaded(rows: &Rows) -> Groups {
    let mut groups = Groups::default();
    // Compaction may have left the last row of each key only, in any order of keys.
    for (key, value) in rows {
        groups.load(key, value.as_deref()).expect("a row of its own");
    }
    groups.loaded()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn owners_never_overlap_and_offsets_never_go_back(
        seed in any::<u64>(),
        actions in 1..400_usize,
    ) {
        let mut world = World::new(seed);
        for _ in 0..actions {
            let action = world.random.below(256);
            world.act(u8::try_from(action).expect("below 256"));
        }
        world.settle();
        world.check_settled();
    }
}
