//! Reconcile: make this broker do what the image says, topic by topic and job by job.
//!
//! Invariant: files are deleted only for a topic that a committed command deleted while this broker
//! knew it, and for a replica that its partition's placement has let go of: what the image does not know is
//! left alone. A partition that the file system would not let open is tried again, with pauses; one that is
//! damaged is not, unless others have what was in it.

mod hosting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::metadata::{Image, Topic as TopicImage, TopicConfig};
use millstream_core::replication::{Ballot, Durability};
use millstream_modules::{FilterSpec, Limits, Scope};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{Offset, PartitionIndex, TopicId, TopicName, TopicPartition};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_storage::log::{self, LogConfig};
use millstream_storage::metadata::{Change, Table};
use tokio::sync::{mpsc, oneshot, watch};

use tokio_util::sync::CancellationToken;

use crate::cores::Cores;
use crate::drivers::metadata::Metadata;
use crate::drivers::partition::{Handle, Message, Reconfigure, Target, View, vote_key};
use crate::ingress::Ingress;
use crate::jobs::Jobs;
use crate::metrics::TopicMetrics;
use crate::modules::Modules;
use crate::opening::{NotOpened, Opener, Standing};
use crate::partitions::{Partition, Partitions, Settings, Slot, Topic};
use crate::peers::Opening;

/// Logs that are opened at the same time.
const OPENING: usize = 16;
/// The longest pause before a partition that could not be opened is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Pauses before the filters that did not start are tried again.
const SHORTEST_FILTER_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_FILTER_PAUSE: Duration = Duration::from_secs(30);

/// The task that reconciles.
pub(crate) struct Reconciler {
    pub(crate) opener: Opener,
    pub(crate) cores: Arc<Cores>,
    pub(crate) metadata: Metadata,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) modules: Arc<Modules>,
    pub(crate) jobs: Arc<Jobs>,
    /// What this broker has promised, as it is stored, by partition: of those that are not open.
    pub(crate) ballots: BTreeMap<TopicPartition, Ballot>,
    /// What each replica was last told of who should vote.
    pub(crate) aimed: BTreeMap<TopicPartition, Target>,
    /// Logs that turned out to be damaged.
    pub(crate) reports: mpsc::Receiver<Opening>,
    /// The log that everything is decided in.
    pub(crate) metadata_log: Handle,
    /// To be cancelled when the broker has to start anew.
    pub(crate) restart: CancellationToken,
    pub(crate) done: watch::Sender<Offset>,
    /// What is served now, to see what changed.
    pub(crate) served: BTreeMap<TopicId, Served>,
    /// The image that was last reconciled.
    pub(crate) last: Arc<Image>,
}

/// A topic as it is being served.
pub(crate) struct Served {
    name: TopicName,
    config: TopicConfig,
    metrics: Arc<TopicMetrics>,
    slots: Vec<Slot>,
    /// Which of the slots other brokers keep.
    elsewhere: BTreeSet<u32>,
    /// Which of the slots are to be tried again.
    again: BTreeMap<u32, Again>,
}

/// What a topic's partitions are opened with.
struct Guise {
    name: TopicName,
    config: TopicConfig,
    metrics: Arc<TopicMetrics>,
}

impl Guise {
    fn of(served: &Served) -> Self {
        let Served { name, config, metrics, .. } = served;
        Self { name: name.clone(), config: config.clone(), metrics: Arc::clone(metrics) }
    }
}

/// The next attempt to open a partition.
#[derive(Clone, Copy)]
struct Again {
    at: Instant,
    /// How many there were.
    attempts: u32,
}

impl Served {
    /// Takes note of what came of opening a partition.
    fn take(&mut self, index: PartitionIndex, opened: Result<Partition, NotOpened>) {
        let before = self.again.remove(&index.0);
        let slot = opened.map_err(|NotOpened { mut error, passing }| {
            if passing {
                let attempts = before.map_or(0, |before| before.attempts) + 1;
                let pause = LONGEST_PAUSE.min(Duration::from_secs(1 << attempts.min(8)) / 2);
                self.again.insert(index.0, Again { at: Instant::now() + pause, attempts });
                error.message +=
                    &format!("; attempt {attempts}, the next one follows in {pause:?}");
            }
            error
        });
        self.elsewhere.remove(&index.0);
        self.set(index, slot);
    }

    fn set(&mut self, index: PartitionIndex, slot: Slot) {
        match self.slots.get_mut(index.0 as usize) {
            Some(known) => *known = slot,
            None => self.slots.push(slot),
        }
    }

    /// What requests find of it.
    fn entry(&self, id: TopicId) -> Topic {
        Topic { id, metrics: Arc::clone(&self.metrics), partitions: self.slots.clone() }
    }
}

impl Reconciler {
    /// Follows the image until the broker stops.
    pub(crate) async fn run(mut self) {
        let mut images = self.metadata.watch();
        let stop = self.opener.stop.clone();
        let (mut filters, mut pause) = (false, SHORTEST_FILTER_PAUSE);
        loop {
            let image = images.borrow_and_update().clone();
            self.reconcile(image).await;
            if filters {
                self.restart_filters().await;
                pause = (pause * 2).min(LONGEST_FILTER_PAUSE);
            }
            let next_attempt = self.next_attempt();
            filters = tokio::select! {
                () = stop.cancelled() => break,
                Some(log) = self.reports.recv() => {
                    self.repair(log).await;
                    false
                }
                changed = images.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    pause = SHORTEST_FILTER_PAUSE;
                    false
                }
                () = until(next_attempt) => false,
                () = tokio::time::sleep(pause), if self.lacks_filters() => true,
            };
        }
    }

    async fn reconcile(&mut self, image: Arc<Image>) {
        self.jobs.reconcile_before(&image).await;
        let gone: Vec<_> =
            self.served.keys().filter(|id| !image.topics().contains_key(id)).copied().collect();
        for id in gone {
            self.delete(id).await;
        }
        for (id, topic) in image.topics() {
            self.configure(*id, topic, &image).await;
        }
        self.close_what_leaves(&image).await;
        let mut served = std::mem::take(&mut self.served);
        self.open_missing(&mut served, &image).await;
        self.served = served;
        self.aim(&image).await;
        for (module, known) in self.last.modules() {
            if !image.modules().contains_key(module) {
                self.modules.forget(&known.sha256);
            }
        }
        self.jobs.reconcile_after(&image).await;
        self.done.send_replace(image.applied());
        self.last = image;
    }

    /// Has a topic that is served already, or is from now on, do what it is configured to.
    async fn configure(&mut self, id: TopicId, topic: &TopicImage, image: &Image) {
        let config = topic.config();
        let mut served = self.served.remove(&id).unwrap_or_else(|| Served {
            name: topic.name.clone(),
            config: config.clone(),
            metrics: TopicMetrics::new(),
            slots: Vec::new(),
            elsewhere: BTreeSet::new(),
            again: BTreeMap::new(),
        });
        if served.config != config {
            let all = served.slots.iter().flatten();
            let each = all.map(|slot| self.reconfigure((slot, &served.metrics), &config, image));
            futures::future::join_all(each).await;
            served.config = config;
        }
        self.served.insert(id, served);
    }

    /// Opens what is not open and should be, of all topics side by side. A topic is found when its last
    /// partition was tried.
    async fn open_missing(&mut self, served: &mut BTreeMap<TopicId, Served>, image: &Image) {
        use futures::StreamExt as _;
        let (mut missing, mut left) = (Vec::new(), BTreeMap::<TopicId, usize>::new());
        for (id, topic) in image.topics() {
            let known = served.get_mut(id).expect("it is configured before it is opened");
            let (here, elsewhere) = self.to_open(*id, known, topic);
            for (index, slot) in elsewhere {
                known.set(index, slot);
                known.elsewhere.insert(index.0);
            }
            // What is to be opened has its place among those that are elsewhere.
            if here.is_empty() {
                self.partitions.put(known.name.clone(), known.entry(*id));
            }
            left.insert(*id, here.len());
            missing.extend(here);
        }
        let starts: Vec<_> = missing
            .into_iter()
            .map(|id| (id, Guise::of(&served[&id.topic]), self.standing(image, id)))
            .collect();
        let this = &*self;
        let opening = futures::stream::iter(starts).map(|(id, guise, standing)| async move {
            (id, this.open_one(id, &guise, standing, image).await)
        });
        let mut opened = std::pin::pin!(opening.buffered(OPENING));
        while let Some((id, slot)) = opened.next().await {
            let topic = served.get_mut(&id.topic).expect("it is configured before it is opened");
            topic.take(id.partition, slot);
            let left = left.get_mut(&id.topic).expect("counted above");
            *left -= 1;
            if *left == 0 {
                self.partitions.put(topic.name.clone(), topic.entry(id.topic));
            }
        }
    }

    /// When something is to be tried again.
    fn next_attempt(&self) -> Option<Instant> {
        self.served.values().flat_map(|served| served.again.values()).map(|again| again.at).min()
    }

    async fn open_one(
        &self,
        id: TopicPartition,
        Guise { name, config, metrics }: &Guise,
        standing: Standing,
        image: &Image,
    ) -> Result<Partition, NotOpened> {
        let core = self.cores.of_partition(id);
        let limits = (log_config(config), max_batch(config));
        let opened = self.opener.open(core, (name, metrics), id, limits, standing, image).await;
        let handle = opened.inspect_err(|failed| {
            let (error, passing) = (&failed.error, failed.passing);
            tracing::error!(topic = %name, partition = %id.partition, %error, passing, "not opened");
        })?;
        let settings = self.settings((name, metrics), id.partition, config, image).await;
        // Who decides alone leads before it is found: a request that finds it is served.
        let mut view = handle.watch();
        let ready = view.wait_for(|view: &View| view.serves() || !view.alone).await.is_ok();
        drop(view);
        tracing::debug!(topic = %name, partition = %id.partition, ready, "opened");
        Ok(Partition::new(name.clone(), Arc::clone(metrics), handle, settings))
    }

    async fn reconfigure(
        &self,
        (partition, metrics): (&Partition, &Arc<TopicMetrics>),
        config: &TopicConfig,
        image: &Image,
    ) {
        let topic = (partition.topic(), metrics);
        let settings = self.settings(topic, partition.id().partition, config, image).await;
        partition.set(settings).await;
        let (log, max_batch_bytes) = (log_config(config), max_batch(config));
        let (taken, told) = oneshot::channel();
        let change = Reconfigure { log, durability: config.durability, max_batch_bytes, taken };
        // Errors mean that the broker is stopping.
        if partition.send(Message::Reconfigure(change)).await.is_ok() {
            drop(told.await);
        }
    }

    /// Tries again to start the filters that did not. Until they do, their partitions refuse batches.
    async fn restart_filters(&mut self) {
        let image = Arc::clone(&self.last);
        for served in self.served.values() {
            let topic = (&served.name, &served.metrics);
            for partition in failing(served) {
                let index = partition.id().partition;
                let settings = self.settings(topic, index, &served.config, &image).await;
                partition.set(settings).await;
            }
        }
    }

    /// Whether some filter did not start.
    fn lacks_filters(&self) -> bool {
        self.served.values().any(|served| failing(served).next().is_some())
    }

    async fn settings(
        &self,
        (topic, metrics): (&TopicName, &Arc<TopicMetrics>),
        partition: PartitionIndex,
        config: &TopicConfig,
        image: &Image,
    ) -> Settings {
        let ingress = match &config.filter {
            None => None,
            Some(module) => {
                let spec = ingress_spec(topic, config, Arc::clone(metrics.ingress()));
                let filter = self.modules.start(image, module, spec).await;
                if let Err(error) = &filter {
                    tracing::error!(%topic, %error, "the topic's filter does not start");
                }
                Some(Ingress::new(topic, partition, filter))
            }
        };
        let (max_batch_bytes, compaction) = (config.max_batch_bytes, config.compaction);
        Settings { max_batch_bytes, compaction, ingress }
    }

    async fn delete(&mut self, id: TopicId) {
        let Some(served) = self.served.remove(&id) else {
            return;
        };
        self.partitions.remove(&served.name);
        self.opener.peers.leaders().forget(id);
        let open = || served.slots.iter().flatten();
        let closing = open().map(|partition| self.opener.discard(partition));
        futures::future::join_all(closing).await;
        for partition in open() {
            self.aimed.remove(&partition.id());
        }
        let mut gone = Vec::new();
        for index in 0..served.slots.len() {
            let index = u32::try_from(index).expect("partitions are bounded");
            let id = TopicPartition { topic: id, partition: PartitionIndex(index) };
            if let Err(error) = self.opener.remove(id).await {
                tracing::error!(partition = %id, %error, "files of a deleted partition stay");
            }
            self.ballots.remove(&id);
            gone.push(Change { table: Table::Votes, key: vote_key(id), value: None });
        }
        // What stays of it after a crash is a row that nobody asks for: ids are not used again.
        self.opener.store.write(gone, |_| {});
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The partitions whose filter did not start.
fn failing(served: &Served) -> impl Iterator<Item = &Partition> {
    let fails = |ingress: &Ingress| ingress.is_failing();
    let all = served.slots.iter().flatten();
    all.filter(move |partition| partition.settings().ingress.as_ref().is_some_and(fails))
}

/// How the filter of a topic's ingress is started.
fn ingress_spec(topic: &TopicName, config: &TopicConfig, scope: Arc<Scope>) -> FilterSpec {
    FilterSpec {
        params: config.filter_params.clone().into_iter().collect(),
        outputs: vec![topic.to_string()],
        scope,
        place: None,
    }
}

fn max_batch(config: &TopicConfig) -> usize {
    config.max_batch_bytes as usize
}

/// What a topic's configuration means to its logs.
fn log_config(config: &TopicConfig) -> LogConfig {
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_age: config.segment_age,
        retention_bytes: config.retention.bytes,
        retention_age: config.retention.age,
        durability: match config.durability {
            Durability::Fsync => log::Durability::Fsync,
            Durability::Memory => log::Durability::Memory,
        },
        // The partition's driver holds batches against the topic's limit, before they have an offset.
        max_batch_bytes: MAX_BATCH_BYTES,
        ..LogConfig::default()
    }
}

/// Starts a filter to see whether it does, for a request that would make it a topic's.
pub(crate) async fn try_filter(
    modules: &Arc<Modules>,
    image: &Image,
    topic: &TopicName,
    config: &TopicConfig,
) -> Result<(), WireError> {
    match &config.filter {
        Some(module) => {
            // A trial is not counted.
            let spec = ingress_spec(topic, config, Arc::new(Scope::new(Limits::default())));
            modules.start(image, module, spec).await.map(drop)
        }
        None => Ok(()),
    }
}
