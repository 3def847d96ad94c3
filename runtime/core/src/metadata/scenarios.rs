//! What requests come to, situation by situation.

use std::collections::BTreeMap;

use millstream_protocol::ids::{ModuleRef, NodeId, Offset, ProducerId, Timestamp, TopicName};
use millstream_protocol::message::job::{
    DeleteJob, DeployJob, ErrorPolicy, JobLimits, JobSpec, JobState, LastResort, SetJobState,
    StartPosition, UpdateJob,
};
use millstream_protocol::message::module::{DeleteModule, ModuleKind};
use millstream_protocol::message::topic::{AlterTopic, CreateTopic, DeleteTopic};

use super::*;

/// A cluster's metadata and where its log ends.
struct Cluster {
    image: Image,
    end: Offset,
}

impl Cluster {
    fn of(brokers: u32) -> Self {
        let mut cluster = Self { image: Image::default(), end: Offset::ZERO };
        for node in 1..=brokers {
            let address = format!("localhost:{}", 9440 + node);
            let node = NodeId(node);
            let register = Command::RegisterBroker { node, incarnation: 7, address, rack: None };
            cluster.apply(&register).unwrap();
        }
        cluster
    }

    fn apply(&mut self, command: &Command) -> Result<Response, Rejection> {
        let at = self.end;
        self.end = at.next();
        apply(&mut self.image, at, command).map(|applied| applied.response)
    }

    fn create(&mut self, name: &str, partitions: u32, factor: u16) -> Result<Response, Rejection> {
        let request = CreateTopic {
            name: topic(name),
            partitions,
            replication_factor: factor,
            configs: BTreeMap::new(),
        };
        let command = plan::create_topic(&self.image, &request)?;
        self.apply(&command)
    }

    fn alter(&mut self, request: &AlterTopic) -> Result<Response, Rejection> {
        let command = plan::alter_topic(&self.image, request)?;
        self.apply(&command)
    }

    fn delete(&mut self, name: &str) -> Result<Response, Rejection> {
        let command = plan::delete_topic(&self.image, &DeleteTopic { name: topic(name) })?;
        self.apply(&command)
    }

    fn upload(&mut self, name: &str, hash: char) -> ModuleRef {
        let response = self.apply(&module(name, &hash.to_string().repeat(64))).unwrap();
        let Response::Module(module) = response else { panic!("{response:?}") };
        module
    }

    fn deploy(&mut self, spec: JobSpec) -> Result<Response, Rejection> {
        let commands = plan::deploy_job(&self.image, &DeployJob { spec })?;
        let mut response = Response::Done;
        for command in commands {
            response = self.apply(&command)?;
        }
        Ok(response)
    }

    fn delete_module(&mut self, module: &str) -> Result<Response, Rejection> {
        let module = module.parse().unwrap();
        self.apply(&plan::delete_module(&DeleteModule { module }))
    }

    fn delete_job(&mut self, name: &str) -> Result<Response, Rejection> {
        let command = plan::delete_job(&self.image, &DeleteJob { name: name.parse().unwrap() })?;
        self.apply(&command)
    }

    /// A topic's partitions as `leader,other | …`.
    fn placement(&self, name: &str) -> String {
        let (_, topic) = self.image.topic(&topic(name)).unwrap();
        let nodes = |placement: &Placement| {
            placement.replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        topic.partitions.iter().map(nodes).collect::<Vec<_>>().join(" | ")
    }
}

fn topic(name: &str) -> TopicName {
    name.parse().unwrap()
}

fn module(name: &str, sha256: &str) -> Command {
    Command::AddModule {
        name: name.parse().unwrap(),
        kind: ModuleKind::Filter,
        sha256: sha256.to_owned(),
        size: 100,
        uploaded: Timestamp(1),
        imports: vec![],
        exports: vec!["filter".into()],
    }
}

fn job(name: &str, input: &str, output: &str) -> JobSpec {
    JobSpec {
        name: name.parse().unwrap(),
        module: "late@1".parse().unwrap(),
        inputs: vec![topic(input)],
        outputs: vec![topic(output)],
        params: BTreeMap::new(),
        limits: JobLimits::default(),
        on_error: ErrorPolicy::default(),
        start: StartPosition::default(),
    }
}

fn alteration(name: &str, partitions: Option<u32>, set: &[(&str, &str)]) -> AlterTopic {
    let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    AlterTopic { name: topic(name), partitions, set, reset: vec![] }
}

/// A broker with topics `in` and `out`, module `late@1` and a job `j` between them.
fn with_job() -> Cluster {
    let mut cluster = Cluster::of(1);
    cluster.create("in", 4, 1).unwrap();
    cluster.create("out", 2, 1).unwrap();
    cluster.upload("late", 'a');
    cluster.deploy(job("j", "in", "out")).unwrap();
    cluster
}

fn text<T: std::fmt::Debug>(result: Result<T, Rejection>) -> String {
    let rejection = result.unwrap_err();
    format!("{}: {rejection}", rejection.code())
}

#[test]
fn replicas_and_leaders_are_spread_evenly() {
    let mut cluster = Cluster::of(3);
    cluster.create("a", 6, 2).unwrap();
    insta::assert_snapshot!(cluster.placement("a"), @"1,2 | 2,3 | 3,1 | 1,2 | 2,3 | 3,1");
    cluster.create("b", 1, 3).unwrap();
    cluster.alter(&alteration("b", Some(3), &[])).unwrap();
    insta::assert_snapshot!(cluster.placement("b"), @"1,2,3 | 2,3,1 | 3,1,2");
}

#[test]
fn a_topic_needs_a_name_partitions_and_brokers_enough() {
    let mut cluster = Cluster::of(1);
    insta::assert_snapshot!(text(cluster.create("t", 0, 1)), @"invalid_request: 0 partitions: a topic has 1 to 10000");
    insta::assert_snapshot!(text(cluster.create("t", 10_001, 1)), @"invalid_request: 10001 partitions: a topic has 1 to 10000");
    insta::assert_snapshot!(text(cluster.create("t", 1, 3)), @"invalid_request: replication factor 3: this cluster has 1 brokers, so use 1 to 1");
    insta::assert_snapshot!(text(cluster.create("t", 1, 0)), @"invalid_request: replication factor 0: this cluster has 1 brokers, so use 1 to 1");
    cluster.create("t", 1, 1).unwrap();
    insta::assert_snapshot!(text(cluster.create("t", 1, 1)), @"topic_exists: topic t exists already: choose another name, or alter it");
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let mut cluster = Cluster::of(1);
    cluster.create("t", 2, 1).unwrap();
    let stale = plan::alter_topic(&cluster.image, &alteration("t", Some(3), &[])).unwrap();
    cluster.alter(&alteration("t", Some(4), &[("retention.ms", "1000")])).unwrap();
    assert_eq!(cluster.image.topic(&topic("t")).unwrap().1.partition_count(), 4);
    insta::assert_snapshot!(text(cluster.alter(&alteration("t", Some(3), &[]))), @"invalid_request: 3 partitions: a topic has 4 to 10000");
    insta::assert_snapshot!(text(cluster.apply(&stale)), @"invalid_request: the number of partitions of topic t changed while the request was planned: send it again");
}

#[test]
fn a_topic_is_not_altered_on_a_plan_that_knows_nothing_of_a_job_deployed_since() {
    let mut cluster = Cluster::of(1);
    cluster.create("in", 1, 1).unwrap();
    cluster.create("out", 1, 1).unwrap();
    cluster.upload("late", 'a');
    let stale = plan::alter_topic(&cluster.image, &alteration("out", Some(2), &[])).unwrap();
    cluster.deploy(job("late", "in", "out")).unwrap();
    insta::assert_snapshot!(text(cluster.apply(&stale)), @"invalid_request: the jobs that may write to topic out changed while the request was planned: send it again");
    cluster.alter(&alteration("out", Some(2), &[])).unwrap();
}

#[test]
fn an_alteration_is_made_whole_or_not_at_all() {
    let mut cluster = Cluster::of(1);
    cluster.create("t", 2, 1).unwrap();
    let before = cluster.image.clone();
    let bad = alteration("t", Some(4), &[("segment.ms", "1000"), ("segment.bytes", "1")]);
    insta::assert_snapshot!(text(cluster.alter(&bad)), @r#"invalid_config: configuration segment.bytes="1": the value must be a whole number from 16384 to 2147483647"#);
    assert_eq!(cluster.image, before);

    cluster.alter(&alteration("t", None, &[("segment.ms", "5000")])).unwrap();
    let reset = AlterTopic { reset: vec!["segment.ms".into()], ..alteration("t", None, &[]) };
    cluster.alter(&reset).unwrap();
    assert_eq!(cluster.image.topic(&topic("t")).unwrap().1.configs, BTreeMap::new());
    let unknown = AlterTopic { reset: vec!["segment.m".into()], ..alteration("t", None, &[]) };
    assert!(text(cluster.alter(&unknown)).contains(r#"key "segment.m" is not known"#));
}

#[test]
fn what_is_used_is_not_deleted_and_its_users_are_named() {
    let mut cluster = with_job();
    insta::assert_snapshot!(text(cluster.delete("in")), @"in_use: topic in is used by job j: change or delete these first");
    insta::assert_snapshot!(text(cluster.delete("j.dlq")), @"in_use: topic j.dlq is used by job j: change or delete these first");
    cluster.alter(&alteration("in", None, &[("filter", "late@1")])).unwrap();
    insta::assert_snapshot!(text(cluster.delete_module("late@1")), @"in_use: module late@1 is used by job j, topic in: change or delete these first");
    cluster.delete_job("j").unwrap();
    insta::assert_snapshot!(text(cluster.delete_module("late@1")), @"in_use: module late@1 is used by topic in: change or delete these first");
    cluster.delete("in").unwrap();
    cluster.delete_module("late@1").unwrap();
    insta::assert_snapshot!(text(cluster.delete_module("late@1")), @"unknown_module: module late@1 does not exist: upload it, or list modules to see which do");
}

#[test]
fn a_filter_must_be_there() {
    let mut cluster = Cluster::of(1);
    cluster.create("t", 1, 1).unwrap();
    insta::assert_snapshot!(text(cluster.alter(&alteration("t", None, &[("filter", "late@1")]))), @"unknown_module: module late@1 does not exist: upload it, or list modules to see which do");
}

#[test]
fn the_same_bytes_are_the_same_version_and_a_number_is_used_once() {
    let mut cluster = Cluster::of(1);
    assert_eq!(cluster.upload("late", 'a').to_string(), "late@1");
    assert_eq!(cluster.upload("late", 'b').to_string(), "late@2");
    assert_eq!(cluster.upload("late", 'a').to_string(), "late@1");
    assert_eq!(cluster.upload("other", 'a').to_string(), "other@1");
    cluster.delete_module("late@2").unwrap();
    assert_eq!(cluster.upload("late", 'b').to_string(), "late@3");
    insta::assert_snapshot!(text(cluster.apply(&module("late", "AB"))), @"invalid_module: module late is refused: its hash is not 64 digits of lowercase hex");
}

#[test]
fn ids_are_never_used_again() {
    let mut cluster = with_job();
    let (first, _) = cluster.image.job(&"j".parse().unwrap()).unwrap();
    cluster.delete_job("j").unwrap();
    let Response::Job(second) = cluster.deploy(job("j", "in", "out")).unwrap() else { panic!() };
    assert!(first < second);
    let (first, _) = cluster.image.topic(&topic("j.dlq")).unwrap();
    cluster.delete_job("j").unwrap();
    cluster.delete("j.dlq").unwrap();
    let Response::Topic(second) = cluster.create("j.dlq", 1, 1).unwrap() else { panic!() };
    assert!(first < second);
}

#[test]
fn a_deployed_job_brings_its_dead_letter_topic() {
    let cluster = with_job();
    let (_, letters) = cluster.image.topic(&topic("j.dlq")).unwrap();
    assert_eq!(letters.partition_count(), 1);
    let mut cluster = Cluster::of(1);
    cluster.create("in", 1, 1).unwrap();
    cluster.upload("late", 'a');
    let on_error = ErrorPolicy { then: LastResort::Skip, ..ErrorPolicy::default() };
    let spec = JobSpec { outputs: vec![], on_error, ..job("quiet", "in", "out") };
    cluster.deploy(spec).unwrap();
    assert!(cluster.image.topic(&topic("quiet.dlq")).is_none());
}

#[test]
fn a_job_that_makes_no_sense_is_refused() {
    let mut cluster = with_job();
    let good = || job("k", "in", "out");
    insta::assert_snapshot!(text(cluster.deploy(job("j", "in", "out"))), @"job_exists: job j exists already: choose another name, or update it");
    insta::assert_snapshot!(text(cluster.deploy(job("k", "nowhere", "out"))), @"unknown_topic: topic nowhere does not exist: create it, or list topics to see which do");
    insta::assert_snapshot!(text(cluster.deploy(job("k", "in", "in"))), @"invalid_request: job k: it reads in and writes to it, and would never end");
    insta::assert_snapshot!(text(cluster.deploy(JobSpec { inputs: vec![], ..good() })), @"invalid_request: job k: 0 inputs: a job has 1 to 255");
    let module = "late@9".parse().unwrap();
    insta::assert_snapshot!(text(cluster.deploy(JobSpec { module, ..good() })), @"unknown_module: module late@9 does not exist: upload it, or list modules to see which do");
    let limits = JobLimits { memory_bytes: 0, ..JobLimits::default() };
    insta::assert_snapshot!(text(cluster.deploy(JobSpec { limits, ..good() })), @"invalid_request: job k: limits.memory_bytes is 0: use 1048576 to 1073741824");
    let on_error = ErrorPolicy { backoff_ms: 0, ..ErrorPolicy::default() };
    insta::assert_snapshot!(text(cluster.deploy(JobSpec { on_error, ..good() })), @"invalid_request: job k: on_error.backoff_ms is 0: use 1 to 60000");
    let name = "k".repeat(249).parse().unwrap();
    let long = text(cluster.deploy(JobSpec { name, ..good() }));
    assert!(long.ends_with("its name is too long to add .dlq to: choose a shorter one"), "{long}");
}

#[test]
fn every_change_of_a_job_is_a_new_generation() {
    let mut cluster = with_job();
    cluster.upload("late", 'b');
    let name = || "j".parse().unwrap();
    let module = Some("late@2".parse().unwrap());
    let update = UpdateJob { name: name(), module, limits: None };
    let command = plan::update_job(&cluster.image, &update).unwrap();
    cluster.apply(&command).unwrap();
    let pause = SetJobState { name: name(), state: JobState::Paused };
    let command = plan::set_job_state(&cluster.image, &pause).unwrap();
    cluster.apply(&command).unwrap();
    let (_, job) = cluster.image.job(&name()).unwrap();
    assert_eq!((job.generation, job.state), (2, JobState::Paused));
    assert_eq!(job.spec.module.to_string(), "late@2");
    assert!(cluster.delete_module("late@1").is_ok(), "nobody uses the old version any more");
}

#[test]
fn producer_ids_are_given_out_once() {
    let mut cluster = Cluster::of(1);
    let mut lot = |count| cluster.apply(&Command::AllocateProducers { count });
    assert_eq!(lot(1000), Ok(Response::Producers { first: ProducerId(0), count: 1000 }));
    assert_eq!(lot(1), Ok(Response::Producers { first: ProducerId(1000), count: 1 }));
    insta::assert_snapshot!(text(lot(0)), @"invalid_request: 0 producer ids: ask for 1 to 1048576 at once");
}

#[test]
fn two_brokers_do_not_share_an_address() {
    let mut cluster = Cluster::of(2);
    let mut register = |node, address: &str| {
        let address = address.to_owned();
        let node = NodeId(node);
        cluster.apply(&Command::RegisterBroker { node, incarnation: 8, address, rack: None })
    };
    insta::assert_snapshot!(text(register(3, "localhost:9441")), @"invalid_request: broker 3: broker 1 has the address localhost:9441: use another");
    insta::assert_snapshot!(text(register(3, "localhost")), @r#"invalid_request: broker 3: "localhost" is no address: write HOST:PORT"#);
    register(1, "localhost:9441").unwrap();
    register(1, "[::1]:9441").unwrap();
}
