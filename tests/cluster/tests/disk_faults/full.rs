//! A full disk: a clear refusal, readers go on, and room is all it takes to go on writing.

use std::time::Duration;

use millstream_client::{ProducerConfig, ProducerRecord};

use crate::host::{Host, describe, send, values};

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
