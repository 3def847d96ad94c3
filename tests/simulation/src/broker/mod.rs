//! A simulated broker: a disk that outlives it, and a process while it is up.
//!
//! ```text
//!   World ──events──▶ Broker ──▶ Process ──▶ Replica ──▶ core machine
//!     ▲                 │ pause, clock          │  ├──▶ PartitionLog on MemDisk
//!     └────Effects──────┘                       │  └──▶ Store (redb) on MemDisk
//! ```
//!
//! Invariant: nothing survives a kill but the disk; nothing of an earlier life reaches a later one.

mod effect;
mod groups;
mod metadata;
mod process;
mod replica;
mod wire;

use std::time::Duration;

use millstream_core::machine::Time;
use millstream_core::mutation::{self, Mutation};
use millstream_protocol::ids::{NodeId, ReplicaId, Timestamp};
use millstream_storage::disk::MemDisk;

pub(crate) use effect::{Effect, Observation, Work};
pub(crate) use groups::{GroupsTopic, take_batch};
pub(crate) use metadata::LOG;
pub(crate) use process::{CHORES, Process, Setting};
pub(crate) use replica::DiskWork;

use crate::chance::Chance;

/// A broker.
pub(crate) struct Broker {
    pub(crate) node: NodeId,
    pub(crate) disk: MemDisk,
    /// Counts starts: an event of another life is void.
    pub(crate) life: u64,
    pub(crate) process: Option<Process>,
    /// It stands still until then.
    pub(crate) paused: Option<Time>,
    pub(crate) clock: Clock,
    /// How many times as slow as usual its disk is.
    pub(crate) slowness: u32,
    /// Counts disks: a wiped one is another.
    wipes: u64,
    /// The power went: what was only in memory may be gone.
    lost_power: bool,
    chance: Chance,
}

/// When the world began, in milliseconds since 1970.
const BEGINNING: i64 = 1_700_000_000_000;

/// A broker's clock: it runs at its own speed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Thousandths of the true speed.
    pub(crate) speed: u64,
    pub(crate) ahead: Duration,
    /// How far the date is off, in milliseconds.
    pub(crate) date: i64,
}

impl Clock {
    /// What it shows at a true time.
    pub(crate) fn at(self, now: Time) -> Time {
        Time::from_nanos(now.nanos() / 1_000 * self.speed) + self.ahead
    }

    /// The date it shows at a true time.
    pub(crate) fn date(self, now: Time) -> Timestamp {
        Timestamp(date(now).0 + self.date)
    }

    /// The true time at which it shows this, or a little later.
    pub(crate) fn when(self, local: Time) -> Time {
        let since = (local - (Time::ZERO + self.ahead)).as_nanos();
        let since = u64::try_from(since).unwrap_or(u64::MAX / 2_000);
        Time::from_nanos(since / self.speed * 1_000 + 2_000)
    }
}

/// The true date.
pub(crate) fn date(now: Time) -> Timestamp {
    Timestamp(BEGINNING + i64::try_from(now.nanos() / 1_000_000).expect("small"))
}

/// The first incarnation of a broker's disk.
pub(crate) fn founder(node: NodeId) -> ReplicaId {
    ReplicaId { node, incarnation: incarnation(node, 0) }
}

fn incarnation(node: NodeId, wipes: u64) -> u128 {
    let wipes = if mutation::is(Mutation::AcceptWipedDisk) { 0 } else { wipes };
    u128::from(node.0) * 1_000 + u128::from(wipes)
}

impl Broker {
    pub(crate) fn new(node: NodeId, seed: u64, clock: Clock) -> Self {
        Self {
            node,
            disk: MemDisk::new(),
            life: 0,
            process: None,
            paused: None,
            clock,
            slowness: 1,
            wipes: 0,
            lost_power: false,
            chance: Chance::of(seed, &format!("broker {node}")),
        }
    }

    /// The process ends; `power` says whether the machine does too.
    pub(crate) fn kill(&mut self, power: bool) {
        self.process = None;
        self.life += 1;
        self.paused = None;
        if power {
            self.disk.crash(self.chance.number());
            self.lost_power = true;
        } else {
            self.disk.kill();
        }
    }

    /// The disk is replaced by an empty one.
    pub(crate) fn wipe(&mut self) {
        assert!(self.process.is_none(), "a disk is replaced while nobody uses it");
        self.disk = MemDisk::new();
        self.replace_incarnation();
    }

    /// The next life of the disk is another one.
    fn replace_incarnation(&mut self) {
        self.wipes += 1;
    }

    /// Starts the process.
    pub(crate) fn start(&mut self, now: Time, setting: &Setting) -> Vec<Effect> {
        assert!(self.process.is_none(), "a broker is started once");
        self.life += 1;
        let mut effects = Vec::new();
        for _ in 0..2 {
            let fresh = incarnation(self.node, self.wipes);
            let lost = std::mem::take(&mut self.lost_power);
            let opened = Process::open(
                (self.node, fresh, self.life),
                &self.disk,
                (self.clock.at(now), self.clock.date(now)),
                setting,
                lost,
                &mut effects,
            );
            match opened {
                Ok(process) => {
                    self.process = Some(process);
                    return effects;
                }
                // The metadata store is damaged: what the logs hold is offered as another replica's.
                Err(error) => {
                    effects.clear();
                    effects.push(Effect::note(format!("the store does not open: {error}")));
                    self.lost_power |= lost;
                    process::set_store_aside(&self.disk);
                    self.replace_incarnation();
                }
            }
        }
        panic!("a broker with a new store does not start");
    }

    /// How long its disk takes for something.
    pub(crate) fn disk_time(&mut self, work: Work) -> Duration {
        let (least, most) = match work {
            Work::Write => (20, 200),
            Work::Sync | Work::Store => (100, 1_500),
        };
        let usual = self.chance.between(Duration::from_micros(least), Duration::from_micros(most));
        usual * self.slowness
    }
}
