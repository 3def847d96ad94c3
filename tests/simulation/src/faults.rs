//! What goes wrong: named faults, each with a beginning and, mostly, an end, drawn ahead of the run.
//!
//! Faults that destroy what is on a disk strike one broker of a run only: the promise is to survive a minority.
//!
//! Invariant: a fault that would break a promise nobody made is never drawn.

use std::time::Duration;

use millstream_core::machine::Time;
use millstream_core::replication::Durability;
use millstream_protocol::ids::NodeId;

use crate::chance::Chance;
use crate::plan::Plan;

/// Something that is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill {
        node: NodeId,
        power: bool,
    },
    /// It is asked to stop, and has some time for it before it is killed.
    Stop(NodeId),
    /// So many of those who next begin to lead are killed soon after.
    Hunt {
        count: u32,
        power: bool,
    },
    /// All brokers at once.
    Blackout,
    Start(NodeId),
    /// It starts with an empty disk.
    Wipe(NodeId),
    Pause {
        node: NodeId,
        time: Duration,
    },
    Cut {
        from: NodeId,
        to: NodeId,
        both: bool,
    },
    Mend {
        from: NodeId,
        to: NodeId,
    },
    Part(NodeId),
    Join(NodeId),
    SlowDisk {
        node: NodeId,
        factor: u32,
    },
    DiskError {
        node: NodeId,
        sync: bool,
    },
    FullDisk {
        node: NodeId,
        left: u64,
    },
    Room(NodeId),
    Flip(NodeId),
    /// Its clock jumps forward, and the date it shows is off by so many milliseconds.
    Jump {
        node: NodeId,
        time: Duration,
        date: i64,
    },
    Move,
    Transfer,
}

/// Draws all faults of a run.
pub(crate) fn draw(plan: &Plan, brokers: &[NodeId]) -> Vec<(Time, Fault)> {
    let chance = Chance::of(plan.seed, "faults");
    let unlucky = chance.clone().one(brokers);
    let mut drawing = Drawing { plan, brokers, unlucky, chance, faults: Vec::new() };
    drawing.all();
    let mut faults = drawing.faults;
    faults.sort_by_key(|(at, _)| *at);
    faults
}

struct Drawing<'a> {
    plan: &'a Plan,
    brokers: &'a [NodeId],
    /// Whose disk is destroyed, if one is.
    unlucky: NodeId,
    chance: Chance,
    faults: Vec<(Time, Fault)>,
}

impl Drawing<'_> {
    fn all(&mut self) {
        let faults = &self.plan.faults;
        self.every(faults.kill, Self::kill);
        self.every(faults.hunt, |this, at| {
            let count = u32::try_from(1 + this.chance.below(6)).expect("small");
            let power = !this.has_memory() && this.chance.is(1, 2);
            this.put(at, Fault::Hunt { count, power });
        });
        self.every(faults.jump, |this, at| {
            let (node, time) = (this.any(), this.millis(1, 5_000));
            let date = i64::try_from(this.chance.below(14_400_000)).expect("small") - 7_200_000;
            this.put(at, Fault::Jump { node, time, date });
        });
        self.every(faults.pause, |this, at| {
            let (node, time) = (this.any(), this.millis(50, 3_000));
            this.put(at, Fault::Pause { node, time });
        });
        self.every(faults.cut, Self::cut);
        self.every(faults.swizzle, Self::swizzle);
        self.every(faults.slow_disk, |this, at| {
            let (node, time) = (this.any(), this.millis(300, 3_000));
            let factor = u32::try_from(10 + this.chance.below(300)).expect("small");
            this.put(at, Fault::SlowDisk { node, factor });
            this.put(at + time, Fault::SlowDisk { node, factor: 1 });
        });
        self.every(faults.disk_error, Self::disk_error);
        self.every(faults.full_disk, |this, at| {
            let (node, time) = (this.any(), this.millis(300, 4_000));
            let left = this.chance.below(20_000);
            this.put(at, Fault::FullDisk { node, left });
            this.put(at + time, Fault::Room(node));
        });
        if self.may_destroy() {
            self.every(faults.flip, |this, at| this.put(at, Fault::Flip(this.unlucky)));
        }
        self.every(faults.moves, |this, at| this.put(at, Fault::Move));
        self.every(faults.transfers, |this, at| this.put(at, Fault::Transfer));
        if faults.blackout {
            self.blackout();
        }
    }

    fn every(&mut self, mean: Option<Duration>, mut strike: impl FnMut(&mut Self, Time)) {
        let Some(mean) = mean else {
            return;
        };
        let mut at = Time::from_millis(800);
        loop {
            at = at + self.chance.between(mean / 4, mean * 2);
            if self.plan.safety <= at {
                return;
            }
            strike(self, at);
        }
    }

    fn kill(&mut self, at: Time) {
        let node = self.any();
        let power = self.chance.is(1, 2) && (!self.has_memory() || node == self.unlucky);
        let at = if self.chance.is(1, 3) {
            self.put(at, Fault::Stop(node));
            at + self.millis(1, 2_000)
        } else {
            at
        };
        self.put(at, Fault::Kill { node, power });
        let time = self.millis(20, 3_000);
        let wipes = self.plan.faults.wipe && node == self.unlucky && self.may_destroy();
        let back =
            if wipes && self.chance.is(1, 2) { Fault::Wipe(node) } else { Fault::Start(node) };
        self.put(at + time, back);
    }

    fn cut(&mut self, at: Time) {
        let (from, to) = (self.any(), self.any());
        if from == to {
            return;
        }
        let (both, time) = (self.chance.is(1, 2), self.millis(50, 4_000));
        self.put(at, Fault::Cut { from, to, both });
        self.put(at + time, Fault::Mend { from, to });
    }

    /// Cuts brokers off one after the other, and lets them come back in another order.
    fn swizzle(&mut self, at: Time) {
        let mut nodes = self.brokers.to_vec();
        let count = 1 + self.chance.index(nodes.len());
        for (n, node) in nodes.iter().take(count).enumerate() {
            let n = u32::try_from(n).expect("small");
            self.faults.push((at + Duration::from_millis(150) * n, Fault::Part(*node)));
        }
        for n in (1..count).rev() {
            nodes.swap(n, self.chance.index(n + 1));
        }
        let mut back = at + self.millis(500, 3_000);
        for node in nodes.iter().take(count) {
            back = back + self.millis(10, 400);
            self.faults.push((back, Fault::Join(*node)));
        }
    }

    /// The log's disk fails; the broker is started again some time later.
    fn disk_error(&mut self, at: Time) {
        let (node, sync) = (self.any(), self.chance.is(1, 2));
        self.put(at, Fault::DiskError { node, sync });
        let later = self.millis(300, 4_000);
        let memory = self.has_memory() && node != self.unlucky;
        self.put(at + later, Fault::Kill { node, power: !memory && self.chance.clone().is(1, 2) });
        let back = at + later + self.millis(20, 500);
        self.put(back, Fault::Start(node));
    }

    fn blackout(&mut self) {
        let at = Time::ZERO + self.millis(2_000, 10_000);
        if self.has_memory() {
            return;
        }
        self.put(at, Fault::Blackout);
        for node in self.brokers {
            let time = self.millis(50, 3_000);
            self.put(at + time, Fault::Start(*node));
        }
    }

    /// Whether one disk may be lost: three replicas of everything.
    fn may_destroy(&self) -> bool {
        let kept = |topic: &crate::plan::TopicPlan| topic.factor >= 3;
        self.plan.founders >= 3 && self.plan.topics.iter().all(kept)
    }

    fn has_memory(&self) -> bool {
        self.plan.topics.iter().any(|topic| topic.durability == Durability::Memory)
    }

    fn any(&mut self) -> NodeId {
        self.chance.one(self.brokers)
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        self.chance.between(Duration::from_millis(least), Duration::from_millis(most))
    }

    fn put(&mut self, at: Time, fault: Fault) {
        self.faults.push((at, fault));
    }
}
