//! What was done, as it is printed.

use millstream_etl::{LoadSummary, RunSummary};
use serde::Serialize;

use crate::output::{Report, pairs};

/// A run's summary.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Ran(pub(super) RunSummary);

impl Report for Ran {
    fn table(&self) -> String {
        let of = &self.0;
        let was_done = if of.was_done { ", finished earlier: nothing was done" } else { "" };
        pairs([
            ("run", format!("{}{was_done}", of.run)),
            ("read", format!("{} records", of.read)),
            ("kept", format!("{} records", of.kept)),
            ("written", format!("{} rows", of.written)),
            ("skipped", format!("{} records", of.skipped)),
            ("files", of.files.to_string()),
            ("bytes", of.bytes.to_string()),
            ("seconds", format!("{:.2}", of.seconds)),
            ("records/s", format!("{:.0}", of.records_per_second)),
        ])
    }
}

/// A load's summary.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Loaded(pub(super) LoadSummary);

impl Report for Loaded {
    fn table(&self) -> String {
        let of = &self.0;
        let was_done = if of.was_done { ", finished earlier: nothing was done" } else { "" };
        pairs([
            ("load", format!("{}{was_done}", of.name)),
            ("rows", of.rows.to_string()),
            ("loaded", format!("{} records", of.loaded)),
            ("skipped", format!("{} rows", of.skipped)),
            ("files", of.files.to_string()),
            ("bytes", of.bytes.to_string()),
            ("transactions", of.transactions.to_string()),
            ("seconds", format!("{:.2}", of.seconds)),
            ("records/s", format!("{:.0}", of.records_per_second)),
        ])
    }
}
