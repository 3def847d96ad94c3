//! The group consumer: a consumer whose partitions are given to it by the group's coordinator.
//!
//! ```text
//!  coordinator ◀── beats ── membership (a thread of its own) ── what may be owned ──▶ GroupConsumer ──▶ Consumer
//!              ── standings ──▶                 ◀── what is owned ──
//! ```
//! Reading order: `config`, `shared` (what both sides know), `membership` (the coordinator's side), `offsets` (what was
//! handed out, and is committed).
//!
//! Invariant: a partition is read only while it is owned; it is let go of only between two calls of
//! [`GroupConsumer::next`], when everything that was handed out of it is processed and, if that is wanted, committed.

mod config;
mod listener;
mod membership;
mod offsets;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::error::ErrorCode;
use millstream_protocol::ids::{MemberId, Offset, PartitionIndex, TopicName, TopicPartition};
use millstream_protocol::message::group::{Committed, FetchOffsets};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

pub use config::{CommitMode, GroupConfig};
pub use listener::{RebalanceListener, Turn};
pub(crate) use offsets::Noted;

use crate::client::Client;
use crate::consumer::{Consumer, Fetched, StartAt};
use crate::error::{ClientError, CommitError, ConsumeError, TopicGone};
use membership::Membership;
use offsets::Ledger;
use shared::{Shared, Step, Taken};

/// How long a commit may take before a partition is let go of without it: its records come again elsewhere.
const LAST_COMMIT: Duration = Duration::from_secs(10);
/// Partitions whose place is looked up at a time.
const ASSIGNING: usize = 64;

/// A member of a consumer group. Each partition of the topics that the group subscribes to is read by one member; those
/// that a member gets or loses are told to its listener. Dropping it leaves the group.
///
/// ```
/// use millstream_client::{Client, ClientConfig, GroupConfig};
///
/// # millstream_tests_cluster::example::run(async {
/// # use millstream_tests_cluster::example::ClientConfig;
/// let client = Client::connect(ClientConfig::new(["127.0.0.1:9440"]).ca_file("ca.pem")).await?;
/// # client.admin().create_topic("orders", 1).await?;
/// # let producer = client.producer(millstream_client::ProducerConfig::default())?;
/// # let sent = millstream_client::ProducerRecord::new("orders").value(b"tea");
/// # producer.send(sent).await?.await?;
/// let consumer = client.group_consumer(GroupConfig::new("billing", ["orders"]))?;
/// loop {
///     let fetched = consumer.next().await?;
///     for record in &fetched {
///         println!("{:?}", record?.value);
///     }
///     consumer.commit().await?;
/// #   break
/// }
/// consumer.close().await?;
/// # Ok(()) });
/// ```
pub struct GroupConsumer {
    client: Client,
    consumer: Arc<Consumer>,
    config: GroupConfig,
    shared: Arc<Shared>,
    membership: Membership,
    runtime: Handle,
    ledger: Arc<Ledger>,
    /// Held by who waits for records: rebalances are dealt with by one task at a time.
    course: tokio::sync::Mutex<Course>,
}

/// What the waiting task is about.
struct Course {
    /// What is owned and not read yet.
    to_assign: Vec<Taken>,
    /// Of which the place is being looked up: by tasks, as what waits for locks has to go on while the program is busy.
    assigning: JoinSet<(Taken, Result<(), ConsumeError>)>,
    /// Those that are being looked up.
    busy: BTreeSet<TopicPartition>,
    /// What is processed is being committed. Records are handed out meanwhile.
    committing: JoinSet<Result<(), CommitError>>,
    commit_at: Instant,
}

impl GroupConsumer {
    pub(crate) fn new(client: &Client, config: GroupConfig) -> Result<Self, ClientError> {
        let details = config.details(client.config())?;
        let consumer = Arc::new(client.consumer(config.consumer.clone())?);
        let group = config.name()?;
        let shared = Arc::new(Shared::new(group, details));
        // Connections of its own, on a thread of its own: what the program does with its threads costs no membership.
        let membership = Membership::start(client.config().clone(), Arc::clone(&shared))?;
        let ledger = Arc::new(Ledger::new(client.clone(), Arc::clone(&shared)));
        let commit_at = Instant::now() + config.commit.interval();
        let course = Course {
            to_assign: Vec::new(),
            assigning: JoinSet::new(),
            busy: BTreeSet::new(),
            committing: JoinSet::new(),
            commit_at,
        };
        let course = tokio::sync::Mutex::new(course);
        let runtime = Handle::current();
        let client = client.clone();
        Ok(Self { client, consumer, config, shared, membership, runtime, ledger, course })
    }

    /// The next batch of any partition that is owned. Everything that was handed out before counts as processed.
    ///
    /// Waits while nothing is owned, and while it is not certain that the member is still one. Cancelling it loses
    /// nothing.
    ///
    /// # Errors
    /// As [`Consumer::next`], or why the group cannot be joined.
    pub async fn next(&self) -> Result<Fetched, ConsumeError> {
        let mut course = self.course.lock().await;
        self.ledger.everything_is_processed();
        loop {
            self.settle(&mut course).await?;
            self.commit_when_due(&mut course);
            let certain = self.shared.certain_until();
            let reads = certain.is_some() && !self.consumer.assignment().is_empty();
            let commit = self.config.commit.is_periodic() && course.committing.is_empty();
            let Course { assigning, committing, commit_at, .. } = &mut *course;
            tokio::select! {
                biased;
                () = self.shared.news.notified() => {}
                () = sleep_until(certain.unwrap_or_else(Instant::now)), if certain.is_some() => {}
                Some(committed) = committing.join_next() => {
                    if let Err(error) = committed.expect("a commit does not panic") {
                        tracing::warn!(%error, "offsets were not committed: it is tried again");
                    }
                }
                () = sleep_until(*commit_at), if commit => {}
                Some(done) = assigning.join_next() => {
                    let (taken, assigned) = done.expect("assigning does not panic");
                    self.assigned(&mut course, taken, assigned)?;
                }
                fetched = self.consumer.next(), if reads => {
                    let fetched = match fetched {
                        // What becomes of a topic that was deleted the coordinator says.
                        Err(ConsumeError::TopicGone(gone)) => {
                            self.forget_topic(&gone);
                            continue;
                        }
                        fetched => fetched?,
                    };
                    if !self.ledger.has(fetched.topic(), fetched.partition()) {
                        // It went while its place was looked up.
                        continue;
                    }
                    self.before_delivery(&fetched).await?;
                    self.ledger.handed_out(&fetched);
                    return Ok(fetched);
                }
            }
        }
    }

    /// Commits everything that was handed out: it is processed, and does not come again.
    ///
    /// # Errors
    /// [`CommitError`]: what is refused comes again, perhaps at another member.
    pub async fn commit(&self) -> Result<(), CommitError> {
        self.ledger.commit_handed_out().await
    }

    /// Commits that a partition is processed up to an offset, which is not beyond what was handed out.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn commit_up_to(
        &self,
        topic: &str,
        partition: PartitionIndex,
        offset: Offset,
    ) -> Result<(), CommitError> {
        let topic = TopicName::new(topic).map_err(ClientError::from)?;
        self.ledger.commit_up_to(&topic, partition, offset).await
    }

    /// Goes back, in every partition that it owns, to what the group has committed: after a transaction that offsets
    /// were to be committed with was aborted, or may have been. Of the latter settle the producer first
    /// ([`crate::TransactionalProducer::settle`]): while a transaction is about to move an offset, this waits.
    ///
    /// # Errors
    /// The coordinator cannot be reached, or as [`Consumer::seek`].
    pub async fn rewind(&self) -> Result<(), ConsumeError> {
        // Nothing is handed out meanwhile.
        let _course = self.course.lock().await;
        let owned = self.ledger.forget_handed_out();
        let partitions = Some(owned.iter().map(|(_, of)| *of).collect());
        let call = FetchOffsets { group: self.shared.group.clone(), partitions };
        let offsets = self.client.call_of_group(&self.shared.group, call).await;
        let offsets: BTreeMap<_, _> = match offsets {
            Ok(told) => {
                told.offsets.into_iter().map(|one| (one.partition, one.committed)).collect()
            }
            // Nobody has committed anything yet.
            Err(ClientError::Refused(error)) if error.code == ErrorCode::UnknownGroup => {
                BTreeMap::new()
            }
            Err(error) => return Err(error.into()),
        };
        for ((topic, partition), of) in owned {
            let committed = offsets.get(&of);
            self.ledger.is_committed(&(topic.clone(), partition), committed.map(|at| at.offset));
            let at = committed.map_or(self.config.start, |at| StartAt::Offset(at.offset));
            self.consumer.seek(topic.as_str(), partition, at).await?;
        }
        Ok(())
    }

    pub(crate) fn note(&self) -> Result<Noted, CommitError> {
        if self.config.commit != CommitMode::Manual {
            return Err(CommitError::NotManual { group: self.config.group.clone() });
        }
        Ok(self.ledger.note())
    }

    /// What is owned and read now.
    #[must_use]
    pub fn assignment(&self) -> Vec<(TopicName, PartitionIndex)> {
        self.consumer.assignment()
    }

    /// The member's identity, until it is fenced and joins anew.
    #[must_use]
    pub fn member(&self) -> MemberId {
        self.shared.member()
    }

    /// The consumer underneath, to pause, resume and seek what is owned.
    #[must_use]
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// Leaves the group, after what was handed out is committed if that is done periodically, and the listener was
    /// told: its partitions are others' at once. A static member's wait for it to come back.
    ///
    /// # Errors
    /// [`CommitError`] when the last commit fails; it has left all the same.
    pub async fn close(self) -> Result<(), CommitError> {
        self.ledger.everything_is_processed();
        let committed = match self.config.commit {
            CommitMode::Periodic(_) => self.ledger.commit_processed().await,
            CommitMode::Manual | CommitMode::BeforeDelivery => Ok(()),
        };
        let owned = self.shared.owned();
        self.let_go(&mut *self.course.lock().await, &owned).await;
        self.membership.leave().await;
        committed
    }

    /// Takes every step from what it owns to what it may own.
    async fn settle(&self, course: &mut Course) -> Result<(), ConsumeError> {
        loop {
            match self.shared.next_step() {
                None => {
                    self.assign(course);
                    return Ok(());
                }
                Some(Step::Failed(error)) => return Err(error.into()),
                Some(Step::Lost(lost)) => self.lose(course, &lost).await,
                Some(Step::Revoke(partitions)) => self.let_go(course, &partitions).await,
                Some(Step::Take(taken)) => {
                    let names: Vec<_> = taken.iter().map(Taken::name).collect();
                    course.to_assign.extend(taken);
                    self.tell(Turn::Assigned, &names).await;
                }
            }
        }
    }

    /// Begins to read what is owned, some of it at a time.
    fn assign(&self, course: &mut Course) {
        let wanted = std::mem::take(&mut course.to_assign);
        for taken in wanted {
            // One that went and came back waits until it is known what came of it the first time.
            if ASSIGNING <= course.assigning.len() || !course.busy.insert(taken.of) {
                course.to_assign.push(taken);
                continue;
            }
            let at = match &taken.committed {
                Some(Committed { offset, epoch: Some(epoch), .. }) => {
                    StartAt::Position(*offset, *epoch)
                }
                Some(Committed { offset, .. }) => StartAt::Offset(*offset),
                None => self.config.start,
            };
            self.ledger.begin(&taken);
            let consumer = Arc::clone(&self.consumer);
            let assign = async move {
                let topic = taken.topic.as_str();
                let assigned = consumer.assign(topic, taken.of.partition, at).await;
                (taken, assigned)
            };
            course.assigning.spawn_on(assign, &self.runtime);
        }
    }

    /// Its partitions are read no more; they are owned until the coordinator takes them away.
    fn forget_topic(&self, gone: &TopicGone) {
        tracing::info!(group = %self.config.group, %gone, "reads it no more");
        for (topic, partition) in self.consumer.assignment() {
            if topic == *gone.topic() {
                // It may have been unassigned meanwhile.
                let _ = self.consumer.unassign(topic.as_str(), partition);
            }
        }
    }

    /// A partition is read, or its place could not be looked up; or it has gone again meanwhile.
    fn assigned(
        &self,
        course: &mut Course,
        taken: Taken,
        assigned: Result<(), ConsumeError>,
    ) -> Result<(), ConsumeError> {
        course.busy.remove(&taken.of);
        if !self.ledger.has(&taken.topic, taken.of.partition) {
            // It may not have come so far.
            let _ = self.consumer.unassign(taken.topic.as_str(), taken.of.partition);
            return Ok(());
        }
        assigned.inspect_err(|_| course.to_assign.push(taken))
    }

    /// Others may own these by now: nothing of them is processed or committed any more.
    async fn lose(&self, course: &mut Course, lost: &[(TopicPartition, TopicName)]) {
        self.drop_all(course, lost);
        let names: Vec<_> = lost.iter().map(|(of, name)| (name.clone(), of.partition)).collect();
        if !names.is_empty() {
            tracing::warn!(group = %self.config.group, "fenced: {} partitions are lost", names.len());
            self.tell(Turn::Lost, &names).await;
        }
    }

    async fn let_go(&self, course: &mut Course, partitions: &[(TopicPartition, TopicName)]) {
        if self.config.commit.is_periodic() {
            let committed = timeout(LAST_COMMIT, self.ledger.commit_processed()).await;
            match committed {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "not committed before it was handed over"),
                Err(_) => tracing::warn!("not committed in time before it was handed over"),
            }
        }
        let names: Vec<_> =
            partitions.iter().map(|(of, name)| (name.clone(), of.partition)).collect();
        if names.is_empty() {
            return;
        }
        self.tell(Turn::Revoked, &names).await;
        self.drop_all(course, partitions);
        tracing::debug!(turn = ?Turn::Revoked, partitions = %Listed(&names), "rebalanced");
        self.shared.let_go(partitions.iter().map(|(of, _)| *of));
    }

    fn drop_all(&self, course: &mut Course, partitions: &[(TopicPartition, TopicName)]) {
        for (of, name) in partitions {
            course.to_assign.retain(|taken| taken.of != *of);
            self.ledger.end(name, of.partition);
            // It may not have been assigned yet.
            let _ = self.consumer.unassign(name.as_str(), of.partition);
        }
    }

    async fn tell(&self, turn: Turn, partitions: &[(TopicName, PartitionIndex)]) {
        if turn != Turn::Revoked {
            tracing::debug!(?turn, partitions = %Listed(partitions), "rebalanced");
        }
        if let Some(listener) = &self.config.listener {
            listener.turned(self, turn, partitions).await;
        }
    }

    fn commit_when_due(&self, course: &mut Course) {
        let busy = !course.committing.is_empty() || Instant::now() < course.commit_at;
        if busy || !self.config.commit.is_periodic() {
            return;
        }
        course.commit_at = Instant::now() + self.config.commit.interval();
        let ledger = Arc::clone(&self.ledger);
        let commit = async move { ledger.commit_processed().await };
        course.committing.spawn_on(commit, &self.runtime);
    }

    /// At most once: what is handed out is committed before, and does not come again.
    async fn before_delivery(&self, fetched: &Fetched) -> Result<(), ConsumeError> {
        if self.config.commit != CommitMode::BeforeDelivery {
            return Ok(());
        }
        let committed = self.ledger.commit_before_delivery(fetched).await;
        committed.map_err(|error| ConsumeError::NotCommitted(Box::new(error)))
    }
}

/// Partitions as a log line has them.
struct Listed<'a>(&'a [(TopicName, PartitionIndex)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (topic, partition)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{topic}/{partition}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("GroupConsumer");
        shown.field("group", &self.config.group).field("member", &self.member());
        shown.field("assigned", &self.assignment()).finish_non_exhaustive()
    }
}
