//! Plans: how a request becomes concrete commands. Pure functions of the image, run on the leader.
//!
//! Invariant: planning changes nothing and decides nothing: `apply` checks again what it is given.

use std::collections::BTreeMap;

use millstream_protocol::ids::{JobId, JobName, NodeId, TopicName};
use millstream_protocol::limits::MAX_PARTITIONS;
use millstream_protocol::message::job::{DeleteJob, DeployJob, SetJobState, UpdateJob};
use millstream_protocol::message::module::DeleteModule;
use millstream_protocol::message::topic::{AlterTopic, CreateTopic, DeleteTopic};

use super::apply::check_spec;
use super::command::Command;
use super::image::{Image, dead_letter_topic};
use super::rejection::Rejection;

/// Plans a new topic: places its replicas.
///
/// # Errors
/// [`Rejection`] when the topic exists or cannot be placed.
pub fn create_topic(image: &Image, request: &CreateTopic) -> Result<Command, Rejection> {
    if image.topic(&request.name).is_some() {
        return Err(Rejection::TopicExists(request.name.clone()));
    }
    let factor = usize::from(request.replication_factor);
    let partitions = place(image, request.partitions, factor)?;
    let (name, configs) = (request.name.clone(), request.configs.clone());
    Ok(Command::CreateTopic { name, partitions, configs })
}

/// Plans a change to a topic: places the replicas of new partitions.
///
/// # Errors
/// [`Rejection`] when there is no such topic, or it would get fewer partitions.
pub fn alter_topic(image: &Image, request: &AlterTopic) -> Result<Command, Rejection> {
    let unknown = || Rejection::UnknownTopic(request.name.clone());
    let (id, topic) = image.topic(&request.name).ok_or_else(unknown)?;
    let planned_on = topic.partition_count();
    let wanted = request.partitions.unwrap_or(planned_on);
    let add = match wanted.checked_sub(planned_on) {
        Some(0) => vec![],
        Some(more) => place(image, more, usize::from(topic.replication_factor()))?,
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
    let partitions = place(image, 1, usize::from(factor))?;
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

/// Places `count` new partitions: each replica goes to the broker that holds the fewest, the first
/// one, which is to lead, to the broker that leads the fewest; ties go to the smaller id.
fn place(image: &Image, count: u32, factor: usize) -> Result<Vec<Vec<NodeId>>, Rejection> {
    if count == 0 || MAX_PARTITIONS < count {
        let given = count.into();
        return Err(Rejection::Partitions { given, least: 1, most: MAX_PARTITIONS });
    }
    let brokers = image.brokers().len();
    if factor == 0 || brokers < factor {
        return Err(Rejection::ReplicationFactor { given: factor, brokers });
    }
    let mut load = load(image);
    Ok((0..count).map(|_| place_one(&mut load, factor)).collect())
}

/// What a broker holds.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    replicas: usize,
    leaders: usize,
}

fn load(image: &Image) -> BTreeMap<NodeId, Load> {
    let mut load: BTreeMap<_, _> =
        image.brokers().keys().map(|node| (*node, Load::default())).collect();
    for replicas in image.topics().values().flat_map(|topic| &topic.partitions) {
        for (i, node) in replicas.iter().enumerate() {
            if let Some(load) = load.get_mut(node) {
                load.replicas += 1;
                load.leaders += usize::from(i == 0);
            }
        }
    }
    load
}

fn place_one(load: &mut BTreeMap<NodeId, Load>, factor: usize) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = load.keys().copied().collect();
    nodes.sort_by_key(|node| (load[node].replicas, load[node].leaders, *node));
    nodes.truncate(factor);
    nodes.sort_by_key(|node| (load[node].leaders, *node));
    for (i, node) in nodes.iter().enumerate() {
        let load = load.get_mut(node).expect("it was taken from there");
        load.replicas += 1;
        load.leaders += usize::from(i == 0);
    }
    nodes
}
