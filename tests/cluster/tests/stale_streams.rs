//! Stale streams: what a producer has given up on one stream does not come between, or twice, by another.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use millstream_client::Compression;
use millstream_client::protocol::batch::{BatchBuilder, ProducerStamp};
use millstream_client::protocol::error::{ErrorCode, WireError};
use millstream_client::protocol::ids::{ProducerEpoch, ProducerId, Sequence, Timestamp};
use millstream_client::protocol::message::produce::{ProduceAck, ProduceAnswers, ProduceBatch};
use millstream_tests_cluster::reading::read_whole;
use millstream_tests_cluster::{Broker, raw};
use millstream_transport::{FrameReader, FrameWriter};

type Stream = (FrameWriter, FrameReader);

/// A batch of one record, whose value is what is to be told apart.
fn batch(producer: i64, epoch: i16, sequence: i32, value: &str) -> Bytes {
    let stamp = ProducerStamp {
        id: ProducerId(producer),
        epoch: ProducerEpoch(epoch),
        sequence: Sequence(sequence),
        transactional: false,
    };
    let mut batch = BatchBuilder::new(1 << 10);
    batch.push(Timestamp(0), None, Some(value.as_bytes()), &[]).unwrap();
    batch.finish(Compression::None, stamp).unwrap()
}

async fn send((writer, reader): &mut Stream, batch: Bytes) -> Result<ProduceAck, WireError> {
    writer.send(&ProduceBatch {}, [batch]).await.unwrap();
    let frame = reader.recv::<ProduceAnswers>(raw::LIMITS).await.unwrap().unwrap();
    let mut answers = frame.message.answers;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stream_carries_on_after_a_gap_was_told_on_a_newer_one_is_not_written() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    let (one, other) = (raw::dial(&broker).await, raw::dial(&broker).await);
    let mut stale = raw::produce(&one, "t").await;
    send(&mut stale, batch(7, 0, 0, "first")).await.unwrap();

    // Batches 1 and 2 are slow on their way. The client gives up 1, of which it does not know what
    // became, and sends 2 again on a new stream: the gap tells it that neither is in the log.
    let mut newer = raw::produce(&other, "t").await;
    let gap = send(&mut newer, batch(7, 0, 2, "third")).await.unwrap_err();
    assert_eq!(gap.code, ErrorCode::OutOfOrderSequence, "{gap}");

    // They arrive after all.
    for (sequence, value) in [(1, "second"), (2, "third")] {
        let late = send(&mut stale, batch(7, 0, sequence, value)).await.unwrap_err();
        assert_eq!(late.code, ErrorCode::ProducerFenced, "{late}");
    }
    // Another producer's batches on the same stream are its own.
    send(&mut stale, batch(8, 0, 0, "another")).await.unwrap();

    // So the client may number 2 anew, as it does.
    let mut newest = raw::produce(&other, "t").await;
    send(&mut newest, batch(7, 1, 0, "third")).await.unwrap();
    let values: Vec<_> = read_whole(&client, "t").await.iter().map(|r| r.text()).collect();
    assert_eq!(values, ["first", "another", "third"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_nothing_was_known_of_is_not_written_under_its_old_identity_later() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    let connection = raw::dial(&broker).await;
    let mut stale = raw::produce(&connection, "t").await;
    let mut newer = raw::produce(&connection, "t").await;
    // Batch 0 is slow, given up, and nothing is known of the producer when 1 comes.
    let unknown = send(&mut newer, batch(7, 0, 1, "second")).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownProducer, "{unknown}");
    // It takes a new identity, under which 0 would come behind 1.
    send(&mut newer, batch(9, 0, 0, "second")).await.unwrap();
    let late = send(&mut stale, batch(7, 0, 0, "first")).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::ProducerFenced, "{late}");
    let values: Vec<_> = read_whole(&client, "t").await.iter().map(|r| r.text()).collect();
    assert_eq!(values, ["second"]);
}
