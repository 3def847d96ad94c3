//! How fast a log is compacted on this machine's disk: `cargo run --release --example compact_speed [DIR] [MIB]`.
//!
//! Prints MB/s and records/s of a first pass, in which every key is written many times, and of a second one over what
//! is clean, and how long the writer is held up by each swap.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression, ProducerStamp};
use millstream_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use millstream_storage::disk::RealDisk;
use millstream_storage::log::{
    AppendBatch, CompactionRules, LogConfig, MaintenanceError, PartitionLog, remove_log,
};

type Log = PartitionLog<RealDisk>;

const RECORDS_PER_BATCH: u64 = 100;

#[expect(clippy::print_stdout, reason = "an example that reports")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir =
        arguments.next().map_or_else(|| std::env::temp_dir().join("compact_speed"), PathBuf::from);
    let bytes: u64 = arguments.next().map_or(Ok(512), |mib| mib.parse())? << 20;
    for (name, codec, keys) in [
        ("1,000 keys", Compression::None, 1_000),
        ("1,000,000 keys", Compression::None, 1_000_000),
        ("1,000,000 keys, lz4", Compression::Lz4, 1_000_000),
    ] {
        remove_log(&RealDisk, &dir)?;
        let mut log = fill(&dir, bytes, keys, codec)?;
        for pass in ["first", "second"] {
            let (run, swap, records) = compact(&mut log)?;
            let rate = records as f64 / run;
            let size = log.size_bytes() >> 20;
            println!(
                "{name}, {pass} pass: {run:.2} s, {rate:.0} records/s, swap {swap:.1} ms, {size} MiB left"
            );
        }
    }
    remove_log(&RealDisk, &dir)?;
    Ok(())
}

/// A log of 150-byte records, each with one of so many keys, drawn by a simple generator.
fn fill(
    dir: &std::path::Path,
    bytes: u64,
    keys: u64,
    codec: Compression,
) -> Result<Log, Box<dyn std::error::Error>> {
    let config = LogConfig { segment_bytes: 8 << 20, ..LogConfig::default() };
    let (mut log, _) = PartitionLog::open(RealDisk, dir, config, Timestamp(0))?;
    let mut drawn = 1u64;
    let mut written = 0;
    while written < bytes {
        let mut builder = BatchBuilder::new(32 << 10).to_be_packed();
        for _ in 0..RECORDS_PER_BATCH {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = ((drawn >> 33) % keys).to_be_bytes();
            let value = drawn.to_string().repeat(7);
            builder.push(Timestamp(1), Some(&key), Some(value.as_bytes()), &[])?;
        }
        written += builder.len_bytes() as u64;
        let batch = builder.finish(codec, ProducerStamp::NONE)?;
        let header = BatchHeader::parse(&batch)?;
        let chunks: [Bytes; 1] = [batch];
        let base_offset = log.end();
        let append =
            AppendBatch { base_offset, epoch: LeaderEpoch(1), header: &header, chunks: &chunks };
        log.append(&[append])?;
    }
    log.sync()?;
    Ok(log)
}

fn compact(log: &mut Log) -> Result<(f64, f64, u64), Box<dyn std::error::Error>> {
    let rules = CompactionRules::new(Offset::MAX, Timestamp(0));
    let plan = log.plan_compaction(rules).ok_or("nothing is closed")?;
    let begun = Instant::now();
    let compacted = plan.run(&mut |_| ControlFlow::Continue(()))?;
    let run = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let swapped = log.swap_compacted(compacted)?;
    let swap = begun.elapsed().as_secs_f64() * 1_000.0;
    log.checkpoint().map_err(|error: MaintenanceError| error.to_string())?;
    Ok((run, swap, swapped.report.records_before))
}
