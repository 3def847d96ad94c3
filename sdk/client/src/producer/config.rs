//! What a producer can be told about batching, acknowledgement and retries.
//!
//! Invariant: a combination that could lose, repeat or reorder records silently is refused by name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::batch::Compression;
use millstream_protocol::ids::PartitionIndex;
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_PIPELINED_BATCHES};
use millstream_protocol::message::produce::Acks;

use super::record::ProducerRecord;
use super::window::MAX_IDEMPOTENT_IN_FLIGHT;
use crate::error::ClientError;

/// A batch that is sent again must find its producer remembered.
const MAX_DELIVERY_TIMEOUT: Duration = Duration::from_secs(600);

/// How a producer batches, compresses, acknowledges and retries.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// When a batch counts as written. [`Acks::Zero`] switches `idempotent` off.
    pub acks: Acks,
    /// How batches are compressed.
    pub compression: Compression,
    /// A batch of so many bytes (before compression) is sent at once. A larger record goes alone.
    pub batch_bytes: usize,
    /// How long a batch waits for more records; 0 sends what there is as soon as the stream is free.
    pub linger: Duration,
    /// Batches of one partition on their way at a time; at most 5 when `idempotent`.
    pub max_in_flight: usize,
    /// Bytes of records that wait or are on their way, over all partitions. At the limit `send` waits.
    pub buffer_bytes: usize,
    /// Each record is written once and in the order of `send`, whatever has to be sent again.
    pub idempotent: bool,
    /// From a batch's first record to the moment it is given up, and how long `send` waits for room;
    /// at most 10 minutes.
    pub delivery_timeout: Duration,
    /// How a record without a partition gets one.
    pub partitioner: Partitioner,
    /// How often the number of partitions is looked up anew: partitions are added while in use.
    pub metadata_max_age: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            batch_bytes: 1 << 20,
            linger: Duration::from_millis(5),
            max_in_flight: MAX_IDEMPOTENT_IN_FLIGHT,
            buffer_bytes: 32 << 20,
            idempotent: true,
            delivery_timeout: Duration::from_secs(120),
            partitioner: Partitioner::default(),
            metadata_max_age: Duration::from_secs(60),
        }
    }
}

impl ProducerConfig {
    /// Refuses what cannot work, by name.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`] for the first setting that is out of its range.
    pub fn validate(&self) -> Result<(), ClientError> {
        let in_flight = if self.is_idempotent() {
            (
                MAX_IDEMPOTENT_IN_FLIGHT,
                "between 1 and 5 when idempotent: a broker remembers so many batches",
            )
        } else {
            (MAX_PIPELINED_BATCHES, "between 1 and 256")
        };
        let checks = [
            (
                (1..=MAX_BATCH_BYTES).contains(&self.batch_bytes),
                "batch_bytes",
                self.batch_bytes.to_string(),
                "between 1 and 16777216",
            ),
            (
                (1..=in_flight.0).contains(&self.max_in_flight),
                "max_in_flight",
                self.max_in_flight.to_string(),
                in_flight.1,
            ),
            (
                (64 << 10..=1 << 40).contains(&self.buffer_bytes),
                "buffer_bytes",
                self.buffer_bytes.to_string(),
                "between 65536 and 1 TiB",
            ),
            (
                self.linger < self.delivery_timeout,
                "linger",
                format!("{:?}", self.linger),
                "shorter than delivery_timeout",
            ),
            (
                self.delivery_timeout <= MAX_DELIVERY_TIMEOUT,
                "delivery_timeout",
                format!("{:?}", self.delivery_timeout),
                "at most 10 minutes: a busy broker forgets a producer after 15",
            ),
            (
                Duration::from_millis(100) <= self.metadata_max_age,
                "metadata_max_age",
                format!("{:?}", self.metadata_max_age),
                "at least 100 ms",
            ),
        ];
        match checks.into_iter().find(|(ok, ..)| !ok) {
            None => Ok(()),
            Some((_, name, value, rule)) => Err(ClientError::InvalidConfig { name, value, rule }),
        }
    }

    /// Whether sequences are used: `idempotent`, unless nothing is acknowledged.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.idempotent && self.acks != Acks::Zero
    }
}

/// A choice of partition made by the program: from the record and the number of partitions.
/// `None` leaves the choice to the sticky rule.
pub type ChoosePartition = dyn Fn(&ProducerRecord<'_>, u32) -> Option<PartitionIndex> + Send + Sync;

/// How a record without a partition gets one.
#[derive(Clone, Default)]
pub enum Partitioner {
    /// As Kafka's clients: murmur2 of the key; without a key one batch to each partition in turn.
    #[default]
    Kafka,
    /// One batch to each partition in turn, whatever the key.
    Sticky,
    /// What the program says.
    Custom(Arc<ChoosePartition>),
}

impl fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kafka => "Kafka",
            Self::Sticky => "Sticky",
            Self::Custom(_) => "Custom",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_idempotent() {
        let config = ProducerConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert!(config.is_idempotent());
    }

    #[test]
    fn more_in_flight_than_a_broker_remembers_is_refused_unless_order_is_not_promised() {
        let config = ProducerConfig { max_in_flight: 6, ..ProducerConfig::default() };
        let error = config.validate().expect_err("too many");
        assert!(
            matches!(error, ClientError::InvalidConfig { name: "max_in_flight", .. }),
            "{error}"
        );
        assert!(ProducerConfig { idempotent: false, ..config.clone() }.validate().is_ok());
        assert!(ProducerConfig { acks: Acks::Zero, ..config }.validate().is_ok());
    }
}
