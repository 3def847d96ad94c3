//! Every way to send: what comes out is what went in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millstream_client::protocol::ids::Timestamp;
use millstream_client::{Acks, Compression, ProducerConfig, ProducerRecord};
use millstream_tests_cluster::load::{Plan, unacknowledged};
use millstream_tests_cluster::oracle::check;
use millstream_tests_cluster::reading::{count, read_whole};
use millstream_tests_cluster::{Broker, Load, read_all, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_level_of_acknowledgement_and_every_codec_carries_records_unchanged() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    for acks in [Acks::Zero, Acks::One, Acks::All] {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let topic = format!("{acks:?}-{compression:?}");
            client.admin().create_topic(&topic, 2).await.unwrap();
            let config = ProducerConfig { acks, compression, ..Plan::new(&topic, 2).config };
            let plan = Plan { config, ..Plan::new(&topic, 2) };
            let load = Load::start(&client, &plan);
            match acks {
                Acks::Zero => {
                    until("records", Duration::from_secs(30), async || {
                        let now = count(&client, &topic).await;
                        if now < 500 { Err(now) } else { Ok(()) }
                    })
                    .await
                }
                _ => load.acknowledges(500).await,
            }
            let history = load.finish().await;
            if acks != Acks::Zero {
                assert_eq!(unacknowledged(&history), Vec::<&_>::new());
            }
            if acks != Acks::All {
                // Sent, or appended, is not yet committed, and only that can be read.
                let sent = history.len() as u64;
                until("the last of them", Duration::from_secs(10), async || {
                    let now = count(&client, &topic).await;
                    if now < sent { Err((now, sent)) } else { Ok(()) }
                })
                .await;
            }
            check(&history, &read_all(&client, &topic).await);
        }
    }
    let before = read_all(&client, "All-Zstd").await;
    broker.kill();
    broker.restart().await;
    assert_eq!(read_all(&client, "All-Zstd").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_nulls_empties_and_timestamps_come_back_as_they_were() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let large = vec![0xA5; 900_000];
    let many: Vec<(String, Vec<u8>)> =
        (0..200).map(|n| (format!("h{}", n % 3), vec![n; usize::from(n)])).collect();
    let many: Vec<(&str, Option<&[u8]>)> =
        many.iter().map(|(key, value)| (key.as_str(), Some(value.as_slice()))).collect();
    let twice = [("a", Some(&b"1"[..])), ("a", None), ("", Some(b"")), ("ü", Some(b"\xff"))];
    let new = ProducerRecord::new("");
    let records = [
        new,
        new.key(b"only a key"),
        new.value(b"only a value"),
        new.key(b"").value(b""),
        new.key(b"k").value(&large).timestamp(Timestamp(0)),
        new.value(b"t").timestamp(Timestamp(4_102_444_800_123)),
        new.key(b"k").value(b"v").headers(&twice),
        new.headers(&many),
    ];
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let topic = format!("{compression:?}");
        client.admin().create_topic(&topic, 1).await.unwrap();
        let linger = Duration::from_millis(200);
        let config = ProducerConfig { compression, linger, ..ProducerConfig::default() };
        let producer = client.producer(config).unwrap();
        let mut told = Vec::new();
        for record in records {
            let record = ProducerRecord { topic: &topic, ..record };
            told.push(producer.send(record).await.unwrap());
        }
        producer.flush().await.unwrap();
        let read = read_whole(&client, &topic).await;
        assert_eq!(read.len(), told.len());
        for ((sent, told), read) in records.iter().zip(told).zip(&read) {
            let told = told.await.unwrap();
            assert_eq!(told.offset.unwrap().get(), read.offset);
            assert_eq!(told.timestamp.0, read.timestamp);
            assert!(sent.timestamp.is_none_or(|time| time.0 == read.timestamp));
            assert_eq!((sent.key, sent.value), (read.key.as_deref(), read.value.as_deref()));
            let headers: Vec<_> =
                read.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            assert_eq!(sent.headers, headers);
        }
    }
}
