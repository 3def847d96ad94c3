//! A job as it is printed.
//!
//! Invariant: the JSON of a job is the same whichever verb prints it.

use std::collections::BTreeMap;

use millstream_protocol::ids::TopicName;
use millstream_protocol::message::job::{
    ErrorPolicy, JobDescription, JobLimits, JobPartition, JobState, JobSummary, LastResort,
    StartPosition,
};
use serde::Serialize;

use crate::format;
use crate::output::{Report, columns, pairs};

/// One job, whole.
#[derive(Serialize)]
pub(super) struct Job {
    name: String,
    id: u32,
    state: &'static str,
    module: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    params: BTreeMap<String, String>,
    limits: Limits,
    on_error: OnError,
    start: String,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Limits {
    batch_ms: u32,
    memory_bytes: u64,
    output_ratio: u32,
}

#[derive(Serialize)]
struct OnError {
    retries: u32,
    backoff_ms: u32,
    then: &'static str,
}

#[derive(Serialize)]
struct Partition {
    topic: String,
    partition: u32,
    position: u64,
    lag: u64,
    records_in: u64,
    records_out: u64,
    errors: u64,
    status: String,
    last_error: Option<String>,
}

impl From<JobDescription> for Job {
    fn from(job: JobDescription) -> Self {
        let spec = job.spec;
        Self {
            name: spec.name.to_string(),
            id: job.id.get(),
            state: state(job.state),
            module: spec.module.to_string(),
            inputs: names(&spec.inputs),
            outputs: names(&spec.outputs),
            params: spec.params,
            limits: Limits::from(spec.limits),
            on_error: OnError::from(spec.on_error),
            start: start(spec.start),
            partitions: job.partitions.into_iter().map(Partition::from).collect(),
        }
    }
}

impl From<JobLimits> for Limits {
    fn from(limits: JobLimits) -> Self {
        let JobLimits { batch_ms, memory_bytes, output_ratio } = limits;
        Self { batch_ms, memory_bytes, output_ratio }
    }
}

impl From<ErrorPolicy> for OnError {
    fn from(policy: ErrorPolicy) -> Self {
        let then = match policy.then {
            LastResort::DeadLetter => "dead-letter",
            LastResort::Skip => "skip",
            LastResort::Stop => "stop",
        };
        Self { retries: policy.retries, backoff_ms: policy.backoff_ms, then }
    }
}

impl From<JobPartition> for Partition {
    fn from(partition: JobPartition) -> Self {
        Self {
            topic: partition.topic.to_string(),
            partition: partition.partition.get(),
            position: partition.position.get(),
            lag: partition.lag,
            records_in: partition.records_in,
            records_out: partition.records_out,
            errors: partition.errors,
            status: partition.status,
            last_error: partition.last_error,
        }
    }
}

fn names(topics: &[TopicName]) -> Vec<String> {
    topics.iter().map(ToString::to_string).collect()
}

const fn state(state: JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Paused => "paused",
    }
}

fn start(start: StartPosition) -> String {
    match start {
        StartPosition::Earliest => "earliest".to_owned(),
        StartPosition::Latest => "latest".to_owned(),
        StartPosition::Timestamp(at) => format::timestamp(at),
    }
}

impl Report for Job {
    fn table(&self) -> String {
        let partitions = columns(
            &[
                "TOPIC",
                "PARTITION",
                "POSITION",
                "LAG",
                "IN",
                "OUT",
                "ERRORS",
                "STATUS",
                "LAST ERROR",
            ],
            &["PARTITION", "POSITION", "LAG", "IN", "OUT", "ERRORS"],
            self.partitions.iter().map(Partition::row),
        );
        format!("{}\n{partitions}", pairs(self.head()))
    }
}

impl Job {
    fn head(&self) -> Vec<(&'static str, String)> {
        let params: Vec<_> =
            self.params.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let Limits { batch_ms, memory_bytes, output_ratio } = self.limits;
        let OnError { retries, backoff_ms, then } = &self.on_error;
        let memory = format::bytes(memory_bytes);
        vec![
            ("JOB", self.name.clone()),
            ("ID", self.id.to_string()),
            ("STATE", self.state.to_owned()),
            ("MODULE", self.module.clone()),
            ("INPUTS", listed(&self.inputs)),
            ("OUTPUTS", listed(&self.outputs)),
            ("PARAMS", listed(&params)),
            (
                "LIMITS",
                format!("{batch_ms} ms a batch, {memory} memory, output ratio {output_ratio}"),
            ),
            ("ON ERROR", format!("{retries} retries from {backoff_ms} ms, then {then}")),
            ("START", self.start.clone()),
        ]
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

impl Partition {
    fn row(&self) -> [String; 9] {
        [
            self.topic.clone(),
            self.partition.to_string(),
            self.position.to_string(),
            self.lag.to_string(),
            self.records_in.to_string(),
            self.records_out.to_string(),
            self.errors.to_string(),
            self.status.clone(),
            self.last_error.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

/// All jobs, a line each.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Jobs(Vec<Row>);

#[derive(Serialize)]
struct Row {
    name: String,
    state: &'static str,
    module: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    lag: u64,
}

impl From<Vec<JobSummary>> for Jobs {
    fn from(jobs: Vec<JobSummary>) -> Self {
        let row = |job: JobSummary| Row {
            name: job.name.to_string(),
            state: state(job.state),
            module: job.module.to_string(),
            inputs: names(&job.inputs),
            outputs: names(&job.outputs),
            lag: job.lag,
        };
        Self(jobs.into_iter().map(row).collect())
    }
}

impl Report for Jobs {
    fn table(&self) -> String {
        columns(
            &["NAME", "STATE", "MODULE", "INPUTS", "OUTPUTS", "LAG"],
            &["LAG"],
            self.0.iter().map(|job| {
                [
                    job.name.clone(),
                    job.state.to_owned(),
                    job.module.clone(),
                    listed(&job.inputs),
                    listed(&job.outputs),
                    job.lag.to_string(),
                ]
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::{JobId, JobName, Offset, PartitionIndex};
    use millstream_protocol::message::job::JobSpec;

    use super::*;
    use crate::output::json;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).expect("a name")
    }

    fn clean() -> Job {
        let partition = |index, status: &str, last_error: Option<&str>| JobPartition {
            topic: topic("raw"),
            partition: PartitionIndex(index),
            position: Offset(500),
            lag: 12,
            records_in: 500,
            records_out: 250,
            errors: u64::from(last_error.is_some()),
            status: status.to_owned(),
            last_error: last_error.map(str::to_owned),
        };
        Job::from(JobDescription {
            id: JobId(7),
            spec: JobSpec {
                name: JobName::new("clean").expect("a name"),
                module: "redact@3".parse().expect("a module version"),
                inputs: vec![topic("raw")],
                outputs: vec![topic("tidy"), topic("odd")],
                params: BTreeMap::from([("fields".to_owned(), "ssn,phone".to_owned())]),
                limits: JobLimits::default(),
                on_error: ErrorPolicy::default(),
                start: StartPosition::Earliest,
            },
            state: JobState::Running,
            partitions: vec![
                partition(0, "running", None),
                partition(1, "backing off", Some("time limit of 1000 ms exceeded at offset 500")),
            ],
        })
    }

    #[test]
    fn a_job_as_a_table() {
        insta::assert_snapshot!(clean().table());
    }

    #[test]
    fn a_job_as_json() {
        insta::assert_snapshot!(json(&clean()));
    }

    #[test]
    fn jobs_as_a_table_and_as_json() {
        let jobs = Jobs::from(vec![JobSummary {
            name: JobName::new("clean").expect("a name"),
            module: "redact@3".parse().expect("a module version"),
            inputs: vec![topic("raw")],
            outputs: vec![],
            state: JobState::Paused,
            lag: 12,
        }]);
        insta::assert_snapshot!(format!("{}\n{}", jobs.table(), json(&jobs)));
    }
}
