//! Gauges: what is true now of partitions and jobs, looked up when somebody asks for the metrics.
//!
//! Invariant: an idle partition or job costs nothing but a look when metrics are read.

use metrics::{counter, gauge};

use crate::broker::Broker;

/// Brings the gauges up to date.
pub(crate) fn refresh(broker: &Broker) {
    partitions(broker);
    jobs(broker);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; offsets stay below 2^53")]
fn partitions(broker: &Broker) {
    for topic in broker.partitions.all() {
        for partition in topic.partitions.iter().flatten() {
            let labels = [
                ("topic", partition.topic().to_string()),
                ("partition", partition.id().partition.to_string()),
            ];
            let view = partition.view();
            gauge!("millstream_log_start_offset", &labels).set(view.log_start.get() as f64);
            gauge!("millstream_log_high_watermark", &labels).set(view.high_watermark.get() as f64);
            gauge!("millstream_log_bytes", &labels).set(partition.size_bytes() as f64);
            let stopped = view.stopped.is_some();
            gauge!("millstream_log_stopped", &labels).set(f64::from(u8::from(stopped)));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; lags stay below 2^53")]
fn jobs(broker: &Broker) {
    for (id, job) in broker.image().jobs() {
        let name = job.spec.name.to_string();
        let done = broker.jobs.scope(*id, &job.spec.limits).counters().snapshot();
        let count = |metric: &'static str, value: u64| {
            counter!(metric, "job" => name.clone()).absolute(value);
        };
        let mut written = 0;
        for standing in broker.jobs.standings(*id) {
            let labels = [
                ("job", name.clone()),
                ("topic", standing.partition.topic().to_string()),
                ("partition", standing.partition.id().partition.to_string()),
            ];
            gauge!("millstream_job_lag", &labels).set(standing.lag() as f64);
            written += standing.progress.counts().1;
        }
        count("millstream_job_records_in_total", done.records_in);
        count("millstream_job_records_out_total", written);
        count("millstream_job_bytes_in_total", done.bytes_in);
        count("millstream_job_bytes_out_total", done.bytes_out);
        count("millstream_job_instances_total", done.instantiations);
        let micros = u64::try_from(done.guest_time.as_micros()).unwrap_or(u64::MAX);
        count("millstream_job_guest_microseconds_total", micros);
        for (kind, errors) in done.errors {
            let labels = [("job", name.clone()), ("kind", kind.name().to_owned())];
            counter!("millstream_job_errors_total", &labels).absolute(errors);
        }
        for (counter, value) in done.custom {
            let labels = [("job", name.clone()), ("counter", counter)];
            counter!("millstream_job_custom_total", &labels).absolute(value);
        }
    }
}
