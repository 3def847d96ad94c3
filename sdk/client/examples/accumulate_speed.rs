//! What `send` costs without a network: records of 100 B and 1 KiB into batches, numbering and
//! checksum included, and what decoding them costs a consumer. One thread.
//!
//! `cargo run --release -p millstream-client --example accumulate_speed`

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use millstream_client::protocol::batch::{Batch, BatchBuilder, DecodeLimits, ProducerStamp};
use millstream_client::protocol::ids::{NodeId, Timestamp};
use millstream_client::{Client, ClientConfig, Compression, ProducerConfig, ProducerRecord};

/// As the `millstream` binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (size, records) in [(100, 20_000_000), (1_024, 4_000_000)] {
        for keyed in [false, true] {
            runtime.block_on(accumulate(size, records, keyed))?;
        }
        decode(size, records)?;
    }
    Ok(())
}

async fn accumulate(size: usize, records: u64, keyed: bool) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let identity = millstream_transport::Identity::open(dir.path(), NodeId(0), &[])?;
    let config = ClientConfig::new(["127.0.0.1:9"]).ca_pem(identity.ca_pem());
    let producer = Client::lazy(config)?.producer(ProducerConfig::default())?;
    producer.offline_topic("speed", 4)?;
    let value = vec![b'x'; size];
    let start = Instant::now();
    for n in 0..records {
        let key = n.to_le_bytes();
        let record = ProducerRecord::new("speed").value(&value);
        let record = if keyed { record.key(&key) } else { record };
        drop(producer.send(record).await?);
    }
    producer.close().await?;
    let what = if keyed { "send with a key" } else { "send" };
    report(what, size, records, start.elapsed());
    Ok(())
}

fn decode(size: usize, records: u64) -> Result<(), Box<dyn Error>> {
    let value = vec![b'x'; size];
    let mut builder = BatchBuilder::new(512 << 10);
    while builder.len_bytes() < 512 << 10 {
        builder.push(Timestamp(0), None, Some(&value), &[])?;
    }
    let batch = Batch::parse(builder.finish(Compression::None, ProducerStamp::NONE)?)?;
    let (start, mut decoded) = (Instant::now(), 0);
    while decoded < records {
        batch.verify_crc()?;
        for record in &batch.records(&DecodeLimits::default())? {
            decoded += 1;
            black_box(record?.value);
        }
    }
    report("decode and check", size, decoded, start.elapsed());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example's output")]
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(what: &str, size: usize, records: u64, took: Duration) {
    let rate = records as f64 / took.as_secs_f64();
    let megabytes = rate * size as f64 / 1e6;
    println!(
        "{what:>17} {size:>5} B: {:>6.2} M records/s {megabytes:>8.0} MB/s {:>5.0} ns each",
        rate / 1e6,
        1e9 / rate
    );
}
