//! Input/output errors: the partition they hit stops, says why, and stays readable; the others go on.

use std::path::Path;

use millstream_client::Client;
use millstream_client::protocol::error::ErrorCode;
use millstream_storage::disk::{Fault, Operation};

use crate::host::{Host, describe, refusal, send, values};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_is_never_acknowledged_and_stops_its_partition_alone() {
    for seed in 0..6 {
        let mut host = a_broker_with("sync").await;
        let (client, log) = prepare(&host, "sync").await;
        host.disk.inject(Fault::eio(Operation::Sync).under(&log).on(".log"));
        stops(&host, &client, "sync", "syncing").await;
        recovers(&mut host, "sync", seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_is_never_acknowledged_and_stops_its_partition_alone() {
    for seed in 0..6 {
        let mut host = a_broker_with("write").await;
        let (client, log) = prepare(&host, "write").await;
        host.disk.inject(partial(&log));
        stops(&host, &client, "write", "writing to").await;
        recovers(&mut host, "write", seed).await;
    }
}

/// Some bytes of the batch are written before the error is met.
fn partial(log: &Path) -> Fault {
    Fault::eio(Operation::Write).under(log).on(".log").after_partial_write(40)
}

async fn a_broker_with(topic: &str) -> Host {
    let host = Host::start().await;
    let client = host.client().await;
    for topic in [topic, "sound"] {
        client.admin().create_topic(topic, 1).await.unwrap();
    }
    host
}

async fn prepare(host: &Host, topic: &str) -> (Client, std::path::PathBuf) {
    let client = host.client().await;
    for number in 0..3 {
        send(&client, topic, &format!("acknowledged {number}")).await.unwrap();
    }
    let log = host.log_of(&client, topic).await;
    (client, log)
}

/// The next record is refused, and so is every one behind it; why is told wherever somebody may ask.
async fn stops(host: &Host, client: &Client, topic: &str, action: &str) {
    for attempt in ["the record that was hit", "the one behind it"] {
        let refused = send(client, topic, attempt).await.expect_err(attempt);
        let (code, why) = refusal(&refused);
        assert_eq!(code, ErrorCode::StorageStopped, "{attempt}: {why}");
        for word in [action, "Input/output error", "restart the broker"] {
            assert!(why.contains(word), "{attempt}: {why}");
        }
    }
    let described = describe(client, topic).await;
    assert!(described.status.contains(action), "{}", described.status);
    assert_eq!((described.leader, described.high_watermark.get()), (None, 3));
    let stopped = |topic| format!("millstream_log_stopped{{topic=\"{topic}\",partition=\"0\"}}");
    let page = host.page("/metrics").await;
    assert!(page.contains(&format!("{} 1\n", stopped(topic))), "{page}");
    assert!(page.contains(&format!("{} 0\n", stopped("sound"))), "{page}");
    // One bad log is no reason to send the clients of all others away.
    assert_eq!(host.page("/readyz").await, "ready\n");

    assert_eq!(values(client, topic).await, acknowledged());
    send(client, "sound", "still taken").await.unwrap();
    assert_eq!(describe(client, "sound").await.status, "online");
}

/// Power goes, the broker starts again: everything that was acknowledged is there, and it goes on.
async fn recovers(host: &mut Host, topic: &str, seed: u64) {
    if seed.is_multiple_of(2) {
        host.lose_power(seed).await;
    } else {
        host.restart().await;
    }
    let client = host.client().await;
    assert_eq!(values(&client, "sound").await, ["still taken"], "seed {seed}");
    let mut read = values(&client, topic).await;
    // Nobody was told what became of the record that was hit: it may be there or not.
    if read.last().is_some_and(|last| last == "the record that was hit") {
        read.pop();
    }
    assert_eq!(read, acknowledged(), "seed {seed}");
    send(&client, topic, "goes on").await.unwrap();
    // What a restart read from memory is on the disk now, whatever the failed sync left there.
    let before = values(&client, topic).await;
    host.lose_power(seed + 100).await;
    assert_eq!(values(&host.client().await, topic).await, before, "seed {seed}");
    host.stop().await;
}

fn acknowledged() -> Vec<String> {
    (0..3).map(|number| format!("acknowledged {number}")).collect()
}
