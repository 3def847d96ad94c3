//! What a broker finds at its start: a log that does not open at once, and logs that belong to nobody.

use std::time::Duration;

use millstream_client::Client;
use millstream_storage::disk::{Disk, Fault, Operation};
use millstream_tests_cluster::until;

use crate::host::{Host, describe, send, values};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_read_is_tried_again_until_it_can_and_one_without_segments_is_not() {
    let mut host = Host::start().await;
    let client = host.client().await;
    for topic in ["sound", "unwilling", "gone"] {
        client.admin().create_topic(topic, 1).await.unwrap();
        send(&client, topic, "kept").await.unwrap();
    }
    let (unwilling, gone) =
        (host.log_of(&client, "unwilling").await, host.log_of(&client, "gone").await);
    host.stop().await;
    host.disk.inject(Fault::eio(Operation::Open).under(&unwilling).times(2));
    host.disk.remove(&gone.join("00000000000000000000.log")).unwrap();
    host.run().await;
    let client = host.client().await;
    let status = describe(&client, "unwilling").await.status;
    assert!(status.contains("Input/output error") && status.contains("; attempt 1"), "{status}");
    assert_eq!(values(&client, "sound").await, ["kept"]);

    online(&client, "unwilling").await;
    assert_eq!(values(&client, "unwilling").await, ["kept"]);
    send(&client, "unwilling", "taken").await.unwrap();
    let status = describe(&client, "gone").await.status;
    assert!(status.contains("has no segments") && !status.contains("attempt"), "{status}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_deleted_topic_go_at_the_next_start_and_those_of_an_unknown_one_never() {
    let mut host = Host::start().await;
    let client = host.client().await;
    for topic in ["kept", "deleted"] {
        client.admin().create_topic(topic, 1).await.unwrap();
        send(&client, topic, "record").await.unwrap();
    }
    let log = host.log_of(&client, "deleted").await;
    // As if the broker had died between the decision and the files.
    host.disk.inject(Fault::eio(Operation::Remove).under(&log).times(1_000));
    client.admin().delete_topic("deleted").await.unwrap();
    let segment = "00000000000000000000.log";
    assert!(host.disk.len(&log.join(segment)).is_ok(), "its files are there");
    for unknown in ["77-0", "notes"] {
        let dir = host.logs().join(unknown);
        host.disk.create_dir_all(&dir).unwrap();
        drop(host.disk.create(&dir.join(segment)).unwrap());
    }
    host.disk.clear_faults();
    host.restart().await;
    let dirs = host.disk.list_dirs(&host.logs()).unwrap();
    let gone = log.file_name().unwrap().to_string_lossy().into_owned();
    assert!(!dirs.contains(&gone), "{dirs:?}");
    for unknown in ["77-0", "notes"] {
        assert!(host.disk.len(&host.logs().join(unknown).join(segment)).is_ok(), "{unknown}");
    }
    assert_eq!(values(&host.client().await, "kept").await, ["record"]);
    host.stop().await;
}

/// Waits until a partition takes writes.
pub(crate) async fn online(client: &Client, topic: &str) {
    until("a partition that is online", Duration::from_secs(20), async || {
        match describe(client, topic).await.status {
            status if status == "online" => Ok(()),
            status => Err(status),
        }
    })
    .await;
}
