//! A partition by its topic's name: `flights/3`.
//!
//! Invariant: what is taken names one partition of a topic with a valid name.

use std::str::FromStr;

use millstream_protocol::ids::{PartitionIndex, TopicName};

/// A partition by its topic's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPartition(pub(crate) TopicName, pub(crate) PartitionIndex);

impl FromStr for NamedPartition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no partition: write TOPIC/PARTITION, such as flights/3");
        let (topic, partition) = text.rsplit_once('/').ok_or_else(wrong)?;
        let topic = TopicName::new(topic).map_err(|error| error.to_string())?;
        let partition = partition.parse().map_err(|_| wrong())?;
        Ok(Self(topic, PartitionIndex(partition)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_a_topic_and_a_number() {
        let flights = TopicName::new("flights").expect("a name");
        assert_eq!("flights/3".parse(), Ok(NamedPartition(flights, PartitionIndex(3))));
        for wrong in ["flights", "flights/", "/3", "flights/three", "flights/-1"] {
            assert!(wrong.parse::<NamedPartition>().is_err(), "{wrong}");
        }
    }
}
