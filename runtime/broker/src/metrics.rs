//! Metrics: every stage's counts, bytes and latencies, under names that start with `millstream_`.
//!
//! Invariant: a label's values are topics, jobs, requests or error codes: never something that a
//! client may choose freely without first creating it.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge};
use metrics::{Unit, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::error::WireError;
use millstream_protocol::ids::TopicName;

use crate::drivers::partition::Answer;

/// Upper bounds of latency buckets, in seconds.
const SECONDS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_5, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Makes the recorder that the admin port renders. One a process: a second broker in the same
/// process shares the first one's.
pub(crate) fn install() -> PrometheusHandle {
    static RECORDER: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    RECORDER.get_or_init(make).clone()
}

fn make() -> PrometheusHandle {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| {
            let group = Matcher::Suffix("_batches".to_owned());
            let powers = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
            builder.set_buckets_for_metric(group, &powers)
        })
        .expect("the lists of buckets are not empty");
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    // An embedding program may have a recorder of its own: then ours stays empty, and its is used.
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed: /metrics stays empty");
    }
    describe();
    handle
}

fn describe() {
    describe_gauge!("millstream_connections", "open client connections");
    describe_counter!("millstream_streams_broken_total", "streams given up for what they carried");
    describe_counter!("millstream_requests_total", "control calls, by request and result");
    describe_histogram!(
        "millstream_request_seconds",
        Unit::Seconds,
        "time to answer a control call"
    );
    describe_counter!("millstream_append_batches_total", "batches appended");
    describe_counter!("millstream_append_records_total", "records appended");
    describe_counter!("millstream_append_bytes_total", Unit::Bytes, "bytes of batches appended");
    describe_histogram!(
        "millstream_produce_seconds",
        Unit::Seconds,
        "from a batch's arrival at its partition to its answer"
    );
    describe_counter!("millstream_produce_refused_total", "batches refused, by code");
    describe_counter!("millstream_fetch_read_bytes_total", Unit::Bytes, "bytes read for consumers");
    describe_counter!("millstream_fetch_sent_bytes_total", Unit::Bytes, "bytes sent to consumers");
    describe_histogram!(
        "millstream_log_write_seconds",
        Unit::Seconds,
        "one write of a group of batches"
    );
    describe_histogram!("millstream_log_sync_seconds", Unit::Seconds, "one sync of a log");
    describe_histogram!("millstream_log_group_batches", "batches that share one write");
    describe_gauge!("millstream_log_start_offset", "first offset that is kept");
    describe_gauge!("millstream_log_high_watermark", "everything before it is committed");
    describe_gauge!("millstream_log_bytes", Unit::Bytes, "bytes of the log on disk");
    describe_gauge!("millstream_log_stopped", "1 when the log takes no more writes");
    describe_gauge!("millstream_job_lag", "records between a job's position and its input's end");
    describe_counter!("millstream_job_bytes_in_total", Unit::Bytes, "bytes that guests were given");
    describe_counter!("millstream_job_bytes_out_total", Unit::Bytes, "bytes that guests rewrote");
    describe_counter!("millstream_job_custom_total", "counters of a job's own module");
    describe_counter!("millstream_job_records_in_total", "records that a job's guest was given");
    describe_counter!("millstream_job_records_out_total", "records that a job wrote");
    describe_counter!("millstream_job_errors_total", "failed calls of a job's guest, by kind");
    describe_counter!(
        "millstream_job_guest_microseconds_total",
        Unit::Microseconds,
        "time in a job's guests"
    );
    describe_counter!("millstream_job_instances_total", "instances made for a job");
    describe_histogram!("millstream_guest_seconds", Unit::Seconds, "one call, waiting included");
}

/// What is counted over the whole broker.
#[derive(Debug)]
pub(crate) struct BrokerMetrics {
    connections: Gauge,
    broken: Counter,
    refused: Counter,
    read: Counter,
    sent: Counter,
}

impl BrokerMetrics {
    pub(crate) fn new() -> Self {
        Self {
            connections: gauge!("millstream_connections"),
            broken: counter!("millstream_streams_broken_total"),
            refused: counter!("millstream_produce_refused_total", "code" => "corrupt_batch"),
            read: counter!("millstream_fetch_read_bytes_total"),
            sent: counter!("millstream_fetch_sent_bytes_total"),
        }
    }

    /// Counts a connection for as long as the guard lives.
    pub(crate) fn connection(&self) -> impl Drop + use<> {
        struct Open(Gauge);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.decrement(1.0);
            }
        }
        self.connections.increment(1.0);
        Open(self.connections.clone())
    }

    pub(crate) fn broken_stream(&self) {
        self.broken.increment(1);
    }

    pub(crate) fn refused_batch(&self) {
        self.refused.increment(1);
    }

    pub(crate) fn fetched(&self, read: usize, sent: usize) {
        self.read.increment(read as u64);
        self.sent.increment(sent as u64);
    }

    pub(crate) fn called(&self, request: &'static str, took: Duration, error: Option<&WireError>) {
        let result = error.map_or("ok", |error| error.code.name());
        counter!("millstream_requests_total", "request" => request, "result" => result)
            .increment(1);
        histogram!("millstream_request_seconds", "request" => request).record(took);
    }
}

/// What is counted for all logs together.
#[derive(Clone, Debug)]
pub(crate) struct LogMetrics {
    write: Histogram,
    sync: Histogram,
    group: Histogram,
}

impl LogMetrics {
    pub(crate) fn new() -> Self {
        Self {
            write: histogram!("millstream_log_write_seconds"),
            sync: histogram!("millstream_log_sync_seconds"),
            group: histogram!("millstream_log_group_batches"),
        }
    }

    pub(crate) fn wrote(&self, took: Duration, batches: usize) {
        self.write.record(took);
        #[expect(clippy::cast_precision_loss, reason = "a group has far fewer batches than 2^52")]
        self.group.record(batches as f64);
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.sync.record(took);
    }
}

/// What is counted for a partition, under its topic's name.
#[derive(Clone, Debug)]
pub(crate) struct PartitionMetrics {
    batches: Counter,
    records: Counter,
    bytes: Counter,
    latency: Histogram,
}

impl PartitionMetrics {
    pub(crate) fn new(topic: &TopicName) -> Self {
        let topic = topic.to_string();
        Self {
            batches: counter!("millstream_append_batches_total", "topic" => topic.clone()),
            records: counter!("millstream_append_records_total", "topic" => topic.clone()),
            bytes: counter!("millstream_append_bytes_total", "topic" => topic.clone()),
            latency: histogram!("millstream_produce_seconds", "topic" => topic),
        }
    }

    pub(crate) fn appended(&self, header: &BatchHeader) {
        self.batches.increment(1);
        self.records.increment(header.record_count.into());
        self.bytes.increment(header.total_len() as u64);
    }

    pub(crate) fn answered(&self, took: Duration, answer: &Answer) {
        self.latency.record(took);
        if let Err(error) = answer {
            counter!("millstream_produce_refused_total", "code" => error.code.name()).increment(1);
        }
    }
}
