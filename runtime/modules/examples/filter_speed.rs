//! How fast a filter is: nanoseconds per record from batch to verdict, for a component given by its path.
//!
//! `cargo run --release -p millstream-modules --example filter_speed -- target/guests/keep-half.wasm`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement, not a part of the broker"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_modules::{BatchInput, Engine, EngineConfig, FilterSpec, Limits, Scope, Verdict};

const BATCH_BYTES: usize = 512 << 10;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, params @ ..] = args.as_slice() else {
        panic!("usage: filter_speed COMPONENT.wasm [NAME=VALUE]…");
    };
    let params = params.iter().map(|param| param.split_once('=').expect("NAME=VALUE"));
    let params: Vec<_> = params.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    println!("before the engine: {} KiB resident", resident_kib());
    let engine = Engine::new(EngineConfig::default()).expect("the engine starts");
    println!("engine, no module: {} KiB resident", resident_kib());
    let started = Instant::now();
    let module = engine.load(&std::fs::read(path).expect("the file")).expect("a module");
    println!("compiled in {:?}: {} KiB resident", started.elapsed(), resident_kib());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for value_bytes in [100, 1_024] {
        let scope = Arc::new(Scope::new(Limits::default()));
        let spec = FilterSpec {
            params: params.clone(),
            outputs: vec!["out".into()],
            place: None,
            scope: Arc::clone(&scope),
        };
        let started = Instant::now();
        let handle = runtime.block_on(engine.start_filter(&module, spec)).expect("an instance");
        println!("instance in {:?}", started.elapsed());
        let batch = batch(value_bytes);
        let count = batch.count;
        let mut best = Duration::MAX;
        let (mut records, started) = (0_u64, Instant::now());
        while started.elapsed() < Duration::from_secs(3) {
            let one = Instant::now();
            let verdict = runtime.block_on(handle.process(batch.clone())).expect("a verdict");
            best = best.min(one.elapsed());
            records += u64::from(count);
            if let Verdict::Keep(bitmap) = verdict {
                assert!(bitmap.kept() > 0 && bitmap.kept() < count);
            }
        }
        let whole = started.elapsed();
        let guest = scope.counters().snapshot().guest_time;
        let per = |time: Duration, records: f64| time.as_secs_f64() * 1e9 / records;
        println!(
            "{value_bytes} B values, {count} a batch: {:.1} ns a record with the hand-over, \
             {:.1} in the guest, {:.1} in the best call",
            per(whole, records as f64),
            per(guest, records as f64),
            per(best, f64::from(count)),
        );
    }
    std::thread::park_timeout(Duration::from_millis(200));
    println!("at the end: {} KiB resident", resident_kib());
}

/// A record section as a producer makes it: values of incompressible text, no keys.
fn batch(value_bytes: usize) -> BatchInput {
    let (mut records, mut count, mut random) = (Vec::new(), 0_u32, 1_u64);
    while records.len() < BATCH_BYTES {
        let mut record = vec![0];
        varint(&mut record, i64::from(count / 100));
        varint(&mut record, i64::from(count));
        varint(&mut record, -1);
        varint(&mut record, i64::try_from(value_bytes).expect("small"));
        for _ in 0..value_bytes {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            record.push(b'a' + (random >> 59) as u8 % 26);
        }
        record.push(0);
        varint(&mut records, i64::try_from(record.len()).expect("small"));
        records.extend_from_slice(&record);
        count += 1;
    }
    BatchInput {
        topic: "speed".into(),
        partition: 0,
        base_offset: 0,
        base_timestamp: 1_700_000_000_000,
        count,
        records: records.into(),
    }
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}
