//! Deploy a job.
//!
//! Invariant: a job whose module does not take its parameters is not deployed; where it starts is
//! saved before the answer; and nowhere but at the start of a log that is not open, as where it ends,
//! or what it had at a time, is not known then.

use millstream_core::metadata::{Image, plan};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::message::job::{DeployJob, JobDescription, JobSpec, StartPosition};

use super::{describe, try_job};
use crate::broker::Broker;
use crate::partitions::unknown_topic;

pub(crate) async fn serve(
    broker: &Broker,
    request: &DeployJob,
) -> Result<JobDescription, WireError> {
    let image = broker.image();
    let commands = plan::deploy_job(&image, request).map_err(|e| WireError::from(&e))?;
    one_broker(&image)?;
    starts_are_known(broker, &request.spec)?;
    try_job(broker, &image, &request.spec).await?;
    for command in commands {
        broker.metadata.propose(command).await?;
    }
    broker.settle().await?;
    broker.jobs.save_now().await?;
    describe::serve(broker, &request.spec.name)
}

/// A job's position is kept on one broker, and its inputs may be led by any.
fn one_broker(image: &Image) -> Result<(), WireError> {
    let brokers = image.brokers().len();
    if 1 < brokers {
        let text = format!(
            "this cluster has {brokers} brokers, and jobs run only where one broker is all there is: \
             filter on fetch, or make the module the topic's filter"
        );
        return Err(WireError::new(ErrorCode::InvalidRequest, text));
    }
    Ok(())
}

fn starts_are_known(broker: &Broker, spec: &JobSpec) -> Result<(), WireError> {
    if spec.start == StartPosition::Earliest {
        return Ok(());
    }
    for input in &spec.inputs {
        let topic = broker.partitions.topic(input).ok_or_else(|| unknown_topic(input))?;
        for (partition, slot) in topic.partitions.iter().enumerate() {
            let Err(error) = slot else { continue };
            let text = format!(
                "partition {partition} of {input} is not open ({}): where the job would start is not \
                 known. Try again when `millstream topic describe {input}` says that it is online, or \
                 start at the earliest offset",
                error.message
            );
            return Err(WireError::new(error.code, text));
        }
    }
    Ok(())
}
