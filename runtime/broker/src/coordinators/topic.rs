//! An internal topic: made when it is first needed.
//!
//! Invariant: how many partitions it has is decided once: where a name falls follows from it.

use std::collections::BTreeMap;

use millstream_core::metadata::plan;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{TopicId, TopicName};

use crate::broker::Broker;
use crate::serve::wait_until_led;

/// What an internal topic is to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) topic: &'static TopicName,
    pub(crate) partitions: u32,
    pub(crate) replication_factor: u16,
}

/// Makes it if it is not there. Returns its identity and how many partitions it has.
pub(crate) async fn ensure(broker: &Broker, wanted: Wanted) -> Result<(TopicId, u32), WireError> {
    if let Some(known) = find(broker, wanted.topic) {
        return Ok(known);
    }
    let of = (wanted.topic, wanted.partitions, usize::from(wanted.replication_factor));
    let made = match plan::internal_topic(&broker.image(), of, configs()) {
        Ok(command) => broker.metadata.propose(command).await.map(drop),
        Err(rejection) => Err(WireError::from(&rejection)),
    };
    match made {
        Ok(()) => {}
        // Another broker was faster.
        Err(error) if error.code == ErrorCode::TopicExists => {}
        Err(error) => return Err(error),
    }
    broker.settle().await?;
    let known = find(broker, wanted.topic).ok_or_else(|| {
        let text =
            format!("the topic {} was made, and is not known here yet: ask again", wanted.topic);
        WireError::new(ErrorCode::NotLeader, text)
    })?;
    wait_until_led(broker, known.0).await;
    Ok(known)
}

fn find(broker: &Broker, topic: &TopicName) -> Option<(TopicId, u32)> {
    let image = broker.image();
    image.topic(topic).map(|(id, topic)| (id, topic.partition_count()))
}

/// Nothing of it expires: what counts is the last row of each key. A coordinator reads all of it before it serves, so
/// that it is kept short.
fn configs() -> BTreeMap<String, String> {
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    BTreeMap::from([
        set("cleanup.policy", "compact"),
        set("segment.bytes", "16777216"),
        set("segment.ms", "3600000"),
        set("delete.retention.ms", "60000"),
    ])
}
