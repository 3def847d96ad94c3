//! `millstream bench ceiling`: what the machine gives without a broker.
//!
//! ```text
//!   sink     this process ──▶ transport ──▶ another process, which drops what comes and answers
//!   source   this process ◀── transport ◀── another process, which has it ready
//!   disk     this process ──▶ files side by side, synced in the fastest of several ways, or never
//!   floor    one record to the other process and its answer back; one record appended and synced
//! ```
//!
//! Invariant: the batches are the ones a producer would send, made beforehand, and the transport has the
//! settings that client and broker have.

mod disk;
mod paced;
pub(super) mod peer;
mod wire;

use std::path::PathBuf;

use bytes::Bytes;
use millstream_broker::config::Duration as Span;
use millstream_client::Compression;
use millstream_protocol::batch::{BatchBuilder, ProducerStamp};
use millstream_protocol::ids::Timestamp;
use serde::Serialize;

use disk::Disk;

use super::arguments::Amount;
use super::payload::{POOL_BYTES, Pool};
use super::report::{Latency, Rows, Throughput, Told, whole};
use super::spent::Spent;
use crate::failure::{Failure, Result};
use crate::output::{Output, print};
use crate::progress;

/// As the producer has it by default.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that are made, of as many bytes as W1's values; more are the same again.
const DISTINCT: u64 = POOL_BYTES / BATCH_BYTES as u64;

/// Measure what the machine gives without a broker: transport and disk.
///
/// What bounds producing is the lower of `sink` and a disk figure, what bounds consuming is `source`. No record can be
/// acknowledged, or arrive, sooner than in a `round trip` and, where records come 10,000 a second, a `paced sync`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    amount: Amount,
    /// Streams, and files, side by side: as a topic has partitions.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    streams: u32,
    /// A directory on the disk that is measured.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// How long the disk is given to fall quiet before each turn.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    settle: Span,
}

/// Each figure in records and bytes of values, as `bench produce` counts them. "Broker" is the other process.
#[derive(Serialize)]
struct Document {
    value_size: usize,
    sink: Throughput,
    source: Throughput,
    disk_synced: Throughput,
    /// How the disk was fastest.
    disk_synced_way: disk::Way,
    disk_unsynced: Throughput,
    /// One record to the other process, and its answer back, one at a time.
    round_trip: Latency,
    /// One record appended and synced, from when it was due: 10,000 a second over the files.
    paced_sync: Latency,
}

/// What goes over the wire or to the disk.
pub(super) struct Load {
    /// Batches, to be cycled through.
    batches: Vec<Bytes>,
    records_each: u64,
    value_size: u64,
    /// How many batches there are to send.
    count: u64,
}

impl Load {
    fn new(amount: Amount) -> Result<Self> {
        let (records, size) = amount.of()?;
        let records_each = (BATCH_BYTES / (size + 16)).max(1) as u64;
        let count = records.div_ceil(records_each);
        let distinct = count.min(DISTINCT);
        let pool = Pool::new(distinct * records_each, size);
        let mut values = pool.values(distinct * records_each);
        let each = usize::try_from(records_each).unwrap_or(1);
        let batches =
            (0..distinct).map(|_| batch(values.by_ref().take(each))).collect::<Result<_>>()?;
        Ok(Self { batches, records_each, value_size: size as u64, count })
    }

    /// One record in a batch of its own, as a producer sends it that waits for nothing.
    fn lone(&self) -> Result<Bytes> {
        let pool = Pool::new(1, usize::try_from(self.value_size).unwrap_or(usize::MAX));
        batch(pool.values(1))
    }

    /// The batches in the order they go: as many as there are to send.
    fn batches(&self) -> impl Iterator<Item = &Bytes> {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        self.batches.iter().cycle().take(count)
    }

    fn throughput(&self, spent: Spent) -> Throughput {
        let records = self.count * self.records_each;
        Throughput::new(records, records * self.value_size, spent)
    }
}

fn batch<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Bytes> {
    let mut builder = BatchBuilder::new(BATCH_BYTES);
    for value in values {
        builder.push(Timestamp(0), None, Some(value), &[]).map_err(Failure::new)?;
    }
    builder.finish(Compression::None, ProducerStamp::NONE).map_err(Failure::new)
}

/// Measures all of them, one after the other.
pub(super) fn run(args: &Args, output: Output) -> Result {
    let load = Load::new(args.amount)?;
    let lone = load.lone()?;
    let disk = Disk { dir: &args.dir, files: args.streams, patience: args.settle.0 };
    let bar = progress::steps("measuring", 1 + wire::STEPS + disk::STEPS);
    let paced_sync = Latency::of(&paced::syncs(&lone, &disk, &bar)?);
    let wire = wire::measure(&load, &lone, args.streams, &bar)?;
    let (synced, way) = disk::synced(&load, &disk, &bar)?;
    let unsynced = disk::unsynced(&load, &disk, &bar)?;
    // What is measured next shall not pay for the files that are just being trimmed.
    disk.quiet()?;
    bar.finish_and_clear();
    let document = Document {
        value_size: usize::try_from(load.value_size).unwrap_or(usize::MAX),
        sink: load.throughput(wire.pushed),
        source: load.throughput(wire.pulled),
        disk_synced: load.throughput(synced),
        disk_synced_way: way,
        disk_unsynced: load.throughput(unsynced),
        round_trip: Latency::of(&wire.round_trips),
        paced_sync,
    };
    print(&Told(document), output)
}

impl Rows for Document {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let line = |throughput: &Throughput| {
            let other = throughput
                .broker_cpu_seconds_per_gb
                .map_or_else(String::new, |cpu| format!(" + {cpu:.3}"));
            format!(
                "{:>8.1} MB/s {:>12} records/s {:>8.3}{other} CPU s/GB",
                throughput.mb_per_second,
                whole(throughput.records_per_second),
                throughput.client_cpu_seconds_per_gb,
            )
        };
        vec![
            ("sink", line(&self.sink)),
            ("source", line(&self.source)),
            ("disk, synced", line(&self.disk_synced)),
            ("", self.disk_synced_way.told()),
            ("disk, not synced", line(&self.disk_unsynced)),
            ("round trip", self.round_trip.line()),
            ("paced sync", self.paced_sync.line()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use millstream_client::ProducerConfig;
    use millstream_protocol::batch::Batch;

    use super::*;

    #[test]
    fn what_goes_through_alone_is_what_a_producer_sends_by_default() {
        let producer = ProducerConfig::default();
        assert_eq!(producer.batch_bytes, BATCH_BYTES);
        assert_eq!(producer.max_in_flight, wire::IN_FLIGHT);
    }

    #[test]
    fn the_load_is_sound_batches_of_the_size_a_producer_sends() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            amount: Amount,
        }
        let line = <Line as clap::Parser>::parse_from(["x", "--records", "20000", "--size", "100"]);
        let load = Load::new(line.amount).expect("a load");
        assert_eq!(load.count, 3);
        for batch in load.batches() {
            let batch = Batch::parse(batch.clone()).expect("a batch");
            batch.verify_crc().expect("sound");
            assert_eq!(u64::from(batch.header.record_count), load.records_each);
        }
    }
}
