//! Jobs: deploy, pause, resume, update, delete.
//!
//! Invariant: a job's module and topics are there as long as the job is; a job never reads what it
//! writes; a job's id, of which its producer identities are made, is never used again.

use std::collections::BTreeSet;

use millstream_protocol::ids::{JobId, ModuleRef, TopicName};
use millstream_protocol::message::job::{ErrorPolicy, JobLimits, JobSpec, JobState, LastResort};

use super::super::config::{MAX_PARAM_BYTES, MAX_PARAMS};
use super::super::image::{Image, Job, MAX_JOBS, dead_letter_topic};
use super::{Outcome, Rejection, Response, Touched};

/// A job's inputs and outputs are numbered with a byte.
const MAX_TOPICS: usize = 255;
const MAX_RETRIES: u32 = 1_000;
const MIB: u64 = 1 << 20;

pub(super) fn deploy(image: &mut Image, spec: &JobSpec) -> Outcome {
    if image.job_names.contains_key(&spec.name) {
        return Err(Rejection::JobExists(spec.name.clone()));
    }
    if MAX_JOBS <= image.jobs.len() {
        return Err(Rejection::Full { what: "jobs", limit: MAX_JOBS });
    }
    check_spec(spec)?;
    check_module(image, &spec.module)?;
    let topics = spec.inputs.iter().chain(&spec.outputs).cloned();
    for topic in topics.chain(dead_letter_topic(spec)) {
        if !image.topic_names.contains_key(&topic) {
            return Err(Rejection::UnknownTopic(topic));
        }
    }

    let id = JobId(image.allocations.jobs);
    image.allocations.jobs = id.0.checked_add(1).expect("fewer than 2^32 jobs are ever made");
    let job = Job { spec: spec.clone(), state: JobState::Running, generation: 0 };
    image.jobs.insert(id, job);
    image.job_names.insert(spec.name.clone(), id);
    Ok((Response::Job(id), vec![Touched::Job(id), Touched::Allocations]))
}

pub(super) fn set_state(image: &mut Image, id: JobId, state: JobState) -> Outcome {
    changed(image, id, |job| job.state = state)
}

pub(super) fn update(
    image: &mut Image,
    id: JobId,
    module: Option<&ModuleRef>,
    limits: Option<&JobLimits>,
) -> Outcome {
    let job = image.jobs.get(&id).ok_or(Rejection::UnknownJobId(id))?;
    if let Some(module) = module {
        check_module(image, module)?;
    }
    if let Some(limits) = limits {
        check_limits(&job.spec, limits)?;
    }
    changed(image, id, |job| {
        job.spec.module = module.unwrap_or(&job.spec.module).clone();
        job.spec.limits = *limits.unwrap_or(&job.spec.limits);
    })
}

pub(super) fn delete(image: &mut Image, id: JobId) -> Outcome {
    let job = image.jobs.remove(&id).ok_or(Rejection::UnknownJobId(id))?;
    let named = image.job_names.remove(&job.spec.name);
    assert_eq!(named, Some(id), "job {} had another id", job.spec.name);
    Ok((Response::Done, vec![Touched::Job(id)]))
}

/// Every change is a new generation, also one to what it is already: resuming a running job restarts
/// the partitions that have stopped.
fn changed(image: &mut Image, id: JobId, change: impl FnOnce(&mut Job)) -> Outcome {
    let job = image.jobs.get_mut(&id).ok_or(Rejection::UnknownJobId(id))?;
    change(job);
    job.generation = job.generation.wrapping_add(1);
    Ok((Response::Done, vec![Touched::Job(id)]))
}

fn check_module(image: &Image, module: &ModuleRef) -> Result<(), Rejection> {
    if image.modules.contains_key(module) {
        return Ok(());
    }
    Err(Rejection::UnknownModule(module.clone()))
}

/// Whether a job makes sense by itself.
pub(in super::super) fn check_spec(spec: &JobSpec) -> Result<(), Rejection> {
    check_topics(spec).map_err(|problem| invalid(spec, problem))?;
    check_params(spec).map_err(|problem| invalid(spec, problem))?;
    check_policy(&spec.on_error).map_err(|problem| invalid(spec, problem))?;
    check_limits(spec, &spec.limits)
}

fn invalid(spec: &JobSpec, problem: String) -> Rejection {
    Rejection::InvalidJob { job: spec.name.clone(), problem }
}

fn check_topics(spec: &JobSpec) -> Result<(), String> {
    let inputs: BTreeSet<&TopicName> = spec.inputs.iter().collect();
    let outputs: BTreeSet<&TopicName> = spec.outputs.iter().collect();
    if spec.inputs.is_empty() || MAX_TOPICS < spec.inputs.len() {
        return Err(format!("{} inputs: a job has 1 to {MAX_TOPICS}", spec.inputs.len()));
    }
    if MAX_TOPICS < spec.outputs.len() {
        return Err(format!("{} outputs: a job has up to {MAX_TOPICS}", spec.outputs.len()));
    }
    if inputs.len() < spec.inputs.len() || outputs.len() < spec.outputs.len() {
        return Err("a topic is named twice among its inputs or its outputs: name it once".into());
    }
    let dead_letters = dead_letter_topic(spec);
    if spec.on_error.then == LastResort::DeadLetter && dead_letters.is_none() {
        return Err("its name is too long to add .dlq to: choose a shorter one".into());
    }
    if let Some(topic) = spec.outputs.iter().find(|topic| topic.is_internal()) {
        return Err(format!("it writes to {topic}, which is the broker's own"));
    }
    let mut written = spec.outputs.iter().chain(&dead_letters);
    match written.find(|topic| inputs.contains(topic)) {
        Some(topic) => Err(format!("it reads {topic} and writes to it, and would never end")),
        None => Ok(()),
    }
}

fn check_params(spec: &JobSpec) -> Result<(), String> {
    if MAX_PARAMS < spec.params.len() {
        return Err(format!("{} parameters: a job has up to {MAX_PARAMS}", spec.params.len()));
    }
    let too_long =
        |(name, value): &(&String, &String)| MAX_PARAM_BYTES < name.len().max(value.len());
    match spec.params.iter().find(too_long) {
        Some(_) => Err(format!("a parameter is longer than {MAX_PARAM_BYTES} bytes: shorten it")),
        None => Ok(()),
    }
}

fn check_policy(policy: &ErrorPolicy) -> Result<(), String> {
    within("on_error.retries", policy.retries.into(), 0, MAX_RETRIES.into())?;
    let most = ErrorPolicy::MAX_BACKOFF_MS.into();
    within("on_error.backoff_ms", policy.backoff_ms.into(), 1, most)
}

fn check_limits(spec: &JobSpec, limits: &JobLimits) -> Result<(), Rejection> {
    within("limits.batch_ms", limits.batch_ms.into(), 1, 60_000)
        .and_then(|()| within("limits.memory_bytes", limits.memory_bytes, MIB, 1_024 * MIB))
        .and_then(|()| within("limits.output_ratio", limits.output_ratio.into(), 1, 1_024))
        .map_err(|problem| invalid(spec, problem))
}

fn within(what: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{what} is {value}: use {least} to {most}"))
}
