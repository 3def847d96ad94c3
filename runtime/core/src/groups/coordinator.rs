//! The coordinator of one partition's groups: requests in, rows out, answers when the rows are committed.
//!
//! ```text
//!  Ask ─▶ apply ─▶ rows, staged ──(nothing in flight)──▶ Write ─▶ … ─▶ Written ─▶ Answer, Tell
//! ```
//! One write is in flight at a time, and takes all that was staged meanwhile: many commits share one.
//!
//! It begins with groups that were loaded from the log and ends with the leadership. Deadlines are its own and not
//! in the log: a new coordinator gives every member its whole session again.
//!
//! That a member lives changes no row, and is answered without a write. A coordinator that was deposed while it stood
//! still must not do that: who was idle for long proves with a write that it still coordinates.
//!
//! Invariant: nobody is told of what is not committed; a member is fenced for silence only by a coordinator that was
//! itself awake all the time.

mod sessions;
mod sharing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::ids::{GroupName, MemberId, Timestamp, TopicPartition};
use millstream_protocol::message::group::{
    Beat, CommitOffsets, GroupOffset, ResetOffsets, Standing,
};

use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::CommitOffsetsInTransaction;

use self::sessions::Sessions;
use self::sharing::Sharing;
use super::command::{Command, Response};
use super::error::GroupError;
use super::image::{Group, Groups};
use super::rows::{Key, Rows};
use super::topics::Topics;
use crate::machine::{Machine, Time, Token};
use crate::mutation::{self, Mutation};

/// How often groups that nobody uses are looked for.
const EXPIRY: Duration = Duration::from_secs(60);
/// After so long without anything to do, it does not know whether another coordinates meanwhile.
const UNCERTAIN: Duration = Duration::from_secs(1);
/// How much longer than their sessions a new coordinator waits for members: the one before may have answered them for
/// as long as it did not know that it was deposed.
const GRACE: Duration = Duration::from_secs(2);
/// Rows that may be staged, and answers that may wait, before it takes nothing more.
const MAX_STAGED: usize = 50_000;

/// How a coordinator works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// How long the offsets of a group that nobody uses are kept.
    pub offsets_retention: Duration,
    /// A group's partitions are shared out anew at once when its members change, but not more often than this: many
    /// who come or go together cost one sharing out, and few moves.
    pub sharing: Duration,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self {
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            sharing: Duration::from_millis(50),
        }
    }
}

/// What is asked of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A member lives, or joins.
    Beat {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
        /// What it says.
        beat: Beat,
    },
    /// A member goes.
    Leave {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
        /// It is not expected back.
        forget: bool,
    },
    /// Commit offsets.
    Commit(CommitOffsets),
    /// Commit offsets as a part of a transaction.
    CommitInTransaction(CommitOffsetsInTransaction),
    /// A transaction has ended.
    EndTransaction {
        /// The group.
        group: GroupName,
        /// The producer, and the epoch of the transaction.
        producer: ProducerIdentity,
        /// Whether its offsets count.
        commit: bool,
    },
    /// Say what is committed.
    Fetch {
        /// The group.
        group: GroupName,
        /// Of which partitions; of all when absent.
        partitions: Option<Vec<TopicPartition>>,
    },
    /// Set offsets.
    Reset(ResetOffsets),
    /// Delete a group.
    Delete(GroupName),
}

/// What happens to a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody asks something.
    Ask {
        /// Handed back with the answer.
        token: Token,
        /// The time on the wall.
        wall: Timestamp,
        /// What is asked.
        ask: Ask,
    },
    /// What [`Output::Write`] gave out is committed.
    Written,
    /// The topics have changed.
    Topics(Arc<Topics>),
    /// The deadline passed.
    Tick {
        /// The time on the wall.
        wall: Timestamp,
    },
}

/// What a coordinator asks its shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these rows to the partition's log, and say [`Input::Written`] when they are committed. When they cannot
    /// be, the coordinator is at its end: another one is made from what the log holds.
    Write(Rows),
    /// The answer to a question.
    Answer {
        /// Of the question.
        token: Token,
        /// The answer.
        answer: Result<Response, GroupError>,
    },
    /// A member's assignment has changed.
    Tell {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
        /// What it may own now; nothing when it is fenced.
        standing: Option<Standing>,
    },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Coordinator {
    config: CoordinatorConfig,
    groups: Groups,
    topics: Arc<Topics>,
    sessions: Sessions,
    sharing: Sharing,
    expire_at: Time,
    /// It was idle for long: with the next answer it proves that it still coordinates.
    uncertain: bool,
    staged: Rows,
    /// What follows when the staged rows are committed.
    then: Vec<Output>,
    /// What follows when the rows that are being written are committed.
    in_flight: Option<Vec<Output>>,
}

impl Coordinator {
    /// A coordinator of groups as the log holds them.
    #[must_use]
    pub fn new(config: CoordinatorConfig, groups: Groups, topics: Arc<Topics>, now: Time) -> Self {
        let mut this = Self {
            config,
            groups,
            topics,
            sessions: Sessions::default(),
            sharing: Sharing::new(config.sharing),
            expire_at: now + EXPIRY,
            uncertain: false,
            staged: Rows::new(),
            then: Vec::new(),
            in_flight: None,
        };
        for (name, group) in this.groups.iter() {
            for (id, member) in group.members() {
                this.sessions.heard(now + GRACE, (name, *id), member);
            }
        }
        // Rows of one command may have been written in part.
        this.change(now, &Command::Retarget).expect("it is never refused");
        this
    }

    /// The groups, with what is not committed yet.
    #[must_use]
    pub const fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Whether it takes questions now.
    #[must_use]
    pub fn accepts(&self) -> bool {
        let waiting = self.then.len() + self.in_flight.as_ref().map_or(0, Vec::len);
        self.staged.len() < MAX_STAGED && waiting < MAX_STAGED
    }

    fn ask(&mut self, now: Time, token: Token, wall: Timestamp, ask: Ask) {
        let answer = match ask {
            Ask::Beat { group, member, beat } => self.beat(now, group, member, beat),
            Ask::Leave { group, member, forget } => {
                self.change(now, &Command::Leave { group, member, forget, at: wall })
            }
            Ask::Commit(commit) => self.change(now, &Command::Commit { commit, at: wall }),
            Ask::CommitInTransaction(CommitOffsetsInTransaction { producer, commit }) => {
                let at = wall;
                self.change(now, &Command::CommitInTransaction { producer, commit, at })
            }
            Ask::EndTransaction { group, producer, commit } => {
                let at = wall;
                self.change(now, &Command::EndTransaction { group, producer, commit, at })
            }
            Ask::Reset(reset) => self.change(now, &Command::Reset { reset, at: wall }),
            Ask::Delete(group) => self.change(now, &Command::Delete { group }),
            Ask::Fetch { group, partitions } => self.fetch(group, partitions.as_deref()),
        };
        self.then.push(Output::Answer { token, answer });
    }

    /// Has the answers that follow wait for a write, which is taken only while it coordinates.
    fn prove(&mut self, group: &GroupName) {
        if std::mem::take(&mut self.uncertain) && self.groups.get(group).is_some() {
            let (key, value) = self.groups.row(&Key::Group(group.clone()));
            self.staged.insert(key, value);
        }
    }

    fn beat(
        &mut self,
        now: Time,
        group: GroupName,
        member: MemberId,
        beat: Beat,
    ) -> Result<Response, GroupError> {
        self.prove(&group);
        if self.sessions.is_condemned((&group, member)) {
            return Err(GroupError::Fenced { group, member });
        }
        let (seen, before) = (beat.epoch, self.then.len());
        let command = Command::Beat { group: group.clone(), member, beat };
        let response = self.change(now, &command)?;
        let heard = self.groups.get(&group).and_then(|group| group.members().get(&member));
        let heard = heard.expect("it is a member now");
        self.sessions.heard(now, (&group, member), heard);
        if heard.epoch == seen {
            return Ok(response);
        }
        // The answer says everything that this came to; it is not told twice.
        let twice = |told: &Output| match told {
            Output::Tell { group: of, member: to, .. } => *of == group && *to == member,
            _ => false,
        };
        let mut told = self.then.split_off(before);
        told.retain(|told| !twice(told));
        self.then.append(&mut told);
        let standing = self.groups.standing(&self.topics, &group, member);
        let standing = standing.expect("it is a member now");
        Ok(Response::Standing(Standing { answers: true, ..standing }))
    }

    fn fetch(
        &self,
        name: GroupName,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Response, GroupError> {
        let group = self.groups.get(&name).ok_or(GroupError::UnknownGroup(name))?;
        let wanted = partitions.map(|partitions| partitions.iter().collect::<BTreeSet<_>>());
        if let Some(partition) =
            partitions.and_then(|all| all.iter().find(|p| group.is_pending(**p)))
        {
            let producer = group.pending[partition].producer.id;
            return Err(GroupError::Pending { partition: *partition, producer });
        }
        let is_wanted = |place: &GroupOffset| {
            wanted.as_ref().is_none_or(|wanted| wanted.contains(&place.partition))
        };
        Ok(Response::Offsets(group.offsets().filter(is_wanted).collect()))
    }

    /// Applies a command, stages its rows, and keeps the deadlines of those that it concerns.
    fn change(&mut self, now: Time, command: &Command) -> Result<Response, GroupError> {
        let applied = self.groups.apply(&self.topics, command)?;
        self.staged.extend(applied.rows);
        for (group, member) in applied.moved {
            let standing = self.groups.standing(&self.topics, &group, member);
            let known = self.groups.get(&group).and_then(|group| group.members().get(&member));
            if let Some(known) = known {
                self.sessions.moved(now, (&group, member), known);
            }
            self.then.push(Output::Tell { group, member, standing });
        }
        self.end_sessions(command);
        if let Some(group) = applied.stale
            && self.sharing.may(now, &group)
        {
            self.change(now, &Command::Share(group)).expect("it is never refused");
        }
        Ok(applied.response)
    }

    fn end_sessions(&mut self, command: &Command) {
        if let Command::Leave { group, member, .. } | Command::Fence { group, member, .. } = command
        {
            let member_of = |group: &Group| group.members().contains_key(member);
            if !self.groups.get(group).is_some_and(member_of) {
                self.sessions.end((group, *member));
            }
        }
    }

    fn tick(&mut self, now: Time, wall: Timestamp) {
        while let Some((group, member)) = self.sessions.due(now) {
            if self.sessions.condemn(now, (&group, member)) {
                self.then.push(Output::Tell { group, member, standing: None });
                continue;
            }
            let fence = Command::Fence { group: group.clone(), member, at: wall };
            self.change(now, &fence).expect("fencing is never refused");
            self.sessions.end((&group, member));
            // Who lives after all learns it.
            self.then.push(Output::Tell { group, member, standing: None });
        }
        while let Some(group) = self.sharing.due(now) {
            self.change(now, &Command::Share(group)).expect("it is never refused");
        }
        if self.expire_at <= now {
            self.expire_at = now + EXPIRY;
            let kept = i64::try_from(self.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
            let before = Timestamp(wall.get().saturating_sub(kept));
            self.change(now, &Command::Expire { before }).expect("it is never refused");
        }
    }

    /// Writes what is staged, or answers what waits for nothing.
    fn flush(&mut self, out: &mut Vec<Output>) {
        if mutation::is(Mutation::TellBeforeWritten) {
            out.append(&mut self.then);
        }
        if let Some(follows) = &mut self.in_flight {
            if self.staged.is_empty() {
                follows.append(&mut self.then);
            }
        } else if self.staged.is_empty() {
            out.append(&mut self.then);
        } else {
            self.in_flight = Some(std::mem::take(&mut self.then));
            out.push(Output::Write(std::mem::take(&mut self.staged)));
        }
    }
}

impl Machine for Coordinator {
    type Input = Input;
    type Output = Output;

    fn step(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        self.uncertain |= UNCERTAIN < self.sessions.woke(now);
        match input {
            Input::Ask { token, wall, ask } => self.ask(now, token, wall, ask),
            Input::Written => {
                let follows = self.in_flight.take();
                out.append(&mut follows.expect("only what is in flight is written"));
            }
            Input::Topics(topics) => {
                self.topics = topics;
                self.change(now, &Command::Retarget).expect("it is never refused");
            }
            Input::Tick { wall } => self.tick(now, wall),
        }
        self.flush(out);
    }

    fn deadline(&self) -> Option<Time> {
        let others = self.sessions.deadline().into_iter().chain(self.sharing.deadline());
        others.chain([self.expire_at]).min()
    }
}
