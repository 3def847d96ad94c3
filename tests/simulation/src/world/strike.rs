//! What faults do to the world.
//!
//! Invariant: once the world is healing, nothing goes wrong any more.

use std::time::Duration;

use millstream_protocol::ids::NodeId;
use millstream_storage::disk::{Disk as _, Fault as DiskFault, Operation};

use super::{Event, World};
use crate::broker::{Broker, CHORES, Process};
use crate::faults::Fault;
use crate::invariants::Checked;
use crate::network::Place;

impl World {
    pub(super) fn strike(&mut self, fault: Fault) -> Checked {
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

    pub(super) fn broker(&mut self, node: NodeId) -> &mut Broker {
        self.brokers.get_mut(&node).expect("a broker of this run")
    }

    pub(super) fn start(&mut self, node: NodeId) -> Checked {
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
    pub(super) fn hunt(&mut self, node: NodeId) {
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

    pub(super) fn kill_within(&mut self, node: NodeId, time: Duration) {
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
        self.agenda.after(Duration::ZERO, Event::Groups { node, life, read: None });
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
}
