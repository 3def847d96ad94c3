//! Create a topic.
//!
//! Invariant: a topic whose filter does not start is not created.

use millstream_core::metadata::{Response, plan};
use millstream_protocol::error::WireError;
use millstream_protocol::message::topic::{CreateTopic, TopicDescription};

use super::{describe, resolve};
use crate::broker::Broker;
use crate::reconcile::try_filter;

pub(crate) async fn serve(
    broker: &Broker,
    request: &CreateTopic,
) -> Result<TopicDescription, WireError> {
    let image = broker.image();
    let command = plan::create_topic(&image, request).map_err(|e| WireError::from(&e))?;
    let config = resolve(&request.configs)?;
    try_filter(&broker.modules, &image, &request.name, &config).await?;
    let response = broker.metadata.propose(command).await?;
    let Response::Topic(id) = response else { unreachable!("a topic was made") };
    broker.settle().await?;
    let led = super::wait_until_led(broker, id).await;
    tracing::debug!(topic = %request.name, led, "created");
    describe::serve(broker, &request.name).await
}
