//! The request table: every control call, its request and its response, in one place.
//!
//! Invariant: a request that is not in this table does not exist.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{cluster, group, job, module, offsets, peer, produce, topic, transaction};

/// One control call: the request type knows its response.
pub trait Call: Into<Request> {
    /// What a success answers.
    type Response: Serialize + DeserializeOwned;
    /// The call's name in logs and metrics.
    const NAME: &'static str;
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $response:ty;)*) => {
        /// Every control call.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Request {
            $($(#[$doc])* $name($request),)*
        }

        impl Request {
            /// The call's name in logs and metrics.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => <$request as Call>::NAME,)*
                }
            }
        }

        $(
            impl Call for $request {
                type Response = $response;
                const NAME: &'static str = stringify!($name);
            }

            impl From<$request> for Request {
                fn from(request: $request) -> Self {
                    Self::$name(request)
                }
            }
        )*
    };
}

requests! {
    /// Makes a topic.
    CreateTopic(topic::CreateTopic) -> topic::TopicDescription;
    /// Lists topics.
    ListTopics(topic::ListTopics) -> Vec<topic::TopicSummary>;
    /// Describes one topic and its partitions.
    DescribeTopic(topic::DescribeTopic) -> topic::TopicDescription;
    /// Adds partitions, sets and resets configuration.
    AlterTopic(topic::AlterTopic) -> topic::TopicDescription;
    /// Deletes a topic and its records.
    DeleteTopic(topic::DeleteTopic) -> ();
    /// Says which broker leads which partition of a topic.
    FindTopic(topic::FindTopic) -> topic::TopicRoutes;
    /// Gives out a producer identity.
    AllocateProducer(produce::AllocateProducer) -> produce::ProducerIdentity;
    /// Finds offsets by place or time.
    ListOffsets(offsets::ListOffsets) -> Vec<offsets::PartitionOffset>;
    /// Uploads a module version; the bytes are the request's body.
    UploadModule(module::UploadModule) -> module::ModuleDescription;
    /// Lists module versions.
    ListModules(module::ListModules) -> Vec<module::ModuleDescription>;
    /// Describes one module version.
    DescribeModule(module::DescribeModule) -> module::ModuleDescription;
    /// Deletes one module version.
    DeleteModule(module::DeleteModule) -> ();
    /// Starts a job.
    DeployJob(job::DeployJob) -> job::JobDescription;
    /// Lists jobs.
    ListJobs(job::ListJobs) -> Vec<job::JobSummary>;
    /// Describes one job, partition by partition.
    DescribeJob(job::DescribeJob) -> job::JobDescription;
    /// Pauses or resumes a job.
    SetJobState(job::SetJobState) -> job::JobDescription;
    /// Changes a job's module version or limits.
    UpdateJob(job::UpdateJob) -> job::JobDescription;
    /// Deletes a job and its positions.
    DeleteJob(job::DeleteJob) -> ();
    /// Reads what a job's guests wrote to their log.
    JobLogs(job::JobLogs) -> job::JobLogPage;
    /// Describes the cluster.
    ClusterStatus(cluster::ClusterStatus) -> cluster::ClusterDescription;
    /// Finds where what was written up to a leader epoch ends.
    FindEpochEnd(offsets::FindEpochEnd) -> offsets::EpochEnd;
    /// Has commands decided, for another broker; they are the request's body.
    Propose(peer::Propose) -> ();
    /// Tells a new broker what it has to know.
    JoinCluster(peer::JoinCluster) -> peer::JoinedCluster;
    /// Describes partitions that this broker leads, for another broker.
    PartitionStatus(peer::PartitionStatus) -> Vec<topic::PartitionDescription>;
    /// Reads a part of a module, for another broker; empty behind its end.
    ReadModule(peer::ReadModule) -> Vec<u8>;
    /// Gives the leadership of a partition away, for another broker.
    HandOver(peer::HandOver) -> ();
    /// Moves a partition to other brokers.
    MovePartition(cluster::MovePartition) -> ();
    /// Empties a broker, or lets it take something again.
    DrainBroker(cluster::DrainBroker) -> cluster::PlacementPlan;
    /// Takes an empty broker out of the cluster.
    RemoveBroker(cluster::RemoveBroker) -> ();
    /// Evens out what brokers keep and lead.
    BalanceCluster(cluster::BalanceCluster) -> cluster::PlacementPlan;
    /// Has a broker keep a copy of a module, for another broker that has it.
    CopyModule(peer::CopyModule) -> ();
    /// Reads a part of a snapshot of everything that is decided, for another broker.
    ReadSnapshot(peer::ReadSnapshot) -> peer::SnapshotPart;
    /// Raises the feature level that the cluster works at; answers with it.
    UpgradeCluster(cluster::UpgradeCluster) -> u32;
    /// Says which partition of `__groups` coordinates a group.
    FindCoordinator(group::FindCoordinator) -> group::Coordinator;
    /// Commits offsets of a group.
    CommitOffsets(group::CommitOffsets) -> group::OffsetsCommitted;
    /// Says what a group has committed.
    FetchOffsets(group::FetchOffsets) -> group::GroupOffsets;
    /// Sets offsets of a group that has no members.
    ResetOffsets(group::ResetOffsets) -> ();
    /// Lists the groups.
    ListGroups(group::ListGroups) -> Vec<group::GroupSummary>;
    /// Describes one group.
    DescribeGroup(group::DescribeGroup) -> group::GroupDescription;
    /// Deletes a group that has no members.
    DeleteGroup(group::DeleteGroup) -> ();
    /// Says which partition of `__transactions` coordinates a transactional id.
    FindTransactionCoordinator(transaction::FindTransactionCoordinator) -> group::Coordinator;
    /// Takes a transactional id over.
    InitTransactions(transaction::InitTransactions) -> produce::ProducerIdentity;
    /// Says where a transaction is about to write.
    AddToTransaction(transaction::AddToTransaction) -> ();
    /// Commits or aborts a transaction.
    EndTransaction(transaction::EndTransaction) -> produce::ProducerIdentity;
    /// Commits offsets of a group as a part of a transaction.
    CommitOffsetsInTransaction(transaction::CommitOffsetsInTransaction) -> group::OffsetsCommitted;
    /// Lists transactional ids.
    ListTransactions(transaction::ListTransactions) -> Vec<transaction::TransactionDescription>;
    /// Describes one transactional id.
    DescribeTransaction(transaction::DescribeTransaction) -> transaction::TransactionDescription;
    /// Aborts an id's open transaction.
    AbortTransaction(transaction::AbortTransaction) -> ();
    /// Ends transactions in partitions, for their coordinator.
    WriteMarkers(transaction::WriteMarkers) -> transaction::MarkersWritten;
    /// Says whether a coordinator knows of an open transaction, for another broker.
    HoldsTransaction(transaction::HoldsTransaction) -> bool;
    /// Says up to where replicas were compacted, for another broker.
    CleanedTo(peer::CleanedTo) -> Vec<Option<crate::ids::Offset>>;
}
