//! The image: everything the cluster has decided, as of one offset of the metadata log.
//!
//! Invariant: names and ids point at each other; ids are never used again, not even those of what was
//! deleted; whatever a job or a topic uses is there.

use std::collections::BTreeMap;

use millstream_protocol::ids::{
    JobId, JobName, ModuleRef, NodeId, Offset, PartitionIndex, ProducerId, ReplicaId, Timestamp,
    TopicId, TopicName, TopicPartition,
};
use millstream_protocol::message::job::{JobSpec, JobState, LastResort};
use millstream_protocol::message::module::ModuleKind;
use millstream_protocol::message::replica::LogEnd;
use serde::{Deserialize, Serialize};

use crate::groups::{KnownTopic, Topics};

use super::config::TopicConfig;
use super::features::Features;

/// The most brokers of a cluster.
pub(super) const MAX_BROKERS: usize = 1_000;
/// The most topics of a cluster.
pub(super) const MAX_TOPICS: usize = 100_000;
/// The most module versions of a cluster.
pub(super) const MAX_MODULES: usize = 10_000;
/// The most jobs of a cluster.
pub(super) const MAX_JOBS: usize = 10_000;

/// A broker as registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// The incarnation of its disk.
    pub incarnation: u128,
    /// Where clients reach it, `host:port`.
    pub address: String,
    /// What it shares the fate of.
    pub rack: Option<String>,
    /// It may vote on metadata.
    pub controller: bool,
    /// It is being emptied: nothing new is placed on it.
    pub draining: bool,
    /// It was not heard of for long: nothing new is placed on it.
    pub fenced: bool,
}

/// Where a partition is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The brokers that should keep it, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The replicas that vote, as far as a leader of it has reported.
    pub voters: Vec<ReplicaId>,
    /// Where in its log these stand; the beginning for those that it began with.
    pub voters_at: LogEnd,
    /// Counts the times that it was placed.
    pub version: u32,
    /// The newest of these that a leader knew when it reported its voters: they, and nobody else, hold the partition
    /// under that placement or are on their way out.
    pub confirmed: u32,
}

impl Placement {
    /// Whether a replica is or becomes one of its own.
    #[must_use]
    pub fn keeps(&self, replica: ReplicaId) -> bool {
        self.replicas.contains(&replica.node) || self.voters.contains(&replica)
    }

    /// Whether what a replica holds may be deleted: it is none of this partition's, and a leader that knew so has
    /// said that it does not vote. A placement alone is not enough: the leader may have made it a
    /// voter on the one before.
    #[must_use]
    pub fn releases(&self, replica: ReplicaId) -> bool {
        !self.keeps(replica) && self.confirmed == self.version
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Where each partition is kept.
    pub partitions: Vec<Placement>,
    /// Configuration that is not the default; see [`Topic::config`].
    #[serde(skip)]
    pub configs: BTreeMap<String, String>,
}

impl Topic {
    /// What its configuration means.
    #[must_use]
    pub fn config(&self) -> TopicConfig {
        TopicConfig::resolve(&self.configs).expect("an applied configuration has been resolved")
    }

    /// How many partitions it has.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).expect("partitions are bounded")
    }

    /// How many replicas each partition has.
    #[must_use]
    pub fn replication_factor(&self) -> u16 {
        let factor = self.partitions.first().map_or(0, |placement| placement.replicas.len());
        u16::try_from(factor).expect("brokers are bounded")
    }
}

/// A module version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// What it is made for.
    pub kind: ModuleKind,
    /// SHA-256 of its bytes, in lowercase hex.
    pub sha256: String,
    /// Bytes as uploaded.
    pub size: u64,
    /// When it was uploaded.
    pub uploaded: Timestamp,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What it is.
    pub spec: JobSpec,
    /// What is wanted of it.
    pub state: JobState,
    /// Counted up with every change: an instance of an older generation is to be replaced.
    pub generation: u32,
}

impl Job {
    /// The topic that takes what the module could not handle, if there is one.
    #[must_use]
    pub fn dead_letter_topic(&self) -> Option<TopicName> {
        dead_letter_topic(&self.spec)
    }
}

/// The topic that takes what a job's module cannot handle, if the job wants one and its name is short
/// enough to have one.
#[must_use]
pub fn dead_letter_topic(spec: &JobSpec) -> Option<TopicName> {
    let wanted = spec.on_error.then == LastResort::DeadLetter;
    wanted.then(|| TopicName::new(&format!("{}.dlq", spec.name)).ok()).flatten()
}

/// Ids given out so far, so that none is given out twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Allocations {
    pub(super) topics: u32,
    pub(super) jobs: u32,
    pub(super) producers: i64,
    /// The newest version of each module name, also of names that have no version left.
    pub(super) versions: BTreeMap<String, u32>,
}

/// Everything the cluster has decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub(super) applied: Offset,
    pub(super) brokers: BTreeMap<NodeId, Broker>,
    pub(super) topics: BTreeMap<TopicId, Topic>,
    pub(super) topic_names: BTreeMap<TopicName, TopicId>,
    pub(super) modules: BTreeMap<ModuleRef, Module>,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) job_names: BTreeMap<JobName, JobId>,
    pub(super) allocations: Allocations,
    pub(super) features: Features,
}

impl Image {
    /// The offset after the last command that changed it.
    #[must_use]
    pub const fn applied(&self) -> Offset {
        self.applied
    }

    /// At which feature level the cluster works, and which the brokers support.
    #[must_use]
    pub const fn features(&self) -> &Features {
        &self.features
    }

    /// Whether there was such a topic and a command has deleted it: ids are not used again.
    #[must_use]
    pub fn has_deleted(&self, topic: TopicId) -> bool {
        topic.0 < self.allocations.topics && !self.topics.contains_key(&topic)
    }

    /// The topics as those who coordinate consumer groups see them.
    #[must_use]
    pub fn subscribable(&self) -> Topics {
        let known = |(id, topic): (&TopicId, &Topic)| {
            let partitions = topic.partition_count();
            (topic.name.clone(), KnownTopic { id: *id, partitions })
        };
        Topics::new(self.topics.iter().map(known), TopicId(self.allocations.topics))
    }

    /// Whether a topic's id was given out, and the topic is not there any more.
    #[must_use]
    pub fn was_deleted(&self, topic: TopicId) -> bool {
        topic < TopicId(self.allocations.topics) && !self.topics.contains_key(&topic)
    }

    /// The brokers, by id.
    #[must_use]
    pub const fn brokers(&self) -> &BTreeMap<NodeId, Broker> {
        &self.brokers
    }

    /// A broker's replicas, as its disk is now.
    #[must_use]
    pub fn replica(&self, node: NodeId) -> Option<ReplicaId> {
        let incarnation = self.brokers.get(&node)?.incarnation;
        Some(ReplicaId { node, incarnation })
    }

    /// Where a partition is kept.
    #[must_use]
    pub fn placement(&self, id: TopicPartition) -> Option<&Placement> {
        self.topics.get(&id.topic)?.partitions.get(id.partition.0 as usize)
    }

    /// Every partition and where it is kept.
    pub fn placements(&self) -> impl Iterator<Item = (TopicPartition, &Placement)> {
        self.topics.iter().flat_map(|(topic, known)| {
            (0..).map(PartitionIndex).zip(&known.partitions).map(|(partition, placement)| {
                (TopicPartition { topic: *topic, partition }, placement)
            })
        })
    }

    /// The topics, by id.
    #[must_use]
    pub const fn topics(&self) -> &BTreeMap<TopicId, Topic> {
        &self.topics
    }

    /// The module versions, by name and version.
    #[must_use]
    pub const fn modules(&self) -> &BTreeMap<ModuleRef, Module> {
        &self.modules
    }

    /// How many jobs were ever deployed.
    #[must_use]
    pub const fn jobs_ever(&self) -> u32 {
        self.allocations.jobs
    }

    /// The jobs, by id.
    #[must_use]
    pub const fn jobs(&self) -> &BTreeMap<JobId, Job> {
        &self.jobs
    }

    /// A topic by its name.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<(TopicId, &Topic)> {
        let id = *self.topic_names.get(name)?;
        Some((id, &self.topics[&id]))
    }

    /// A job by its name.
    #[must_use]
    pub fn job(&self, name: &JobName) -> Option<(JobId, &Job)> {
        let id = *self.job_names.get(name)?;
        Some((id, &self.jobs[&id]))
    }

    /// The producer id after the last one that was given out.
    #[must_use]
    pub const fn next_producer(&self) -> ProducerId {
        ProducerId(self.allocations.producers)
    }

    /// The jobs that use a topic, named for people.
    #[must_use]
    pub fn users_of_topic(&self, name: &TopicName) -> Vec<String> {
        let uses = |job: &&Job| {
            let spec = &job.spec;
            let mut topics = spec.inputs.iter().chain(&spec.outputs);
            topics.any(|topic| topic == name) || job.dead_letter_topic().as_ref() == Some(name)
        };
        self.jobs.values().filter(uses).map(|job| format!("job {}", job.spec.name)).collect()
    }

    /// The jobs and topics that use a module version, named for people.
    #[must_use]
    pub fn users_of_module(&self, module: &ModuleRef) -> Vec<String> {
        let jobs = self.jobs.values().filter(|job| job.spec.module == *module);
        let jobs = jobs.map(|job| format!("job {}", job.spec.name));
        let filtered = |topic: &&Topic| {
            let set = topic.configs.get("filter");
            set.is_some_and(|set| set.parse().as_ref() == Ok(module))
        };
        let topics = self.topics.values().filter(filtered);
        jobs.chain(topics.map(|topic| format!("topic {}", topic.name))).collect()
    }
}
