//! Situations that a group gets into, told as stories.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::ids::{
    GroupName, MemberEpoch, MemberId, Offset, PartitionIndex, Timestamp, TopicId, TopicName,
    TopicPartition,
};
use millstream_protocol::message::group::{
    Assignor, Beat, CommitOffsets, Committed, GroupState, MemberDetails, OffsetCommit,
    ResetOffsets, Standing, Subscription,
};

use super::{
    Ask, Coordinator, CoordinatorConfig, GroupError, Groups, Input, KnownTopic, Output, Response,
    Topics,
};
use crate::machine::{Machine, Time, Token};

const A: MemberId = MemberId(0xa);
const B: MemberId = MemberId(0xb);
const SESSION: Duration = Duration::from_secs(2);

/// A coordinator on a log that commits when it is told to.
struct Rig {
    coordinator: Coordinator,
    now: Time,
    /// What the log holds.
    log: Groups,
    writing: Option<super::rows::Rows>,
    told: Vec<Output>,
}

fn group() -> GroupName {
    GroupName::new("readers").expect("a name")
}

fn p(n: u32) -> TopicPartition {
    TopicPartition { topic: TopicId(1), partition: PartitionIndex(n) }
}

fn topics(partitions: u32) -> Arc<Topics> {
    let topic = KnownTopic { id: TopicId(1), partitions };
    Arc::new(Topics::new([(TopicName::new("orders").expect("a name"), topic)], TopicId(2)))
}

fn details() -> MemberDetails {
    let topics = vec![TopicName::new("orders").expect("a name")];
    MemberDetails {
        instance: None,
        client: "test".to_owned(),
        subscription: Subscription { topics, pattern: None },
        assignor: Assignor::Uniform,
        session_timeout_ms: u32::try_from(SESSION.as_millis()).expect("short"),
        rebalance_timeout_ms: 10_000,
    }
}

fn named(name: &str) -> MemberDetails {
    MemberDetails { instance: Some(name.parse().expect("a name")), ..details() }
}

fn owned(standing: &Standing) -> BTreeSet<u32> {
    let topics = standing.topics.iter().flatten();
    topics.flat_map(|topic| topic.partitions.iter().map(|p| p.index.0)).collect()
}

impl Rig {
    fn new(partitions: u32) -> Self {
        Self::of(Groups::default(), topics(partitions), Time::ZERO)
    }

    fn of(log: Groups, topics: Arc<Topics>, now: Time) -> Self {
        // What follows from who comes and goes is looked at at once.
        let config = CoordinatorConfig { sharing: Duration::ZERO, ..CoordinatorConfig::default() };
        let coordinator = Coordinator::new(config, log.clone(), topics, now);
        let mut rig = Self { coordinator, now, log, writing: None, told: Vec::new() };
        rig.step(Input::Tick { wall: Timestamp(0) });
        rig.commit_all();
        rig
    }

    fn step(&mut self, input: Input) {
        let mut out = Vec::new();
        self.coordinator.step(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Write(rows) => {
                    assert!(self.writing.replace(rows).is_none(), "one write at a time");
                }
                other => self.told.push(other),
            }
        }
    }

    fn commit_all(&mut self) {
        while let Some(rows) = self.writing.take() {
            for (key, value) in rows {
                self.log.load(&key, value.as_deref()).expect("a row of its own");
            }
            self.step(Input::Written);
        }
    }

    fn ask(&mut self, ask: Ask) -> Result<Response, GroupError> {
        let wall = Timestamp(i64::try_from(self.now.nanos() / 1_000_000).expect("early"));
        self.step(Input::Ask { token: Token(7), wall, ask });
        self.commit_all();
        let is_answer = |output: &Output| matches!(output, Output::Answer { token: Token(7), .. });
        let at = self.told.iter().position(is_answer).expect("an answer");
        match self.told.remove(at) {
            Output::Answer { answer, .. } => answer,
            _ => unreachable!("it was an answer"),
        }
    }

    fn beat(
        &mut self,
        member: MemberId,
        epoch: MemberEpoch,
        details: Option<MemberDetails>,
        owned: &[u32],
    ) -> Result<Standing, GroupError> {
        let owned = owned.iter().map(|n| p(*n)).collect();
        let beat = Beat { epoch, details, owned };
        match self.ask(Ask::Beat { group: group(), member, beat })? {
            Response::Standing(standing) => Ok(standing),
            other => panic!("a standing, not {other:?}"),
        }
    }

    fn join(&mut self, member: MemberId, details: MemberDetails) -> Standing {
        self.beat(member, MemberEpoch::JOINING, Some(details), &[]).expect("it joins")
    }

    /// What a member was told last.
    fn told(&mut self, member: MemberId) -> Option<Standing> {
        let mut last = None;
        self.told.retain(|output| match output {
            Output::Tell { member: to, standing, .. } if *to == member => {
                last.clone_from(standing);
                false
            }
            _ => true,
        });
        last
    }

    fn commit(
        &mut self,
        member: Option<(MemberId, MemberEpoch)>,
        partition: u32,
        offset: u64,
    ) -> Result<Response, GroupError> {
        let committed = Committed { offset: Offset(offset), epoch: None, metadata: String::new() };
        let offsets = vec![OffsetCommit { partition: p(partition), committed }];
        self.ask(Ask::Commit(CommitOffsets { group: group(), member, offsets }))
    }

    fn committed(&self, partition: u32) -> Option<u64> {
        let group = self.coordinator.groups().get(&group())?;
        group.committed(p(partition)).map(|committed| committed.offset.get())
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.coordinator.deadline().filter(|due| *due <= until) {
            self.now = due.max(self.now);
            self.step(Input::Tick { wall: Timestamp(0) });
            self.commit_all();
        }
        self.now = until;
    }

    fn state(&self) -> GroupState {
        self.coordinator.groups().get(&group()).expect("it is there").state()
    }
}

fn accepted(response: Result<Response, GroupError>) {
    assert_eq!(response, Ok(Response::Committed(vec![])));
}

#[test]
fn a_partition_is_handed_over_only_when_its_owner_let_go() {
    let mut rig = Rig::new(4);
    let first = rig.join(A, details());
    assert_eq!(owned(&first), [0, 1, 2, 3].into());
    let second = rig.join(B, details());
    assert_eq!(owned(&second), [].into(), "nothing is free yet");
    assert_eq!(rig.state(), GroupState::Reconciling);

    let told = rig.told(A).expect("it is asked to let go");
    let keeps = owned(&told);
    assert_eq!(keeps.len(), 2);
    let all = [0, 1, 2, 3];
    rig.beat(A, told.epoch, None, &all).expect("it lives");
    assert!(rig.told(B).is_none(), "it has not let go");

    let kept: Vec<_> = keeps.iter().copied().collect();
    rig.beat(A, told.epoch, None, &kept).expect("it lives");
    let given = rig.told(B).expect("they are its now");
    assert!(owned(&given).is_disjoint(&keeps));
    assert_eq!(owned(&given).len(), 2);
    assert_eq!(rig.state(), GroupState::Stable);
}

#[test]
fn what_a_member_says_before_it_has_seen_its_last_change_releases_nothing() {
    let mut rig = Rig::new(2);
    let first = rig.join(A, details());
    // The answer is still on its way when another joins.
    rig.join(B, details());
    let told = rig.told(A).expect("it is asked to let go of one");
    assert!(first.epoch < told.epoch);
    // A beat from before the first answer: it owns nothing yet, and is about to.
    rig.beat(A, MemberEpoch::JOINING, Some(details()), &[]).expect("it lives");
    assert!(rig.told(B).is_none(), "it may still take both");
    rig.beat(A, first.epoch, None, &[0, 1]).expect("it lives");
    assert!(rig.told(B).is_none());
    rig.beat(A, told.epoch, None, &[0]).expect("it lives");
    assert_eq!(owned(&rig.told(B).expect("one is its now")).len(), 1);
}

#[test]
fn a_member_that_falls_silent_is_fenced_and_its_partitions_go_on() {
    let mut rig = Rig::new(2);
    let a = rig.join(A, details());
    let b = rig.join(B, details());
    rig.beat(
        A,
        rig.coordinator.groups().get(&group()).expect("there").members()[&A].epoch,
        None,
        &[0],
    )
    .expect("it lets go");
    let b = rig.told(B).unwrap_or(b);
    for _ in 0..3 {
        rig.wait(SESSION / 2);
        rig.beat(B, b.epoch, None, &[1]).expect("it lives");
    }
    let told = rig.told(B).expect("it has it all");
    assert_eq!(owned(&told), [0, 1].into());
    let fenced = rig.beat(A, a.epoch, None, &[0, 1]);
    assert!(matches!(fenced, Err(GroupError::Fenced { .. })), "{fenced:?}");
    let late = rig.commit(Some((A, a.epoch)), 0, 5);
    assert!(matches!(late, Err(GroupError::Fenced { .. })), "{late:?}");
}

#[test]
fn a_coordinator_that_was_away_itself_fences_nobody_for_it() {
    let mut rig = Rig::new(2);
    let a = rig.join(A, details());
    rig.now = rig.now + SESSION * 10;
    rig.step(Input::Tick { wall: Timestamp(0) });
    rig.beat(A, a.epoch, None, &[0, 1]).expect("it is still a member");
    // Silence that it was there for counts.
    rig.wait(SESSION * 2);
    assert!(rig.beat(A, a.epoch, None, &[0, 1]).is_err());
}

#[test]
fn a_member_that_does_not_let_go_is_fenced() {
    let mut rig = Rig::new(2);
    rig.join(A, details());
    rig.join(B, details());
    let told = rig.told(A).expect("it is asked to let go of one");
    for _ in 0..12 {
        rig.wait(Duration::from_secs(1));
        let _ = rig.beat(A, told.epoch, None, &[0, 1]);
        let b = rig.coordinator.groups().get(&group()).expect("there").members()[&B].epoch;
        rig.beat(B, b, None, &[]).expect("it lives");
    }
    assert!(rig.beat(A, told.epoch, None, &[0, 1]).is_err());
}

#[test]
fn who_does_not_let_go_is_heard_no_more_and_loses_nothing_before_its_session_is_over() {
    let mut rig = Rig::new(3);
    let hasty = MemberDetails { rebalance_timeout_ms: 500, ..details() };
    let a = rig.join(A, hasty);
    let b = rig.join(B, details());
    // It stands still, or is cut off: it reads on for as long as its session lasts, as it was told of nothing.
    rig.wait(SESSION / 2);
    assert_eq!(owned(&rig.told(B).unwrap_or(b)), [].into(), "nothing is handed over yet");
    let late = rig.beat(A, a.epoch, None, &[0, 1]);
    assert!(matches!(late, Err(GroupError::Fenced { .. })), "{late:?}");
    accepted(rig.commit(Some((A, a.epoch)), 2, 5));
    let b = rig.coordinator.groups().get(&group()).expect("there").members()[&B].epoch;
    rig.beat(B, b, None, &[]).expect("it lives");
    rig.wait(SESSION / 4 * 3);
    assert_eq!(owned(&rig.told(B).expect("it is given everything")), [0, 1, 2].into());
    let gone = rig.commit(Some((A, a.epoch)), 2, 6);
    assert!(matches!(gone, Err(GroupError::Fenced { .. })), "{gone:?}");
}

#[test]
fn a_member_whose_clock_is_slow_is_not_fenced_while_it_believes_that_it_lives() {
    let mut rig = Rig::new(1);
    let a = rig.join(A, details());
    rig.wait(SESSION / 10 * 11);
    rig.beat(A, a.epoch, None, &[0]).expect("it is still a member");
}

#[test]
fn a_coordinator_that_stood_still_proves_that_it_coordinates_before_it_answers() {
    let mut rig = Rig::new(1);
    let a = rig.join(A, details());
    rig.now = rig.now + Duration::from_millis(1_200);
    let beat = Beat { epoch: a.epoch, details: None, owned: vec![p(0)] };
    let ask = Ask::Beat { group: group(), member: A, beat };
    rig.step(Input::Ask { token: Token(7), wall: Timestamp(0), ask });
    let answered = |told: &Output| matches!(told, Output::Answer { .. });
    assert!(!rig.told.iter().any(answered), "another may coordinate by now");
    rig.commit_all();
    assert!(rig.told.iter().any(answered));
}

#[test]
fn an_offset_goes_back_only_by_a_reset_and_only_without_members() {
    let mut rig = Rig::new(1);
    let a = rig.join(A, details());
    accepted(rig.commit(Some((A, a.epoch)), 0, 10));
    let back = rig.commit(Some((A, a.epoch)), 0, 9).expect("the others would be committed");
    let Response::Committed(refused) = back else { panic!("{back:?}") };
    assert_eq!(refused[0].1.code, millstream_protocol::error::ErrorCode::OffsetRegression);
    assert_eq!(rig.committed(0), Some(10));

    let reset = ResetOffsets { group: group(), offsets: vec![(p(0), Offset(3))] };
    let in_use = rig.ask(Ask::Reset(reset.clone()));
    assert!(matches!(in_use, Err(GroupError::InUse { .. })), "{in_use:?}");
    rig.ask(Ask::Leave { group: group(), member: A, forget: false }).expect("it leaves");
    rig.ask(Ask::Reset(reset)).expect("nobody is there");
    assert_eq!(rig.committed(0), Some(3));
    let again = rig.join(B, details());
    let place = &again.topics.expect("what it owns")[0].partitions[0];
    assert_eq!(place.committed.as_ref().map(|c| c.offset), Some(Offset(3)));
}

#[test]
fn a_partition_that_was_handed_on_takes_no_commit_of_who_had_it() {
    let mut rig = Rig::new(2);
    let a = rig.join(A, details());
    rig.join(B, details());
    let told = rig.told(A).expect("it is asked to let go of one");
    let lost = *owned(&a).difference(&owned(&told)).next().expect("one");
    // While it has not let go, it commits what it has done.
    accepted(rig.commit(Some((A, a.epoch)), lost, 4));
    let kept: Vec<_> = owned(&told).into_iter().collect();
    rig.beat(A, told.epoch, None, &kept).expect("it lets go");
    let late = rig.commit(Some((A, told.epoch)), lost, 5).expect("an answer");
    let Response::Committed(refused) = late else { panic!("{late:?}") };
    assert_eq!(refused[0].1.code, millstream_protocol::error::ErrorCode::NotOwner);
    accepted(rig.commit(Some((A, told.epoch)), kept[0], 1));
}

#[test]
fn a_static_member_finds_its_partitions_again() {
    let mut rig = Rig::new(4);
    let a = rig.join(A, named("one"));
    rig.join(B, named("two"));
    let told = rig.told(A).expect("it is asked to let go");
    let kept: Vec<_> = owned(&told).into_iter().collect();
    rig.beat(A, told.epoch, None, &kept).expect("it lets go");
    let others = owned(&rig.told(B).expect("it is given some"));

    let again = MemberId(0xaa);
    let early = rig.beat(again, MemberEpoch::JOINING, Some(named("one")), &[]);
    assert!(matches!(early, Err(GroupError::InstanceInUse { .. })), "{early:?}");
    rig.ask(Ask::Leave { group: group(), member: A, forget: false }).expect("it leaves");
    assert!(rig.told(B).is_none(), "nothing moves");
    let back = rig.join(again, named("one"));
    assert_eq!(owned(&back), kept.iter().copied().collect());
    assert!(rig.beat(A, a.epoch, None, &kept).is_err(), "the one before is no member");
    // Gone for longer than its session, it is forgotten.
    rig.ask(Ask::Leave { group: group(), member: again, forget: false }).expect("it leaves");
    rig.wait(SESSION * 2);
    let b = rig.told(B);
    assert!(b.is_none_or(|told| others.is_subset(&owned(&told))));
    let left = rig.coordinator.groups().get(&group()).expect("there").members().len();
    assert_eq!(left, 0, "both were silent for too long");
}

#[test]
fn new_partitions_are_picked_up_and_deleted_topics_let_go_of() {
    let mut rig = Rig::new(1);
    rig.join(A, details());
    rig.step(Input::Topics(topics(3)));
    rig.commit_all();
    let told = rig.told(A).expect("there is more");
    assert_eq!(owned(&told), [0, 1, 2].into());
    accepted(rig.commit(Some((A, told.epoch)), 2, 7));
    rig.step(Input::Topics(Arc::new(Topics::new([], TopicId(2)))));
    rig.commit_all();
    assert_eq!(owned(&rig.told(A).expect("it is gone")), [].into());
    assert_eq!(rig.committed(2), None);
    assert_eq!(rig.state(), GroupState::Stable);
}

#[test]
fn nobody_is_told_of_what_is_not_committed() {
    let mut rig = Rig::new(2);
    let beat = Beat { epoch: MemberEpoch::JOINING, details: Some(details()), owned: vec![] };
    let ask = Ask::Beat { group: group(), member: A, beat };
    rig.step(Input::Ask { token: Token(1), wall: Timestamp(0), ask });
    assert!(rig.told.is_empty());
    // The coordinator dies here: the next one has never heard of the member.
    let next = Rig::of(rig.log.clone(), topics(2), rig.now);
    assert!(next.coordinator.groups().get(&group()).is_none());
    rig.commit_all();
    assert_eq!(rig.told.len(), 1);
    let next = Rig::of(rig.log.clone().loaded(), topics(2), rig.now);
    assert_eq!(next.coordinator.groups().get(&group()).expect("there").members().len(), 1);
}

#[test]
fn a_group_that_nobody_uses_is_forgotten() {
    let mut rig = Rig::new(1);
    accepted(rig.commit(None, 0, 5));
    let week = 7 * 24 * 3600 * 1000;
    rig.now = rig.now + Duration::from_secs(61);
    rig.step(Input::Tick { wall: Timestamp(week - 1) });
    rig.commit_all();
    assert_eq!(rig.committed(0), Some(5));
    rig.now = rig.now + Duration::from_secs(61);
    rig.step(Input::Tick { wall: Timestamp(week + 1) });
    rig.commit_all();
    assert!(rig.coordinator.groups().get(&group()).is_none());
    assert_eq!(rig.log.loaded(), Groups::default());
}

#[test]
fn a_hundred_members_on_a_thousand_partitions_settle_with_few_moves() {
    let mut rig = Rig::new(1_000);
    let ids: Vec<_> = (1..=100).map(MemberId).collect();
    let mut moves = 0;
    for id in &ids {
        rig.join(*id, details());
        // Everybody lets go at once.
        while let Some(at) = rig.told.iter().position(|t| matches!(t, Output::Tell { .. })) {
            let Output::Tell { member, standing: Some(standing), .. } = rig.told.remove(at) else {
                panic!("nobody is fenced")
            };
            let keeps: Vec<_> = owned(&standing).into_iter().collect();
            let revoking = rig.coordinator.groups().get(&group()).expect("there").members()
                [&member]
                .revoking
                .len();
            moves += revoking;
            let _ = rig.beat(member, standing.epoch, None, &keeps);
        }
    }
    assert_eq!(rig.state(), GroupState::Stable);
    let group = rig.coordinator.groups().get(&group()).expect("there");
    assert!(group.members().values().all(|member| member.assigned.len() == 10));
    // Who joins as the nth takes 1000 / n, and nothing else moves.
    let least: usize = (2..=100).map(|n| 1000 / n).sum();
    assert!(moves <= least + 100, "{moves} moves, {least} are needed");
}
