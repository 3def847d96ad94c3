//! Commands: the decisions that are replicated, concrete enough to need no judgement when applied.
//!
//! Invariant: variants and fields are only ever added at the end; their order is what is on disk.

use std::collections::BTreeMap;

use millstream_protocol::ids::{
    JobId, ModuleName, ModuleRef, NodeId, PartitionIndex, ProducerId, ReplicaId, Timestamp,
    TopicId, TopicName,
};
use millstream_protocol::message::job::{JobLimits, JobSpec, JobState};
use millstream_protocol::message::module::ModuleKind;
use millstream_protocol::message::replica::LogEnd;
use serde::{Deserialize, Serialize};

use super::features::Levels;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A broker is there, or is there again at another address.
    RegisterBroker {
        /// The broker.
        node: NodeId,
        /// The incarnation of its disk.
        incarnation: u128,
        /// Where clients reach it, `host:port`.
        address: String,
        /// What it shares the fate of, for placement.
        rack: Option<String>,
    },
    /// Makes a topic.
    CreateTopic {
        /// Its name.
        name: TopicName,
        /// The replicas of each partition, the preferred leader first.
        partitions: Vec<Vec<NodeId>>,
        /// Configuration that is not the default.
        configs: BTreeMap<String, String>,
    },
    /// Adds partitions, sets and resets configuration: all of it or nothing.
    AlterTopic {
        /// The topic.
        topic: TopicId,
        /// How many partitions it had when this was planned.
        planned_on: u32,
        /// How many jobs had ever been deployed then: one that is newer may write to the topic.
        jobs: u32,
        /// The replicas of each new partition.
        add: Vec<Vec<NodeId>>,
        /// Configuration to set.
        set: BTreeMap<String, String>,
        /// Keys to put back to their defaults.
        reset: Vec<String>,
    },
    /// Deletes a topic. This is the only thing that lets a broker delete its records.
    DeleteTopic {
        /// The topic.
        topic: TopicId,
    },
    /// Takes in a module's next version, which was validated; the same bytes again are the same version.
    AddModule {
        /// Its name.
        name: ModuleName,
        /// What it is made for.
        kind: ModuleKind,
        /// SHA-256 of its bytes, in lowercase hex.
        sha256: String,
        /// Bytes as uploaded.
        size: u64,
        /// When it was uploaded.
        uploaded: Timestamp,
        /// What it imports.
        imports: Vec<String>,
        /// What it exports.
        exports: Vec<String>,
    },
    /// Deletes a module version.
    DeleteModule {
        /// The version.
        module: ModuleRef,
    },
    /// Makes a job.
    DeployJob {
        /// What it is.
        spec: JobSpec,
    },
    /// Pauses or resumes a job.
    SetJobState {
        /// The job.
        job: JobId,
        /// What is wanted of it.
        state: JobState,
    },
    /// Changes a job's module version or limits.
    UpdateJob {
        /// The job.
        job: JobId,
        /// The version to change to.
        module: Option<ModuleRef>,
        /// New limits.
        limits: Option<JobLimits>,
    },
    /// Deletes a job. Its id, and with it its producer identities, are never used again.
    DeleteJob {
        /// The job.
        job: JobId,
    },
    /// Sets producer ids aside, for a broker to give out.
    AllocateProducers {
        /// How many.
        count: u32,
    },
    /// Says what a broker is for.
    SetBroker {
        /// The broker.
        node: NodeId,
        /// It may vote on metadata.
        controller: bool,
        /// It is being emptied.
        draining: bool,
        /// It was not heard of for long.
        fenced: bool,
    },
    /// Takes a broker that keeps nothing out of the cluster.
    RemoveBroker {
        /// The broker.
        node: NodeId,
    },
    /// Moves a partition: its leader brings the replicas there, one at a time.
    PlacePartition {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: PartitionIndex,
        /// Where it was when this was planned.
        planned_on: Vec<NodeId>,
        /// Where it should be, the preferred leader first.
        replicas: Vec<NodeId>,
    },
    /// The voters of a partition have changed. What is neither a voter nor a replica of it any more may be
    /// deleted where it lies: this is the only thing, beside the end of a topic, that allows that.
    VotersChanged {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: PartitionIndex,
        /// Where in its log they stand.
        at: LogEnd,
        /// Who votes.
        voters: Vec<ReplicaId>,
        /// The version of the placement that the leader knew.
        placement: u32,
    },
    /// Says which feature levels a broker's version supports.
    SupportLevels {
        /// The broker.
        node: NodeId,
        /// The levels.
        levels: Levels,
    },
    /// Has the cluster work at a higher feature level from now on.
    RaiseLevel {
        /// The level.
        level: u32,
    },
}

/// What an applied command answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// It is done.
    Done,
    /// The topic that was made.
    Topic(TopicId),
    /// The version that the module has.
    Module(ModuleRef),
    /// The job that was made.
    Job(JobId),
    /// `count` producer ids from `first` on belong to the asker.
    Producers {
        /// The first of them.
        first: ProducerId,
        /// How many.
        count: u32,
    },
}
