//! The world: brokers, network, clients and faults on one agenda, and everybody who watches.
//!
//! Invariant: what happens depends on the plan alone.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::machine::Time;
use millstream_core::metadata::Image;
use millstream_core::replication::{Durability, VoterSet};
use millstream_protocol::batch::{Batch, SealedBatches};
use millstream_protocol::ids::{NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use millstream_protocol::message::transaction::Isolation;

mod audit;
mod groups;
mod strike;

use self::groups::Members;
use crate::agenda::Agenda;
use crate::broker::{
    Broker, CHORES, Clock, DiskWork, Effect, GroupsTopic, Observation, Setting, Work, founder,
};
use crate::chance::Chance;
use crate::clients::{Consumer, Operator, Producer, Read, Transactor};
use crate::faults::{self, Fault};
use crate::invariants::acknowledged::Promises;
use crate::invariants::committed::Committed;
use crate::invariants::decisions::Decisions;
use crate::invariants::leaders::Leaders;
use crate::invariants::quorum::Durable;
use crate::invariants::transactions::Ledger;
use crate::invariants::votes::Votes;
use crate::invariants::{Checked, Violation, demand, reading, truncation};
use crate::network::{Network, Place};
use crate::packet::Packet;
use crate::plan::Plan;
use crate::trace::{Detail, Trace};

/// How often clients look around.
const CLIENT_STEP: Duration = Duration::from_millis(15);
const OPERATOR_STEP: Duration = Duration::from_millis(120);
/// The operator's number among the clients.
const OPERATOR: u32 = 1_000;
/// Consumers' numbers begin here.
const CONSUMERS: u32 = 2_000;
/// Transactional producers' numbers begin here.
const TRANSACTORS: u32 = 2_500;

/// What comes next.
enum Event {
    Arrive { from: Place, to: Place, life: Option<u64>, bytes: Bytes },
    Wake { node: NodeId, life: u64, partition: Option<TopicPartition> },
    DiskDone { node: NodeId, life: u64, partition: TopicPartition, opened: u64, work: DiskWork },
    Commit { node: NodeId, life: u64 },
    Groups { node: NodeId, life: u64, read: Option<(PartitionIndex, u64)> },
    Chores { node: NodeId, life: u64 },
    Client(u32),
    Fault(Fault),
}

/// See the module.
pub(crate) struct World {
    plan: Plan,
    setting: Setting,
    agenda: Agenda<Event>,
    network: Network,
    brokers: BTreeMap<NodeId, Broker>,
    nodes: Vec<NodeId>,
    producers: BTreeMap<u32, Producer>,
    consumers: BTreeMap<u32, Consumer>,
    transactors: BTreeMap<u32, Transactor>,
    groups: Members,
    operator: Operator,
    clients_there: bool,
    /// The faults are over.
    healing: bool,
    /// How many of those who next begin to lead are killed, and whether they lose power.
    hunted: (u32, bool),
    /// Who is killed with the next thing it commits.
    prey: Option<NodeId>,
    chance: Chance,
    trace: Trace,
    leaders: Leaders,
    votes: Votes,
    durable: Durable,
    committed: Committed,
    promises: Promises,
    decisions: Decisions,
    ledger: Ledger,
}

/// What a run that went well came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Of everything that happened.
    pub hash: u64,
    /// Acknowledged batches.
    pub acknowledged: usize,
    /// Commits of groups' offsets that members were told of.
    pub commits: usize,
    /// Leaders that there were.
    pub faults: usize,
}

/// A run that did not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The promise that was broken.
    pub violation: Violation,
    /// The last events in words.
    pub last: Vec<String>,
    /// Of everything that happened.
    pub hash: u64,
}

impl World {
    pub(crate) fn new(plan: Plan, detail: Detail) -> Self {
        let nodes: Vec<_> = (1..=plan.brokers).map(NodeId).collect();
        let founders = nodes[..plan.founders as usize].iter().map(|node| founder(*node));
        let setting = Setting {
            brokers: nodes.clone(),
            founders: VoterSet::new(founders),
            topics: plan.topics.clone(),
            short_metadata: plan.short_metadata,
            body_bytes: plan.body_bytes,
            groups: plan.groups.as_ref().map(|groups| GroupsTopic {
                id: TopicId(u32::try_from(plan.topics.len()).expect("small")),
                partitions: groups.partitions,
            }),
        };
        let mut chance = Chance::of(plan.seed, "world");
        let skews = plan.faults.skew;
        let brokers = nodes.iter().map(|node| {
            let speed = if skews { 950 + chance.below(100) } else { 1_000 };
            let ahead = Duration::from_millis(if skews { chance.below(5_000) } else { 0 });
            (*node, Broker::new(*node, plan.seed, Clock { speed, ahead, date: 0 }))
        });
        let brokers = brokers.collect();
        let operator = Operator::new(&plan, &nodes, Chance::of(plan.seed, "operator"));
        let mut world = Self {
            network: Network::new(plan.seed, &plan.faults),
            setting,
            agenda: Agenda::new(),
            brokers,
            producers: BTreeMap::new(),
            consumers: BTreeMap::new(),
            transactors: BTreeMap::new(),
            groups: Members::default(),
            operator,
            clients_there: false,
            healing: false,
            hunted: (0, false),
            prey: None,
            chance,
            trace: Trace::new(detail),
            leaders: Leaders::default(),
            votes: Votes::default(),
            durable: Durable::default(),
            committed: Committed::default(),
            promises: Promises::default(),
            decisions: Decisions::default(),
            ledger: Ledger::default(),
            nodes,
            plan,
        };
        for (at, fault) in faults::draw(&world.plan, &world.nodes) {
            world.agenda.at(at, Event::Fault(fault));
        }
        for node in world.nodes.clone() {
            world.agenda.after(Duration::ZERO, Event::Fault(Fault::Start(node)));
        }
        world.agenda.after(OPERATOR_STEP, Event::Client(OPERATOR));
        world
    }

    /// Runs the three phases: faults, healing, audit.
    pub(crate) fn run(mut self) -> Result<Summary, Failure> {
        let ended = self.phases();
        let (hash, last) = (self.trace.hash(), self.trace.last());
        match ended {
            Ok(()) => {
                let acknowledged = self.promises.count();
                let faults = faults::draw(&self.plan, &self.nodes).len();
                let commits = self.groups.deliveries.commits();
                Ok(Summary { hash, acknowledged, commits, faults })
            }
            Err(violation) => Err(Failure { violation, last, hash }),
        }
    }

    fn phases(&mut self) -> Checked {
        self.until(self.plan.safety)?;
        self.heal()?;
        self.settle()?;
        // What was damaged and not read since is found now, and mended.
        for node in self.nodes.clone() {
            let life = self.brokers[&node].life;
            self.in_process(
                node,
                life,
                |_| Event::Client(OPERATOR),
                |broker, now, setting, out| {
                    broker.process.as_mut().expect("it is up").scrub_all(now, setting, out);
                },
            )?;
        }
        self.settle()?;
        self.audit()
    }

    fn until(&mut self, end: Time) -> Checked {
        while let Some(event) = self.agenda.pop(end) {
            self.happen(event)?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Arrive { from, to, life, bytes } => match to {
                Place::Broker(node) => self.at_broker(node, life, from, bytes),
                Place::Client(client) => self.at_client(client, bytes),
            },
            Event::Wake { node, life, partition } => {
                let event = |node| Event::Wake { node, life, partition };
                self.in_process(node, life, event, |broker, now, setting, out| {
                    let process = broker.process.as_mut().expect("it is up");
                    process.wake_up(partition, now, setting, out);
                })
            }
            Event::DiskDone { node, life, partition, opened, work } => {
                let (now, key) = (self.agenda.now(), opened.to_le_bytes());
                self.trace.note(now, &key, || format!("disk of {node}: {partition} {work:?}"));
                let again = work.clone();
                let event = move |node| {
                    let work = again;
                    Event::DiskDone { node, life, partition, opened, work }
                };
                self.in_process(node, life, event, |broker, now, setting, out| {
                    let process = broker.process.as_mut().expect("it is up");
                    process.disk_done((partition, opened), work, now, setting, out);
                })?;
                self.look_at_disk(node, partition);
                Ok(())
            }
            Event::Commit { node, life } => {
                let event = |node| Event::Commit { node, life };
                self.in_process(node, life, event, |broker, now, setting, out| {
                    let process = broker.process.as_mut().expect("it is up");
                    process.commit(now, setting, out);
                })
            }
            Event::Groups { node, life, read } => {
                let event = |node| Event::Groups { node, life, read };
                self.in_process(node, life, event, |broker, _, _, _| {
                    // What there is to do now is seen to behind everything that happens.
                    if let Some((partition, opened)) = read {
                        let process = broker.process.as_mut().expect("it is up");
                        process.groups_read(partition, opened);
                    }
                })
            }
            Event::Chores { node, life } => {
                // Due again in any case; one that stands still does without.
                if self.brokers[&node].life == life {
                    self.agenda.after(CHORES, Event::Chores { node, life });
                }
                if self.brokers[&node].paused.is_some_and(|until| self.agenda.now() < until) {
                    return Ok(());
                }
                let date = self.brokers[&node].clock.date(self.agenda.now());
                let event = |node| Event::Chores { node, life };
                self.in_process(node, life, event, |broker, now, setting, out| {
                    let process = broker.process.as_mut().expect("it is up");
                    process.chores(now, date, setting, out);
                })
            }
            Event::Client(client) => self.client_step(client),
            Event::Fault(fault) => self.strike(fault),
        }
    }

    /// Has a broker that is up and not paused do something; one that is paused does it later.
    fn in_process(
        &mut self,
        node: NodeId,
        life: u64,
        again: impl FnOnce(NodeId) -> Event,
        act: impl FnOnce(&mut Broker, Time, &Setting, &mut Vec<Effect>),
    ) -> Checked {
        let now = self.agenda.now();
        let broker = self.brokers.get_mut(&node).expect("a broker of this run");
        if broker.life != life || broker.process.is_none() {
            return Ok(());
        }
        if let Some(until) = broker.paused {
            if now < until {
                self.agenda.at(until, again(node));
                return Ok(());
            }
            broker.paused = None;
        }
        let mut effects = Vec::new();
        let local = broker.clock.at(now);
        act(broker, local, &self.setting, &mut effects);
        if let Some(process) = &mut broker.process {
            process.attend(local, &self.setting, &mut effects);
        }
        self.carry_out(node, effects)
    }

    fn at_broker(&mut self, node: NodeId, life: Option<u64>, from: Place, bytes: Bytes) -> Checked {
        let life = life.unwrap_or_else(|| self.brokers[&node].life);
        let now = self.agenda.now();
        if self.brokers[&node].process.is_some() && self.brokers[&node].life == life {
            self.trace.note(now, &bytes, || {
                let (packet, body) = Packet::decode(&bytes);
                format!("{from} -> {node}: {packet} + {} bytes", body.len())
            });
        }
        let kept = bytes.clone();
        let event = move |node| {
            let (to, life) = (Place::Broker(node), Some(life));
            Event::Arrive { from, to, life, bytes: kept }
        };
        self.in_process(node, life, event, |broker, now, setting, out| {
            let process = broker.process.as_mut().expect("it is up");
            process.receive(from, &bytes, now, setting, out);
        })
    }

    fn carry_out(&mut self, node: NodeId, effects: Vec<Effect>) -> Checked {
        let now = self.agenda.now();
        let life = self.brokers[&node].life;
        for effect in effects {
            match effect {
                Effect::Send { to, bytes } => self.send(Place::Broker(node), to, bytes),
                Effect::Wake { partition, at } => {
                    let at = self.brokers[&node].clock.when(at);
                    self.agenda.at(at, Event::Wake { node, life, partition });
                }
                Effect::Begin { partition, opened, work, kind } => {
                    let broker = self.brokers.get_mut(&node).expect("a broker of this run");
                    let time = broker.disk_time(kind);
                    let event = Event::DiskDone { node, life, partition, opened, work };
                    self.agenda.after(time, event);
                }
                Effect::WakeGroups { at } => {
                    let at = self.brokers[&node].clock.when(at);
                    self.agenda.at(at, Event::Groups { node, life, read: None });
                }
                Effect::Load { partition, opened } => {
                    let broker = self.brokers.get_mut(&node).expect("a broker of this run");
                    let time = broker.disk_time(Work::Store);
                    let read = Some((partition, opened));
                    self.agenda.after(time, Event::Groups { node, life, read });
                }
                Effect::Commit => {
                    let broker = self.brokers.get_mut(&node).expect("a broker of this run");
                    let begins = broker.process.as_mut().is_some_and(|p| p.begin_commit());
                    if begins {
                        let time = broker.disk_time(Work::Store);
                        self.agenda.after(time, Event::Commit { node, life });
                    }
                }
                Effect::Observed(seen) => self.observe(node, seen)?,
                Effect::Note(text) => self.trace.note(now, text.as_bytes(), || text.clone()),
            }
        }
        Ok(())
    }

    fn send(&mut self, from: Place, to: Place, bytes: Bytes) {
        let now = self.agenda.now();
        let between_brokers = matches!((from, to), (Place::Broker(_), Place::Broker(_)));
        let arrivals = if between_brokers {
            self.network.arrivals(now, from, to)
        } else {
            self.network.arrival_in_order(now, from, to).into_iter().collect()
        };
        for at in arrivals {
            let bytes = bytes.clone();
            self.agenda.at(at, Event::Arrive { from, to, life: None, bytes });
        }
    }

    fn observe(&mut self, node: NodeId, seen: Observation) -> Checked {
        match seen {
            Observation::Leads { partition, replica, epoch } => {
                self.hunt(node);
                self.leaders.leads(partition, epoch, replica)
            }
            Observation::Voted { partition, voter, epoch, candidate, durable } => {
                self.votes.voted((partition, epoch, voter), candidate, durable)
            }
            Observation::Truncates { partition, replica, to, committed } => {
                let now = self.agenda.now();
                let key = [partition.topic.0.to_le_bytes(), partition.partition.0.to_le_bytes()];
                self.trace
                    .note(now, &key.concat(), || format!("{replica} cuts {partition} at {to}"));
                self.durable.cut(partition, replica, to);
                truncation::check(partition, replica, to, committed)
            }
            Observation::Committed { partition, from, to, leads } => {
                self.look_at_disk(node, partition);
                self.committed.known(partition, to);
                if leads.is_some() && self.prey == Some(node) {
                    self.prey = None;
                    self.kill_within(node, Duration::from_millis(2));
                }
                if let Some(voters) = leads
                    && self.durability(partition) == Durability::Fsync
                {
                    self.durable.committed(partition, &voters, to)?;
                }
                for batch in self.batches(node, partition, from, to) {
                    self.committed.seen(partition, &batch)?;
                }
                self.look_at_groups(node, partition)
            }
            Observation::Decided { broker, applied, bytes } => {
                self.decisions.seen(broker, applied, bytes)
            }
            Observation::Synced { partition, replica, end } => {
                self.durable.reaches(partition, replica, end);
                Ok(())
            }
            Observation::LogStart { partition, replica, start } => {
                let end = self.committed.end(partition);
                demand(start <= end, "only what is committed is deleted", || {
                    format!("{replica} starts {partition} at {start}, and {end} is committed")
                })
            }
        }
    }

    fn durability(&self, partition: TopicPartition) -> Durability {
        let topic = usize::try_from(partition.topic.0).ok();
        let plan = topic.and_then(|topic| self.plan.topics.get(topic));
        plan.map_or(Durability::Fsync, |plan| plan.durability)
    }

    /// What a broker's log holds in a range, as far as it reads.
    fn batches(&self, node: NodeId, id: TopicPartition, from: Offset, to: Offset) -> Vec<Batch> {
        let process = self.brokers[&node].process.as_ref();
        let Some(replica) = process.and_then(|process| process.replica(id)) else {
            return Vec::new();
        };
        let reader = replica.log.reader();
        let mut batches = Vec::new();
        let Ok(mut cursor) = reader.cursor_at(from.max(reader.start())) else {
            return Vec::new();
        };
        while let Ok(Some(sealed)) = reader.read(&mut cursor, to, 1 << 20) {
            let whole =
                SealedBatches::new(sealed).filter_map(Result::ok).map(|sealed| sealed.batch);
            batches.extend(whole);
        }
        batches
    }

    /// How far a disk really is.
    fn look_at_disk(&mut self, node: NodeId, partition: TopicPartition) {
        let process = self.brokers[&node].process.as_ref();
        if let Some(process) = process
            && let Some(replica) = process.replica(partition)
        {
            let end = replica.log.durable_end();
            self.durable.reaches(partition, process.me, end);
        }
    }

    // Clients.

    /// Makes the clients once there is something to use.
    fn welcome(&mut self) {
        if self.clients_there || !self.operator.is_done(&self.image()) {
            return;
        }
        self.clients_there = true;
        let partitions = self.data_partitions();
        let mut client = 0;
        for partition in &partitions {
            for _ in 0..self.plan.producers {
                let chance = Chance::of(self.plan.seed, &format!("producer {client}"));
                let producer = Producer::new(client, *partition, &self.nodes, chance);
                self.producers.insert(client, producer);
                self.agenda.after(CLIENT_STEP, Event::Client(client));
                client += 1;
            }
        }
        let mut client = CONSUMERS;
        for partition in &partitions {
            for _ in 0..self.plan.consumers {
                let chance = Chance::of(self.plan.seed, &format!("consumer {client}"));
                let isolation = match client % 2 {
                    0 => Isolation::ReadCommitted,
                    _ => Isolation::ReadUncommitted,
                };
                let consumer = Consumer::new(*partition, isolation, &self.nodes, chance);
                self.consumers.insert(client, consumer);
                self.agenda.after(CLIENT_STEP, Event::Client(client));
                client += 1;
            }
        }
        for client in TRANSACTORS..TRANSACTORS + self.plan.transactors {
            let chance = Chance::of(self.plan.seed, &format!("transactor {client}"));
            let transactor = Transactor::new(client, &partitions, &self.nodes, chance);
            self.transactors.insert(client, transactor);
            self.agenda.after(CLIENT_STEP, Event::Client(client));
        }
        self.welcome_members();
    }

    /// The partitions that clients write and read.
    fn data_partitions(&self) -> Vec<TopicPartition> {
        let topics = (0..).map(TopicId).zip(&self.plan.topics);
        let ids = topics.flat_map(|(topic, plan)| {
            let partitions = (0..plan.partitions).map(PartitionIndex);
            partitions.map(move |partition| TopicPartition { topic, partition })
        });
        ids.collect()
    }

    fn client_step(&mut self, client: u32) -> Checked {
        let now = self.agenda.now();
        let more = !self.healing;
        let (requests, pause) = if client == OPERATOR {
            self.welcome();
            let image = self.image();
            (self.operator.step(&image, &self.nodes).into_iter().collect(), OPERATOR_STEP)
        } else if let Some(producer) = self.producers.get_mut(&client) {
            (producer.step(now, &self.nodes, more), CLIENT_STEP)
        } else if let Some(transactor) = self.transactors.get_mut(&client) {
            (transactor.step(now, &self.nodes, more, &mut self.ledger), CLIENT_STEP)
        } else if let Some(consumer) = self.consumers.get_mut(&client) {
            (consumer.step(now, &self.nodes).into_iter().collect(), CLIENT_STEP)
        } else {
            self.step_member(client)?;
            (Vec::new(), CLIENT_STEP)
        };
        for request in requests {
            self.send(Place::Client(client), Place::Broker(request.to), request.bytes);
        }
        let pause = self.chance.between(pause / 2, pause * 2);
        self.agenda.after(pause, Event::Client(client));
        Ok(())
    }

    fn at_client(&mut self, client: u32, bytes: Bytes) -> Checked {
        let now = self.agenda.now();
        let (packet, body) = Packet::decode(&bytes);
        self.trace
            .note(now, &bytes, || format!("-> client {client}: {packet} + {} bytes", body.len()));
        match packet {
            Packet::Produced { request, result } => {
                if let Some(transactor) = self.transactors.get_mut(&client) {
                    transactor.answered(now, &self.nodes, request, result);
                    return Ok(());
                }
                let Some(producer) = self.producers.get_mut(&client) else {
                    return Ok(());
                };
                if let Some(promise) = producer.answered(now, &self.nodes, request, result) {
                    self.promises.made(promise);
                }
                Ok(())
            }
            packet if groups::MEMBERS <= client => self.at_member(client, packet, body),
            Packet::Fetched { request, result, aborted } => {
                let Some(consumer) = self.consumers.get_mut(&client) else {
                    return Ok(());
                };
                let (partition, isolation) = (consumer.partition(), consumer.isolation());
                match consumer.answered(&self.nodes, request, result, (aborted, body)) {
                    Read::Nothing => Ok(()),
                    Read::Batches(batches, aborted) => {
                        reading::given(&mut self.committed, partition, &batches)?;
                        match isolation {
                            Isolation::ReadUncommitted => Ok(()),
                            Isolation::ReadCommitted => {
                                self.ledger.given(client, partition, &batches, &aborted)
                            }
                        }
                    }
                    Read::Truncated { position, parted } => {
                        Err(reading::truncated(partition, position, parted))
                    }
                }
            }
            Packet::Proposed { result, .. } => {
                self.operator.answered(&self.nodes, result);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The newest image that any broker has.
    fn image(&self) -> Image {
        let images = self.brokers.values().filter_map(|broker| broker.process.as_ref());
        let newest = images.map(|process| &process.image).max_by_key(|image| image.applied());
        newest.cloned().unwrap_or_default()
    }
}
