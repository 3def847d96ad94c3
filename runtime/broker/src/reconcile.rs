//! Reconcile: make this broker do what the image says, topic by topic and job by job.
//!
//! Invariant: files are deleted only for a topic that a committed command deleted while this broker
//! knew it: what the image does not know is left alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::metadata::{Image, Topic as TopicImage, TopicConfig};
use millstream_core::replication::{Durability, Vote};
use millstream_modules::{FilterSpec, Limits, Scope};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{Offset, PartitionIndex, TopicId, TopicName, TopicPartition};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_storage::log::{self, LogConfig};
use millstream_storage::metadata::{Change, Table};
use tokio::sync::watch;

use crate::cores::Cores;
use crate::drivers::metadata::Metadata;
use crate::drivers::partition::{Message, vote_key};
use crate::ingress::Ingress;
use crate::jobs::Jobs;
use crate::metrics::TopicMetrics;
use crate::modules::Modules;
use crate::opening::Opener;
use crate::partitions::{Partition, Partitions, Settings, Slot, Topic};

/// Logs that are opened at the same time.
const OPENING: usize = 16;

/// The task that reconciles.
pub(crate) struct Reconciler {
    pub(crate) opener: Opener,
    pub(crate) cores: Arc<Cores>,
    pub(crate) metadata: Metadata,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) modules: Arc<Modules>,
    pub(crate) jobs: Arc<Jobs>,
    /// Votes as they were stored, by row key; taken as partitions are opened.
    pub(crate) votes: BTreeMap<Vec<u8>, Vote>,
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
}

impl Reconciler {
    /// Follows the image until the broker stops.
    pub(crate) async fn run(mut self) {
        let mut images = self.metadata.watch();
        let stop = self.opener.stop.clone();
        loop {
            let image = images.borrow_and_update().clone();
            self.reconcile(image).await;
            tokio::select! {
                () = stop.cancelled() => break,
                changed = images.changed() => if changed.is_err() { break },
            }
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
            self.topic(*id, topic, &image).await;
        }
        for (module, known) in self.last.modules() {
            if !image.modules().contains_key(module) {
                self.modules.forget(&known.sha256, &image);
            }
        }
        self.jobs.reconcile_after(&image).await;
        self.done.send_replace(image.applied());
        self.last = image;
    }

    async fn topic(&mut self, id: TopicId, topic: &TopicImage, image: &Image) {
        let config = topic.config();
        let mut served = self.served.remove(&id).unwrap_or_else(|| Served {
            name: topic.name.clone(),
            config: config.clone(),
            metrics: TopicMetrics::new(),
            slots: Vec::new(),
        });
        let known = served.slots.len();
        if served.config != config {
            for slot in served.slots.iter().flatten() {
                self.reconfigure((slot, &served.metrics), &config, image).await;
            }
            served.config = config;
        }
        if known < topic.partitions.len() {
            let missing = known..topic.partitions.len();
            let opened = self.open(id, topic, missing, &served, image).await;
            served.slots.extend(opened);
            let metrics = Arc::clone(&served.metrics);
            let entry = Topic { id, metrics, partitions: served.slots.clone() };
            self.partitions.put(served.name.clone(), entry);
        }
        self.served.insert(id, served);
    }

    async fn open(
        &mut self,
        topic: TopicId,
        entry: &TopicImage,
        missing: std::ops::Range<usize>,
        served: &Served,
        image: &Image,
    ) -> Vec<Slot> {
        use futures::StreamExt as _;
        let mut starts = Vec::with_capacity(missing.len());
        for index in missing {
            let index = u32::try_from(index).expect("partitions are bounded");
            let id = TopicPartition { topic, partition: PartitionIndex(index) };
            starts.push((id, self.votes.remove(&vote_key(id)).unwrap_or_default()));
        }
        let this = &*self;
        futures::stream::iter(starts)
            .map(|(id, vote)| this.open_one(id, vote, &entry.name, served, image))
            .buffered(OPENING)
            .collect()
            .await
    }

    async fn open_one(
        &self,
        id: TopicPartition,
        vote: Vote,
        name: &TopicName,
        served: &Served,
        image: &Image,
    ) -> Slot {
        let Served { config, metrics, .. } = served;
        let core = self.cores.of_partition(id);
        let handle = match self
            .opener
            .open(core, (name, metrics), id, (log_config(config), max_batch(config)), vote)
            .await
        {
            Ok(handle) => handle,
            Err(error) => {
                tracing::error!(topic = %name, partition = %id.partition, %error, "not opened");
                return Err(error);
            }
        };
        let settings = self.settings((name, metrics), id.partition, config, image).await;
        // Led before it is found: a request that finds it is served.
        let mut view = handle.watch();
        let ready = view.wait_for(|view| view.leads || view.stopped.is_some()).await.is_ok();
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
        partition.set(settings);
        let (log, max) = (log_config(config), max_batch(config));
        let message = Message::Reconfigure(log, config.durability, max);
        // An error means that the broker is stopping.
        drop(partition.send(message).await);
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
        Settings { max_batch_bytes: config.max_batch_bytes, ingress }
    }

    async fn delete(&mut self, id: TopicId) {
        let Some(served) = self.served.remove(&id) else {
            return;
        };
        self.partitions.remove(&served.name);
        for partition in served.slots.iter().flatten() {
            partition.stop();
            partition.ended().await;
        }
        let mut gone = Vec::new();
        for index in 0..served.slots.len() {
            let index = u32::try_from(index).expect("partitions are bounded");
            let id = TopicPartition { topic: id, partition: PartitionIndex(index) };
            if let Err(error) = self.opener.remove(id).await {
                tracing::error!(partition = %id, %error, "files of a deleted partition stay");
            }
            self.votes.remove(&vote_key(id));
            gone.push(Change { table: Table::Votes, key: vote_key(id), value: None });
        }
        // What stays of it after a crash is a row that nobody asks for: ids are not used again.
        self.opener.store.write(gone, |_| {});
    }
}

/// How the filter of a topic's ingress is started.
fn ingress_spec(topic: &TopicName, config: &TopicConfig, scope: Arc<Scope>) -> FilterSpec {
    FilterSpec {
        params: config.filter_params.clone().into_iter().collect(),
        outputs: vec![topic.to_string()],
        scope,
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
