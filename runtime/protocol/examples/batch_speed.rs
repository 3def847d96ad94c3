//! How fast batches are built, inspected and read, for values of 100 B and 1 KiB.
//!
//! `cargo run --release -p millstream-protocol --example batch_speed [seconds per measurement]`
#![allow(clippy::print_stdout, reason = "a measurement prints")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_protocol::batch::{
    Batch, BatchBuilder, BatchHeader, Compression, DecodeLimits, Inspector, Origin, ProducerStamp,
    Records, Rules, checksum,
};
use millstream_protocol::ids::Timestamp;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0.5);
    let each = Duration::from_secs_f64(seconds);
    for value_bytes in [100, 1_024] {
        for key_bytes in [0, 8] {
            measure(value_bytes, key_bytes, each);
        }
    }
}

fn measure(value_bytes: usize, key_bytes: usize, each: Duration) {
    const BATCH: usize = 512 << 10;
    let count = BATCH / (value_bytes + key_bytes + 12);
    let values = noise(count, value_bytes);
    let keys = noise(count, key_bytes.max(1));
    let build = |codec| {
        let mut builder = BatchBuilder::new(BATCH + (64 << 10));
        for (i, (value, key)) in
            values.chunks(value_bytes).zip(keys.chunks(key_bytes.max(1))).enumerate()
        {
            let timestamp = Timestamp(1_700_000_000_000 + (i as i64 >> 6));
            let key = (key_bytes > 0).then_some(key);
            builder.push(timestamp, key, Some(value), &[]).expect("the batch has room");
        }
        builder.finish(codec, ProducerStamp::NONE).expect("there are records")
    };
    let batch = build(Compression::None);
    println!(
        "\nvalue {value_bytes} B, key {key_bytes} B: batches of {count} records, {} bytes",
        batch.len()
    );
    let report = |what: &str, time: Duration| report(what, count, batch.len(), time);

    report("crc-32c of the batch", best_of(each, || checksum::crc32c(black_box(&batch))));
    report("build", best_of(each, || build(Compression::None)));
    for piece in [1_200, 16 << 10, 64 << 10, usize::MAX] {
        let what = match piece {
            usize::MAX => "inspect, whole".to_owned(),
            piece => format!("inspect, pieces of {piece}"),
        };
        report(&what, best_of(each, || inspect(black_box(&batch), piece)));
    }
    let cold = Cold::of(&batch);
    let what = "inspect, from memory";
    report(what, best_of(each, || cold.inspect()) / cold.batches());
    let parsed = Batch::parse(batch.clone()).expect("a batch of our own");
    report("parse and crc", best_of(each, || parse(black_box(&batch))));
    let records = parsed.records(&DecodeLimits::default()).expect("uncompressed");
    report("iterate, lengths summed", best_of(each, || walk(black_box(&records))));
    report("iterate, values touched", best_of(each, || touch(black_box(&records))));
    let half: Vec<bool> = noise(count, 1).iter().map(|byte| byte % 2 == 0).collect();
    report("keep half", best_of(each, || keep(black_box(&records), &half)));
    for codec in [Compression::Lz4, Compression::Zstd] {
        let packed = build(codec);
        report(&format!("build, {codec}"), best_of(each, || build(codec)));
        report(
            &format!("inspect, {codec}"),
            best_of(each, || inspect(black_box(&packed), 64 << 10)),
        );
    }
}

fn keep(records: &Records, half: &[bool]) -> Bytes {
    let capacity = BatchHeader::SIZE + records.bytes().len();
    let base = records.header().base_timestamp;
    let mut builder = BatchBuilder::with_base_timestamp(capacity, base);
    builder.push_kept(records, |place| half[place as usize]).expect("a batch of our own");
    builder.finish(Compression::None, ProducerStamp::NONE).expect("it covers offsets")
}

/// Copies of a batch, more of them than fit in any cache.
struct Cold(Vec<Bytes>);

impl Cold {
    fn of(batch: &Bytes) -> Self {
        let copies = (256 << 20) / batch.len();
        Self((0..copies).map(|_| Bytes::copy_from_slice(batch)).collect())
    }

    fn batches(&self) -> u32 {
        u32::try_from(self.0.len()).expect("a few hundred")
    }

    fn inspect(&self) -> u32 {
        self.0.iter().map(|batch| inspect(batch, 64 << 10)).sum()
    }
}

fn inspect(batch: &Bytes, piece: usize) -> u32 {
    let mut inspector = Inspector::new(Rules::of(Origin::Producer));
    for piece in batch.chunks(piece) {
        inspector.feed(piece).expect("a sound batch");
    }
    inspector.finish().expect("a sound batch").record_count
}

fn parse(batch: &Bytes) -> Batch {
    let batch = Batch::parse(batch.clone()).expect("a sound batch");
    batch.verify_crc().expect("a sound batch");
    batch
}

fn walk(records: &Records) -> usize {
    let length = |record: Result<millstream_protocol::batch::Record<'_>, _>| {
        let record = record.expect("a sound record");
        record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len)
    };
    records.iter().map(length).sum()
}

/// Reads one byte of every cache line of every value.
fn touch(records: &Records) -> usize {
    let mut sum = 0;
    for record in records {
        let value = record.expect("a sound record").value.unwrap_or_default();
        sum += value.iter().step_by(64).map(|byte| usize::from(*byte)).sum::<usize>();
    }
    sum
}

/// The best time of one run, over at least `each` and ten runs.
fn best_of<T>(each: Duration, mut run: impl FnMut() -> T) -> Duration {
    let (begin, mut best, mut runs) = (Instant::now(), Duration::MAX, 0);
    while begin.elapsed() < each || runs < 10 {
        let start = Instant::now();
        black_box(run());
        best = best.min(start.elapsed());
        runs += 1;
    }
    best
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(what: &str, records: usize, bytes: usize, time: Duration) {
    let seconds = time.as_secs_f64();
    let (rate, gb) = (records as f64 / seconds / 1e6, bytes as f64 / seconds / 1e9);
    let ns = seconds * 1e9 / records as f64;
    println!("  {what:<28} {rate:8.1} M records/s {gb:8.2} GB/s {ns:8.2} ns/record");
}

/// Incompressible text.
fn noise(count: usize, bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'0' + state.to_be_bytes()[0] % 64
    };
    (0..count * bytes).map(|_| next()).collect()
}
