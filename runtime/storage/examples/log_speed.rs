//! How fast a log takes and gives batches on this machine's disk: `cargo run --release --example
//! log_speed [DIR] [MIB]`.
//!
//! Prints MB/s for appends without a sync, appends with a sync a group, one small append with its sync, and reads.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression, ProducerStamp};
use millstream_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use millstream_storage::disk::RealDisk;
use millstream_storage::log::{AppendBatch, LogConfig, PartitionLog, remove_log};

type Log = PartitionLog<RealDisk>;

#[expect(clippy::print_stdout, reason = "an example that reports")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir =
        arguments.next().map_or_else(|| std::env::temp_dir().join("log_speed"), PathBuf::from);
    let bytes: u64 = arguments.next().map_or(Ok(2_048), |mib| mib.parse())? << 20;
    for (name, batch, group) in [
        ("128 KiB batches, 1 MiB a group", batch(128, 1_024)?, 8),
        ("128 KiB batches, 8 MiB a group", batch(128, 1_024)?, 64),
        ("16 KiB batches, 1 MiB a group", batch(160, 100)?, 64),
    ] {
        remove_log(&RealDisk, &dir)?;
        let mut log = open(&dir)?;
        let appended = append(&mut log, &batch, group, bytes, false)?;
        remove_log(&RealDisk, &dir)?;
        let mut log = open(&dir)?;
        let synced = append(&mut log, &batch, group, bytes, true)?;
        let read = read(&log)?;
        println!("{name}: append {appended:.0}, append and sync {synced:.0}, read {read:.0} MB/s");
    }
    remove_log(&RealDisk, &dir)?;
    let mut log = open(&dir)?;
    let mut times = small_syncs(&mut log, &batch(1, 1_024)?, 2_000)?;
    times.sort_unstable();
    println!("1 KiB append and sync: p50 {:?}, p99 {:?}", times[1_000], times[1_980]);
    drop(log);
    let begin = Instant::now();
    open(&dir)?;
    println!("open after that without a close: {:?}", begin.elapsed());
    remove_log(&RealDisk, &dir)?;
    Ok(())
}

fn open(dir: &std::path::Path) -> Result<Log, Box<dyn std::error::Error>> {
    Ok(PartitionLog::open(RealDisk, dir, LogConfig::default(), Timestamp(0))?.0)
}

fn batch(records: u32, size: usize) -> Result<Bytes, Box<dyn std::error::Error>> {
    let mut builder = BatchBuilder::new(1 << 20);
    for _ in 0..records {
        builder.push(Timestamp(0), None, Some(&vec![7; size]), &[])?;
    }
    Ok(builder.finish(Compression::None, ProducerStamp::NONE)?)
}

fn append_group(
    log: &mut Log,
    bytes: &Bytes,
    header: &BatchHeader,
    group: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let chunks = [bytes.clone()];
    let batches: Vec<AppendBatch<'_>> = (0..group)
        .map(|n| AppendBatch {
            base_offset: log.end() + n as u64 * u64::from(header.record_count),
            epoch: LeaderEpoch(1),
            header,
            chunks: &chunks,
        })
        .collect();
    Ok(log.append(&batches)?)
}

fn append(
    log: &mut Log,
    bytes: &Bytes,
    group: usize,
    total: u64,
    sync: bool,
) -> Result<f64, Box<dyn std::error::Error>> {
    let header = BatchHeader::parse(bytes)?;
    let begin = Instant::now();
    while log.size_bytes() < total {
        append_group(log, bytes, &header, group)?;
        if sync {
            log.sync()?;
        }
    }
    Ok(rate(log.size_bytes(), begin.elapsed()))
}

fn read(log: &Log) -> Result<f64, Box<dyn std::error::Error>> {
    let reader = log.reader();
    let begin = Instant::now();
    let mut cursor = reader.cursor_at(Offset::ZERO)?;
    let mut total = 0;
    while let Some(bytes) = reader.read(&mut cursor, log.end(), 1 << 20)? {
        total += bytes.len() as u64;
    }
    Ok(rate(total, begin.elapsed()))
}

fn small_syncs(
    log: &mut Log,
    bytes: &Bytes,
    count: usize,
) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    let header = BatchHeader::parse(bytes)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        append_group(log, bytes, &header, 1)?;
        log.sync()?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn rate(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / 1e6 / elapsed.as_secs_f64()
}
