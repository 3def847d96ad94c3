//! Sending numbered records, many of them in small batches.

use std::time::Duration;

use millstream_client::protocol::ids::PartitionIndex;
use millstream_client::{Delivery, Producer, ProducerConfig, ProducerRecord};

/// Small batches, so that there are many.
pub(crate) fn small_batches() -> ProducerConfig {
    ProducerConfig {
        batch_bytes: 400,
        linger: Duration::from_millis(1),
        delivery_timeout: Duration::from_secs(30),
        ..ProducerConfig::default()
    }
}

/// Sends a number to the first partition of topic `t`.
pub(crate) async fn send(producer: &Producer, n: usize) -> Delivery {
    send_to(producer, 0, n).await
}

/// Sends a number to a partition of topic `t`.
pub(crate) async fn send_to(producer: &Producer, partition: u32, n: usize) -> Delivery {
    let value = n.to_string();
    let record = ProducerRecord::new("t").partition(PartitionIndex(partition));
    producer.send(record.value(value.as_bytes())).await.unwrap()
}

pub(crate) async fn send_all(producer: &Producer, records: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::with_capacity(records);
    for n in 0..records {
        deliveries.push(send(producer, n).await);
    }
    deliveries
}

pub(crate) fn numbers(records: usize) -> Vec<String> {
    (0..records).map(|n| n.to_string()).collect()
}

/// Every record is among `values` once, in order, where its delivery says.
pub(crate) async fn expect_all(values: Vec<String>, deliveries: Vec<Delivery>) {
    let records = deliveries.len();
    assert_eq!(values, numbers(records));
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset.unwrap().get(), n as u64);
    }
}
