//! Requests about jobs, a file each, and what several of them need.

pub(super) mod delete;
pub(super) mod deploy;
pub(super) mod describe;
pub(super) mod list;
pub(super) mod logs;
pub(super) mod set_state;
pub(super) mod update;

use std::sync::Arc;

use millstream_core::metadata::{Image, Job, Rejection};
use millstream_modules::{FilterSpec, Scope};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{JobId, JobName};
use millstream_protocol::message::job::JobSpec;

use crate::broker::Broker;
use crate::jobs::guest_limits;

/// Starts the module to see whether it takes its parameters.
async fn try_job(broker: &Broker, image: &Image, spec: &JobSpec) -> Result<(), WireError> {
    let guest = FilterSpec {
        params: spec.params.clone().into_iter().collect(),
        outputs: spec.outputs.iter().map(ToString::to_string).collect(),
        scope: Arc::new(Scope::new(guest_limits(&spec.limits))),
        place: None,
    };
    broker.modules.start(image, &spec.module, guest).await.map(drop)
}

fn find<'i>(image: &'i Image, name: &JobName) -> Result<(JobId, &'i Job), WireError> {
    image.job(name).ok_or_else(|| {
        let rejection = Rejection::UnknownJob(name.clone());
        WireError::new(ErrorCode::UnknownJob, rejection)
    })
}
