//! Jobs: a module between topics, with parameters, limits and an error policy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{JobId, JobName, ModuleRef, Offset, PartitionIndex, Timestamp, TopicName};

/// What a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Its name.
    pub name: JobName,
    /// The module version that runs.
    pub module: ModuleRef,
    /// Topics it reads; at least one.
    pub inputs: Vec<TopicName>,
    /// Topics it may write to; the module names them by their place in this list.
    pub outputs: Vec<TopicName>,
    /// Parameters of the module.
    pub params: BTreeMap<String, String>,
    /// What a guest may use.
    pub limits: JobLimits,
    /// What happens to a batch that the module fails on.
    pub on_error: ErrorPolicy,
    /// Where it starts when it has no position.
    pub start: StartPosition,
}

/// What a guest may use. All changeable while the job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLimits {
    /// Milliseconds for one batch.
    pub batch_ms: u32,
    /// Bytes of linear memory.
    pub memory_bytes: u64,
    /// Output bytes per input byte.
    pub output_ratio: u32,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self { batch_ms: 1_000, memory_bytes: 64 << 20, output_ratio: 16 }
    }
}

/// What happens when the module fails: retries first, then the last resort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPolicy {
    /// How often a failed batch is tried again, with growing pauses.
    pub retries: u32,
    /// The first pause, in milliseconds; it doubles up to [`ErrorPolicy::MAX_BACKOFF_MS`].
    pub backoff_ms: u32,
    /// What happens after the retries.
    pub then: LastResort,
}

impl ErrorPolicy {
    /// The longest pause between retries, in milliseconds.
    pub const MAX_BACKOFF_MS: u32 = 60_000;
}

impl Default for ErrorPolicy {
    fn default() -> Self {
        Self { retries: 3, backoff_ms: 100, then: LastResort::DeadLetter }
    }
}

/// What happens to records that a module cannot handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastResort {
    /// The record goes to `<job>.dlq` with headers that say why; the job goes on.
    #[default]
    DeadLetter,
    /// The record is left out; the job goes on.
    Skip,
    /// The job's partition stops until somebody resumes it.
    Stop,
}

/// Where a job starts when it has no position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartPosition {
    /// With the first record that is kept.
    #[default]
    Earliest,
    /// With the next record that is written.
    Latest,
    /// With the first record at or after this time.
    Timestamp(Timestamp),
}

/// Starts a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployJob {
    /// The job.
    pub spec: JobSpec,
}

/// Lists jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListJobs {}

/// One job in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSummary {
    /// Its name.
    pub name: JobName,
    /// The module version that runs.
    pub module: ModuleRef,
    /// Its inputs.
    pub inputs: Vec<TopicName>,
    /// Its outputs.
    pub outputs: Vec<TopicName>,
    /// Whether an operator paused it.
    pub state: JobState,
    /// Records behind the ends of its inputs.
    pub lag: u64,
}

/// What an operator wants of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It runs.
    Running,
    /// It keeps its positions and does nothing.
    Paused,
}

/// Describes one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeJob {
    /// The job.
    pub name: JobName,
}

/// A job, what it was deployed as, and how each partition stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDescription {
    /// Its identity.
    pub id: JobId,
    /// What it is.
    pub spec: JobSpec,
    /// Whether it runs.
    pub state: JobState,
    /// How each input partition stands.
    pub partitions: Vec<JobPartition>,
}

/// How a job stands on one input partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPartition {
    /// The input topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset it reads.
    pub position: Offset,
    /// Records between it and the end.
    pub lag: u64,
    /// Records read since the broker started.
    pub records_in: u64,
    /// Records written since the broker started.
    pub records_out: u64,
    /// Failed calls since the broker started.
    pub errors: u64,
    /// `running`, `backing off`, `paused`, or `stopped`.
    pub status: String,
    /// The last failure, if there was one.
    pub last_error: Option<String>,
}

/// Pauses or resumes a job; resuming also restarts stopped partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetJobState {
    /// The job.
    pub name: JobName,
    /// What is wanted of it.
    pub state: JobState,
}

/// Changes a running job at a batch boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateJob {
    /// The job.
    pub name: JobName,
    /// The version to change to.
    pub module: Option<ModuleRef>,
    /// New limits.
    pub limits: Option<JobLimits>,
}

/// Deletes a job and its positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteJob {
    /// The job.
    pub name: JobName,
}

/// Reads a job's log lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLogs {
    /// The job.
    pub name: JobName,
    /// Only lines with a greater number.
    pub after: u64,
    /// The most lines to answer with.
    pub limit: u32,
}

/// Some of a job's log lines, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLogPage {
    /// The lines.
    pub lines: Vec<JobLogLine>,
    /// How many lines were dropped for want of room before the first of these.
    pub dropped: u64,
}

/// One line that a guest logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLogLine {
    /// Its number, counted over the job on this broker.
    pub number: u64,
    /// When it was logged.
    pub time: Timestamp,
    /// The input topic.
    pub topic: TopicName,
    /// The input partition.
    pub partition: PartitionIndex,
    /// `error`, `warn`, `info` or `debug`; a guest's standard output is `info`, its standard error
    /// `error`.
    pub level: String,
    /// The text.
    pub text: String,
}
