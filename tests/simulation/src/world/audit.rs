//! What comes after the faults: healing, waiting until all of it works again, and the audit of what is left.
//!
//! Invariant: nothing is looked at here that a machine does not say of itself or that is not on a disk.

use std::time::Duration;

use millstream_core::machine::Machine as _;
use millstream_core::replication::Partition;
use millstream_protocol::ids::{NodeId, Offset, ReplicaId, TopicPartition};
use millstream_protocol::message::transaction::Isolation;

use super::World;
use crate::broker::{LOG, Process};
use crate::clients::{Producer, Transactor};
use crate::invariants::{Checked, acknowledged, demand, replicas};
use crate::plan::HEALED;

impl World {
    /// Waits until all of it works again, within the bound that is promised.
    pub(super) fn settle(&mut self) -> Checked {
        let limit = self.agenda.now() + HEALED;
        while !self.is_settled() {
            self.restart_stopped()?;
            let step = self.agenda.now() + Duration::from_millis(200);
            self.until(step)?;
            demand(self.agenda.now() < limit, "what is healed works again", || self.unsettled())?;
        }
        Ok(())
    }

    /// Nothing goes wrong any more, and everybody is up.
    pub(super) fn heal(&mut self) -> Checked {
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
            && self.transactors.values().all(Transactor::is_idle)
            && self.ids().into_iter().all(|id| self.is_whole(id))
            && self.consumers.values().all(|consumer| {
                let end = self.leader_end(consumer.partition());
                end.is_some_and(|end| end <= consumer.position())
            })
            && self.are_groups_settled()
    }

    fn ids(&self) -> Vec<TopicPartition> {
        let image = self.image();
        let mut ids: Vec<_> = image.placements().map(|(id, _)| id).collect();
        ids.push(LOG);
        ids
    }

    pub(super) fn leader_end(&self, id: TopicPartition) -> Option<Offset> {
        self.of_leader(id, |machine| machine.offsets().high_watermark())
    }

    pub(super) fn leader_start(&self, id: TopicPartition) -> Option<Offset> {
        self.of_leader(id, |machine| machine.offsets().start())
    }

    fn of_leader(&self, id: TopicPartition, look: impl Fn(&Partition) -> Offset) -> Option<Offset> {
        let established = self.brokers.values().filter_map(|broker| {
            let machine = &broker.process.as_ref()?.replica(id)?.machine;
            machine.is_established().then(|| (machine.epoch(), look(machine)))
        });
        established.max_by_key(|(epoch, _)| *epoch).map(|(_, offset)| offset)
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
            "topics are there: {}; {waiting} producers wait; not whole: {behind:?}; groups: {:?}",
            self.clients_there,
            self.unsettled_groups(self.agenda.now())
        );
        for transactor in self.transactors.values().filter(|one| !one.is_idle()) {
            text += &format!("\n  {}", transactor.told());
        }
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

    pub(super) fn audit(&mut self) -> Checked {
        for id in self.ids() {
            let mut contents: Vec<(ReplicaId, replicas::Content)> = Vec::new();
            for node in self.holders(id) {
                let batches = self.batches(node, id, Offset::ZERO, Offset::MAX);
                for batch in &batches {
                    self.committed.seen(id, batch)?;
                    self.ledger.holds(id, batch);
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
        for (client, consumer) in &self.consumers {
            if consumer.isolation() == Isolation::ReadCommitted && consumer.is_whole() {
                self.ledger.audit(*client, consumer.partition())?;
            }
        }
        self.audit_groups()?;
        self.promises.audit(&self.committed)
    }
}
