//! Describe a job: what it is, and how it stands on each of its input partitions.

use millstream_protocol::error::WireError;
use millstream_protocol::ids::JobName;
use millstream_protocol::message::job::{JobDescription, JobPartition};

use super::find;
use crate::broker::Broker;
use crate::jobs::Standing;

pub(crate) fn serve(broker: &Broker, name: &JobName) -> Result<JobDescription, WireError> {
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
