//! Frames arrive as they were sent, however they are cut, cancelled, skipped or read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Broker, LIMITS, Random, greeting, round_trip};
use millstream_transport::{FrameReader, FrameWriter, StreamCode, StreamError, TransportSettings};
use tokio::time::timeout;

/// A stream from a client to a broker; what keeps it alive comes along.
async fn stream() -> (impl Drop, FrameWriter, FrameReader) {
    struct Kept<T>(T);
    impl<T> Drop for Kept<T> {
        fn drop(&mut self) {}
    }
    let broker = Broker::new(TransportSettings::default());
    let serve =
        async { broker.listener.accept().await.unwrap().handshake(&greeting()).await.unwrap() };
    let (client, served) = tokio::join!(broker.dial(), serve);
    let client = client.unwrap();
    let (mut writer, back) = client.open().await.unwrap();
    writer.send(&(), []).await.unwrap();
    let (answer, mut reader) = served.accept().await.unwrap();
    reader.recv::<()>(LIMITS).await.unwrap().unwrap();
    (Kept((broker, client, served, back, answer)), writer, reader)
}

/// Frames of all sizes, their bodies in pieces of all sizes; the same for the same seed.
fn frames(seed: u64, count: usize) -> Vec<(String, Vec<Bytes>)> {
    let mut random = Random(seed);
    let mut size = |most: u64| {
        // Small ones often, large ones sometimes.
        let bits = random.below(u64::from(most.ilog2()) + 1);
        random.below(1 << bits)
    };
    let frame = |_| {
        let message = "m".repeat(size(1 << 12));
        let pieces = size(6);
        let body = (0_u8..).take(pieces).map(|n| Bytes::from(vec![n; size(1 << 18)])).collect();
        (message, body)
    };
    (0..count).map(frame).collect()
}

#[tokio::test]
async fn frames_of_all_sizes_arrive_as_they_were_sent() {
    for seed in 0..8 {
        let (_kept, mut writer, mut reader) = stream().await;
        let sent = frames(seed, 60);
        let write = async {
            for (n, (message, body)) in sent.iter().enumerate() {
                if n % 3 == 0 {
                    writer.send(message, body.clone()).await.unwrap();
                } else {
                    writer.feed(message, body.clone());
                }
            }
            writer.flush().await.unwrap();
            writer.finish().unwrap();
        };
        let read = async {
            for (n, (message, body)) in sent.iter().enumerate() {
                let mut frame = reader.recv::<String>(LIMITS).await.unwrap().unwrap();
                assert_eq!(&frame.message, message, "seed {seed}, frame {n}");
                let mut got = Vec::new();
                match n % 4 {
                    0 => got.extend_from_slice(&frame.body.read().await.unwrap()),
                    1 => {
                        while let Some(chunk) = frame.body.next_chunk().await.unwrap() {
                            got.extend_from_slice(&chunk);
                        }
                    }
                    2 => {
                        if let Some(chunk) = frame.body.next_chunk().await.unwrap() {
                            got.extend_from_slice(&chunk);
                        }
                        got.extend_from_slice(&frame.body.read().await.unwrap());
                    }
                    // Not read at all: the next frame must still be found.
                    _ => continue,
                }
                assert_eq!(got, body.concat(), "seed {seed}, frame {n}");
                assert_eq!(frame.body.remaining(), 0);
            }
            assert!(reader.recv::<String>(LIMITS).await.unwrap().is_none());
        };
        tokio::join!(write, read);
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_again_and_again_loses_nothing() {
    let (_kept, mut writer, mut reader) = stream().await;
    let sent = frames(99, 40);
    let write = async {
        for (message, body) in &sent {
            writer.feed(message, body.clone());
            while timeout(Duration::from_micros(50), writer.flush()).await.is_err() {}
        }
        writer.finish().unwrap();
    };
    let read = async {
        for (message, body) in &sent {
            let mut frame = loop {
                let attempt = timeout(Duration::from_micros(50), reader.recv::<String>(LIMITS));
                if let Ok(frame) = attempt.await {
                    break frame.unwrap().unwrap();
                }
            };
            assert_eq!(&frame.message, message);
            let whole = loop {
                if let Ok(whole) = timeout(Duration::from_micros(50), frame.body.read()).await {
                    break whole.unwrap();
                }
            };
            assert_eq!(whole, body.concat());
        }
    };
    timeout(Duration::from_secs(60), async { tokio::join!(write, read) }).await.unwrap();
}

#[tokio::test]
async fn a_reset_and_a_stop_carry_their_codes() {
    let (_kept, mut writer, mut reader) = stream().await;
    writer.reset(StreamCode::Overloaded);
    let error = reader.recv::<u64>(LIMITS).await.unwrap_err();
    assert_eq!(error, StreamError::Reset(StreamCode::Overloaded));
    let (_kept, mut writer, mut reader) = stream().await;
    reader.stop(StreamCode::TooLarge);
    let error = loop {
        if let Err(error) = writer.send(&0_u64, []).await {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(error, StreamError::Stopped(StreamCode::TooLarge));
    assert_eq!(writer.delivered().await, Err(StreamError::Stopped(StreamCode::TooLarge)));
}

#[tokio::test]
async fn what_was_finished_is_known_to_be_delivered() {
    let (_kept, mut writer, mut reader) = stream().await;
    writer.send(&5_u64, []).await.unwrap();
    writer.finish().unwrap();
    assert_eq!(reader.recv::<u64>(LIMITS).await.unwrap().unwrap().message, 5);
    assert!(reader.recv::<u64>(LIMITS).await.unwrap().is_none());
    assert_eq!(writer.delivered().await, Ok(()));
    assert_eq!(writer.send(&6_u64, []).await, Err(StreamError::Ended));
}

#[tokio::test]
async fn a_reader_knows_which_frames_have_arrived() {
    let (_kept, mut writer, mut reader) = stream().await;
    for n in 0..3_u64 {
        writer.feed(&n, [Bytes::from_static(b"body")]);
    }
    writer.flush().await.unwrap();
    for n in 0..3 {
        let mut frame = reader.recv::<u64>(LIMITS).await.unwrap().unwrap();
        assert_eq!(frame.message, n);
        frame.body.read().await.unwrap();
        assert_eq!(reader.has_frame(), n < 2);
    }
}

#[tokio::test]
async fn a_large_transfer_finds_the_largest_packet_and_loses_nothing() {
    let broker = Broker::new(TransportSettings::default());
    let _accepted = broker.echo();
    let client = broker.dial().await.unwrap();
    let body = Bytes::from(vec![7; 8 << 20]);
    for n in 0..8 {
        round_trip(&client, n, &body).await;
    }
    assert_eq!(client.stats().packet_size, 65_500);
}
