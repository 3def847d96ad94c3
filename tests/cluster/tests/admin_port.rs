//! The admin port: a broker says that it lives, and counts what it does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millstream_client::{ConsumerConfig, ProducerConfig, ProducerRecord, StartAt};
use millstream_tests_cluster::Broker;

/// More than one batch's worth would only take longer.
const RECORDS: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broker_did_is_among_its_metrics() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("counted", 1).await.unwrap();

    let producer = client.producer(ProducerConfig::default()).unwrap();
    for _ in 0..RECORDS {
        drop(producer.send(ProducerRecord::new("counted").value(b"value")).await.unwrap());
    }
    producer.flush().await.unwrap();
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_all("counted", StartAt::Earliest).await.unwrap();
    while consumer.next().await.unwrap().next_offset().get() < u64::from(RECORDS) {}

    let exactly = f64::from(RECORDS);
    // By topic: the broker's own metadata log is counted too.
    let line = format!("millstream_append_records_total{{topic=\"counted\"}} {RECORDS}\n");
    let page = broker.admin_page("/metrics").unwrap();
    assert!(page.contains(&line), "{page}");
    assert_eq!(broker.metric("millstream_log_high_watermark"), Some(exactly));
    assert_eq!(broker.metric("millstream_log_stopped"), Some(0.0));
    for name in [
        "millstream_append_batches_total",
        "millstream_append_bytes_total",
        "millstream_produce_seconds_count",
        "millstream_log_write_seconds_count",
        "millstream_log_sync_seconds_count",
        "millstream_log_bytes",
        "millstream_fetch_read_bytes_total",
        "millstream_fetch_sent_bytes_total",
        "millstream_requests_total",
        "millstream_request_seconds_count",
    ] {
        assert!(broker.metric(name).is_some_and(|value| value > 0.0), "{name}");
    }
    assert_eq!(broker.admin_page("/healthz"), Ok("ok\n".to_owned()));
    assert_eq!(broker.admin_page("/readyz"), Ok("ready\n".to_owned()));
    assert!(broker.admin_page("/nothing").unwrap_err().contains("404"));
}
