//! List the jobs, by name.

use millstream_protocol::message::job::JobSummary;

use crate::broker::Broker;
use crate::jobs::Standing;

pub(crate) fn serve(broker: &Broker) -> Vec<JobSummary> {
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
