//! The world: brokers, network, clients and faults on one agenda, and everybody who watches.
//!
//! Invariant: what happens depends on the plan alone.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::machine::{Machine as _, Time};
use millstream_core::metadata::Image;
use millstream_core::replication::{Durability, VoterSet};
use millstream_protocol::batch::{Batch, SealedBatches};
use millstream_protocol::ids::{
    NodeId, Offset, PartitionIndex, ReplicaId, TopicId, TopicPartition,
};
use millstream_storage::disk::{Disk as _, Fault as DiskFault, Operation};

use crate::agenda::Agenda;
use crate::broker::{
    Broker, CHORES, Clock, DiskWork, Effect, LOG, Observation, Process, Setting, Work, founder,
};
use crate::chance::Chance;
use crate::clients::{Consumer, Operator, Producer, Read};
use crate::faults::{self, Fault};
use crate::invariants::acknowledged::{self, Promises};
use crate::invariants::committed::Committed;
use crate::invariants::decisions::Decisions;
use crate::invariants::leaders::Leaders;
use crate::invariants::quorum::Durable;
use crate::invariants::votes::Votes;
use crate::invariants::{Checked, Violation, demand, reading, replicas, truncation};
use crate::network::{Network, Place};
use crate::packet::Packet;
use crate::plan::{HEALED, Plan};
use crate::trace::{Detail, Trace};

/// How often clients look around.
const CLIENT_STEP: Duration = Duration::from_millis(15);
const OPERATOR_STEP: Duration = Duration::from_millis(120);
/// The operator's number among the clients.
const OPERATOR: u32 = 1_000;
/// Consumers' numbers begin here.
const CONSUMERS: u32 = 2_000;

/// What comes next.
enum Event {
    Arrive { from: Place, to: Place, life: Option<u64>, bytes: Bytes },
    Wake { node: NodeId, life: u64, partition: Option<TopicPartition> },
    DiskDone { node: NodeId, life: u64, partition: TopicPartition, opened: u64, work: DiskWork },
    Commit { node: NodeId, life: u64 },
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
}

/// What a run that went well came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Of everything that happened.
    pub hash: u64,
    /// Acknowledged batches.
    pub acknowledged: usize,
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
                Ok(Summary { hash, acknowledged, faults })
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

    fn settle(&mut self) -> Checked {
        let limit = self.agenda.now() + HEALED;
        while !self.is_settled() {
            self.restart_stopped()?;
            let step = self.agenda.now() + Duration::from_millis(200);
            self.until(step)?;
            demand(self.agenda.now() < limit, "what is healed works again", || self.unsettled())?;
        }
        Ok(())
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
                Ok(())
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
        let mut partitions = Vec::new();
        for (topic, plan) in (0..).map(TopicId).zip(&self.plan.topics) {
            for partition in (0..plan.partitions).map(PartitionIndex) {
                partitions.push(TopicPartition { topic, partition });
            }
        }
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
                self.consumers.insert(client, Consumer::new(*partition, &self.nodes, chance));
                self.agenda.after(CLIENT_STEP, Event::Client(client));
                client += 1;
            }
        }
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
        } else {
            let consumer = self.consumers.get_mut(&client).expect("a client of this run");
            (consumer.step(now, &self.nodes).into_iter().collect(), CLIENT_STEP)
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
                let Some(producer) = self.producers.get_mut(&client) else {
                    return Ok(());
                };
                if let Some(promise) = producer.answered(now, &self.nodes, request, result) {
                    self.promises.made(promise);
                }
                Ok(())
            }
            Packet::Fetched { request, result } => {
                let Some(consumer) = self.consumers.get_mut(&client) else {
                    return Ok(());
                };
                let partition = consumer.partition();
                match consumer.answered(&self.nodes, request, result, body) {
                    Read::Nothing => Ok(()),
                    Read::Batches(batches) => {
                        reading::given(&mut self.committed, partition, &batches)
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

    // Faults.

    fn strike(&mut self, fault: Fault) -> Checked {
        let now = self.agenda.now();
        if self.healing && !matches!(fault, Fault::Start(_)) {
            return Ok(());
        }
        let words = format!("fault: {fault:?}");
        self.trace.note(now, words.as_bytes(), || words.clone());
        match fault {
            Fault::Kill { node, power } => self.broker(node).kill(power),
            Fault::Blackout => {
                for node in self.nodes.clone() {
                    self.broker(node).kill(true);
                }
            }
            Fault::Start(node) => return self.start(node),
            Fault::Wipe(node) => {
                // Before everything has its replicas, one disk may be all there is of it.
                if self.broker(node).process.is_none() && self.clients_there {
                    self.broker(node).wipe();
                }
                return self.start(node);
            }
            Fault::Hunt { count, power } => self.hunted = (count, power),
            Fault::Jump { node, time, date } => self.jump(node, time, date),
            Fault::Pause { node, time } => self.broker(node).paused = Some(now + time),
            Fault::Cut { from, to, both } => {
                self.network.cut(Place::Broker(from), Place::Broker(to));
                if both {
                    self.network.cut(Place::Broker(to), Place::Broker(from));
                }
            }
            Fault::Mend { from, to } => {
                self.network.mend(Place::Broker(from), Place::Broker(to));
                self.network.mend(Place::Broker(to), Place::Broker(from));
            }
            Fault::Part(node) => self.network.part(node),
            Fault::Join(node) => self.network.join(node),
            Fault::SlowDisk { node, factor } => self.broker(node).slowness = factor,
            Fault::DiskError { node, sync } => {
                let operation = if sync { Operation::Sync } else { Operation::Write };
                let after = u32::try_from(self.chance.below(8)).expect("small");
                let fault = DiskFault::eio(operation).after(after).on(".log");
                self.broker(node).disk.inject(fault);
            }
            Fault::FullDisk { node, left } => {
                let disk = &self.broker(node).disk;
                disk.set_capacity(Some(disk.used() + left));
            }
            Fault::Room(node) => self.broker(node).disk.set_capacity(None),
            Fault::Flip(node) if self.clients_there => self.flip(node),
            Fault::Flip(_) => {}
            Fault::Move => {
                let image = self.image();
                self.operator.plan_move(&image);
            }
            Fault::Transfer => return self.transfer(),
            Fault::Stop(node) => return self.stop(node),
        }
        Ok(())
    }

    fn broker(&mut self, node: NodeId) -> &mut Broker {
        self.brokers.get_mut(&node).expect("a broker of this run")
    }

    fn start(&mut self, node: NodeId) -> Checked {
        let now = self.agenda.now();
        let broker = self.brokers.get_mut(&node).expect("a broker of this run");
        if broker.process.is_some() {
            return Ok(());
        }
        // A disk that fails, or is full, lets nothing start that has to write.
        broker.disk.clear_faults();
        broker.disk.set_capacity(None);
        let effects = broker.start(now, &self.setting);
        let life = broker.life;
        let chores = self.chance.between(Duration::ZERO, CHORES);
        self.agenda.after(chores, Event::Chores { node, life });
        let opened: Vec<_> = self.brokers[&node]
            .process
            .iter()
            .flat_map(|process| process.replicas())
            .map(|replica| replica.id)
            .collect();
        for partition in opened {
            self.look_at_disk(node, partition);
        }
        self.carry_out(node, effects)
    }

    /// Kills who has just begun to lead, if that is due: soon, often before others have what it wrote.
    fn hunt(&mut self, node: NodeId) {
        if self.hunted.0 == 0 || self.healing || !self.clients_there {
            return;
        }
        self.hunted.0 -= 1;
        if self.chance.is(1, 2) {
            self.prey = Some(node);
        } else {
            self.kill_within(node, Duration::from_millis(30));
        }
    }

    fn kill_within(&mut self, node: NodeId, time: Duration) {
        let power = self.hunted.1;
        let soon = self.chance.between(Duration::ZERO, time);
        let back = self.chance.between(Duration::from_millis(5), Duration::from_millis(800));
        self.agenda.after(soon, Event::Fault(Fault::Kill { node, power }));
        self.agenda.after(soon + back, Event::Fault(Fault::Start(node)));
    }

    fn jump(&mut self, node: NodeId, time: Duration, date: i64) {
        let broker = self.broker(node);
        broker.clock.ahead += time;
        broker.clock.date = date;
        let life = broker.life;
        let ids: Vec<_> = broker.process.iter().flat_map(Process::replicas).map(|r| r.id).collect();
        // What it waits for is due sooner now.
        for partition in ids.into_iter().map(Some).chain([None]) {
            self.agenda.after(Duration::ZERO, Event::Wake { node, life, partition });
        }
    }

    /// Flips a byte of some file, of any class.
    fn flip(&mut self, node: NodeId) {
        let mut chance = self.chance.clone();
        let disk = self.broker(node).disk.clone();
        let mut files = Vec::new();
        let root = std::path::Path::new("/data");
        let mut dirs = vec![root.to_owned()];
        dirs.extend(disk.list_dirs(root).unwrap_or_default().into_iter().map(|dir| root.join(dir)));
        for dir in dirs {
            let names = disk.list(&dir).unwrap_or_default();
            files.extend(names.into_iter().map(|name| dir.join(name)));
        }
        if files.is_empty() {
            return;
        }
        let file = &files[chance.index(files.len())];
        let len = disk.len(file).unwrap_or_default();
        if len > 0 {
            let mask = 1 << chance.below(8);
            // A file that was removed meanwhile has no byte to flip.
            drop(disk.flip(file, chance.below(len), mask));
        }
        self.chance = chance;
    }

    fn transfer(&mut self) -> Checked {
        let node = self.nodes[self.chance.index(self.nodes.len())];
        let number = self.chance.number();
        let life = self.brokers[&node].life;
        let event = |_| Event::Fault(Fault::Transfer);
        self.in_process(node, life, event, |broker, now, setting, out| {
            let process = broker.process.as_mut().expect("it is up");
            let led: Vec<_> = process
                .replicas()
                .filter(|replica| replica.machine.is_leader())
                .map(|replica| replica.id)
                .collect();
            if !led.is_empty() {
                let which = usize::try_from(number % led.len() as u64).expect("small");
                process.transfer(led[which], now, setting, out);
            }
        })
    }

    // Healing.

    /// Nothing goes wrong any more, and everybody is up.
    fn heal(&mut self) -> Checked {
        let now = self.agenda.now();
        self.trace.note(now, b"heal", || "everything is healed".to_owned());
        self.healing = true;
        self.network.heal();
        for node in self.nodes.clone() {
            let broker = self.broker(node);
            broker.paused = None;
            broker.slowness = 1;
            broker.disk.clear_faults();
            broker.disk.set_capacity(None);
            if broker.process.is_none() {
                self.start(node)?;
            }
        }
        Ok(())
    }

    /// A broker is asked to stop: it gives away what it leads.
    fn stop(&mut self, node: NodeId) -> Checked {
        let life = self.broker(node).life;
        let event = |_| Event::Fault(Fault::Stop(node));
        self.in_process(node, life, event, |broker, now, setting, out| {
            if let Some(process) = broker.process.as_mut() {
                process.stop(now, setting, out);
            }
        })
    }

    /// A broker with a log that has stopped is started again, as an operator would.
    fn restart_stopped(&mut self) -> Checked {
        for node in self.nodes.clone() {
            let stopped = |process: &Process| {
                process.replicas().any(|replica| replica.machine.stopped().is_some())
            };
            if self.broker(node).process.as_ref().is_some_and(stopped) {
                self.broker(node).kill(false);
                self.start(node)?;
            }
        }
        Ok(())
    }

    /// Every partition has a leader that serves, everything sent is acknowledged and read, and every replica has it.
    fn is_settled(&self) -> bool {
        self.clients_there
            && self.producers.values().all(Producer::is_idle)
            && self.ids().into_iter().all(|id| self.is_whole(id))
            && self.consumers.values().all(|consumer| {
                let end = self.leader_end(consumer.partition());
                end.is_some_and(|end| end <= consumer.position())
            })
    }

    fn ids(&self) -> Vec<TopicPartition> {
        let image = self.image();
        let mut ids: Vec<_> = image.placements().map(|(id, _)| id).collect();
        ids.push(LOG);
        ids
    }

    fn leader_end(&self, id: TopicPartition) -> Option<Offset> {
        let established = self.brokers.values().filter_map(|broker| {
            let replica = broker.process.as_ref()?.replica(id)?;
            let machine = &replica.machine;
            machine.is_established().then(|| (machine.epoch(), machine.offsets().high_watermark()))
        });
        established.max_by_key(|(epoch, _)| *epoch).map(|(_, end)| end)
    }

    /// Whether the replicas that should have a partition all do.
    fn is_whole(&self, id: TopicPartition) -> bool {
        let Some(end) = self.leader_end(id) else {
            return false;
        };
        self.holders(id).into_iter().all(|node| {
            let process = self.brokers[&node].process.as_ref();
            let replica = process.and_then(|process| process.replica(id));
            replica.is_some_and(|replica| {
                let offsets = replica.machine.offsets();
                let (caught_up, sound) = (offsets.high_watermark() == end, offsets.end() == end);
                caught_up && sound && !replica.machine.is_doubtful()
            })
        })
    }

    /// The brokers that should have a partition.
    fn holders(&self, id: TopicPartition) -> Vec<NodeId> {
        if id == LOG {
            return self.nodes.clone();
        }
        self.image().placement(id).map(|placement| placement.replicas.clone()).unwrap_or_default()
    }

    fn unsettled(&self) -> String {
        let waiting = self.producers.values().filter(|producer| !producer.is_idle()).count();
        let behind: Vec<_> = self.ids().into_iter().filter(|id| !self.is_whole(*id)).collect();
        let mut text = format!(
            "topics are there: {}; {waiting} producers wait; not whole: {behind:?}",
            self.clients_there
        );
        for id in behind {
            for (node, broker) in &self.brokers {
                if let Some(replica) = broker.process.as_ref().and_then(|p| p.replica(id)) {
                    let machine = &replica.machine;
                    text += &format!(
                        "\n  {id} on {node}: {} due {:?} epoch {} leader {:?} voters {} {:?}{}",
                        machine.role(),
                        machine.deadline(),
                        machine.epoch(),
                        machine.leader().map(|leader| leader.node),
                        machine.voters(),
                        machine.offsets(),
                        if machine.is_doubtful() { " in doubt" } else { "" },
                    );
                }
            }
        }
        text
    }

    // Audit.

    fn audit(&mut self) -> Checked {
        for id in self.ids() {
            let mut contents: Vec<(ReplicaId, replicas::Content)> = Vec::new();
            for node in self.holders(id) {
                let batches = self.batches(node, id, Offset::ZERO, Offset::MAX);
                for batch in &batches {
                    self.committed.seen(id, batch)?;
                }
                let process = self.brokers[&node].process.as_ref().expect("all are up");
                let start = process.replica(id).map_or(Offset::ZERO, |replica| replica.log.start());
                contents.push((process.me, replicas::content(start, &batches)));
            }
            for pair in contents.windows(2) {
                let [(one, ones), (other, others)] = pair else {
                    unreachable!("a window of two");
                };
                replicas::agree(id, (*one, ones), (*other, others))?;
            }
            if id != LOG {
                acknowledged::once_and_in_order(&self.committed, id)?;
            }
        }
        self.promises.audit(&self.committed)
    }
}
