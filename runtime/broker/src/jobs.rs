//! Jobs: the tasks that run on this broker, one an input partition.
//!
//! Invariant: an input partition of a job has at most one task; its position is saved under the job's
//! id, which is never used again.

mod positions;
mod rest;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::metadata::{Image, Job};
use millstream_modules::{FilterHandle, FilterSpec, Limits, Scope};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{JobId, Offset, PartitionIndex, TopicName};
use millstream_protocol::message::job::{JobLimits, JobSpec, JobState, LastResort, StartPosition};
use parking_lot::Mutex;
use positions::Positions;
use rest::Parked;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::cores::Cores;
use crate::drivers::job::{JobTask, Kin, Place, Progress, Wanted};
use crate::drivers::metadata::Metadata;
use crate::drivers::partition::Message;
use crate::drivers::store::StoreHandle;
use crate::modules::Modules;
use crate::partitions::{Partition, Partitions};

/// What every job's tasks use.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) modules: Arc<Modules>,
    pub(crate) metadata: Metadata,
    positions: Positions,
}

impl Tools {
    /// Starts a fresh guest of a job for one input partition.
    pub(crate) async fn start(
        &self,
        spec: &JobSpec,
        Kin { scope, topic }: &Kin,
        partition: PartitionIndex,
    ) -> Result<FilterHandle, WireError> {
        let guest = FilterSpec {
            params: spec.params.clone().into_iter().collect(),
            outputs: spec.outputs.iter().map(ToString::to_string).collect(),
            scope: Arc::clone(scope),
            place: Some((Arc::clone(topic), partition.0)),
        };
        self.modules.start(&self.metadata.image(), &spec.module, guest).await
    }

    /// Saves one position and waits until it is durable.
    pub(crate) async fn save(
        &self,
        place: &Place,
        progress: &Arc<Progress>,
    ) -> Result<(), WireError> {
        self.positions.save_now([(place.key(), progress)]).durable().await
    }

    /// Where a job's dead letters go.
    pub(crate) fn dead_letter_topic(&self, spec: &JobSpec) -> Option<TopicName> {
        let wanted = spec.on_error.then == LastResort::DeadLetter;
        wanted.then(|| TopicName::new(&format!("{}.dlq", spec.name)).ok()).flatten()
    }
}

/// What a guest may use, in the words of the module host.
pub(crate) fn guest_limits(limits: &JobLimits) -> Limits {
    Limits {
        deadline: Duration::from_millis(limits.batch_ms.into()),
        memory_bytes: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
        output_ratio: limits.output_ratio as usize,
        ..Limits::default()
    }
}

/// All jobs of this broker.
#[derive(Debug)]
pub(crate) struct Jobs {
    tools: Arc<Tools>,
    cores: Arc<Cores>,
    clock: Clock,
    stop: CancellationToken,
    running: Mutex<BTreeMap<JobId, Runtime>>,
    /// Positions as they were stored, by row key; taken as tasks are started.
    stored: Mutex<BTreeMap<Vec<u8>, Offset>>,
    /// Who rests until everything that is decided has its effect.
    parked: Parked,
}

/// One job's tasks.
#[derive(Debug)]
struct Runtime {
    wanted: watch::Sender<Wanted>,
    stop: CancellationToken,
    tasks: tokio_util::task::TaskTracker,
    /// What its guests share, for as long as it runs.
    scope: Arc<Scope>,
    /// By input and partition.
    tasks_of: BTreeMap<(u8, u32), Seat>,
}

/// One task: what it reads, and how it stands.
#[derive(Debug)]
struct Seat {
    place: Place,
    standing: Standing,
}

/// One task's progress, for whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) partition: Partition,
    pub(crate) progress: Arc<Progress>,
}

impl Standing {
    /// Records between the position and the end.
    pub(crate) fn lag(&self) -> u64 {
        let end = self.partition.view().high_watermark;
        end.saturating_distance(self.progress.position())
    }
}

impl Jobs {
    pub(crate) fn new(
        (partitions, modules): (Arc<Partitions>, Arc<Modules>),
        metadata: Metadata,
        cores: Arc<Cores>,
        store: StoreHandle,
        clock: Clock,
        stop: CancellationToken,
        stored: BTreeMap<Vec<u8>, Offset>,
    ) -> Self {
        let positions = Positions::new(store);
        let tools = Arc::new(Tools { partitions, modules, metadata, positions });
        let (running, stored) = (Mutex::default(), Mutex::new(stored));
        let parked = Parked::default();
        Self { tools, cores, clock, stop, running, stored, parked }
    }

    /// How a job stands on each of its input partitions.
    pub(crate) fn standings(&self, job: JobId) -> Vec<Standing> {
        let running = self.running.lock();
        let Some(runtime) = running.get(&job) else {
            return Vec::new();
        };
        runtime.tasks_of.values().map(|seat| seat.standing.clone()).collect()
    }

    /// What a job's guests share: limits, counters, log. None of a job that this broker does not run:
    /// who asks may have an image from before its end.
    pub(crate) fn scope(&self, job: JobId) -> Option<Arc<Scope>> {
        self.running.lock().get(&job).map(|runtime| Arc::clone(&runtime.scope))
    }

    /// Ends what the image no longer knows, before its topics go.
    pub(crate) async fn reconcile_before(&self, image: &Image) {
        let orphans = orphans(&mut self.stored.lock(), |job| image.jobs().contains_key(&job));
        if !orphans.is_empty() {
            self.tools.positions.forget(orphans);
        }
        let gone: Vec<_> = {
            let mut running = self.running.lock();
            let ids: Vec<_> =
                running.keys().filter(|id| !image.jobs().contains_key(id)).copied().collect();
            ids.into_iter().filter_map(|id| Some((id, running.remove(&id)?))).collect()
        };
        for (id, runtime) in gone {
            runtime.end().await;
            self.forget(id, runtime).await;
        }
    }

    async fn forget(&self, job: JobId, runtime: Runtime) {
        self.tools.positions.forget(runtime.tasks_of.values().map(|seat| seat.place.key()));
        for (_, topic) in self.tools.partitions.all() {
            for partition in topic.partitions.iter().flatten() {
                // An error means that the partition is being closed.
                drop(partition.send(Message::ForgetJob(job)).await);
            }
        }
    }

    /// Starts and changes what the image knows, after its topics are there.
    pub(crate) async fn reconcile_after(&self, image: &Image) {
        if self.stop.is_cancelled() {
            return;
        }
        for (id, job) in image.jobs() {
            self.one(*id, job);
        }
        self.save_what_was_put_back().await;
        self.end_what_was_waited_for();
    }

    /// A position that lay beyond the end of its input has to be saved before the input has so many
    /// records again: who found it then would pass over them.
    async fn save_what_was_put_back(&self) {
        let put_back = {
            let running = self.running.lock();
            let mut seats = running.values().flat_map(|runtime| runtime.tasks_of.values());
            seats.any(|seat| seat.standing.progress.has_leapt())
        };
        if put_back && let Err(error) = self.save_now().await {
            tracing::error!(%error, "the place where a job goes on, as its input lost records");
        }
    }

    fn one(&self, id: JobId, job: &Job) {
        let mut running = self.running.lock();
        // A job that runs already reads partitions that are added to its input from their start.
        let mine = id.0.to_be_bytes();
        let known = running.contains_key(&id)
            || self.stored.lock().keys().any(|key| key.starts_with(&mine));
        let from = if known { StartPosition::Earliest } else { job.spec.start };
        let runtime = running.entry(id).or_insert_with(|| Runtime::new(job, &self.stop));
        let changed = runtime.wanted.borrow().generation != job.generation;
        if changed {
            runtime.scope.set_limits(guest_limits(&job.spec.limits));
            runtime.wanted.send_modify(|known| {
                let Wanted { held, calls, .. } = *known;
                *known = Wanted { held, calls, ..wanted(job) };
            });
        }
        for (input, name) in (0_u8..).zip(&job.spec.inputs) {
            let Some(topic) = self.tools.partitions.topic(name) else {
                continue;
            };
            for partition in topic.partitions.into_iter().flatten() {
                self.task(runtime, id, from, (input, name), partition);
            }
        }
    }

    fn task(
        &self,
        runtime: &mut Runtime,
        job: JobId,
        from: StartPosition,
        (input, topic): (u8, &TopicName),
        partition: Partition,
    ) {
        let index = partition.id().partition;
        if runtime.tasks_of.contains_key(&(input, index.0)) {
            return;
        }
        let place = Place { job, input, topic: topic.clone(), partition: index };
        let progress = match self.stored.lock().remove(&place.key()) {
            Some(position) => resumed(&partition, position, job),
            None => Progress::at(start(&partition, from), false),
        };
        let progress = Arc::new(progress);
        let task = JobTask::new(
            place.clone(),
            Arc::clone(&self.tools),
            Arc::clone(&runtime.scope),
            runtime.wanted.subscribe(),
            Arc::clone(&progress),
            self.clock,
            runtime.stop.clone(),
        );
        let core = self.cores.of_partition(partition.id());
        core.spawn(runtime.tasks.track_future(task.run()));
        runtime
            .tasks_of
            .insert((input, index.0), Seat { place, standing: Standing { partition, progress } });
    }

    /// Saves positions every now and then, and a last time when every task has ended.
    pub(crate) async fn save_positions(&self, every: Duration) {
        let first = tokio::time::Instant::now() + every;
        let mut ticks = tokio::time::interval_at(first, every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = ticks.tick() => self.save(),
            }
        }
        // They stay where they are while they end: who wants a job to rest meanwhile has to find it.
        let ends: Vec<_> = self.running.lock().values().map(Runtime::end).collect();
        futures::future::join_all(ends).await;
        self.save();
    }

    /// Saves positions and waits until they are durable: a job that starts at the latest offset
    /// starts there even if the broker dies now.
    ///
    /// # Errors
    /// They could not be saved.
    pub(crate) async fn save_now(&self) -> Result<(), WireError> {
        let saving = self.tools.positions.save_now(positions(&self.running.lock()));
        saving.durable().await
    }

    /// Starts to save what has moved. Cheap when nothing has.
    fn save(&self) {
        self.tools.positions.save(positions(&self.running.lock()));
    }
}

/// What to save, of all jobs.
fn positions(
    running: &BTreeMap<JobId, Runtime>,
) -> impl Iterator<Item = (Vec<u8>, &Arc<Progress>)> {
    let seats = running.values().flat_map(|runtime| runtime.tasks_of.values());
    seats.map(|seat| (seat.place.key(), &seat.standing.progress))
}

impl Runtime {
    fn new(job: &Job, stop: &CancellationToken) -> Self {
        let (wanted, _) = watch::channel(wanted(job));
        let tasks = tokio_util::task::TaskTracker::new();
        let scope = Arc::new(Scope::new(guest_limits(&job.spec.limits)));
        Self { wanted, stop: stop.child_token(), tasks, scope, tasks_of: BTreeMap::new() }
    }

    /// Ends the tasks, and waits until they have. Asks them at once.
    fn end(&self) -> impl Future<Output = ()> + use<> {
        self.stop.cancel();
        self.tasks.close();
        let tasks = self.tasks.clone();
        async move { tasks.wait().await }
    }
}

fn wanted(job: &Job) -> Wanted {
    Wanted {
        generation: job.generation,
        running: job.state == JobState::Running,
        held: 0,
        calls: 0,
        spec: Arc::new(job.spec.clone()),
    }
}

/// Takes out the positions of jobs that are not known any more, and says which rows to remove: a crash
/// may have come between the end of a job and that of its positions, and what was stored for a partition
/// that does not open is no task's.
fn orphans(stored: &mut BTreeMap<Vec<u8>, Offset>, known: impl Fn(JobId) -> bool) -> Vec<Vec<u8>> {
    let unknown = |key: &[u8]| {
        let job = key.first_chunk().map(|id| JobId(u32::from_be_bytes(*id)));
        !job.is_some_and(&known)
    };
    let keys = stored.keys().filter(|key| unknown(key)).cloned().collect();
    stored.retain(|key, _| !unknown(key));
    keys
}

/// Where a job goes on. What it had read and its input has lost is not read again, and what is written
/// there since is: the outputs tell the two apart by their epochs.
fn resumed(partition: &Partition, position: Offset, job: JobId) -> Progress {
    let end = partition.recovered_end();
    if position <= end {
        return Progress::at(position, true);
    }
    tracing::error!(
        job = job.0, topic = %partition.topic(), partition = %partition.id().partition, %position, %end,
        "the input has lost records that the job had read: the job goes on where the input ends now"
    );
    let progress = Progress::at(end, false);
    progress.leap(end, true);
    progress
}

/// Where a job without a position starts.
fn start(partition: &Partition, start: StartPosition) -> Offset {
    let view = partition.view();
    match start {
        StartPosition::Earliest => view.log_start,
        StartPosition::Latest => view.high_watermark,
        StartPosition::Timestamp(time) => {
            let found = partition.reader().offset_for_timestamp(time, view.high_watermark);
            match found {
                Ok(found) => found.map_or(view.high_watermark, |(offset, _)| offset),
                Err(error) => {
                    tracing::error!(%error, "the start cannot be found by time: starting earliest");
                    view.log_start
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
