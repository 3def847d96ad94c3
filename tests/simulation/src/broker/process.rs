//! A broker's process: its replicas, what it knows of the cluster, and the requests it serves.
//!
//! Invariant: it opens only what the image gives it, and deletes only what the image has taken away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::liveness::{self, Liveness, LivenessConfig};
use millstream_core::log::producers::ProducerTable;
use millstream_core::machine::{Machine as _, Time};
use millstream_core::metadata::{Command, Image, Placement, placement};
use millstream_core::replication::{Ballot, Config, Durability, Input, VoterSet, decode_ballot};
use millstream_protocol::batch::Batch;
use millstream_protocol::ids::{NodeId, Offset, ReplicaId, Timestamp, TopicPartition};
use millstream_protocol::message::replica::{Content, Envelope, LogEnd, ReplicaMessage};
use millstream_protocol::message::transaction::Isolation;
use millstream_storage::disk::{Disk as _, MemDisk};
use millstream_storage::log::{self, LogConfig, PartitionLog};
use millstream_storage::metadata::{Change, Identity, Store, Table};

use super::effect::{Effect, Observation};
use super::groups::{Attendant, GroupsTopic};
use super::metadata::{self, LOG};
use super::replica::{Asker, DiskWork, Replica, log_config, producers};
use crate::network::Place;
use crate::packet::{Packet, Refusal};
use crate::plan::TopicPlan;

const STORE: &str = "/data/metadata.redb";
const READ_BYTES: usize = 64 << 10;

/// What every broker of a run is told from outside.
pub(crate) struct Setting {
    pub(crate) brokers: Vec<NodeId>,
    pub(crate) founders: VoterSet,
    /// Topics by the order in which they are made: a topic's id is its place.
    pub(crate) topics: Vec<TopicPlan>,
    pub(crate) short_metadata: bool,
    /// How much of a log goes with one answer to a follower; a batch at least.
    pub(crate) body_bytes: usize,
    /// `__groups`, when there are groups.
    pub(crate) groups: Option<GroupsTopic>,
}

impl Setting {
    fn log_config(&self, id: TopicPartition) -> (LogConfig, Durability) {
        let plan = usize::try_from(id.topic.0).ok().and_then(|topic| self.topics.get(topic));
        // Nothing of the groups is deleted.
        let short = id == LOG && self.short_metadata;
        let (short, durability) =
            plan.map_or((short, Durability::Fsync), |p| (p.short, p.durability));
        let mut config = log_config(short, durability);
        if short && id == LOG {
            // There are few decisions.
            (config.segment_bytes, config.retention_bytes) = (512, Some(1 << 10));
            config.retention_age = None;
        }
        (config, durability)
    }
}

/// A log and its producers.
type Opened = (PartitionLog<MemDisk>, ProducerTable);

/// See the module.
pub(crate) struct Process {
    node: NodeId,
    pub(crate) me: ReplicaId,
    /// What the calendar said when it was last looked at.
    pub(super) date: Timestamp,
    disk: MemDisk,
    store: Store,
    pub(crate) image: Image,
    looked: Offset,
    pub(super) replicas: BTreeMap<TopicPartition, Replica>,
    pub(super) attendant: Attendant,
    liveness: Liveness,
    liveness_woken: Option<Time>,
    session: u64,
    /// A transaction of the store is under way.
    committing: bool,
    /// Decisions that this broker wants, until they are seen in the image.
    wanted: Vec<Command>,
    requests: u64,
    /// Replicas opened so far.
    opened: u64,
}

impl Process {
    /// Opens everything that is on the disk.
    pub(super) fn open(
        (node, incarnation, life): (NodeId, u128, u64),
        disk: &MemDisk,
        (now, date): (Time, Timestamp),
        setting: &Setting,
        lost_power: bool,
        out: &mut Vec<Effect>,
    ) -> Result<Self, String> {
        disk.create_dir_all(Path::new("/data")).map_err(|e| e.to_string())?;
        let fresh = Identity { cluster: 1, incarnation };
        let store = Store::open(disk, Path::new(STORE), fresh).map_err(|e| e.to_string())?;
        let loaded = store.load().map_err(|e| e.to_string())?;
        let image = metadata::load(&loaded)?;
        let me = ReplicaId { node, incarnation: store.identity().incarnation };
        let mut liveness = Liveness::new(LivenessConfig::default());
        let mut ignored = Vec::new();
        for other in setting.brokers.iter().filter(|other| **other != node) {
            liveness.step(now, liveness::Input::Add(*other), &mut ignored);
        }
        let mut process = Self {
            node,
            me,
            date,
            disk: disk.clone(),
            store,
            looked: image.applied(),
            image,
            replicas: BTreeMap::new(),
            attendant: Attendant::default(),
            liveness,
            liveness_woken: None,
            session: life,
            committing: false,
            wanted: Vec::new(),
            requests: 0,
            opened: 0,
        };
        process.register();
        process.open_replica(LOG, now, setting, lost_power, out);
        process.reconcile(now, setting, lost_power, out);
        process.arm_liveness(out);
        process.attendant.decided(&process.image, (now, date), out);
        Ok(process)
    }

    /// Says that this broker is there, until everybody knows.
    fn register(&mut self) {
        let ReplicaId { node, incarnation } = self.me;
        let address = format!("broker:{node}");
        self.wanted.push(Command::RegisterBroker { node, incarnation, address, rack: None });
    }

    pub(crate) fn replica(&self, id: TopicPartition) -> Option<&Replica> {
        self.replicas.get(&id)
    }

    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values()
    }

    fn dir(id: TopicPartition) -> PathBuf {
        PathBuf::from(format!("/data/{}-{}", id.topic, id.partition))
    }

    fn open_replica(
        &mut self,
        id: TopicPartition,
        now: Time,
        setting: &Setting,
        lost_power: bool,
        out: &mut Vec<Effect>,
    ) {
        let (log_config, durability) = setting.log_config(id);
        self.opened += 1;
        let mut ballot = self.ballot(id);
        let (voters, voters_at) = match self.image.placement(id) {
            Some(placement) => {
                let voters = VoterSet::try_from(placement.voters.clone());
                (voters.expect("a partition has voters"), placement.voters_at)
            }
            None => (setting.founders.clone(), LogEnd::default()),
        };
        let several = voters.count() > 1 || !voters.contains(self.me);
        if lost_power && durability == Durability::Memory && several {
            ballot.doubtful = true;
            self.keep_ballot(id, &ballot);
        }
        let config = Config {
            voters,
            voters_at,
            seed: u64::from(id.partition.0) << 32 | u64::from(self.node.0),
            snapshot_bytes: 2 << 10,
            life: self.session << 16 | self.opened,
            ..Config::alone(self.me, durability, 0)
        };
        let opened = self.open_log(id, &log_config, (several, now), &mut ballot, out);
        let Some((log, producers)) = opened else {
            return;
        };
        let mut replica =
            Replica::new(id, config, log, (ballot, producers), setting.body_bytes, now);
        for node in setting.brokers.iter().filter(|other| self.liveness.is_down(**other)).copied() {
            replica.step(now, Input::Peer { node, up: false }, out);
        }
        self.replicas.insert(id, replica);
        self.aim(id, now, out);
        self.wake(id, now, out);
    }

    /// Opens a log; one that is damaged is set aside where others have what was in it.
    fn open_log(
        &mut self,
        id: TopicPartition,
        config: &LogConfig,
        (several, now): (bool, Time),
        ballot: &mut Ballot,
        out: &mut Vec<Effect>,
    ) -> Option<Opened> {
        let dir = Self::dir(id);
        for _ in 0..2 {
            let opened = PartitionLog::open(self.disk.clone(), &dir, config.clone(), self.date);
            let why = match opened {
                Ok((log, found)) => {
                    let replayed = producers(&log, found.producer_snapshot, now);
                    let memory = config.durability == log::Durability::Memory;
                    if found.truncated.is_some() && memory && several {
                        // What was cut off may have been counted by a leader though it was never synced.
                        ballot.doubtful = true;
                        self.keep_ballot(id, ballot);
                    }
                    match (found.stopped, replayed) {
                        (None, Ok(producers)) => return Some((log, producers)),
                        (Some(damage), _) => damage.to_string(),
                        (None, Err(error)) => error.to_string(),
                    }
                }
                Err(error) => error.to_string(),
            };
            out.push(Effect::note(format!("{id} on {} is damaged: {why}", self.node)));
            if !several {
                return None;
            }
            ballot.doubtful = true;
            self.keep_ballot(id, ballot);
            log::set_aside(&self.disk, &dir).ok()?;
        }
        None
    }

    fn ballot(&self, id: TopicPartition) -> Ballot {
        let row = self.store.row(Table::Votes, &key(id)).ok().flatten();
        let decoded = row.map(|row| decode_ballot(&row).expect("a stored ballot decodes"));
        decoded.unwrap_or_default()
    }

    fn keep_ballot(&mut self, id: TopicPartition, ballot: &Ballot) {
        let row = ballot_row(id, ballot);
        self.store.write_rows(&[row]).expect("a store that opened takes a row");
    }

    /// Tells a new replica to begin.
    fn wake(&mut self, id: TopicPartition, now: Time, out: &mut Vec<Effect>) {
        if let Some(replica) = self.replicas.get_mut(&id) {
            replica.tick(now, out);
        }
    }

    /// Brings the replicas there where the image wants them.
    fn reconcile(&mut self, now: Time, setting: &Setting, lost_power: bool, out: &mut Vec<Effect>) {
        let me = self.me;
        let leaves = |id, placement: &Placement| {
            let replica = self.replicas.get(&id);
            let absent = || {
                // Perhaps it votes and has not heard that it does not: then it is still needed.
                let kept = self.store.row(Table::Votes, &key(id)).is_ok_and(|row| row.is_some());
                !placement.keeps(me) && (placement.releases(me) || !kept)
            };
            replica.map_or_else(absent, |replica| replica.machine.may_leave(placement))
        };
        let placed: Vec<_> =
            self.image.placements().map(|(id, placement)| (id, !leaves(id, placement))).collect();
        for (id, keeps) in placed {
            match (keeps, self.replicas.contains_key(&id)) {
                (true, false) => self.open_replica(id, now, setting, lost_power, out),
                (false, true) => {
                    self.replicas.remove(&id);
                    out.push(Effect::note(format!("{me} leaves {id}")));
                    // Somebody may still take it for a voter when it comes back without what it had.
                    let mut ballot = self.ballot(id);
                    ballot.doubtful = true;
                    self.keep_ballot(id, &ballot);
                    // What is left after a crash is removed with the next image.
                    let _ = log::remove_log(&self.disk, &Self::dir(id));
                }
                (true, true) => self.aim(id, now, out),
                (false, false) => {}
            }
        }
        self.aim(LOG, now, out);
    }

    /// Tells a replica who should vote.
    fn aim(&mut self, id: TopicPartition, now: Time, out: &mut Vec<Effect>) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        let target = if id == LOG {
            placement::controllers(&self.image, replica.machine.voters())
        } else {
            self.image.placement(id).and_then(|place| placement::target(&self.image, place))
        };
        let known = self.image.placement(id).and_then(|placement| {
            let voters = VoterSet::try_from(placement.voters.clone()).ok()?;
            Some((placement.voters_at, voters))
        });
        if let Some(replicas) = target {
            let version = self.image.placement(id).map_or(0, |placement| placement.version);
            replica.step(now, Input::Target { replicas, known, version }, out);
        }
    }

    /// Gives a replica one input, and sees to what follows.
    pub(super) fn step(
        &mut self,
        id: TopicPartition,
        now: Time,
        setting: &Setting,
        out: &mut Vec<Effect>,
        act: impl FnOnce(&mut Replica, &mut Vec<Effect>),
    ) {
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        act(replica, out);
        if replica.damaged {
            self.repair(id, now, setting, out);
        }
        self.look_after(id, now, setting, out);
    }

    /// A log that turned out to be damaged while it was read is set aside, and filled from the others.
    fn repair(&mut self, id: TopicPartition, now: Time, setting: &Setting, out: &mut Vec<Effect>) {
        let replica = self.replicas.get(&id).expect("it was just stepped");
        if replica.machine.voters().is_alone(self.me) {
            return;
        }
        out.push(Effect::note(format!("{} sets {id} aside", self.me)));
        self.replicas.remove(&id);
        let mut ballot = self.ballot(id);
        ballot.doubtful = true;
        self.keep_ballot(id, &ballot);
        if log::set_aside(&self.disk, &Self::dir(id)).is_ok() {
            self.open_replica(id, now, setting, false, out);
        }
    }

    fn look_after(
        &mut self,
        id: TopicPartition,
        now: Time,
        setting: &Setting,
        out: &mut Vec<Effect>,
    ) {
        if id == LOG {
            self.apply(now, setting, out);
        }
        let Some(replica) = self.replicas.get_mut(&id) else {
            return;
        };
        if std::mem::take(&mut replica.voters_news) && replica.machine.is_leader() && id != LOG {
            self.report_voters(id);
        }
    }

    /// Has the cluster know who votes on a partition that this broker leads.
    fn report_voters(&mut self, id: TopicPartition) {
        let settled = self.replicas[&id].machine.settled_voters();
        let (Some((at, voters)), Some(placement)) = (settled, self.image.placement(id)) else {
            return;
        };
        let (voters, placement) = (voters.iter().collect(), placement.version);
        let (topic, partition) = (id.topic, id.partition);
        let concerns = |wanted: &Command| match wanted {
            Command::VotersChanged { topic: t, partition: p, .. } => (*t, *p) == (topic, partition),
            _ => false,
        };
        self.wanted.retain(|wanted| !concerns(wanted));
        self.wanted.push(Command::VotersChanged { topic, partition, at, voters, placement });
    }

    /// Applies what is committed.
    fn apply(&mut self, now: Time, setting: &Setting, out: &mut Vec<Effect>) {
        let Some(replica) = self.replicas.get_mut(&LOG) else {
            return;
        };
        let up_to = replica.machine.offsets().high_watermark();
        let from = self.looked.max(self.image.applied());
        // What the log no longer has comes as a snapshot: see `chores`.
        if up_to <= from || from < replica.log.start() {
            return;
        }
        let mut next = self.image.clone();
        let mut changes = Vec::new();
        let mut at = from;
        while at < up_to {
            let Some(sealed) = replica.read(at, up_to, READ_BYTES) else {
                return;
            };
            at = millstream_protocol::batch::SealedBatches::new(sealed.clone())
                .last()
                .expect("what is read has batches")
                .expect("they are whole")
                .batch
                .header
                .next_offset();
            changes.extend(metadata::advance(&mut next, sealed, from));
        }
        if !changes.is_empty() {
            if self.store.commit(next.applied(), &changes).is_err() {
                // Tried again with the next thing that happens here.
                return;
            }
            self.took(next, now, out);
        }
        self.looked = up_to;
        self.wanted.retain(|wanted| !is_done(&self.image, wanted));
        self.reconcile(now, setting, false, out);
    }

    /// The image is another, durably.
    fn took(&mut self, image: Image, now: Time, out: &mut Vec<Effect>) {
        self.image = image;
        self.attendant.decided(&self.image, (now, self.date), out);
        let (applied, bytes) = (self.image.applied(), self.image.snapshot().into());
        out.push(Effect::Observed(Observation::Decided { broker: self.node, applied, bytes }));
    }

    /// Whether the log no longer has everything that this broker does not know.
    fn lacks_decisions(&self) -> bool {
        let start = self.replicas.get(&LOG).map_or(Offset::ZERO, |replica| replica.log.start());
        self.looked.max(self.image.applied()) < start
    }

    /// Another broker gives a snapshot of what is decided.
    fn install(
        &mut self,
        applied: Offset,
        snapshot: &Bytes,
        now: Time,
        setting: &Setting,
        out: &mut Vec<Effect>,
    ) {
        let start = self.replicas.get(&LOG).map_or(Offset::ZERO, |replica| replica.log.start());
        if !self.lacks_decisions() || applied < start {
            return;
        }
        let next = Image::from_snapshot(applied, snapshot).expect("a broker gives what it has");
        let changes = self.image.changes_to(&next).into_iter().map(metadata::change);
        let changes: Vec<_> = changes.collect();
        if self.store.commit(applied, &changes).is_err() {
            // Asked for again.
            return;
        }
        out.push(Effect::note(format!("{} takes a snapshot as of {applied}", self.me)));
        self.looked = applied;
        self.took(next, now, out);
        self.wanted.retain(|wanted| !is_done(&self.image, wanted));
        self.reconcile(now, setting, false, out);
        self.apply(now, setting, out);
    }

    /// A packet has come.
    pub(crate) fn receive(
        &mut self,
        from: Place,
        bytes: &Bytes,
        now: Time,
        setting: &Setting,
        out: &mut Vec<Effect>,
    ) {
        let (packet, body) = Packet::decode(bytes);
        match packet {
            Packet::Beat { session, hears } => {
                if let Place::Broker(node) = from {
                    let heard = liveness::Input::Heard { node, session, hears };
                    self.live(heard, now, setting, out);
                }
            }
            Packet::Replica(Envelope { partition, from, to, message }) => {
                let here = to == self.me && self.replicas.contains_key(&partition);
                if !here {
                    disown(partition, (from, to), message, out);
                } else {
                    self.step(partition, now, setting, out, |replica, out| {
                        replica.receive(now, (from, message), body, out);
                    });
                }
            }
            Packet::Produce { partition, request } => {
                let batch = Batch::parse(body).expect("clients send batches");
                self.produce(partition, Asker::Producer(from, request), batch, now, setting, out);
            }
            Packet::EndTransaction { partition, request, producer, epoch, commit } => {
                if self.leads(partition, Asker::Producer(from, request), out) {
                    self.step(partition, now, setting, out, |replica, out| {
                        replica.end_transaction(
                            now,
                            (from, request),
                            (producer, epoch),
                            commit,
                            out,
                        );
                    });
                }
            }
            Packet::Propose { request, command } => {
                let batch = metadata::encode(&command);
                self.produce(LOG, Asker::Proposer(from, request), batch, now, setting, out);
            }
            Packet::Fetch { partition, request, position, isolation } => {
                let wanted = (position, isolation);
                self.fetch(partition, (from, request), wanted, now, setting, out);
            }
            Packet::WantSnapshot => {
                let packet = Packet::Snapshot { applied: self.image.applied() };
                let bytes = packet.encode(&self.image.snapshot());
                out.push(Effect::Send { to: from, bytes });
            }
            Packet::Snapshot { applied } => self.install(applied, &body, now, setting, out),
            Packet::Member { stream, serial, open, frame } => {
                self.hear((from, stream, serial), (open, frame), (now, setting), out);
            }
            Packet::Commit { request, commit } => {
                self.commit_offsets((from, request), commit, (now, setting), out);
            }
            Packet::Proposed { .. }
            | Packet::Produced { .. }
            | Packet::Fetched { .. }
            | Packet::Told { .. }
            | Packet::Committed { .. } => {}
        }
    }

    fn produce(
        &mut self,
        id: TopicPartition,
        asker: Asker,
        batch: Batch,
        now: Time,
        setting: &Setting,
        out: &mut Vec<Effect>,
    ) {
        if self.leads(id, asker, out) {
            self.step(id, now, setting, out, |replica, out| {
                replica.produce(now, asker, batch, out);
            });
        }
    }

    /// Whether this broker leads a partition; whoever asks it for something and it does not is told who does.
    fn leads(&self, id: TopicPartition, asker: Asker, out: &mut Vec<Effect>) -> bool {
        let leads = self.replicas.get(&id).is_some_and(|replica| replica.machine.is_leader());
        if leads {
            return true;
        }
        let result = Err(Refusal::NotLeader(self.leader(id)));
        let (to, packet) = match asker {
            Asker::Producer(client, request) => (client, Packet::Produced { request, result }),
            Asker::Proposer(client, request) => (client, Packet::Proposed { request, result }),
            Asker::Coordinator(_) => unreachable!("a coordinator is where the leader is"),
        };
        out.push(Effect::Send { to, bytes: packet.encode(&[]) });
        false
    }

    /// Who leads a partition, as far as this broker knows.
    pub(super) fn leader(&self, id: TopicPartition) -> Option<NodeId> {
        let leader = self.replicas.get(&id)?.machine.leader()?;
        (leader.node != self.node).then_some(leader.node)
    }

    fn fetch(
        &mut self,
        id: TopicPartition,
        (client, request): (Place, u64),
        wanted: (LogEnd, Isolation),
        now: Time,
        setting: &Setting,
        out: &mut Vec<Effect>,
    ) {
        let leader = self.leader(id);
        let mut answer = (Err(Refusal::NotLeader(leader)), Bytes::new());
        let mut aborted = Vec::new();
        self.step(id, now, setting, out, |replica, _| {
            answer = read_for(replica, wanted, leader);
            aborted = replica.machine.transactions().aborted().to_vec();
        });
        let (result, body) = answer;
        let bytes = Packet::Fetched { request, result, aborted }.encode(&body);
        out.push(Effect::Send { to: client, bytes });
    }

    fn live(
        &mut self,
        input: liveness::Input,
        now: Time,
        setting: &Setting,
        out: &mut Vec<Effect>,
    ) {
        let mut outputs = Vec::new();
        self.liveness.step(now, input, &mut outputs);
        for output in outputs {
            let (node, up) = match output {
                liveness::Output::Beat { node, hears } => {
                    let bytes = Packet::Beat { session: self.session, hears }.encode(&[]);
                    out.push(Effect::Send { to: Place::Broker(node), bytes });
                    continue;
                }
                liveness::Output::Up(node) => (node, true),
                liveness::Output::Down(node) => (node, false),
            };
            let ids: Vec<_> = self.replicas.keys().copied().collect();
            for id in ids {
                self.step(id, now, setting, out, |replica, out| {
                    replica.step(now, Input::Peer { node, up }, out);
                });
            }
        }
        self.arm_liveness(out);
    }

    fn arm_liveness(&mut self, out: &mut Vec<Effect>) {
        if let Some(at) = self.liveness.deadline()
            && self.liveness_woken.is_none_or(|woken| at < woken)
        {
            self.liveness_woken = Some(at);
            out.push(Effect::Wake { partition: None, at });
        }
    }

    /// A deadline has passed.
    pub(crate) fn wake_up(
        &mut self,
        partition: Option<TopicPartition>,
        now: Time,
        setting: &Setting,
        out: &mut Vec<Effect>,
    ) {
        match partition {
            Some(id) => self.step(id, now, setting, out, |replica, out| replica.tick(now, out)),
            None => {
                self.liveness_woken = None;
                self.live(liveness::Input::Tick, now, setting, out);
            }
        }
    }

    /// The disk is done with what a partition's log had begun.
    pub(crate) fn disk_done(
        &mut self,
        (id, opened): (TopicPartition, u64),
        work: DiskWork,
        now: Time,
        setting: &Setting,
        out: &mut Vec<Effect>,
    ) {
        if self.replicas.get(&id).is_none_or(|replica| replica.opened != opened) {
            return;
        }
        self.step(id, now, setting, out, |replica, out| replica.done(now, work, out));
    }

    /// Whether a transaction is to be begun.
    pub(crate) fn begin_commit(&mut self) -> bool {
        !std::mem::replace(&mut self.committing, true)
    }

    /// The transaction of the store comes to its end: all ballots that wait are in it.
    pub(crate) fn commit(&mut self, now: Time, setting: &Setting, out: &mut Vec<Effect>) {
        self.committing = false;
        let mut waiting = BTreeMap::new();
        for (id, replica) in &mut self.replicas {
            if let Some(newest) = std::mem::take(&mut replica.ballots).pop() {
                waiting.insert(*id, newest);
            }
        }
        let rows: Vec<_> =
            waiting.iter().map(|(id, (_, ballot))| ballot_row(*id, ballot)).collect();
        let written = self.store.write_rows(&rows).is_ok();
        for (id, (serial, ballot)) in waiting {
            let stored = if written { Ok((serial, ballot)) } else { Err(serial) };
            self.step(id, now, setting, out, |replica, out| {
                replica.ballot_stored(now, stored, out);
            });
        }
    }

    /// What is done every now and then: retention, and decisions that are still wanted.
    pub(crate) fn chores(
        &mut self,
        now: Time,
        date: Timestamp,
        setting: &Setting,
        out: &mut Vec<Effect>,
    ) {
        self.date = date;
        let ids: Vec<_> = self.replicas.keys().copied().collect();
        for id in ids {
            // Of decisions those are kept that are not durable here as rows.
            let before = if id == LOG { self.image.applied() } else { Offset::MAX };
            self.step(id, now, setting, out, |replica, out| replica.retain(date, before, out));
            self.step(id, now, setting, out, |replica, _| replica.scrub(SCRUB_BYTES));
            let behind = self.replicas.get(&id).is_some_and(|replica| self.is_behind(replica));
            if behind {
                self.report_voters(id);
            }
        }
        if self.lacks_decisions() {
            for other in setting.brokers.iter().filter(|other| **other != self.node) {
                let bytes = Packet::WantSnapshot.encode(&[]);
                out.push(Effect::Send { to: Place::Broker(*other), bytes });
            }
        }
        self.apply(now, setting, out);
        self.reconcile(now, setting, false, out);
        let leader = self.replicas.get(&LOG).and_then(|log| log.machine.leader());
        // Where little is kept of what is decided, something always is.
        let always = setting.short_metadata.then_some(Command::AllocateProducers { count: 1 });
        for command in self.wanted.clone().into_iter().chain(always) {
            self.requests += 1;
            let packet = Packet::Propose { request: self.requests, command };
            if let Some(leader) = leader {
                let bytes = packet.encode(&[]);
                if leader == self.me {
                    self.receive(Place::Broker(self.node), &bytes, now, setting, out);
                } else {
                    out.push(Effect::Send { to: Place::Broker(leader.node), bytes });
                }
            }
        }
    }

    /// Reads all logs from their beginning to their end.
    pub(crate) fn scrub_all(&mut self, now: Time, setting: &Setting, out: &mut Vec<Effect>) {
        let ids: Vec<_> = self.replicas.keys().copied().collect();
        for id in ids {
            self.step(id, now, setting, out, |replica, _| replica.scrub_whole());
        }
    }

    /// Whether this broker leads a partition whose voters the image does not know.
    fn is_behind(&self, replica: &Replica) -> bool {
        let (Some(placement), Some((at, _))) =
            (self.image.placement(replica.id), replica.machine.settled_voters())
        else {
            return false;
        };
        placement.voters_at.offset < at.offset || placement.confirmed < placement.version
    }

    /// The broker is to stop. Who drives it ends its process later.
    pub(crate) fn stop(&mut self, now: Time, setting: &Setting, out: &mut Vec<Effect>) {
        let ids: Vec<_> = self.replicas.keys().copied().collect();
        for id in ids {
            self.step(id, now, setting, out, |replica, out| replica.step(now, Input::Stop, out));
        }
    }

    /// A leader is to hand over.
    pub(crate) fn transfer(
        &mut self,
        id: TopicPartition,
        now: Time,
        setting: &Setting,
        out: &mut Vec<Effect>,
    ) {
        self.step(id, now, setting, out, |replica, out| {
            replica.step(now, Input::Transfer { to: None }, out);
        });
    }
}

/// Somebody follows a replica that is not here (any more), or an earlier life of this disk.
fn disown(
    partition: TopicPartition,
    (follower, gone): (ReplicaId, ReplicaId),
    message: ReplicaMessage,
    out: &mut Vec<Effect>,
) {
    if matches!(message.content, Content::Fetch { .. } | Content::Progress(_)) {
        let content = Content::NotLeading { leader: None };
        let message = ReplicaMessage { content, ..message };
        let envelope = Envelope { partition, from: gone, to: follower, message };
        let bytes = Packet::Replica(envelope).encode(&[]);
        out.push(Effect::Send { to: Place::Broker(follower.node), bytes });
    }
}

/// Batches for a consumer at a position, or why there are none.
fn read_for(
    replica: &mut Replica,
    (position, isolation): (LogEnd, Isolation),
    leader: Option<NodeId>,
) -> (Result<Offset, Refusal>, Bytes) {
    let refuse = |why| (Err(why), Bytes::new());
    let machine = &replica.machine;
    if !machine.is_established() || machine.epoch() < position.epoch {
        return refuse(Refusal::NotLeader(leader));
    }
    let end = match isolation {
        Isolation::ReadCommitted => machine.last_stable().min(machine.readable()),
        Isolation::ReadUncommitted => machine.readable(),
    };
    let start = machine.offsets().start();
    if position.offset < start {
        return refuse(Refusal::OutOfRange(start));
    }
    let known = position.epoch.get() > 0 && position.offset > start;
    if known && !machine.epochs().contains(position, machine.offsets().end()) {
        let parted = machine.epochs().end_of(position.epoch, machine.offsets().end());
        let (epoch, offset) = parted.unwrap_or((position.epoch, start));
        return refuse(Refusal::Truncated { epoch, offset });
    }
    if end <= position.offset {
        return (Ok(end), Bytes::new());
    }
    let body = replica.read(position.offset, end, READ_BYTES).unwrap_or_default();
    (Ok(end), body)
}

/// Whether a decision shows in the image.
fn is_done(image: &Image, command: &Command) -> bool {
    match command {
        Command::RegisterBroker { node, incarnation, .. } => {
            image.brokers().get(node).is_some_and(|known| known.incarnation == *incarnation)
        }
        Command::VotersChanged { topic, partition, at, placement, .. } => {
            let id = TopicPartition { topic: *topic, partition: *partition };
            let done = |known: &Placement| {
                at.offset <= known.voters_at.offset && *placement <= known.confirmed
            };
            image.placement(id).is_none_or(done)
        }
        _ => true,
    }
}

fn ballot_row(id: TopicPartition, ballot: &Ballot) -> Change {
    let value = postcard::to_stdvec(ballot).expect("memory takes a ballot");
    Change { table: Table::Votes, key: key(id), value: Some(value) }
}

fn key(id: TopicPartition) -> Vec<u8> {
    [id.topic.0.to_be_bytes(), id.partition.0.to_be_bytes()].concat()
}

/// A store that does not open makes room for a new one.
pub(super) fn set_store_aside(disk: &MemDisk) {
    let path = Path::new(STORE);
    disk.rename(path, &path.with_extension("damaged")).expect("a damaged store is set aside");
    disk.sync_dir(Path::new("/data")).expect("its name is synced");
}

/// Bytes of a log that are read again at a time, to find damage.
const SCRUB_BYTES: usize = 8 << 10;
/// How often a broker does its chores.
pub(crate) const CHORES: Duration = Duration::from_millis(250);
