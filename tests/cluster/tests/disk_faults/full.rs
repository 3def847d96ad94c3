//! A full disk: a clear refusal, readers go on, and room is all it takes to go on writing.

use std::time::Duration;

use millstream_client::{ProducerConfig, ProducerRecord};
use millstream_storage::disk::{Fault, Operation};

use crate::host::{Host, describe, send, values};
use crate::opening::online;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_records_and_takes_them_again_when_there_is_room() {
    let mut host = Host::start().await;
    let client = host.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    send(&client, "t", "before").await.unwrap();
    host.disk.set_capacity(Some(0));

    let refused = send(&client, "t", "does not fit").await.expect_err("there is no room");
    assert!(refused.to_string().contains("the disk is full"), "{refused}");
    assert!(refused.to_string().contains("none of it was written"), "{refused}");
    assert_eq!(values(&client, "t").await, ["before"]);
    assert_eq!(describe(&client, "t").await.status, "online");

    // A patient producer waits for the room that comes.
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let patient = producer.send(ProducerRecord::new("t").value(b"patient")).await.unwrap();
    host.disk.set_capacity(None);
    tokio::time::timeout(Duration::from_secs(10), patient).await.unwrap().unwrap();
    assert_eq!(values(&client, "t").await, ["before", "patient"]);
    host.lose_power(1).await;
    assert_eq!(values(&host.client().await, "t").await, ["before", "patient"]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_full_disk_fails_clearly_or_serves_readers_until_there_is_room() {
    let mut host = Host::start().await;
    let client = host.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    send(&client, "t", "before").await.unwrap();
    host.stop().await;
    // The metadata store has room for so many writes, and for no more.
    for writes in 0.. {
        assert!(writes < 200, "a topic's vote never met the full disk");
        let full = Fault::enospc(Operation::Write).on("metadata.redb");
        host.disk.inject(full.after(writes).times(1_000_000));
        let started = host.try_run().await;
        if let Err(why) = &started {
            assert!(why.contains("No space left") || why.contains("disk is full"), "{why}");
        } else if describe(&host.client().await, "t").await.status.contains("disk is full") {
            break;
        }
        host.disk.clear_faults();
        host.stop().await;
    }
    let client = host.client().await;
    assert_eq!(values(&client, "t").await, ["before"]);
    // Not idempotent: an identity would have to be stored first.
    let config = ProducerConfig {
        idempotent: false,
        delivery_timeout: Duration::from_secs(2),
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).unwrap();
    let refused = producer.send(ProducerRecord::new("t").value(b"does not fit")).await.unwrap();
    let refused = refused.await.expect_err("there is no room").to_string();
    assert!(refused.contains("the disk is full"), "{refused}");
    host.disk.clear_faults();
    online(&client, "t").await;
    send(&client, "t", "after").await.unwrap();
    assert_eq!(values(&client, "t").await, ["before", "after"]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_room_for_its_epochs_acknowledges_what_it_has_synced() {
    let mut host = Host::start().await;
    let client = host.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    let log = host.log_of(&client, "t").await;
    let full = Fault::enospc(Operation::Write).under(&log).on("epochs");
    host.disk.inject(full.times(1_000));
    send(&client, "t", "first of its epoch").await.unwrap();
    assert_eq!(describe(&client, "t").await.status, "online");
    host.lose_power(5).await;
    let client = host.client().await;
    assert_eq!(values(&client, "t").await, ["first of its epoch"]);
    send(&client, "t", "second").await.unwrap();
    host.stop().await;
}
