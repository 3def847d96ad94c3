//! What is counted for one topic, for as long as it is served.
//!
//! Invariant: nothing is looked up while batches pass: who counts holds this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_modules::{Limits, Scope};
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::error::ErrorCode;
use parking_lot::Mutex;

use super::families as of;
use super::instruments::{Counter, Histogram};
use super::page::Page;

/// One topic's metrics.
#[derive(Debug)]
pub(crate) struct TopicMetrics {
    append_batches: Counter,
    append_records: Counter,
    append_bytes: Counter,
    replicated_records: Counter,
    replicated_bytes: Counter,
    compacted_bytes: Counter,
    produce: Histogram,
    /// By code. A refusal is rare, and costs more than a lock.
    refused: Mutex<BTreeMap<&'static str, u64>>,
    fetch_streams: Counter,
    fetch_records: Counter,
    fetch_read: Counter,
    fetch_sent: Counter,
    fetch: Histogram,
    /// What the instances of the topic's filter share.
    ingress: Arc<Scope>,
    /// What the instances of its consumers' filters share.
    fetch_filter: Arc<Scope>,
}

/// One body that was read for a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched {
    /// To read and filter it.
    pub(crate) took: Duration,
    pub(crate) records: u64,
    pub(crate) read: usize,
    pub(crate) sent: usize,
}

impl TopicMetrics {
    pub(crate) fn new() -> Arc<Self> {
        let scope = || Arc::new(Scope::new(Limits::default()));
        Arc::new(Self {
            append_batches: Counter::default(),
            append_records: Counter::default(),
            append_bytes: Counter::default(),
            replicated_records: Counter::default(),
            replicated_bytes: Counter::default(),
            compacted_bytes: Counter::default(),
            produce: Histogram::of_times(),
            refused: Mutex::default(),
            fetch_streams: Counter::default(),
            fetch_records: Counter::default(),
            fetch_read: Counter::default(),
            fetch_sent: Counter::default(),
            fetch: Histogram::of_times(),
            ingress: scope(),
            fetch_filter: scope(),
        })
    }

    pub(crate) const fn ingress(&self) -> &Arc<Scope> {
        &self.ingress
    }

    pub(crate) const fn fetch_filter(&self) -> &Arc<Scope> {
        &self.fetch_filter
    }

    /// A compaction has freed so many bytes.
    pub(crate) fn compacted(&self, bytes: u64) {
        self.compacted_bytes.add(bytes);
    }

    pub(crate) fn appended(&self, header: &BatchHeader) {
        self.append_batches.add(1);
        self.append_records.add(header.record_count.into());
        self.append_bytes.add(header.total_len() as u64);
    }

    /// A batch of the leader's is handed to the log.
    pub(crate) fn replicated(&self, header: &BatchHeader) {
        self.replicated_records.add(header.record_count.into());
        self.replicated_bytes.add(header.total_len() as u64);
    }

    /// A batch was answered, so long after it came.
    pub(crate) fn answered(&self, took: Duration) {
        self.produce.time(took);
    }

    pub(crate) fn refused(&self, code: ErrorCode) {
        *self.refused.lock().entry(code.name()).or_default() += 1;
    }

    pub(crate) fn fetch_opened(&self) {
        self.fetch_streams.add(1);
    }

    pub(crate) fn fetched(&self, body: Fetched) {
        self.fetch_records.add(body.records);
        self.fetch_read.add(body.read as u64);
        self.fetch_sent.add(body.sent as u64);
        self.fetch.time(body.took);
    }

    pub(super) fn collect(&self, page: &mut Page, topic: &str) {
        for (family, counter) in [
            (of::APPEND_BATCHES, &self.append_batches),
            (of::APPEND_RECORDS, &self.append_records),
            (of::APPEND_BYTES, &self.append_bytes),
            (of::COMPACTED_BYTES, &self.compacted_bytes),
            (of::REPLICATED_RECORDS, &self.replicated_records),
            (of::REPLICATED_BYTES, &self.replicated_bytes),
            (of::FETCH_STREAMS, &self.fetch_streams),
            (of::FETCH_RECORDS, &self.fetch_records),
            (of::FETCH_READ_BYTES, &self.fetch_read),
            (of::FETCH_SENT_BYTES, &self.fetch_sent),
        ] {
            page.value(family, &[topic], counter.get());
        }
        page.histogram(of::PRODUCE_SECONDS, &[topic], &self.produce.get());
        page.histogram(of::FETCH_SECONDS, &[topic], &self.fetch.get());
        for (code, count) in &*self.refused.lock() {
            page.value(of::PRODUCE_REFUSED, &[topic, code], count);
        }
    }
}
