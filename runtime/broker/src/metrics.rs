//! Metrics: every stage's counts, bytes and latencies, under names that start with `millstream_`.
//!
//! - `instruments`: what is counted while it happens.
//! - `topic`: what is counted for one topic.
//! - `families`: every metric, by name; the list of `METRICS.md`.
//! - `collect` and `page`: all of it as text, when somebody asks.
//!
//! Invariant: what is counted belongs to what it is counted for, and goes with it.

mod collect;
mod families;
mod instruments;
mod page;
mod topic;

pub(crate) use collect::page;
pub(crate) use topic::{Fetched, TopicMetrics};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::error::WireError;
use millstream_transport::Connection;
use parking_lot::Mutex;

use families as of;
use instruments::{Counter, Histogram};
use page::Page;

/// What is counted over the whole broker.
#[derive(Debug, Default)]
pub(crate) struct BrokerMetrics {
    links: Arc<Mutex<Links>>,
    handshakes_failed: Counter,
    broken: Counter,
    /// By request. A control call is rare, and costs more than a lock.
    calls: Mutex<BTreeMap<&'static str, Calls>>,
}

/// The connections that are open, and what those carried that are not any more.
#[derive(Debug, Default)]
struct Links {
    ever: u64,
    open: BTreeMap<u64, Connection>,
    gone: Traffic,
}

#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    received_bytes: u64,
    sent_bytes: u64,
    sent_packets: u64,
    lost_packets: u64,
}

impl Traffic {
    fn add(&mut self, connection: &Connection) {
        let stats = connection.stats();
        self.received_bytes += stats.received_bytes;
        self.sent_bytes += stats.sent_bytes;
        self.sent_packets += stats.sent_packets;
        self.lost_packets += stats.lost_packets;
    }
}

#[derive(Debug)]
struct Calls {
    seconds: Histogram,
    results: BTreeMap<&'static str, u64>,
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct Link {
    links: Arc<Mutex<Links>>,
    number: u64,
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut links = self.links.lock();
        if let Some(connection) = links.open.remove(&self.number) {
            links.gone.add(&connection);
        }
    }
}

impl BrokerMetrics {
    /// Counts a connection, and what it carries, for as long as the guard lives.
    pub(crate) fn connection(&self, connection: &Connection) -> Link {
        let mut links = self.links.lock();
        let number = links.ever;
        links.ever += 1;
        links.open.insert(number, connection.clone());
        Link { links: Arc::clone(&self.links), number }
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.add(1);
    }

    pub(crate) fn broken_stream(&self) {
        self.broken.add(1);
    }

    pub(crate) fn called(&self, request: &'static str, took: Duration, error: Option<&WireError>) {
        let result = error.map_or("ok", |error| error.code.name());
        let mut calls = self.calls.lock();
        let calls = calls
            .entry(request)
            .or_insert_with(|| Calls { seconds: Histogram::of_times(), results: BTreeMap::new() });
        calls.seconds.time(took);
        *calls.results.entry(result).or_default() += 1;
    }

    fn collect(&self, page: &mut Page) {
        let (open, ever, traffic) = {
            let links = self.links.lock();
            let mut traffic = links.gone;
            links.open.values().for_each(|connection| traffic.add(connection));
            (links.open.len(), links.ever, traffic)
        };
        page.value(of::CONNECTIONS, &[], open);
        page.value(of::CONNECTIONS_EVER, &[], ever);
        page.value(of::HANDSHAKES_FAILED, &[], self.handshakes_failed.get());
        page.value(of::RECEIVED_BYTES, &[], traffic.received_bytes);
        page.value(of::SENT_BYTES, &[], traffic.sent_bytes);
        page.value(of::SENT_PACKETS, &[], traffic.sent_packets);
        page.value(of::LOST_PACKETS, &[], traffic.lost_packets);
        page.value(of::STREAMS_BROKEN, &[], self.broken.get());
        for (request, calls) in &*self.calls.lock() {
            page.histogram(of::REQUEST_SECONDS, &[request], &calls.seconds.get());
            for (result, count) in &calls.results {
                page.value(of::REQUESTS, &[request, result], count);
            }
        }
    }
}

/// What is counted for all logs together.
#[derive(Debug)]
pub(crate) struct LogMetrics {
    write: Histogram,
    sync: Histogram,
    group: Histogram,
}

impl LogMetrics {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            write: Histogram::of_times(),
            sync: Histogram::of_times(),
            group: Histogram::of_numbers(),
        })
    }

    pub(crate) fn wrote(&self, took: Duration, batches: usize) {
        self.write.time(took);
        self.group.number(batches as u64);
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.sync.time(took);
    }

    fn collect(&self, page: &mut Page) {
        page.histogram(of::LOG_WRITE_SECONDS, &[], &self.write.get());
        page.histogram(of::LOG_SYNC_SECONDS, &[], &self.sync.get());
        page.histogram(of::LOG_GROUP_BATCHES, &[], &self.group.get());
    }
}
