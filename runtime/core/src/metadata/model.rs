//! Random commands against what must hold after every one of them.

use std::collections::BTreeMap;

use millstream_protocol::ids::{
    JobId, LeaderEpoch, ModuleRef, NodeId, Offset, PartitionIndex, ReplicaId, Timestamp, TopicId,
    TopicName,
};
use millstream_protocol::message::job::{
    ErrorPolicy, JobLimits, JobSpec, JobState, LastResort, StartPosition,
};
use millstream_protocol::message::module::ModuleKind;
use millstream_protocol::message::replica::LogEnd;
use proptest::prelude::*;

use super::rows::{RowChange, Table};
use super::*;

fn topic(n: u8) -> TopicName {
    ["a", "b", "j0.dlq", "j1.dlq"][usize::from(n) % 4].parse().unwrap()
}

fn module(n: u8) -> ModuleRef {
    ["m@1", "m@2", "n@1", "n@3"][usize::from(n) % 4].parse().unwrap()
}

fn configs() -> impl Strategy<Value = BTreeMap<String, String>> {
    let pair = prop_oneof![
        Just(("segment.ms", "5000")),
        Just(("retention.bytes", "-1")),
        Just(("filter", "m@1")),
        Just(("filter.params.x", "1")),
        Just(("durability", "memory")),
        Just(("durability", "maybe")),
        Just(("unknown", "1")),
    ];
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let pairs = prop::collection::vec(pair, 0..3);
    pairs.prop_map(move |pairs| pairs.into_iter().map(own).collect())
}

fn replicas() -> impl Strategy<Value = Vec<Vec<NodeId>>> {
    let any = prop::collection::vec((1u32..4).prop_map(NodeId), 1..3);
    let one = prop_oneof![4 => Just(vec![NodeId(1)]), 1 => any];
    prop::collection::vec(one, 0..3)
}

fn spec() -> impl Strategy<Value = JobSpec> {
    let then = prop_oneof![Just(LastResort::DeadLetter), Just(LastResort::Skip)];
    (0u8..2, 0u8..4, 0u8..4, 0u8..4, then).prop_map(|(name, input, output, version, then)| {
        JobSpec {
            name: format!("j{name}").parse().unwrap(),
            module: module(version),
            inputs: vec![topic(input)],
            outputs: vec![topic(output)],
            params: BTreeMap::new(),
            limits: JobLimits::default(),
            on_error: ErrorPolicy { then, ..ErrorPolicy::default() },
            start: StartPosition::Latest,
        }
    })
}

fn add_module() -> impl Strategy<Value = Command> {
    (0u8..2, 0u8..3).prop_map(|(name, hash)| Command::AddModule {
        name: ["m", "n"][usize::from(name)].parse().unwrap(),
        kind: ModuleKind::Filter,
        sha256: hash.to_string().repeat(64),
        size: 9,
        uploaded: Timestamp(7),
        imports: vec![],
        exports: vec![],
    })
}

fn command() -> impl Strategy<Value = Command> {
    let reset = prop::collection::vec(Just("segment.ms".to_owned()), 0..2);
    let state = prop_oneof![Just(JobState::Paused), Just(JobState::Running)];
    let id = 0u32..6;
    prop_oneof![
        2 => (1u32..4, 1u16..4).prop_map(|(node, port)| Command::RegisterBroker {
            node: NodeId(node),
            incarnation: 5,
            address: format!("h:{port}"),
            rack: None,
        }),
        4 => (0u8..4, replicas(), configs()).prop_map(|(name, partitions, configs)| {
            Command::CreateTopic { name: topic(name), partitions, configs }
        }),
        2 => (id.clone(), (0u32..4, 0u32..3), replicas(), configs(), reset).prop_map(alter),
        1 => id.clone().prop_map(|topic| Command::DeleteTopic { topic: TopicId(topic) }),
        3 => add_module(),
        1 => (0u8..4).prop_map(|n| Command::DeleteModule { module: module(n) }),
        4 => spec().prop_map(|spec| Command::DeployJob { spec }),
        1 => (id.clone(), state)
            .prop_map(|(job, state)| Command::SetJobState { job: JobId(job), state }),
        1 => (id.clone(), 0u8..4).prop_map(|(job, n)| {
            Command::UpdateJob { job: JobId(job), module: Some(module(n)), limits: None }
        }),
        1 => id.prop_map(|job| Command::DeleteJob { job: JobId(job) }),
        1 => (0u32..9).prop_map(|count| Command::AllocateProducers { count }),
        2 => (1u32..4, any::<(bool, bool, bool)>()).prop_map(|(node, (controller, draining, fenced))| {
            Command::SetBroker { node: NodeId(node), controller, draining, fenced }
        }),
        1 => (1u32..4).prop_map(|node| Command::RemoveBroker { node: NodeId(node) }),
        2 => (1u32..4, 0u32..3, 0u32..6).prop_map(|(node, oldest, newest)| {
            Command::SupportLevels { node: NodeId(node), levels: Levels { oldest, newest } }
        }),
        1 => (0u32..4).prop_map(|level| Command::RaiseLevel { level }),
        2 => (0u32..6, 0u32..3, replicas()).prop_map(|(topic, partition, replicas)| {
            let mut replicas = replicas.into_iter();
            Command::PlacePartition {
                topic: TopicId(topic),
                partition: PartitionIndex(partition),
                planned_on: replicas.next().unwrap_or_default(),
                replicas: replicas.next().unwrap_or_default(),
            }
        }),
        2 => (0u32..6, 0u32..3, (0u32..4, 0u64..9), 0u32..4).prop_map(|(topic, partition, at, node)| {
            let voter = ReplicaId { node: NodeId(node), incarnation: 5 };
            Command::VotersChanged {
                topic: TopicId(topic),
                partition: PartitionIndex(partition),
                at: LogEnd { epoch: LeaderEpoch(at.0), offset: Offset(at.1) },
                voters: if node == 0 { vec![] } else { vec![voter] },
                placement: at.0 % 3,
            }
        }),
    ]
}

type Alteration = (u32, (u32, u32), Vec<Vec<NodeId>>, BTreeMap<String, String>, Vec<String>);

fn alter((topic, (planned_on, jobs), add, set, reset): Alteration) -> Command {
    Command::AlterTopic { topic: TopicId(topic), planned_on, jobs, add, set, reset }
}

/// Rows as a store keeps them.
type Store = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

fn put(store: &mut Store, rows: Vec<RowChange>) {
    for RowChange { table, key, value } in rows {
        match value {
            Some(value) => store.insert((table, key), value),
            None => store.remove(&(table, key)),
        };
    }
}

fn load(applied: Offset, store: &Store) -> Image {
    let rows = store.iter().map(|((table, key), value)| (*table, &key[..], &value[..]));
    Image::from_rows(applied, rows).expect("what was stored is an image")
}

/// What a job or a topic uses is there, and names lead to ids.
fn audit(image: &Image) {
    let level = image.features().level();
    assert!(image.brokers().keys().all(|node| image.features().of(*node).support(level)));
    for job in image.jobs().values() {
        let topics = job.spec.inputs.iter().chain(&job.spec.outputs).cloned();
        for topic in topics.chain(job.dead_letter_topic()) {
            assert!(image.topic(&topic).is_some(), "{topic} of job {}", job.spec.name);
        }
        assert!(image.modules().contains_key(&job.spec.module));
        assert_eq!(image.job(&job.spec.name).unwrap().1, job);
    }
    for topic in image.topics().values() {
        let filter = topic.config().filter;
        assert!(filter.is_none_or(|filter| image.modules().contains_key(&filter)));
        assert_eq!(image.topic(&topic.name).unwrap().1, topic);
        assert!(!topic.partitions.is_empty());
        for placement in &topic.partitions {
            assert!(!placement.voters.is_empty());
            let known = |node: &NodeId| image.brokers().contains_key(node);
            assert!(!placement.replicas.is_empty() && placement.replicas.iter().all(known));
        }
    }
}

fn run(commands: &[Command]) -> (Image, Vec<Result<Response, Rejection>>) {
    let mut image = Image::default();
    let mut store = Store::new();
    let mut answers = Vec::new();
    for (at, command) in commands.iter().enumerate() {
        let before = image.clone();
        let at = Offset(at as u64);
        let applied = apply(&mut image, at, command);
        match &applied {
            Ok(applied) => {
                put(&mut store, applied.rows.clone());
                assert_eq!(image.applied(), at.next());
            }
            Err(rejection) => assert_eq!(image, before, "{rejection}"),
        }
        assert_eq!(load(image.applied(), &store), image, "after {command:?}");
        audit(&image);
        answers.push(applied.map(|applied| applied.response));
    }
    let mut snapshot = Store::new();
    put(&mut snapshot, image.rows());
    assert_eq!(load(image.applied(), &snapshot), image, "by snapshot");
    assert_eq!(Image::from_snapshot(image.applied(), &image.snapshot()).as_ref(), Ok(&image));
    (image, answers)
}

proptest! {
    #[test]
    fn a_store_becomes_that_of_a_snapshot_whatever_it_was(
        one in prop::collection::vec(command(), 1..40),
        other in prop::collection::vec(command(), 1..40),
    ) {
        let ((one, _), (other, _)) = (run(&one), run(&other));
        let mut store = Store::new();
        put(&mut store, one.rows());
        put(&mut store, one.changes_to(&other));
        prop_assert_eq!(load(other.applied(), &store), other);
    }

    #[test]
    fn no_bytes_panic_the_reader_of_snapshots(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Image::from_snapshot(Offset::ZERO, &bytes);
    }

    #[test]
    fn a_rejection_changes_nothing_and_rows_rebuild_the_image(
        commands in prop::collection::vec(command(), 1..60)
    ) {
        let first = run(&commands);
        prop_assert_eq!(first, run(&commands), "the same commands give the same image");
    }

    #[test]
    fn a_command_reads_as_it_was_written(command in command()) {
        let bytes = postcard::to_stdvec(&command).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Command>(&bytes).unwrap(), command);
    }

    #[test]
    fn no_bytes_panic_the_reader_of_rows(
        key in prop::collection::vec(any::<u8>(), 0..9),
        value in prop::collection::vec(any::<u8>(), 0..60),
        table in 0usize..7,
    ) {
        let _ = Image::from_rows(Offset::ZERO, [(Table::ALL[table], &key[..], &value[..])]);
    }
}
