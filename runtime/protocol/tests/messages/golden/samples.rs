//! One value of each message that has golden bytes: no field has its default, lists are not empty.

use std::collections::BTreeMap;

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{
    JobId, LeaderEpoch, MemberEpoch, MemberId, ModuleRef, NodeId, Offset, PartitionIndex,
    ProducerEpoch, ProducerId, ReplicaId, Timestamp, TopicId, TopicName, TopicPartition,
};
use millstream_protocol::message::fetch::{FetchData, FetchFilter, OpenFetch};
use millstream_protocol::message::hello::{Hello, Welcome};
use millstream_protocol::message::produce::{Acks, OpenProduce, ProduceAck, ProduceAnswers};
use millstream_protocol::message::transaction::{Aborted, Isolation};
use millstream_protocol::message::{
    Open, cluster::*, group::*, job::*, module::*, offsets::*, topic::*,
};

type Answer<M> = Result<M, WireError>;

pub(super) const REPLICA: ReplicaId = ReplicaId { node: NodeId(300), incarnation: 1 << 100 };
pub(super) const PARTITION: PartitionIndex = PartitionIndex(3);
pub(super) const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

pub(super) fn topic() -> TopicName {
    "flights".parse().unwrap()
}

pub(super) fn module() -> ModuleRef {
    "redact@3".parse().unwrap()
}

pub(super) fn map(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn brokers() -> Vec<BrokerAddress> {
    vec![BrokerAddress { node: NodeId(2), address: "b2:9000".to_owned() }]
}

pub(crate) fn hello() -> Hello {
    Hello {
        oldest: 1,
        newest: 300,
        features: vec!["a".to_owned(), "bc".to_owned()],
        client_id: "reader".to_owned(),
        software: "sdk 0.1".to_owned(),
    }
}

pub(crate) fn welcome() -> Answer<Welcome> {
    Ok(Welcome {
        version: 1,
        features: vec!["bc".to_owned()],
        cluster_id: "c-1".to_owned(),
        node: NodeId(2),
        software: "broker 0.1".to_owned(),
    })
}

pub(crate) fn open_call() -> Open {
    let configs = map("retention.ms", "1000");
    let call = CreateTopic { name: topic(), partitions: 300, replication_factor: 3, configs };
    Open::Call(call.into())
}

pub(crate) fn open_produce() -> Open {
    let id = Some(TopicId(7));
    Open::Produce(OpenProduce { topic: topic(), id, partition: PARTITION, acks: Acks::All })
}

pub(crate) fn open_fetch() -> Open {
    Open::Fetch(OpenFetch {
        topic: topic(),
        id: Some(TopicId(7)),
        partition: PARTITION,
        offset: Offset(1_000_000),
        epoch: Some(LeaderEpoch(5)),
        credit: 4 << 20,
        max_body_bytes: 1 << 20,
        filter: Some(FetchFilter { module: module(), params: map("keep", "UA") }),
        isolation: Isolation::ReadUncommitted,
    })
}

pub(crate) fn produce_answers() -> ProduceAnswers {
    let ack = |base, duplicate| Ok(ProduceAck { base_offset: Offset(base), duplicate });
    let refused = Err(WireError::new(ErrorCode::OutOfOrderSequence, "a gap"));
    ProduceAnswers { answers: vec![ack(41, false), ack(1 << 40, true), refused] }
}

pub(crate) fn fetch_data() -> Answer<FetchData> {
    Ok(FetchData {
        high_watermark: Offset(1_000_300),
        log_start: Offset(12),
        next_offset: Offset::MAX,
        examined: 129,
        aborted: vec![Aborted {
            producer: ProducerId(300),
            epoch: ProducerEpoch(7),
            first: Some(Offset(900)),
            marker: Offset(1_000),
        }],
    })
}

pub(crate) fn refusal() -> Answer<()> {
    Err(WireError::new(ErrorCode::InUse, "redact@3 is used by the job \u{e9}t\u{e9}"))
}

pub(crate) fn topic_description() -> Answer<TopicDescription> {
    let (key, value) = ("retention.ms".to_owned(), "1000".to_owned());
    Ok(TopicDescription {
        name: topic(),
        id: TopicId(7),
        replication_factor: 3,
        configs: vec![ConfigEntry { key, value, is_default: true }],
        partitions: vec![PartitionDescription {
            index: PARTITION,
            leader: Some(NodeId(2)),
            leader_epoch: LeaderEpoch(5),
            replicas: vec![NodeId(2), NodeId(300)],
            log_start: Offset(12),
            high_watermark: Offset(1_000_300),
            log_end: Offset(1_000_301),
            size_bytes: 1 << 33,
            status: "online".to_owned(),
            voters: vec![NodeId(300)],
            in_sync: vec![NodeId(300)],
        }],
    })
}

pub(crate) fn module_description() -> Answer<ModuleDescription> {
    Ok(ModuleDescription {
        module: module(),
        kind: ModuleKind::Filter,
        sha256: SHA256.to_owned(),
        size: 70_000,
        uploaded: Timestamp(1_700_000_000_000),
        imports: vec!["log".to_owned()],
        exports: vec!["apply".to_owned(), "init".to_owned()],
        used_by: vec!["job scrub".to_owned()],
    })
}

pub(super) fn job_spec() -> JobSpec {
    JobSpec {
        name: "scrub".parse().unwrap(),
        module: module(),
        inputs: vec![topic(), "late".parse().unwrap()],
        outputs: vec!["clean".parse().unwrap()],
        params: map("keep", "UA"),
        limits: JobLimits { batch_ms: 500, memory_bytes: 1 << 24, output_ratio: 4 },
        on_error: ErrorPolicy { retries: 2, backoff_ms: 250, then: LastResort::Stop },
        start: StartPosition::Timestamp(Timestamp(-1)),
    }
}

pub(crate) fn job_description() -> Answer<JobDescription> {
    Ok(JobDescription {
        id: JobId(9),
        spec: job_spec(),
        state: JobState::Paused,
        partitions: vec![JobPartition {
            topic: topic(),
            partition: PARTITION,
            position: Offset(1_000_000),
            lag: 300,
            records_in: 5_000,
            records_out: 4_999,
            errors: 1,
            status: "backing off".to_owned(),
            last_error: Some("trap".to_owned()),
        }],
    })
}

pub(crate) fn job_log_page() -> Answer<JobLogPage> {
    let line = JobLogLine {
        number: 128,
        time: Timestamp(1_700_000_000_000),
        topic: topic(),
        partition: PARTITION,
        level: "warn".to_owned(),
        text: "no key".to_owned(),
    };
    Ok(JobLogPage { lines: vec![line], dropped: 2 })
}

pub(crate) fn partition_offsets() -> Answer<Vec<PartitionOffset>> {
    let at = |partition, timestamp| PartitionOffset {
        partition: PartitionIndex(partition),
        offset: Offset(1_000_000),
        timestamp,
        leader_epoch: LeaderEpoch(5),
    };
    Ok(vec![at(0, None), at(1, Some(Timestamp(i64::MIN)))])
}

pub(crate) fn topic_routes() -> Answer<TopicRoutes> {
    Ok(TopicRoutes {
        id: TopicId(7),
        leaders: vec![Some(NodeId(2)), None],
        brokers: brokers(),
        max_batch_bytes: 1 << 20,
        epochs: vec![LeaderEpoch(5), LeaderEpoch(300)],
    })
}

pub(crate) fn epoch_end() -> Answer<EpochEnd> {
    Ok(EpochEnd { epoch: LeaderEpoch(4), end: Offset(1_000_000) })
}

pub(crate) fn cluster_description() -> Answer<ClusterDescription> {
    Ok(ClusterDescription {
        cluster_id: "c-1".to_owned(),
        controller: Some(NodeId(2)),
        brokers: brokers(),
        topics: 4,
        partitions: 300,
        jobs: 1,
        standings: vec![BrokerStanding {
            node: NodeId(300),
            rack: Some("r".to_owned()),
            reachable: true,
            controller: true,
            draining: false,
            replicas: 300,
            leads: 4,
        }],
        voters: vec![NodeId(2)],
        leaderless: 1,
        moving: 2,
        feature_level: 1,
        newest_feature_level: 300,
    })
}

pub(super) const OF: TopicPartition = TopicPartition { topic: TopicId(7), partition: PARTITION };
pub(super) const MEMBER: MemberId = MemberId(1 << 100);

pub(super) fn place() -> Committed {
    let epoch = Some(LeaderEpoch(5));
    Committed { offset: Offset(70_000), epoch, metadata: "done".to_owned() }
}

fn details() -> MemberDetails {
    MemberDetails {
        instance: Some("reader-1".parse().unwrap()),
        client: "app".to_owned(),
        subscription: Subscription { topics: vec![topic()], pattern: Some("a.*".to_owned()) },
        assignor: Assignor::Range,
        session_timeout_ms: 2_000,
        rebalance_timeout_ms: 60_000,
    }
}

pub(crate) fn open_group() -> Open {
    Open::Group(OpenGroup { group: "readers".parse().unwrap(), member: MEMBER })
}

pub(crate) fn member_frame() -> MemberFrame {
    let details = Some(details());
    MemberFrame::Beat(Beat { epoch: MemberEpoch(300), details, owned: vec![OF] })
}

pub(crate) fn standing() -> Answer<Standing> {
    let partitions = vec![AssignedPartition { index: PARTITION, committed: Some(place()) }];
    let topics = Some(vec![AssignedTopic { id: TopicId(7), name: topic(), partitions }]);
    Ok(Standing { answers: true, joined: MemberEpoch(2), epoch: MemberEpoch(300), topics })
}

pub(crate) fn group_description() -> GroupDescription {
    let member = MemberDescription {
        id: MEMBER,
        details: details(),
        epoch: MemberEpoch(300),
        owned: vec![OF],
        revoking: vec![OF],
        awaiting: vec![OF],
        away: true,
    };
    GroupDescription {
        name: "readers".parse().unwrap(),
        state: GroupState::Stable,
        assignor: Assignor::Range,
        epoch: MemberEpoch(301),
        coordinator: NodeId(2),
        members: vec![member],
        offsets: vec![GroupOffset { partition: OF, committed: place(), at: Timestamp(9) }],
    }
}
