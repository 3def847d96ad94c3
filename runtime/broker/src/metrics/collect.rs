//! Collect: the page of a broker, looked up when somebody asks for it.
//!
//! Invariant: what is on the page is there now: a topic or job that was deleted is not, and one that is
//! idle costs nothing but this look.

use std::time::Duration;

use millstream_modules::{CountersSnapshot, GUEST_TIMES};

use super::families as of;
use super::instruments::Distribution;
use super::page::Page;
use super::topic::TopicMetrics;
use crate::broker::Broker;
use crate::partitions::Partition;

/// The metrics of a broker as text.
pub(crate) fn page(broker: &Broker) -> String {
    let mut page = Page::default();
    broker.metrics.collect(&mut page);
    page.value(of::ARRIVING_BYTES, &["batches"], broker.batches.taken());
    page.value(of::ARRIVING_BYTES, &["modules"], broker.uploads.taken());
    broker.log_metrics.collect(&mut page);
    topic(&mut page, "__metadata", &broker.metadata_metrics);
    for (name, found) in broker.partitions.all() {
        topic(&mut page, name.as_str(), &found.metrics);
        for partition in found.partitions.iter().flatten() {
            log(&mut page, partition);
        }
    }
    groups(&mut page, broker);
    jobs(&mut page, broker);
    page.finish()
}

fn topic(page: &mut Page, name: &str, metrics: &TopicMetrics) {
    metrics.collect(page, name);
    for (place, scope) in [("ingress", metrics.ingress()), ("fetch", metrics.fetch_filter())] {
        let done = scope.counters().snapshot();
        // A topic without a filter has no series of one.
        if done.instantiations == 0 && done.errors.is_empty() {
            continue;
        }
        let labels = [place, name];
        page.value(of::FILTER_CALLS, &labels, done.calls);
        page.value(of::FILTER_RECORDS_IN, &labels, done.records_in);
        page.value(of::FILTER_RECORDS_OUT, &labels, done.records_out);
        page.histogram(of::FILTER_GUEST_SECONDS, &labels, &guest_times(&done));
        for (kind, errors) in &done.errors {
            page.value(of::FILTER_ERRORS, &[place, name, kind.name()], errors);
        }
    }
}

fn log(page: &mut Page, partition: &Partition) {
    let (view, index) = (partition.view(), partition.id().partition.to_string());
    let labels = [partition.topic().as_str(), &index];
    page.value(of::LOG_START_OFFSET, &labels, view.log_start);
    page.value(of::LOG_HIGH_WATERMARK, &labels, view.high_watermark);
    page.value(of::LOG_LAST_STABLE_OFFSET, &labels, view.last_stable);
    page.value(of::LOG_BYTES, &labels, partition.size_bytes());
    if view.leads {
        let lacking = view.voters.count().saturating_sub(view.in_sync.len());
        page.value(of::REPLICAS_NOT_IN_SYNC, &labels, lacking);
    }
    page.value(of::LOG_STOPPED, &labels, u8::from(view.stopped.is_some()));
}

fn groups(page: &mut Page, broker: &Broker) {
    let lags = broker.group_lags.last();
    // A topic may have gone since they were looked up.
    for lag in lags.iter().filter(|lag| broker.partitions.topic(&lag.topic).is_some()) {
        let index = lag.partition.to_string();
        let labels = [lag.group.as_str(), lag.topic.as_str(), &index];
        page.value(of::GROUP_LAG, &labels, lag.offsets);
        if let Some(seconds) = lag.seconds {
            page.value(of::GROUP_LAG_SECONDS, &labels, seconds);
        }
    }
}

fn jobs(page: &mut Page, broker: &Broker) {
    for (id, job) in broker.image().jobs() {
        let name = job.spec.name.to_string();
        let scope = broker.jobs.scope(*id);
        let done = scope.map_or_else(Default::default, |scope| scope.counters().snapshot());
        let mut written = 0;
        for standing in broker.jobs.standings(*id) {
            let (topic, index) = (standing.partition.topic(), standing.partition.id().partition);
            let labels = [&name, topic.as_str(), &index.to_string()];
            page.value(of::JOB_LAG, &labels, standing.lag());
            written += standing.progress.counts().1;
        }
        page.value(of::JOB_RECORDS_IN, &[&name], done.records_in);
        page.value(of::JOB_RECORDS_OUT, &[&name], written);
        page.value(of::JOB_BYTES_IN, &[&name], done.bytes_in);
        page.value(of::JOB_BYTES_OUT, &[&name], done.bytes_out);
        page.value(of::JOB_INSTANCES, &[&name], done.instantiations);
        page.histogram(of::JOB_GUEST_SECONDS, &[&name], &guest_times(&done));
        for (kind, errors) in &done.errors {
            page.value(of::JOB_ERRORS, &[&name, kind.name()], errors);
        }
        for (counter, value) in &done.custom {
            page.value(of::JOB_CUSTOM, &[&name, counter], value);
        }
    }
}

fn guest_times(done: &CountersSnapshot) -> Distribution {
    Distribution {
        bounds: GUEST_TIMES.iter().map(Duration::as_secs_f64).collect(),
        counts: done.guest_times.to_vec(),
        sum: done.guest_time.as_secs_f64(),
    }
}
