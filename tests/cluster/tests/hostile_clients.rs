//! Bounds: a client that takes without end costs a bounded amount of memory and nobody's progress.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_client::protocol::batch::{BatchBuilder, Compression, ProducerStamp};
use millstream_client::protocol::ids::{ModuleName, Timestamp};
use millstream_client::protocol::message::Open;
use millstream_client::protocol::message::module::UploadModule;
use millstream_client::protocol::message::produce::ProduceBatch;
use millstream_client::{Client, ProducerConfig, ProducerRecord};
use millstream_tests_cluster::binary::guest;
use millstream_tests_cluster::pace::{Walker, check_kept, side_by_side};
use millstream_tests_cluster::{Broker, raw, until};
use millstream_transport::{FrameWriter, StreamCode, TransportSettings};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What one bad client may cost: its windows, its streams' tasks, and the batches that were read for
/// it and that it does not take.
const BOUND: u64 = 192 << 20;
/// What those hold who hold all that they can get: another large batch has no room beside it.
const HELD: f64 = (120 << 20) as f64;
/// A send that takes so long is stuck.
const STUCK: Duration = Duration::from_secs(3);
/// The bad client has done its worst when the broker's memory has not moved by this much in
/// [`STILL`].
const MOVED: u64 = 1 << 20;
/// See [`MOVED`].
const STILL: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_that_never_read_cost_a_bound_and_nobodys_pace() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let (walker, resident) = prepare(&broker, &client).await;
    fill(&client, 64 << 20).await;
    let before = walker.pace().await;

    let connection = raw::dial(&broker).await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(raw::fetch(&connection, "t", (256 << 20, 32 << 20)).await);
    }
    settled(&broker).await;
    let during = walker.pace().await;
    check_bounded(&broker, resident, "64 consumers that do not read");
    drop((streams, connection));
    check_kept((before, during, walker.pace().await), "beside 64 consumers that do not read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_never_reads_its_acknowledgements_costs_a_bound_and_nobodys_pace() {
    let broker = Broker::start().await;
    let quiet = broker.start_another().await;
    let (client, elsewhere) = (broker.client().await, quiet.client().await);
    let (walker, resident) = prepare(&broker, &client).await;
    let (undisturbed, _) = prepare(&quiet, &elsewhere).await;

    // Windows that are soon full of acknowledgements: from then on nothing more is taken.
    let mut settings = TransportSettings::default();
    settings.local.stream_receive_window = 4 << 10;
    settings.local.connection_receive_window = 64 << 10;
    let connection = raw::dial_with(&broker, &settings).await;
    let mut streams = JoinSet::new();
    for _ in 0..16 {
        let (mut writer, reader) = raw::produce(&connection, "t").await;
        streams.spawn(async move {
            let batch = batch(100);
            while let Ok(Ok(())) =
                timeout(STUCK, writer.send(&ProduceBatch {}, [batch.clone()])).await
            {}
            (writer, reader)
        });
    }
    let mut stuck = Vec::new();
    while let Some(stream) = streams.join_next().await {
        stuck.push(stream.unwrap());
    }
    let (during, without) = side_by_side(&walker, &undisturbed).await;
    check_bounded(&broker, resident, "16 producers that do not read acknowledgements");
    drop((stuck, connection));
    assert!(
        without / 2.0 <= during,
        "beside 16 producers that do not read acknowledgements: {during:.0} records/s, and \
         {without:.0} in the same moments on a broker without them"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_that_fall_silent_in_the_middle_of_batches_hold_up_nobody() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let (walker, resident) = prepare(&broker, &client).await;
    let before = walker.pace().await;

    let connection = raw::dial(&broker).await;
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(raw::produce(&connection, "t").await);
    }
    for (writer, _) in &mut streams {
        writer.feed(&ProduceBatch {}, [Bytes::from(vec![0; 15 << 20])]);
        push_a_little(writer).await;
    }
    settled(&broker).await;
    let during = timeout(Duration::from_secs(60), walker.pace()).await.expect("a pace");
    check_bounded(&broker, resident, "40 batches that never end");
    drop((streams, connection));
    check_kept((before, during, walker.pace().await), "beside 40 batches that never end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_that_hold_all_the_room_they_can_get_hold_up_nobody() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let (walker, _) = prepare(&broker, &client).await;
    let before = walker.pace().await;

    let mut held = Vec::new();
    for _ in 0..12 {
        let connection = raw::dial(&broker).await;
        for _ in 0..8 {
            let (mut writer, reader) = raw::produce(&connection, "t").await;
            writer.feed(&ProduceBatch {}, [Bytes::from(vec![0; 15 << 20])]);
            push_a_little(&mut writer).await;
            held.push((writer, reader, connection.clone()));
        }
        // And modules that never arrive.
        let (mut writer, reader) = connection.open().await.unwrap();
        let (name, sha256) = (ModuleName::new("never").unwrap(), "0".repeat(64));
        let open = Open::Call(UploadModule { name, sha256, size: 30 << 20 }.into());
        writer.feed(&open, [Bytes::from(vec![0; 30 << 20])]);
        push_a_little(&mut writer).await;
        held.push((writer, reader, connection));
    }
    until("memory that is held", Duration::from_secs(20), async || {
        let held = arriving(&broker);
        if HELD <= held { Ok(()) } else { Err(held) }
    })
    .await;
    // Shorter than the time after which what they hold is taken from them.
    let during = timeout(Duration::from_secs(9), walker.pace()).await.expect("a pace");
    assert!(HELD <= arriving(&broker), "they held it all the while");
    let admin = client.admin();
    let uploaded = admin.upload_module("keep-late", guest("keep-late"));
    timeout(Duration::from_secs(60), uploaded).await.expect("in time").unwrap();
    drop(held);
    check_kept((before, during, walker.pace().await), "beside twelve who hold all they can get");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_cost_a_bound_and_nobodys_pace() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let (walker, resident) = prepare(&broker, &client).await;
    let before = walker.pace().await;

    let connection = raw::dial(&broker).await;
    let mut opening = JoinSet::new();
    for _ in 0..10_000 {
        let connection = connection.clone();
        opening.spawn(async move {
            let (mut writer, reader) = connection.open().await.ok()?;
            // A frame that announces a message and does not end.
            writer.feed(&vec![0_u8; 100_000], []);
            drop(timeout(Duration::from_millis(1), writer.flush()).await);
            Some((writer, reader))
        });
    }
    settled(&broker).await;
    let during = walker.pace().await;
    check_bounded(&broker, resident, "10,000 streams");
    opening.abort_all();
    drop(connection);

    // Ten thousand that wait at the end of a log, one after the other given up.
    let connection = raw::dial(&broker).await;
    for _ in 0..10_000 {
        let (mut writer, mut reader) = raw::fetch(&connection, "t", (1 << 20, 1 << 20)).await;
        writer.reset(StreamCode::Cancelled);
        reader.stop(StreamCode::Cancelled);
    }
    check_bounded(&broker, resident, "10,000 streams given up");
    check_kept((before, during, walker.pace().await), "beside 10,000 streams");
}

/// Bytes of memory that batches have which are on their way in.
fn arriving(broker: &Broker) -> f64 {
    broker.metric("millstream_arriving_bytes{of=\"batches\"}").expect("it is on the page")
}

async fn prepare(broker: &Broker, client: &Client) -> (Walker, u64) {
    client.admin().create_topic("t", 1).await.unwrap();
    let walker = Walker::start(client, "walked").await;
    for _ in 0..200 {
        walker.step().await;
    }
    (walker, broker.resident_bytes())
}

/// Sends as much as goes out at once; the rest never follows.
async fn push_a_little(writer: &mut FrameWriter) {
    tokio::select! { biased; _ = writer.flush() => {}, () = tokio::task::yield_now() => {} }
}

/// Waits until the bad client has done its worst: what it costs does not grow any more.
async fn settled(broker: &Broker) {
    let (mut since, mut at) = (Instant::now(), broker.resident_bytes());
    until("an end of the growth", Duration::from_secs(60), async || {
        let now = broker.resident_bytes();
        if MOVED < now.abs_diff(at) {
            (since, at) = (Instant::now(), now);
        }
        if STILL <= since.elapsed() { Ok(()) } else { Err(now) }
    })
    .await;
}

fn check_bounded(broker: &Broker, resident: u64, what: &str) {
    let grown = broker.resident_bytes().saturating_sub(resident);
    eprintln!("{what}: {} MiB", grown >> 20);
    assert!(grown < BOUND, "{what}: {} MiB", grown >> 20);
}

async fn fill(client: &Client, bytes: usize) {
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let value = vec![7; 64 << 10];
    for _ in 0..bytes / value.len() {
        drop(producer.send(ProducerRecord::new("t").value(&value)).await.unwrap());
    }
    producer.close().await.unwrap();
}

fn batch(records: u32) -> Bytes {
    let mut batch = BatchBuilder::new(1 << 10);
    for _ in 0..records {
        batch.push(Timestamp(0), None, Some(b"never acknowledged"), &[]).unwrap();
    }
    batch.finish(Compression::None, ProducerStamp::NONE).unwrap()
}
