//! Who looks where coordinators are needed: a partition of `__groups` is waited for, loaded and served, in turns.
//!
//! Invariant: a coordinator is made anew from the log for each epoch, and serves in it only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::groups::{Coordinator, CoordinatorConfig, Groups, Topics};
use millstream_core::machine::Time;
use millstream_core::metadata::Image;
use millstream_core::mutation::{self, Mutation};
use millstream_protocol::ids::{LeaderEpoch, Offset, PartitionIndex, Timestamp};

use super::moved;
use super::shell::{Shell, Write};
use crate::broker::effect::Effect;
use crate::broker::replica::Replica;

/// Before groups are loaded again that could not be written or read.
const AGAIN: Duration = Duration::from_millis(200);

/// Who looks where coordinators are needed.
#[derive(Default)]
pub(in crate::broker) struct Attendant {
    topics: Arc<Topics>,
    seats: BTreeMap<PartitionIndex, Seat>,
    /// Writes so far.
    writes: u64,
}

/// The attendance of one partition, while it is open.
struct Seat {
    opened: u64,
    course: Course,
}

enum Course {
    /// Until it leads and knows all that is committed, and for some time after a failure.
    Waits(Option<Time>),
    /// The log is read up to there.
    Loads {
        epoch: LeaderEpoch,
        up_to: Offset,
        read: bool,
    },
    Serves(Box<Shell>),
}

impl Attendant {
    /// What is decided has changed.
    pub(in crate::broker) fn decided(
        &mut self,
        image: &Image,
        time: (Time, Timestamp),
        out: &mut Vec<Effect>,
    ) {
        let known = image.subscribable();
        if *self.topics == known {
            return;
        }
        self.topics = Arc::new(known);
        for seat in self.seats.values_mut() {
            if let Course::Serves(shell) = &mut seat.course {
                shell.learn(&self.topics, time, out);
            }
        }
    }

    /// Lets go of partitions that are not here any more, or opened anew.
    pub(super) fn tidy(
        &mut self,
        is_open: impl Fn(PartitionIndex, u64) -> bool,
        out: &mut Vec<Effect>,
    ) {
        self.seats.retain(|index, seat| {
            let stays = is_open(*index, seat.opened);
            if !stays && let Course::Serves(shell) = &mut seat.course {
                shell.end(&moved(), out);
            }
            stays
        });
    }

    /// Takes the next step with a partition. Returns what is to be written, and up to where the log is to be read.
    pub(super) fn look(
        &mut self,
        replica: &mut Replica,
        time: (Time, Timestamp),
        out: &mut Vec<Effect>,
    ) -> (Vec<Write>, Option<Offset>) {
        let (opened, index) = (replica.opened, replica.id.partition);
        let seat = self.seats.entry(index).or_insert(Seat { opened, course: Course::Waits(None) });
        let fates = std::mem::take(&mut replica.fates);
        match &mut seat.course {
            Course::Serves(shell) => {
                let machine = &replica.machine;
                if !machine.is_leader() || machine.epoch() != shell.epoch {
                    shell.end(&moved(), out);
                    seat.course = Course::Waits(None);
                } else if let Some(error) = shell.settle(fates, time, out) {
                    shell.end(&error, out);
                    let again = time.0 + AGAIN;
                    out.push(Effect::WakeGroups { at: again });
                    seat.course = Course::Waits(Some(again));
                } else {
                    shell.tick(time, out);
                    return (shell.writes(&mut self.writes), None);
                }
            }
            Course::Loads { up_to, read: true, .. } => return (Vec::new(), Some(*up_to)),
            Course::Loads { .. } => {}
            Course::Waits(until) => {
                let waits = until.is_some_and(|until| time.0 < until);
                if !waits && is_ready(replica) {
                    let epoch = replica.machine.epoch();
                    let up_to = replica.machine.readable();
                    seat.course = Course::Loads { epoch, up_to, read: false };
                    out.push(Effect::Load { partition: index, opened });
                }
            }
        }
        (Vec::new(), None)
    }

    /// The groups were read, or could not be.
    pub(super) fn loaded(
        &mut self,
        index: PartitionIndex,
        groups: Option<Groups>,
        time: (Time, Timestamp),
        out: &mut Vec<Effect>,
    ) {
        let Some(Seat { course, .. }) = self.seats.get_mut(&index) else {
            return;
        };
        let Course::Loads { epoch, .. } = *course else {
            return;
        };
        *course = match groups {
            Some(groups) => {
                out.push(Effect::note(format!("groups of {index} are served in {epoch}")));
                let topics = Arc::clone(&self.topics);
                let config = CoordinatorConfig::default();
                let coordinator = Coordinator::new(config, groups, topics, time.0);
                let mut shell = Shell::new(coordinator, epoch);
                shell.learn(&self.topics, time, out);
                Course::Serves(Box::new(shell))
            }
            None => {
                out.push(Effect::WakeGroups { at: time.0 + AGAIN });
                Course::Waits(Some(time.0 + AGAIN))
            }
        };
    }

    /// The disk has read what groups are loaded from.
    pub(super) fn read(&mut self, index: PartitionIndex, opened: u64) {
        if let Some(seat) = self.seats.get_mut(&index)
            && seat.opened == opened
            && let Course::Loads { read, .. } = &mut seat.course
        {
            *read = true;
        }
    }

    /// The coordinator of a partition, if it serves here.
    pub(super) fn serving(&mut self, index: PartitionIndex) -> Option<&mut Shell> {
        match &mut self.seats.get_mut(&index)?.course {
            Course::Serves(shell) => Some(shell),
            _ => None,
        }
    }
}

/// Whether the groups can be loaded: all that was written, by whomever, is committed.
fn is_ready(replica: &Replica) -> bool {
    let machine = &replica.machine;
    if mutation::is(Mutation::ServeBeforeLoaded) {
        return machine.is_leader();
    }
    machine.is_established() && machine.offsets().end() <= machine.readable()
}
