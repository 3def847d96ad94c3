//! Families: every metric there is, in the order of the page; `METRICS.md` holds the same list.
//!
//! Invariant: a label's values are topics, partitions, jobs, a job's own counters (64 at the most),
//! requests, codes or kinds: never what a client may choose freely without first creating it. So there
//! are as many series as there are such things now, and what is deleted takes its series with it.

/// One metric.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [&'static str],
    pub(crate) help: &'static str,
}

/// How its values are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows, from 0 at the start of the broker.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by their size.
    Histogram,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! families {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal,)*) => {
        $(pub(crate) const $id: &Family = &Family {
            name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help,
        };)*

        /// All of them.
        pub(crate) const ALL: &[&Family] = &[$($id),*];
    };
}

families! {
    CONNECTIONS: Gauge "millstream_connections" []
        "open client connections",
    CONNECTIONS_EVER: Counter "millstream_connections_total" []
        "client connections that were greeted",
    HANDSHAKES_FAILED: Counter "millstream_handshakes_failed_total" []
        "clients that came and were not greeted",
    RECEIVED_BYTES: Counter "millstream_transport_received_bytes_total" []
        "bytes of UDP payload received from clients",
    SENT_BYTES: Counter "millstream_transport_sent_bytes_total" []
        "bytes of UDP payload sent to clients",
    SENT_PACKETS: Counter "millstream_transport_sent_packets_total" []
        "QUIC packets sent to clients",
    LOST_PACKETS: Counter "millstream_transport_lost_packets_total" []
        "QUIC packets sent to clients that got lost",
    STREAMS_BROKEN: Counter "millstream_streams_broken_total" []
        "streams given up for what they carried",
    ARRIVING_BYTES: Gauge "millstream_arriving_bytes" ["of"]
        "memory taken for what clients have announced and not delivered, of `batches` or `modules`",
    REQUESTS: Counter "millstream_requests_total" ["request", "result"]
        "control calls, by request and `ok` or the code of the refusal",
    REQUEST_SECONDS: Histogram "millstream_request_seconds" ["request"]
        "time to answer a control call",
    APPEND_BATCHES: Counter "millstream_append_batches_total" ["topic"]
        "batches handed to the log",
    APPEND_RECORDS: Counter "millstream_append_records_total" ["topic"]
        "records in them",
    APPEND_BYTES: Counter "millstream_append_bytes_total" ["topic"]
        "bytes of them",
    COMPACTED_BYTES: Counter "millstream_log_compacted_bytes_total" ["topic"]
        "bytes that compaction has freed",
    REPLICATED_RECORDS: Counter "millstream_replicated_records_total" ["topic"]
        "records that this broker took from a partition's leader",
    REPLICATED_BYTES: Counter "millstream_replicated_bytes_total" ["topic"]
        "bytes of their batches",
    PRODUCE_SECONDS: Histogram "millstream_produce_seconds" ["topic"]
        "from a batch's arrival at its partition to its answer",
    PRODUCE_REFUSED: Counter "millstream_produce_refused_total" ["topic", "code"]
        "batches refused, by code",
    FETCH_STREAMS: Counter "millstream_fetch_streams_total" ["topic"]
        "fetch streams opened",
    FETCH_RECORDS: Counter "millstream_fetch_records_total" ["topic"]
        "offsets read for consumers: records, and what a topic's filter left out",
    FETCH_READ_BYTES: Counter "millstream_fetch_read_bytes_total" ["topic"]
        "bytes read for consumers",
    FETCH_SENT_BYTES: Counter "millstream_fetch_sent_bytes_total" ["topic"]
        "bytes sent to consumers: less, where a filter drops records",
    FETCH_SECONDS: Histogram "millstream_fetch_seconds" ["topic"]
        "to read and filter one body, once there are data and credit",
    FILTER_CALLS: Counter "millstream_filter_calls_total" ["place", "topic"]
        "batches given to a filter; place is `ingress` or `fetch`",
    FILTER_RECORDS_IN: Counter "millstream_filter_records_in_total" ["place", "topic"]
        "records given to a filter",
    FILTER_RECORDS_OUT: Counter "millstream_filter_records_out_total" ["place", "topic"]
        "records that a filter left",
    FILTER_ERRORS: Counter "millstream_filter_errors_total" ["place", "topic", "kind"]
        "failed calls of a filter, by kind",
    FILTER_GUEST_SECONDS: Histogram "millstream_filter_guest_seconds" ["place", "topic"]
        "processor time of one call in the guest",
    LOG_WRITE_SECONDS: Histogram "millstream_log_write_seconds" []
        "one write of a group of batches",
    LOG_SYNC_SECONDS: Histogram "millstream_log_sync_seconds" []
        "one sync of a log",
    LOG_GROUP_BATCHES: Histogram "millstream_log_group_batches" []
        "batches that share one write",
    LOG_START_OFFSET: Gauge "millstream_log_start_offset" ["topic", "partition"]
        "first offset that is kept",
    LOG_HIGH_WATERMARK: Gauge "millstream_log_high_watermark" ["topic", "partition"]
        "everything before it is committed",
    LOG_BYTES: Gauge "millstream_log_bytes" ["topic", "partition"]
        "bytes of the log on disk",
    REPLICAS_NOT_IN_SYNC: Gauge "millstream_replicas_not_in_sync" ["topic", "partition"]
        "where this broker leads, voters that do not keep up or cannot be reached; alert above 0",
    LOG_STOPPED: Gauge "millstream_log_stopped" ["topic", "partition"]
        "1 when the log takes no more writes",
    LOG_LAST_STABLE_OFFSET: Gauge "millstream_log_last_stable_offset" ["topic", "partition"]
        "before it every transaction has ended; readers of what is committed stop there",
    GROUP_LAG: Gauge "millstream_group_lag" ["group", "topic", "partition"]
        "offsets between what a group has committed and the end, of groups coordinated here; every 10 s",
    GROUP_LAG_SECONDS: Gauge "millstream_group_lag_seconds" ["group", "topic", "partition"]
        "age of the first record that a group has not committed; every 10 s",
    JOB_LAG: Gauge "millstream_job_lag" ["job", "topic", "partition"]
        "records between a job's position and its input's end",
    JOB_RECORDS_IN: Counter "millstream_job_records_in_total" ["job"]
        "records that a job's guests were given",
    JOB_RECORDS_OUT: Counter "millstream_job_records_out_total" ["job"]
        "records that a job wrote",
    JOB_BYTES_IN: Counter "millstream_job_bytes_in_total" ["job"]
        "bytes that a job's guests were given",
    JOB_BYTES_OUT: Counter "millstream_job_bytes_out_total" ["job"]
        "bytes that a job's guests rewrote",
    JOB_ERRORS: Counter "millstream_job_errors_total" ["job", "kind"]
        "failed calls of a job's guests, by kind",
    JOB_GUEST_SECONDS: Histogram "millstream_job_guest_seconds" ["job"]
        "processor time of one call in a job's guest",
    JOB_INSTANCES: Counter "millstream_job_instances_total" ["job"]
        "instances made for a job",
    JOB_CUSTOM: Counter "millstream_job_custom_total" ["job", "counter"]
        "counters of a job's own module",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_list_is_this_one() {
        let row = |family: &&Family| {
            let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind) = (family.name, family.kind.name());
            format!("| `{name}` | {kind} | {} | {} |", labels.join(", "), family.help)
        };
        let wanted: Vec<_> = ALL.iter().map(row).collect();
        let document = include_str!("../../METRICS.md");
        let found: Vec<_> =
            document.lines().filter(|line| line.starts_with("| `millstream_")).collect();
        assert_eq!(found, wanted, "the rows of METRICS.md should be:\n{}", wanted.join("\n"));
    }
}
