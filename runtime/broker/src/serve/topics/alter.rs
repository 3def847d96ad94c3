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

pub(crate) async fn serve(
    broker: &Broker,
    request: &AlterTopic,
) -> Result<TopicDescription, WireError> {
    let image = broker.image();
    let command = plan::alter_topic(&image, request).map_err(|e| WireError::from(&e))?;
    let (_, topic) = image.topic(&request.name).ok_or_else(|| unknown_topic(&request.name))?;
    let mut configs = topic.configs.clone();
    configs.retain(|key, _| !request.reset.contains(key));
    configs.extend(request.set.clone());
    let config = resolve(&configs)?;
    try_filter(&broker.modules, &image, &request.name, &config).await?;
    let rest =
        request.partitions.is_some() || config.max_batch_bytes != topic.config().max_batch_bytes;
    let writers = if rest { writers(&image, &request.name) } else { vec![] };
    let _rest = broker.jobs.rest(&writers).await?;
    broker.metadata.propose(command).await?;
    broker.settle().await?;
    describe::serve(broker, &request.name)
}

/// The jobs that write to a topic.
fn writers(image: &Image, topic: &TopicName) -> Vec<JobId> {
    let writes = |job: &Job| {
        job.spec.outputs.contains(topic) || job.dead_letter_topic().as_ref() == Some(topic)
    };
    image.jobs().iter().filter(|(_, job)| writes(job)).map(|(id, _)| *id).collect()
}
