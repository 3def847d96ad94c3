//! Alter a topic: its settings, or how many partitions it has.
//!
//! Invariant: while partitions are added or the largest batch changes, no job writes to the topic:
//! where a record goes depends on how many there are, and where a batch ends on how large it may be.

use millstream_core::metadata::{Image, Job, plan};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{JobId, TopicName};
use millstream_protocol::message::topic::{AlterTopic, TopicDescription};

use super::{describe, resolve};
use crate::broker::Broker;
use crate::partitions::unknown_topic;
use crate::reconcile::try_filter;

/// How often it is tried while jobs are deployed meanwhile.
const TRIES: usize = 5;

pub(crate) async fn serve(
    broker: &Broker,
    request: &AlterTopic,
) -> Result<TopicDescription, WireError> {
    let mut tries = 1..;
    loop {
        let image = broker.image();
        let altered = alter(broker, &image, request).await;
        // A job that is newer than the plan may write to the topic, and does not rest.
        let newer = image.jobs_ever() < broker.image().jobs_ever();
        if altered.is_ok() || !newer || tries.next() == Some(TRIES) {
            altered?;
            if request.partitions.is_some()
                && let Some((id, _)) = broker.image().topic(&request.name)
            {
                super::wait_until_led(broker, id).await;
            }
            break;
        }
    }
    describe::serve(broker, &request.name).await
}

async fn alter(broker: &Broker, image: &Image, request: &AlterTopic) -> Result<(), WireError> {
    let command = plan::alter_topic(image, request).map_err(|e| WireError::from(&e))?;
    let (_, topic) = image.topic(&request.name).ok_or_else(|| unknown_topic(&request.name))?;
    let mut configs = topic.configs.clone();
    configs.retain(|key, _| !request.reset.contains(key));
    configs.extend(request.set.clone());
    let config = resolve(&configs)?;
    try_filter(&broker.modules, image, &request.name, &config).await?;
    let places_change =
        request.partitions.is_some() || config.max_batch_bytes != topic.config().max_batch_bytes;
    let writers = if places_change { writers(image, &request.name) } else { vec![] };
    let mut rest = broker.jobs.rest(&writers).await?;
    rest.decide(command).await?;
    // The jobs rest until it has its effect here.
    broker.settle().await
}

/// The jobs that write to a topic.
fn writers(image: &Image, topic: &TopicName) -> Vec<JobId> {
    let writes = |job: &Job| {
        job.spec.outputs.contains(topic) || job.dead_letter_topic().as_ref() == Some(topic)
    };
    image.jobs().iter().filter(|(_, job)| writes(job)).map(|(id, _)| *id).collect()
}
