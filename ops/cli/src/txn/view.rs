//! A transaction as it is printed.

use std::time::{SystemTime, UNIX_EPOCH};

use millstream_protocol::ids::Timestamp;
use millstream_protocol::message::transaction::TransactionDescription;
use serde::Serialize;

use crate::names::Names;
use crate::output::{Report, columns, pairs};

/// One transactional id, whole.
#[derive(Serialize)]
pub(super) struct Transaction {
    id: String,
    state: &'static str,
    coordinator: u32,
    producer_id: i64,
    producer_epoch: i16,
    timeout_ms: u32,
    open_seconds: Option<f64>,
    partitions: Vec<Place>,
    groups: Vec<String>,
}

#[derive(Serialize)]
struct Place {
    topic: String,
    partition: u32,
}

impl Transaction {
    pub(super) fn new(described: TransactionDescription, names: &Names) -> Self {
        let partitions = described
            .partitions
            .iter()
            .map(|of| Place { topic: names.show(of.topic), partition: of.partition.get() });
        Self {
            id: described.id.to_string(),
            state: described.state.name(),
            coordinator: described.coordinator.get(),
            producer_id: described.producer.id.0,
            producer_epoch: described.producer.epoch.0,
            timeout_ms: described.timeout_ms,
            open_seconds: described.begun.map(seconds_since),
            partitions: partitions.collect(),
            groups: described.groups.iter().map(ToString::to_string).collect(),
        }
    }

    fn open_for(&self) -> String {
        self.open_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1} s"))
    }
}

impl Report for Transaction {
    fn table(&self) -> String {
        let places: Vec<_> =
            self.partitions.iter().map(|of| format!("{}/{}", of.topic, of.partition)).collect();
        let or_none = |list: &[String]| match list {
            [] => "-".to_owned(),
            some => some.join(" "),
        };
        pairs([
            ("id", self.id.clone()),
            ("state", self.state.to_owned()),
            ("coordinator", format!("broker {}", self.coordinator)),
            ("producer", format!("{}, epoch {}", self.producer_id, self.producer_epoch)),
            ("timeout", format!("{} ms", self.timeout_ms)),
            ("open for", self.open_for()),
            ("partitions", or_none(&places)),
            ("groups", or_none(&self.groups)),
        ])
    }
}

/// Several of them.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Transactions(Vec<Transaction>);

impl Transactions {
    pub(super) fn new(all: Vec<TransactionDescription>, names: &Names) -> Self {
        Self(all.into_iter().map(|one| Transaction::new(one, names)).collect())
    }
}

impl Report for Transactions {
    fn table(&self) -> String {
        let headers = ["ID", "STATE", "PRODUCER", "EPOCH", "PARTITIONS", "OPEN FOR", "COORDINATOR"];
        let right = ["PRODUCER", "EPOCH", "PARTITIONS", "OPEN FOR"];
        let row = |one: &Transaction| {
            [
                one.id.clone(),
                one.state.to_owned(),
                one.producer_id.to_string(),
                one.producer_epoch.to_string(),
                one.partitions.len().to_string(),
                one.open_for(),
                one.coordinator.to_string(),
            ]
        };
        columns(&headers, &right, self.0.iter().map(row))
    }
}

fn seconds_since(at: Timestamp) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a time in milliseconds has 41 bits")]
    let at = at.get() as f64 / 1000.0;
    (now - at).max(0.0)
}
