//! A full disk: producers are told or wait, readers go on, and room is all it takes to go on writing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use millstream_client::{Client, ClientConfig, ProduceError, ProducerConfig, ProducerRecord};
use millstream_tests_cluster::reading::read_whole;
use millstream_tests_cluster::small_disk::SmallDisk;
use millstream_tests_cluster::{Broker, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_writes_and_not_reads_and_room_brings_them_back() {
    let test = "a_full_disk_stops_writes_and_not_reads_and_room_brings_them_back";
    let Some(disk) = SmallDisk::mount("64m", test) else { return };
    let logs = tempfile::tempdir().unwrap();
    std::fs::write(disk.path("ballast"), vec![1; 24 << 20]).unwrap();
    let mut broker = Broker::stopped(disk.path("data"), logs.path().join("stderr.log"), &[]);
    broker.restart().await;
    let client = broker.client().await;
    client.admin().create_topic("load", 2).await.unwrap();

    let (written, refusal) = fill(&client).await;
    assert!(refusal.to_string().contains("disk"), "{refusal}");
    assert!(16 < written, "{written} records before the disk was full");
    let read = read_whole(&client, "load").await;
    assert!(written <= read.len(), "{} of {written} are read", read.len());

    // A patient producer waits for the room that comes, and loses and repeats nothing.
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let producer = client.producer(config).unwrap();
    let value = vec![7; 256 << 10];
    let record = ProducerRecord::new("load").key(b"patient").value(&value);
    let patient = producer.send(record).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(500), async { patient.try_result() })
            .await
            .unwrap()
            .is_none()
    );
    check_healthy(&broker);
    std::fs::remove_file(disk.path("ballast")).unwrap();
    tokio::time::timeout(Duration::from_secs(10), patient).await.unwrap().unwrap();

    let read = read_whole(&client, "load").await;
    let patient = read.iter().filter(|record| record.key.as_deref() == Some(b"patient"));
    assert_eq!(patient.count(), 1);
    // What was acknowledged, on both sides of the gap, outlives a kill.
    broker.kill();
    broker.restart().await;
    assert_eq!(read_whole(&client, "load").await, read);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administration_of_a_full_disk_fails_clearly_and_works_when_there_is_room() {
    let test = "administration_of_a_full_disk_fails_clearly_and_works_when_there_is_room";
    let Some(disk) = SmallDisk::mount("48m", test) else { return };
    let logs = tempfile::tempdir().unwrap();
    let mut broker = Broker::stopped(disk.path("data"), logs.path().join("stderr.log"), &[]);
    broker.restart().await;
    let request_timeout = Duration::from_secs(5);
    let config = ClientConfig { request_timeout, ..broker.client_config() };
    let client = Client::connect(config).await.unwrap();
    client.admin().create_topic("load", 1).await.unwrap();
    take_the_rest(&disk.path("ballast"));

    let refused = tokio::time::timeout(Duration::from_secs(40), async {
        for number in 0..64 {
            client.admin().create_topic(&format!("more-{number}"), 4).await?;
        }
        Ok::<_, millstream_client::ClientError>(())
    });
    let refused = refused.await.expect("an answer").expect_err("there is no room");
    let text = refused.to_string();
    assert!(text.contains("disk") || text.contains("space"), "{text}");
    check_healthy(&broker);

    std::fs::remove_file(disk.path("ballast")).unwrap();
    until("a topic, now that there is room", Duration::from_secs(20), async || {
        client.admin().create_topic("roomy", 1).await.map_err(|error| error.to_string())
    })
    .await;
    broker.kill();
    broker.restart().await;
    assert!(client.admin().describe_topic("roomy").await.is_ok());
}

/// Writes until the disk is full; answers how many records were acknowledged, and the refusal.
async fn fill(client: &Client) -> (usize, ProduceError) {
    let config = ProducerConfig {
        linger: Duration::ZERO,
        delivery_timeout: Duration::from_secs(2),
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).unwrap();
    let value = vec![5; 128 << 10];
    for written in 0..2_000 {
        let record = ProducerRecord::new("load").value(&value);
        let delivery = producer.send(record).await.unwrap();
        if let Err(refusal) = delivery.await {
            return (written, refusal);
        }
    }
    panic!("the disk never was full");
}

fn take_the_rest(file: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(file).unwrap();
    let block = vec![1; 64 << 10];
    while file.write_all(&block).is_ok() {}
}

fn check_healthy(broker: &Broker) {
    assert!(broker.resident_bytes() > 0);
    assert_eq!(broker.panics(), Vec::<String>::new());
}
