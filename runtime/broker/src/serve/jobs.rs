//! Jobs: deploy, list, describe, pause, resume, update, delete, logs.

use millstream_core::metadata::{Image, Job, Rejection, plan};
use millstream_modules::{FilterSpec, Scope};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{JobId, JobName, TopicName};
use millstream_protocol::message::job::{
    DeleteJob, DeployJob, JobDescription, JobLogLine, JobLogPage, JobLogs, JobPartition, JobSpec,
    JobSummary, SetJobState, UpdateJob,
};

use crate::broker::Broker;
use crate::jobs::{Standing, guest_limits};

/// Log lines in one answer at the most.
const MAX_LINES: usize = 1_000;

pub(super) async fn deploy(
    broker: &Broker,
    request: &DeployJob,
) -> Result<JobDescription, WireError> {
    let image = broker.image();
    let commands = plan::deploy_job(&image, request).map_err(|e| WireError::from(&e))?;
    try_job(broker, &image, &request.spec).await?;
    for command in commands {
        broker.metadata.propose(command).await?;
    }
    broker.settle().await?;
    broker.jobs.save_now().await?;
    describe(broker, &request.spec.name)
}

/// Starts the module to see whether it takes its parameters.
async fn try_job(broker: &Broker, image: &Image, spec: &JobSpec) -> Result<(), WireError> {
    let guest = FilterSpec {
        params: spec.params.clone().into_iter().collect(),
        outputs: spec.outputs.iter().map(ToString::to_string).collect(),
        scope: std::sync::Arc::new(Scope::new(guest_limits(&spec.limits))),
    };
    broker.modules.start(image, &spec.module, guest).await.map(drop)
}

pub(super) fn list(broker: &Broker) -> Vec<JobSummary> {
    let image = broker.image();
    let mut jobs: Vec<_> = image
        .jobs()
        .iter()
        .map(|(id, job)| JobSummary {
            name: job.spec.name.clone(),
            module: job.spec.module.clone(),
            inputs: job.spec.inputs.clone(),
            outputs: job.spec.outputs.clone(),
            state: job.state,
            lag: broker.jobs.standings(*id).iter().map(Standing::lag).sum(),
        })
        .collect();
    jobs.sort_by(|a, b| a.name.cmp(&b.name));
    jobs
}

pub(super) fn describe(broker: &Broker, name: &JobName) -> Result<JobDescription, WireError> {
    let image = broker.image();
    let (id, job) = find(&image, name)?;
    Ok(JobDescription {
        id,
        spec: job.spec.clone(),
        state: job.state,
        partitions: broker.jobs.standings(id).iter().map(partition).collect(),
    })
}

fn partition(standing: &Standing) -> JobPartition {
    let (records_in, records_out, errors) = standing.progress.counts();
    let (status, last_error) = standing.progress.state();
    JobPartition {
        topic: standing.partition.topic().clone(),
        partition: standing.partition.id().partition,
        position: standing.progress.position(),
        lag: standing.lag(),
        records_in,
        records_out,
        errors,
        status: status.to_string(),
        last_error,
    }
}

pub(super) async fn set_state(
    broker: &Broker,
    request: &SetJobState,
) -> Result<JobDescription, WireError> {
    let command = plan::set_job_state(&broker.image(), request);
    broker.metadata.propose(command.map_err(|e| WireError::from(&e))?).await?;
    broker.settle().await?;
    describe(broker, &request.name)
}

pub(super) async fn update(
    broker: &Broker,
    request: &UpdateJob,
) -> Result<JobDescription, WireError> {
    let image = broker.image();
    let (id, job) = find(&image, &request.name)?;
    let mut spec = job.spec.clone();
    spec.module = request.module.clone().unwrap_or(spec.module);
    spec.limits = request.limits.unwrap_or(spec.limits);
    try_job(broker, &image, &spec).await?;
    let command = plan::update_job(&image, request).map_err(|e| WireError::from(&e))?;
    let _rest = broker.jobs.rest(&[id]).await?;
    broker.metadata.propose(command).await?;
    broker.settle().await?;
    describe(broker, &request.name)
}

pub(super) async fn delete(broker: &Broker, request: &DeleteJob) -> Result<(), WireError> {
    let command = plan::delete_job(&broker.image(), request);
    broker.metadata.propose(command.map_err(|e| WireError::from(&e))?).await?;
    broker.settle().await
}

pub(super) fn logs(broker: &Broker, request: &JobLogs) -> Result<JobLogPage, WireError> {
    let image = broker.image();
    let (id, job) = find(&image, &request.name)?;
    let scope = broker.jobs.scope(id, &job.spec.limits);
    // Guests count their lines from 0, and clients ask for what comes after a line: from 1.
    let most = (request.limit as usize).min(MAX_LINES);
    // Numbers begin again with the broker: who is ahead of them has not seen these lines.
    let after = if scope.log().next_sequence() < request.after { 0 } else { request.after };
    let lines: Vec<_> = scope
        .log()
        .since(after, most)
        .into_iter()
        .map(|line| JobLogLine {
            number: line.sequence + 1,
            time: millstream_protocol::ids::Timestamp(line.at_millis),
            topic: input_topic(job),
            partition: millstream_protocol::ids::PartitionIndex(line.partition.unwrap_or(0)),
            level: format!("{:?}", line.level).to_lowercase(),
            text: line.message,
        })
        .collect();
    let first = lines.first().map_or(after, |line| line.number - 1);
    let dropped = first.saturating_sub(after) + scope.log().dropped_ever();
    Ok(JobLogPage { lines, dropped })
}

fn input_topic(job: &Job) -> TopicName {
    job.spec.inputs.first().cloned().expect("a job has at least one input")
}

fn find<'i>(image: &'i Image, name: &JobName) -> Result<(JobId, &'i Job), WireError> {
    image.job(name).ok_or_else(|| {
        let rejection = Rejection::UnknownJob(name.clone());
        WireError::new(ErrorCode::UnknownJob, rejection)
    })
}
