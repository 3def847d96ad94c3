//! What filters may hold: of what is on its way to a connection, and of memory for what they unpack.
//!
//! Invariant: bounded by the number of instances, whatever the batches are and however many come.

use bytes::Bytes;
use millstream_client::protocol::batch::{BatchBuilder, Compression, ProducerStamp};
use millstream_client::protocol::error::{ErrorCode, WireError};
use millstream_client::protocol::ids::Timestamp;
use millstream_client::protocol::message::fetch::{FetchData, FetchReady};
use millstream_client::protocol::message::produce::{ProduceAck, ProduceAnswers, ProduceBatch};
use millstream_tests_cluster::jobs::upload;
use millstream_tests_cluster::raw::LIMITS;
use millstream_tests_cluster::{Broker, raw};
use millstream_transport::{Connection, FrameReader};
use tokio::time::timeout;

use crate::fetch::fetch_filter;
use crate::rows::{SOON, create};

/// All that a consumer can ask for: a credit, and bodies of which two have no room on a connection.
const LARGEST: (u64, u32) = (256 << 20, 32 << 20);
/// What one instance may cost: three unpacked batches of the tests, the guest's copy of one, and
/// as much again.
const BOUND: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filtered_fetches_of_the_largest_bodies_come_to_the_end_and_leave_room_while_they_wait() {
    const BATCHES: u64 = 90;
    let broker = Broker::start().await;
    let (client, connection) = (broker.client().await, raw::dial(&broker).await);
    // Without a word of what it is to do, it lets everything pass.
    let filter = Some(fetch_filter(&upload(&client, "hostile").await, &[]));
    create(&client, "t", None).await.unwrap();
    let batch = batch((1, 900 << 10), Compression::None);
    append(&connection, "t", batch.clone(), BATCHES).await;

    let mut streams = Vec::new();
    for _ in 0..3 {
        let stream = raw::fetch_filtered(&connection, "t", LARGEST, filter.clone());
        let (writer, mut reader) = stream.await;
        timeout(SOON, ready(&mut reader)).await.expect("an answer");
        let examined = timeout(SOON, read_to(&mut reader, BATCHES)).await;
        assert_eq!(examined.expect("it comes to the end"), BATCHES);
        streams.push((writer, reader));
    }
    append(&connection, "t", batch, 1).await;
    for (_, reader) in &mut streams {
        let examined = timeout(SOON, read_to(reader, BATCHES + 1)).await;
        assert_eq!(examined.expect("it goes on"), 1);
    }
    let (_writer, mut reader) = raw::fetch(&connection, "t", LARGEST).await;
    timeout(SOON, ready(&mut reader)).await.expect("an answer");
    timeout(SOON, read_to(&mut reader, BATCHES + 1)).await.expect("there is room beside them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_of_many_batches_that_unpack_to_a_thousand_times_as_much_unpacks_few_at_a_time() {
    const BATCHES: u64 = 64;
    let broker = Broker::start().await;
    let (client, connection) = (broker.client().await, raw::dial(&broker).await);
    let filter = Some(fetch_filter(&upload(&client, "keep-half").await, &[]));
    create(&client, "t", None).await.unwrap();
    let batch = batch((16, 1 << 20), Compression::Zstd);
    assert!(batch.len() < 16 << 10, "{} bytes: all go out in one body", batch.len());
    append(&connection, "t", batch, BATCHES).await;

    let before = broker.peak_resident_bytes();
    let grants = (64 << 20, 1 << 20);
    let (_writer, mut reader) = raw::fetch_filtered(&connection, "t", grants, filter).await;
    timeout(SOON, ready(&mut reader)).await.expect("an answer");
    let examined = timeout(SOON, read_to(&mut reader, BATCHES * 16)).await;
    assert_eq!(examined.expect("in time"), BATCHES * 16);
    check_bounded(&broker, before, "a body that unpacks to 1 GiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_of_batches_that_unpack_to_a_thousand_times_as_much_wait_for_the_filter_packed() {
    let broker = Broker::start().await;
    let (client, connection) = (broker.client().await, raw::dial(&broker).await);
    // It takes its whole second for a batch: meanwhile all others come in.
    let hostile = upload(&client, "hostile").await;
    create(&client, "t", Some((&hostile, &[("do", "loop")]))).await.unwrap();
    let before = broker.peak_resident_bytes();
    let mut streams = Vec::new();
    for _ in 0..16 {
        let (mut writer, reader) = raw::produce(&connection, "t").await;
        let batch = batch((32, 1 << 20), Compression::Zstd);
        writer.send(&ProduceBatch {}, [batch]).await.unwrap();
        streams.push((writer, reader));
    }
    for (_, reader) in &mut streams {
        let answers = timeout(SOON, answers(reader)).await.expect("in time");
        let refused = answers.into_iter().next().unwrap().unwrap_err();
        assert_eq!(refused.code, ErrorCode::GuestFailed, "{refused}");
    }
    check_bounded(&broker, before, "batches that unpack to 512 MiB");
}

fn check_bounded(broker: &Broker, before: u64, what: &str) {
    let grown = broker.peak_resident_bytes() - before;
    eprintln!("{what}: {} MiB", grown >> 20);
    assert!(grown < BOUND, "{what}: {} MiB", grown >> 20);
}

/// A batch of so many records with values of so many bytes, each like the others.
fn batch((records, value): (usize, usize), codec: Compression) -> Bytes {
    let mut batch = BatchBuilder::new(0).to_be_packed();
    for _ in 0..records {
        batch.push(Timestamp(0), None, Some(&vec![1; value]), &[]).unwrap();
    }
    batch.finish(codec, ProducerStamp::NONE).unwrap()
}

/// Appends a batch so many times, and waits until it is.
async fn append(connection: &Connection, topic: &str, batch: Bytes, times: u64) {
    let (mut writer, mut reader) = raw::produce(connection, topic).await;
    for _ in 0..times {
        writer.send(&ProduceBatch {}, [batch.clone()]).await.unwrap();
        for answer in answers(&mut reader).await {
            answer.unwrap();
        }
    }
}

async fn answers(reader: &mut FrameReader) -> Vec<Result<ProduceAck, WireError>> {
    let frame = reader.recv::<ProduceAnswers>(LIMITS).await.unwrap();
    frame.expect("the stream goes on").message.answers
}

/// Waits until a fetch stream has begun.
async fn ready(reader: &mut FrameReader) {
    let frame = reader.recv::<Result<FetchReady, WireError>>(LIMITS).await.unwrap();
    frame.expect("the stream goes on").message.unwrap();
}

/// Takes bodies until the position is `end`, and says how many records the filter looked at.
async fn read_to(reader: &mut FrameReader, end: u64) -> u64 {
    let (mut position, mut examined) = (0, 0);
    while position < end {
        let frame = reader.recv::<Result<FetchData, WireError>>(LIMITS).await.unwrap();
        let mut frame = frame.expect("the stream goes on");
        // Whole: what is not taken is still on its way.
        frame.body.read().await.unwrap();
        let data = frame.message.unwrap();
        (position, examined) = (data.next_offset.get(), examined + data.examined);
    }
    examined
}
