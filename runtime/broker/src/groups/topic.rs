//! The internal topic `__groups`: made when the first group needs it.
//!
//! Invariant: how many partitions it has is decided once: a group's partition follows from its name.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use millstream_core::metadata::plan;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{TopicId, TopicName};

use crate::broker::Broker;
use crate::serve::wait_until_led;

/// Its name.
pub(crate) static TOPIC: LazyLock<TopicName> =
    LazyLock::new(|| TopicName::new("__groups").expect("a valid name"));

/// Makes it if it is not there. Returns its identity and how many partitions it has.
pub(crate) async fn ensure(broker: &Broker) -> Result<(TopicId, u32), WireError> {
    if let Some(known) = find(broker) {
        return Ok(known);
    }
    let wanted = &broker.group_config;
    let of = (&*TOPIC, wanted.partitions, usize::from(wanted.replication_factor));
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
    let known = find(broker).ok_or_else(|| {
        let text = "the topic of the groups was made, and is not known here yet: ask again";
        WireError::new(ErrorCode::NotLeader, text)
    })?;
    wait_until_led(broker, known.0).await;
    Ok(known)
}

fn find(broker: &Broker) -> Option<(TopicId, u32)> {
    let image = broker.image();
    image.topic(&TOPIC).map(|(id, topic)| (id, topic.partition_count()))
}

/// Nothing of it expires: what counts is the last row of each key.
fn configs() -> BTreeMap<String, String> {
    let keep = |key: &str| (key.to_owned(), "-1".to_owned());
    BTreeMap::from([keep("retention.ms"), keep("retention.bytes")])
}
