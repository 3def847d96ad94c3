//! Why a command was rejected.
//!
//! Invariant: a rejection names what was wrong, with what, and what to do.

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{JobId, JobName, ModuleRef, NodeId, TopicId, TopicName};
use thiserror::Error;

use super::features::Levels;

use super::config::ConfigError;

/// Why a command was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// The name is taken.
    #[error("topic {0} exists already: choose another name, or alter it")]
    TopicExists(TopicName),
    /// The name of one of the broker's own topics.
    #[error(
        "topic {0} is the broker's own, as its name begins with __: it is made, changed and deleted by brokers only"
    )]
    Internal(TopicName),
    /// No topic of this name.
    #[error("topic {0} does not exist: create it, or list topics to see which do")]
    UnknownTopic(TopicName),
    /// The topic was deleted meanwhile.
    #[error("topic with id {0} does not exist any more: look it up by name again")]
    UnknownTopicId(TopicId),
    /// A key or a value.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The number of partitions.
    #[error("{given} partitions: a topic has {least} to {most}")]
    Partitions {
        /// What was asked for.
        given: u64,
        /// The fewest possible here.
        least: u32,
        /// The most possible.
        most: u32,
    },
    /// The number of replicas.
    #[error(
        "replication factor {given}: this cluster has {brokers} brokers, so use 1 to {brokers}"
    )]
    ReplicationFactor {
        /// What was asked for.
        given: usize,
        /// How many brokers there are.
        brokers: usize,
    },
    /// The replicas of a partition.
    #[error("the replicas of partition {partition} are {replicas:?}: {problem}")]
    Replicas {
        /// The partition.
        partition: u32,
        /// Its replicas.
        replicas: Vec<NodeId>,
        /// What is wrong with them.
        problem: &'static str,
    },
    /// What a command was planned on has changed.
    #[error("{what} changed while the request was planned: send it again")]
    StalePlan {
        /// What changed.
        what: String,
    },
    /// Something needs it.
    #[error("{what} is used by {}: change or delete these first", users.join(", "))]
    InUse {
        /// What was to go.
        what: String,
        /// Who uses it.
        users: Vec<String>,
    },
    /// No such module version.
    #[error("module {0} does not exist: upload it, or list modules to see which do")]
    UnknownModule(ModuleRef),
    /// The module's description.
    #[error("module {name} is refused: {problem}")]
    InvalidModule {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The name is taken.
    #[error("job {0} exists already: choose another name, or update it")]
    JobExists(JobName),
    /// No job of this name.
    #[error("job {0} does not exist: deploy it, or list jobs to see which do")]
    UnknownJob(JobName),
    /// The job was deleted meanwhile.
    #[error("job with id {0} does not exist any more: look it up by name again")]
    UnknownJobId(JobId),
    /// What a job is to be.
    #[error("job {job}: {problem}")]
    InvalidJob {
        /// Its name.
        job: JobName,
        /// What is wrong, where, and what to do.
        problem: String,
    },
    /// A version that does not work at a feature level.
    #[error(
        "broker {node} supports feature levels {} to {}, and not {level}: install a version on it that does",
        levels.oldest, levels.newest
    )]
    UnsupportedLevel {
        /// The broker.
        node: NodeId,
        /// What it supports.
        levels: Levels,
        /// What was asked for, or what the cluster works at.
        level: u32,
    },
    /// A feature level that is not above the one that the cluster works at.
    #[error(
        "the cluster works at feature level {known}: it is raised and never lowered, so not to {level}"
    )]
    LevelNotRaised {
        /// What was asked for.
        level: u32,
        /// What it works at.
        known: u32,
    },
    /// The topic has fewer partitions.
    #[error("topic {topic} has {count} partitions, from 0: there is no {partition}")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// What was asked for.
        partition: u32,
        /// How many there are.
        count: u32,
    },
    /// No broker with this id.
    #[error("broker {0} is not of this cluster: `millstream cluster status` lists those that are")]
    UnknownBroker(NodeId),
    /// Nobody is left to take what a broker keeps.
    #[error(
        "partition {partition} of topic {topic} has nowhere to go from broker {node}: \
         add a broker that is neither draining nor fenced"
    )]
    NoRoom {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: u32,
        /// Where it is.
        node: NodeId,
    },
    /// The broker's description.
    #[error("broker {node}: {problem}")]
    InvalidBroker {
        /// The broker.
        node: NodeId,
        /// What is wrong with it.
        problem: String,
    },
    /// The cluster holds all it may.
    #[error("the cluster has {limit} {what}, which is the most: delete some first")]
    Full {
        /// Of what.
        what: &'static str,
        /// The most of it.
        limit: usize,
    },
    /// Producer ids are given out in small lots.
    #[error("{count} producer ids: ask for 1 to {most} at once")]
    Allocation {
        /// What was asked for.
        count: u32,
        /// The most at once.
        most: u32,
    },
}

impl Rejection {
    /// The code a client is told.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TopicExists(_) => ErrorCode::TopicExists,
            Self::UnknownTopic(_) | Self::UnknownTopicId(_) => ErrorCode::UnknownTopic,
            Self::Config(_) => ErrorCode::InvalidConfig,
            Self::InUse { .. } => ErrorCode::InUse,
            Self::UnknownPartition { .. } => ErrorCode::UnknownPartition,
            Self::UnknownModule(_) => ErrorCode::UnknownModule,
            Self::InvalidModule { .. } => ErrorCode::InvalidModule,
            Self::JobExists(_) => ErrorCode::JobExists,
            Self::UnknownJob(_) | Self::UnknownJobId(_) => ErrorCode::UnknownJob,
            Self::Internal(_)
            | Self::Partitions { .. }
            | Self::ReplicationFactor { .. }
            | Self::Replicas { .. }
            | Self::StalePlan { .. }
            | Self::InvalidJob { .. }
            | Self::InvalidBroker { .. }
            | Self::UnknownBroker(_)
            | Self::NoRoom { .. }
            | Self::UnsupportedLevel { .. }
            | Self::LevelNotRaised { .. }
            | Self::Full { .. }
            | Self::Allocation { .. } => ErrorCode::InvalidRequest,
        }
    }
}

impl From<&Rejection> for WireError {
    fn from(rejection: &Rejection) -> Self {
        Self::new(rejection.code(), rejection)
    }
}
