//! One call of each kind, for the golden bytes of the table.

use millstream_protocol::ids::{
    GroupName, LeaderEpoch, MemberEpoch, NodeId, Offset, ProducerEpoch, ProducerId, Timestamp,
    TopicId, TopicPartition, TransactionalId,
};
use millstream_protocol::message::produce::{AllocateProducer, ProducerIdentity};
use millstream_protocol::message::{
    Open, Request, cluster::*, group::*, job::*, module::*, offsets::*, peer::*, topic::*,
    transaction::*,
};

use super::samples::{
    MEMBER, OF, PARTITION, REPLICA, SHA256, job_spec, map, module, open_call, place, topic,
};

/// One call of each kind in the order of the table.
pub(crate) fn every_call() -> Vec<Request> {
    let (name, job) = (topic(), job_spec().name);
    let (set, reset) = (map("a", "b"), vec!["c".to_owned()]);
    let upload = UploadModule { name: module().name, sha256: SHA256.to_owned(), size: 70_000 };
    let to = NodeId(300);
    let group: GroupName = "readers".parse().unwrap();
    let id: TransactionalId = "billing-7".parse().unwrap();
    let producer = ProducerIdentity { id: ProducerId(300), epoch: ProducerEpoch(7) };
    let marker = |at| Marker { at, producer: producer.id, epoch: producer.epoch, commit: true };
    let at = OffsetSpec::Timestamp(Timestamp(1_700_000_000_000));
    let open_call = match open_call() {
        Open::Call(call) => call,
        other => unreachable!("{other:?}"),
    };
    vec![
        open_call,
        ListTopics {}.into(),
        DescribeTopic { name: name.clone() }.into(),
        AlterTopic { name: name.clone(), partitions: Some(6), set, reset }.into(),
        DeleteTopic { name: name.clone() }.into(),
        FindTopic { name: name.clone() }.into(),
        AllocateProducer {}.into(),
        ListOffsets { topic: name.clone(), partition: Some(PARTITION), at }.into(),
        upload.into(),
        ListModules {}.into(),
        DescribeModule { module: module() }.into(),
        DeleteModule { module: module() }.into(),
        DeployJob { spec: job_spec() }.into(),
        ListJobs {}.into(),
        DescribeJob { name: job.clone() }.into(),
        SetJobState { name: job.clone(), state: JobState::Paused }.into(),
        UpdateJob { name: job.clone(), module: Some(module()), limits: Some(job_spec().limits) }
            .into(),
        DeleteJob { name: job.clone() }.into(),
        JobLogs { name: job, after: 128, limit: 50 }.into(),
        ClusterStatus {}.into(),
        FindEpochEnd { topic: name.clone(), partition: PARTITION, epoch: LeaderEpoch(5) }.into(),
        Propose {}.into(),
        JoinCluster { replica: REPLICA, address: "b:9440".to_owned(), rack: Some("r".to_owned()) }
            .into(),
        PartitionStatus { topic: TopicId(7), partitions: vec![PARTITION] }.into(),
        ReadModule { sha256: SHA256.to_owned(), offset: 70_000 }.into(),
        HandOver { partition: TopicPartition { topic: TopicId(7), partition: PARTITION }, to }
            .into(),
        MovePartition { topic: name, partition: PARTITION, replicas: vec![to, NodeId(2)] }.into(),
        DrainBroker { node: to, drain: true }.into(),
        RemoveBroker { node: to }.into(),
        BalanceCluster { dry_run: true }.into(),
        CopyModule { sha256: SHA256.to_owned(), size: 70_000 }.into(),
        ReadSnapshot { applied: Some(Offset(300)), offset: 70_000 }.into(),
        UpgradeCluster { level: Some(300) }.into(),
        FindCoordinator { group: group.clone() }.into(),
        CommitOffsets {
            group: group.clone(),
            member: Some((MEMBER, MemberEpoch(300))),
            offsets: vec![OffsetCommit { partition: OF, committed: place() }],
        }
        .into(),
        FetchOffsets { group: group.clone(), partitions: Some(vec![OF]) }.into(),
        ResetOffsets { group: group.clone(), offsets: vec![(OF, Offset(300))] }.into(),
        ListGroups { here: true }.into(),
        DescribeGroup { group: group.clone() }.into(),
        DeleteGroup { group: group.clone() }.into(),
        FindTransactionCoordinator { id: id.clone() }.into(),
        InitTransactions { id: id.clone(), timeout_ms: 60_000 }.into(),
        AddToTransaction {
            id: id.clone(),
            producer,
            partitions: vec![OF],
            groups: vec![group.clone()],
        }
        .into(),
        EndTransaction { id: id.clone(), producer, commit: true }.into(),
        CommitOffsetsInTransaction {
            producer,
            commit: CommitOffsets { group: group.clone(), member: None, offsets: vec![] },
        }
        .into(),
        ListTransactions { here: true }.into(),
        DescribeTransaction { id: id.clone() }.into(),
        AbortTransaction { id }.into(),
        WriteMarkers {
            markers: vec![marker(MarkedPlace::Partition(OF)), marker(MarkedPlace::Group(group))],
        }
        .into(),
        HoldsTransaction {
            coordinator: PARTITION,
            producer: producer.id,
            epoch: producer.epoch,
            partition: OF,
        }
        .into(),
        CleanedTo { partitions: vec![OF] }.into(),
    ]
}
