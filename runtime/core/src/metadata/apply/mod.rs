//! Applying commands: each noun checks everything first, then changes everything.
//!
//! Invariant: a rejection changes nothing; what is accepted leaves the image consistent.

mod brokers;
mod features;
mod jobs;
mod modules;
mod placements;
mod producers;
mod topics;

use millstream_protocol::ids::Offset;

use super::command::{Command, Response};
use super::image::Image;
use super::rejection::Rejection;
use super::rows::{self, RowChange, Touched};

pub(super) use jobs::check_spec;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The answer to whoever asked.
    pub response: Response,
    /// The rows that changed, to be stored together with the offset.
    pub rows: Vec<RowChange>,
}

/// Applies the command that lies at `at` of the metadata log.
///
/// # Errors
/// [`Rejection`]: nothing has changed, not even [`Image::applied`].
///
/// # Panics
/// When `at` was applied before: the caller must skip what the image already holds.
pub fn apply(image: &mut Image, at: Offset, command: &Command) -> Result<Applied, Rejection> {
    assert!(image.applied <= at, "the command at {at} is applied after {}", image.applied);
    let (response, touched) = change(image, command)?;
    image.applied = at.next();
    Ok(Applied { response, rows: rows::changes(image, &touched) })
}

/// The answer, and the rows to store.
type Outcome = Result<(Response, Vec<Touched>), Rejection>;

fn change(image: &mut Image, command: &Command) -> Outcome {
    match command {
        Command::RegisterBroker { node, incarnation, address, rack } => {
            brokers::register(image, *node, *incarnation, address, rack.as_deref())
        }
        Command::CreateTopic { name, partitions, configs } => {
            topics::create(image, name, partitions, configs)
        }
        Command::AlterTopic { topic, planned_on, jobs, add, set, reset } => {
            topics::alter(image, *topic, (*planned_on, *jobs), add, (set, reset))
        }
        Command::DeleteTopic { topic } => topics::delete(image, *topic),
        Command::AddModule { name, kind, sha256, size, uploaded, imports, exports } => {
            let module = super::Module {
                kind: *kind,
                sha256: sha256.clone(),
                size: *size,
                uploaded: *uploaded,
                imports: imports.clone(),
                exports: exports.clone(),
            };
            modules::add(image, name, module)
        }
        Command::DeleteModule { module } => modules::delete(image, module),
        Command::DeployJob { spec } => jobs::deploy(image, spec),
        Command::SetJobState { job, state } => jobs::set_state(image, *job, *state),
        Command::UpdateJob { job, module, limits } => {
            jobs::update(image, *job, module.as_ref(), limits.as_ref())
        }
        Command::DeleteJob { job } => jobs::delete(image, *job),
        Command::AllocateProducers { count } => producers::allocate(image, *count),
        Command::SetBroker { node, controller, draining, fenced } => {
            brokers::set(image, *node, (*controller, *draining, *fenced))
        }
        Command::RemoveBroker { node } => brokers::remove(image, *node),
        Command::PlacePartition { topic, partition, planned_on, replicas } => {
            placements::place(image, (*topic, *partition), planned_on, replicas)
        }
        Command::VotersChanged { topic, partition, at, voters, placement } => {
            placements::voters_changed(image, (*topic, *partition), (*at, voters), *placement)
        }
        Command::SupportLevels { node, levels } => features::support(image, *node, *levels),
        Command::RaiseLevel { level } => features::raise(image, *level),
    }
}
