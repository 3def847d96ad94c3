//! Plans: how a request becomes concrete commands. Pure functions of the image, run on the leader.
//!
//! Invariant: planning changes nothing and decides nothing: `apply` checks again what it is given.

use std::collections::BTreeMap;

use millstream_protocol::ids::{JobId, JobName, TopicName};
use millstream_protocol::limits::MAX_PARTITIONS;
use millstream_protocol::message::job::{DeleteJob, DeployJob, SetJobState, UpdateJob};
use millstream_protocol::message::module::DeleteModule;
use millstream_protocol::message::topic::{AlterTopic, CreateTopic, DeleteTopic};

use super::apply::check_spec;
use super::command::Command;
use super::image::{Image, dead_letter_topic};
use super::placement;
use super::rejection::Rejection;

/// Plans a new topic: places its replicas.
///
/// # Errors
/// [`Rejection`] when the topic exists or cannot be placed.
pub fn create_topic(image: &Image, request: &CreateTopic) -> Result<Command, Rejection> {
    not_internal(&request.name)?;
    if image.topic(&request.name).is_some() {
        return Err(Rejection::TopicExists(request.name.clone()));
    }
    let factor = usize::from(request.replication_factor);
    let partitions = placement::new(image, request.partitions, factor)?;
    let (name, configs) = (request.name.clone(), request.configs.clone());
    Ok(Command::CreateTopic { name, partitions, configs })
}

/// Plans a topic of the broker's own, with as many replicas as are wanted and there are brokers for.
///
/// # Errors
/// [`Rejection`] when the topic exists or cannot be placed.
pub fn internal_topic(
    image: &Image,
    (name, partitions, factor): (&TopicName, u32, usize),
    configs: BTreeMap<String, String>,
) -> Result<Command, Rejection> {
    assert!(name.is_internal(), "{name} is no name of a topic of the broker's own");
    if image.topic(name).is_some() {
        return Err(Rejection::TopicExists(name.clone()));
    }
    let takers = placement::takers(image);
    let partitions = placement::new(image, partitions, factor.min(takers).max(1))?;
    Ok(Command::CreateTopic { name: name.clone(), partitions, configs })
}

fn not_internal(name: &TopicName) -> Result<(), Rejection> {
    if name.is_internal() { Err(Rejection::Internal(name.clone())) } else { Ok(()) }
}

/// Plans a change to a topic: places the replicas of new partitions.
///
/// # Errors
/// [`Rejection`] when there is no such topic, or it would get fewer partitions.
pub fn alter_topic(image: &Image, request: &AlterTopic) -> Result<Command, Rejection> {
    not_internal(&request.name)?;
    let unknown = || Rejection::UnknownTopic(request.name.clone());
    let (id, topic) = image.topic(&request.name).ok_or_else(unknown)?;
    let planned_on = topic.partition_count();
    let wanted = request.partitions.unwrap_or(planned_on);
    let add = match wanted.checked_sub(planned_on) {
        Some(0) => vec![],
        Some(more) => placement::new(image, more, usize::from(topic.replication_factor()))?,
        None => {
            let (given, least) = (wanted.into(), planned_on);
            return Err(Rejection::Partitions { given, least, most: MAX_PARTITIONS });
        }
    };
    let (set, reset) = (request.set.clone(), request.reset.clone());
    let jobs = image.jobs_ever();
    Ok(Command::AlterTopic { topic: id, planned_on, jobs, add, set, reset })
}

/// Plans the end of a topic.
///
/// # Errors
/// [`Rejection`] when there is no such topic.
pub fn delete_topic(image: &Image, request: &DeleteTopic) -> Result<Command, Rejection> {
    not_internal(&request.name)?;
    let unknown = || Rejection::UnknownTopic(request.name.clone());
    let (topic, _) = image.topic(&request.name).ok_or_else(unknown)?;
    Ok(Command::DeleteTopic { topic })
}

/// Plans the end of a module version.
#[must_use]
pub fn delete_module(request: &DeleteModule) -> Command {
    Command::DeleteModule { module: request.module.clone() }
}

/// Plans a new job: its dead-letter topic first, if it needs one that is not there, with as many
/// replicas as its first input.
///
/// # Errors
/// [`Rejection`] when the job makes no sense or reads a topic that does not exist.
pub fn deploy_job(image: &Image, request: &DeployJob) -> Result<Vec<Command>, Rejection> {
    let spec = &request.spec;
    check_spec(spec)?;
    if image.job(&spec.name).is_some() {
        return Err(Rejection::JobExists(spec.name.clone()));
    }
    if !image.modules().contains_key(&spec.module) {
        return Err(Rejection::UnknownModule(spec.module.clone()));
    }
    for topic in spec.inputs.iter().chain(&spec.outputs) {
        image.topic(topic).ok_or_else(|| Rejection::UnknownTopic(topic.clone()))?;
    }
    let mut commands = Vec::new();
    if let Some(name) = dead_letter_topic(spec).filter(|name| image.topic(name).is_none()) {
        commands.push(dead_letters(image, name, &spec.inputs[0])?);
    }
    commands.push(Command::DeployJob { spec: spec.clone() });
    Ok(commands)
}

fn dead_letters(image: &Image, name: TopicName, input: &TopicName) -> Result<Command, Rejection> {
    let factor = image.topic(input).map_or(1, |(_, topic)| topic.replication_factor());
    let partitions = placement::new(image, 1, usize::from(factor))?;
    Ok(Command::CreateTopic { name, partitions, configs: BTreeMap::new() })
}

/// Plans to pause or resume a job.
///
/// # Errors
/// [`Rejection`] when there is no such job.
pub fn set_job_state(image: &Image, request: &SetJobState) -> Result<Command, Rejection> {
    let job = job(image, &request.name)?;
    Ok(Command::SetJobState { job, state: request.state })
}

/// Plans a change to a job.
///
/// # Errors
/// [`Rejection`] when there is no such job.
pub fn update_job(image: &Image, request: &UpdateJob) -> Result<Command, Rejection> {
    let job = job(image, &request.name)?;
    Ok(Command::UpdateJob { job, module: request.module.clone(), limits: request.limits })
}

/// Plans the end of a job.
///
/// # Errors
/// [`Rejection`] when there is no such job.
pub fn delete_job(image: &Image, request: &DeleteJob) -> Result<Command, Rejection> {
    Ok(Command::DeleteJob { job: job(image, &request.name)? })
}

fn job(image: &Image, name: &JobName) -> Result<JobId, Rejection> {
    let (id, _) = image.job(name).ok_or_else(|| Rejection::UnknownJob(name.clone()))?;
    Ok(id)
}
