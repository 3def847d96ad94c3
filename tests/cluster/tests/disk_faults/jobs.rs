//! A job whose output, position or topic cannot be written: it can be deleted, and nothing changes under it
//! that would send what it handled before elsewhere.

use std::time::Duration;

use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::message::job::StartPosition;
use millstream_client::{Client, ClientError, ProducerConfig, ProducerRecord, TopicChange};
use millstream_storage::disk::{Fault, Operation};
use millstream_tests_cluster::jobs::{caught_up, spec, upload};
use millstream_tests_cluster::until;

use crate::host::{Host, send, values};
use crate::opening::online;

const SOON: Duration = Duration::from_secs(20);
const RARELY: Duration = Duration::from_hours(1);

/// A job that copies what comes to both its outputs.
async fn copies(client: &Client) {
    for topic in ["in", "all", "matching"] {
        client.admin().create_topic(topic, 1).await.unwrap();
    }
    let module = upload(client, "fan-out").await;
    let job = spec("copy", &module, (&["in"], &["all", "matching"]), &[("text", "record")]);
    client.admin().deploy_job(job).await.unwrap();
}

/// Waits for what a topic holds.
async fn holds(client: &Client, topic: &str, wanted: &[&str]) {
    until(topic, SOON, async || {
        let found = values(client, topic).await;
        if found == wanted { Ok(()) } else { Err(found) }
    })
    .await;
}

/// One of a job's two outputs has what it made of a record, and the other finds no room for it.
async fn half_written(host: &Host, client: &Client) {
    copies(client).await;
    let log = host.log_of(client, "matching").await;
    host.disk.inject(Fault::enospc(Operation::Write).under(&log).on(".log").times(1_000_000));
    send(client, "in", "record").await.unwrap();
    holds(client, "all", &["record"]).await;
}

/// A record comes in, and the job rests before it.
async fn it_rests_before_a_record(client: &Client) {
    // Not idempotent: an identity would have to be decided and stored first.
    let config = ProducerConfig { idempotent: false, ..ProducerConfig::default() };
    let producer = client.producer(config).unwrap();
    producer.send(ProducerRecord::new("in").value(b"record")).await.unwrap().await.unwrap();
    let job = client.admin().describe_job("copy").await.unwrap();
    assert_eq!(job.partitions[0].status, "paused");
    assert_eq!(values(client, "all").await, [""; 0]);
}

fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (ErrorCode, String) {
    match result.expect_err("refused") {
        ClientError::Refused(error) => (error.code, error.message),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_output_has_no_room_counts_nothing_out_and_can_be_deleted() {
    let mut host = Host::start().await;
    let client = host.client().await;
    half_written(&host, &client).await;
    let job = client.admin().describe_job("copy").await.unwrap();
    let (position, out) = (job.partitions[0].position.get(), job.partitions[0].records_out);
    assert_eq!((position, out), (0, 0), "one of two outputs has it");
    tokio::time::timeout(SOON, client.admin().delete_job("copy")).await.unwrap().unwrap();
    client.admin().create_topic("more", 1).await.unwrap();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_does_not_change_while_one_of_two_has_what_a_job_made_of_a_batch() {
    let mut host = Host::start().await;
    let client = host.client().await;
    half_written(&host, &client).await;
    let more = async || {
        let change = TopicChange::default().partitions(7);
        client.admin().alter_topic("all", change).await
    };
    let (code, why) = refusal(more().await);
    assert_eq!(code, ErrorCode::InUse, "{why}");
    for word in ["job copy", "from offset 0 on", "all, partition 0", "disk is full"] {
        assert!(why.contains(word), "{word}: {why}");
    }
    host.disk.clear_faults();
    holds(&client, "matching", &["record"]).await;
    caught_up(&client, "copy").await;
    more().await.unwrap();
    send(&client, "in", "record 2").await.unwrap();
    caught_up(&client, "copy").await;
    assert_eq!(values(&client, "all").await.len(), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_does_not_change_under_a_job_that_has_a_replay_before_it() {
    let mut host = Host::saving(RARELY).await;
    let client = host.client().await;
    copies(&client).await;
    let records: Vec<_> = (0..8).map(|number| format!("record {number}")).collect();
    for record in &records {
        send(&client, "in", record).await.unwrap();
    }
    caught_up(&client, "copy").await;
    client.admin().pause_job("copy").await.unwrap();
    host.lose_power(3).await;
    let client = host.client().await;
    let job = client.admin().describe_job("copy").await.unwrap();
    assert_eq!(job.partitions[0].position.get(), 0, "its position was not saved");
    let change = || TopicChange::default().partitions(7);
    let (code, why) = refusal(client.admin().alter_topic("all", change()).await);
    assert_eq!(code, ErrorCode::InUse, "{why}");
    assert!(why.contains("Resume the job"), "{why}");
    let limits = Some(job.spec.limits);
    let (code, _) = refusal(client.admin().update_job("copy", None, limits).await);
    assert_eq!(code, ErrorCode::InUse);
    // A topic that it does not write to is none of its business.
    client.admin().alter_topic("in", change()).await.unwrap();

    client.admin().resume_job("copy").await.unwrap();
    caught_up(&client, "copy").await;
    client.admin().alter_topic("all", change()).await.unwrap();
    client.admin().update_job("copy", None, limits).await.unwrap();
    // Now it is saved: another loss of power makes no replay.
    client.admin().pause_job("copy").await.unwrap();
    host.lose_power(4).await;
    let client = host.client().await;
    client.admin().alter_topic("all", TopicChange::default().partitions(9)).await.unwrap();
    client.admin().resume_job("copy").await.unwrap();
    caught_up(&client, "copy").await;
    assert_eq!(values(&client, "all").await, records);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_rest_until_a_change_that_was_decided_can_be_stored() {
    let mut host = Host::saving(RARELY).await;
    let client = host.client().await;
    copies(&client).await;
    let once = host.client_that_tries_once().await;
    // The metadata store has room for so many writes, and for no more.
    for writes in 0.. {
        assert!(writes < 200, "a decision never met the full disk");
        let full = Fault::enospc(Operation::Write).on("metadata.redb");
        host.disk.inject(full.after(writes).times(1_000_000));
        let change = TopicChange::default().set("max.message.bytes", "4096");
        let refused = once.admin().alter_topic("all", change).await.expect_err("it is not stored");
        let refused = refused.to_string();
        if refused.contains("takes effect once it can be stored") {
            break;
        }
        assert!(refused.contains("the positions of jobs cannot be saved"), "{refused}");
        host.disk.clear_faults();
    }
    it_rests_before_a_record(&client).await;
    host.disk.clear_faults();
    holds(&client, "all", &["record"]).await;
    let topic = client.admin().describe_topic("all").await.unwrap();
    let limit = topic.configs.iter().find(|config| config.key == "max.message.bytes").unwrap();
    assert_eq!(limit.value, "4096");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_rest_until_the_next_start_when_nobody_knows_whether_a_change_was_decided() {
    let mut host = Host::saving(RARELY).await;
    let client = host.client().await;
    copies(&client).await;
    let once = host.client_that_tries_once().await;
    host.disk.inject(Fault::eio(Operation::Sync).under(&host.metadata_log()).on(".log").times(1));
    let change = TopicChange::default().partitions(7);
    let (code, why) = refusal(once.admin().alter_topic("all", change).await);
    assert_eq!(code, ErrorCode::StorageStopped, "{why}");
    assert!(why.contains("may still take effect"), "{why}");
    it_rests_before_a_record(&client).await;
    host.lose_power(5).await;
    let client = host.client().await;
    caught_up(&client, "copy").await;
    assert_eq!(values(&client, "all").await, ["record"]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_does_not_start_at_the_end_of_a_log_that_is_not_open() {
    let mut host = Host::start().await;
    let client = host.client().await;
    for topic in ["in", "all", "matching"] {
        client.admin().create_topic(topic, 1).await.unwrap();
    }
    send(&client, "in", "history").await.unwrap();
    let module = upload(&client, "fan-out").await;
    let log = host.log_of(&client, "in").await;
    host.stop().await;
    host.disk.inject(Fault::eio(Operation::Open).under(&log).times(1));
    host.run().await;
    let client = host.client().await;
    let mut job = spec("copy", &module, (&["in"], &["all", "matching"]), &[("text", "record")]);
    job.start = StartPosition::Latest;
    let (_, why) = refusal(client.admin().deploy_job(job.clone()).await);
    assert!(why.contains("partition 0 of in is not open"), "{why}");
    online(&client, "in").await;
    client.admin().deploy_job(job).await.unwrap();
    send(&client, "in", "record").await.unwrap();
    caught_up(&client, "copy").await;
    assert_eq!(values(&client, "all").await, ["record"]);
    host.stop().await;
}
