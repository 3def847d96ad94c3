//! Every type that is decoded from a peer's bytes, for tests that hold for all of them.
//!
//! Invariant: a call of the table that is not listed here does not compile.

use std::fmt::Debug;

use millstream_protocol::error::WireError;
use millstream_protocol::message::fetch::{Credit, FetchData, FetchReady, OpenFetch};
use millstream_protocol::message::hello::{Hello, Welcome};
use millstream_protocol::message::produce::{
    AllocateProducer, OpenProduce, ProduceAnswers, ProduceBatch, ProduceReady,
};
use millstream_protocol::message::replica::Envelope;
use millstream_protocol::message::{
    Call, Open, Request, cluster::*, group::*, job::*, module::*, offsets::*, peer::*, topic::*,
    transaction::*,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Something to do with each type.
pub(crate) trait Visitor {
    fn visit<M: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self);
}

type Answer<M> = Result<M, WireError>;

macro_rules! calls {
    ($($call:ident)*) => {
        const _: fn(&Request) = |request| match request {
            $(Request::$call(_) => {})*
        };

        fn every_call(visitor: &mut impl Visitor) {
            $(
                visitor.visit::<$call>();
                visitor.visit::<<$call as Call>::Response>();
                visitor.visit::<Answer<<$call as Call>::Response>>();
            )*
        }
    };
}

calls! {
    CreateTopic ListTopics DescribeTopic AlterTopic DeleteTopic FindTopic AllocateProducer
    ListOffsets UploadModule ListModules DescribeModule DeleteModule DeployJob ListJobs DescribeJob
    SetJobState UpdateJob DeleteJob JobLogs ClusterStatus FindEpochEnd
    Propose JoinCluster PartitionStatus ReadModule HandOver MovePartition DrainBroker RemoveBroker
    BalanceCluster CopyModule ReadSnapshot UpgradeCluster
    FindCoordinator CommitOffsets FetchOffsets ResetOffsets ListGroups DescribeGroup DeleteGroup
    FindTransactionCoordinator InitTransactions AddToTransaction EndTransaction
    CommitOffsetsInTransaction ListTransactions DescribeTransaction AbortTransaction WriteMarkers
    HoldsTransaction CleanedTo
}

pub(crate) fn every_type(visitor: &mut impl Visitor) {
    every_call(visitor);
    visitor.visit::<Request>();
    visitor.visit::<Open>();
    visitor.visit::<WireError>();
    visitor.visit::<Hello>();
    visitor.visit::<Welcome>();
    visitor.visit::<Answer<Welcome>>();
    visitor.visit::<OpenProduce>();
    visitor.visit::<ProduceReady>();
    visitor.visit::<Answer<ProduceReady>>();
    visitor.visit::<ProduceBatch>();
    visitor.visit::<ProduceAnswers>();
    visitor.visit::<OpenFetch>();
    visitor.visit::<FetchReady>();
    visitor.visit::<Answer<FetchReady>>();
    visitor.visit::<FetchData>();
    visitor.visit::<Answer<FetchData>>();
    visitor.visit::<Credit>();
    visitor.visit::<OpenGroup>();
    visitor.visit::<MemberFrame>();
    visitor.visit::<Answer<Standing>>();
    visitor.visit::<OpenPeer>();
    visitor.visit::<PeerFrame>();
    visitor.visit::<Envelope>();
}
