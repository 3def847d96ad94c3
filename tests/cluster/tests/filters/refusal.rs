//! What a topic's filter fails on is refused, never appended as it came; and a filter that cannot
//! work is no topic's.

use std::time::Duration;

use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::ids::{ModuleName, ModuleRef, Offset, PartitionIndex};
use millstream_client::{ProduceError, ProducerConfig, ProducerRecord, TopicChange};
use millstream_tests_cluster::Broker;
use millstream_tests_cluster::jobs::upload;
use millstream_tests_cluster::reading::{count, read_whole};

use crate::rows::{LATE, create, filter_by, no_filter};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_the_topics_filter_fails_on_is_refused_and_not_appended() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let hostile = upload(&client, "hostile").await;
    create(&client, "t", None).await.unwrap();
    create(&client, "beside", None).await.unwrap();
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let producer = client.producer(config).unwrap();
    let send = async |topic: &str| {
        let record = ProducerRecord::new(topic).partition(PartitionIndex(0)).value(b"1,2");
        producer.send(record).await?.await
    };
    send("t").await.unwrap();
    let mut written = 1;
    for (mode, text) in [
        ("panic", "this is the end"),
        ("loop", "deadline exceeded"),
        ("memory", "memory limit"),
        ("output", "output limit"),
        ("stack", "stack overflow"),
        ("noise", "bad output"),
        ("no-such-output", "bad output"),
        (
            "twice",
            "made several records of one, which only a job can do: deploy it with `millstream",
        ),
        (
            "other-key",
            "changed a record's key, and with it the partition that it belongs to, which only",
        ),
    ] {
        let change = filter_by(&hostile, &[("do", mode)]);
        client.admin().alter_topic("t", change).await.unwrap();
        // More than once: a guest that was thrown away is replaced by one that fails again.
        for _ in 0..2 {
            let refused = send("t").await.unwrap_err();
            assert!(!refused.maybe_written(), "{mode}: {refused}");
            let error = wire(&refused);
            assert_eq!(error.0, ErrorCode::GuestFailed, "{mode}: {refused}");
            assert!(error.1.contains(text), "{mode}: {refused}");
            send("beside").await.unwrap();
        }
        assert_eq!(count(&client, "t").await, written, "{mode}: nothing is appended");
        client.admin().alter_topic("t", no_filter(&[("do", mode)])).await.unwrap();
        // The same producer goes on: what was refused left no gap in its sequence.
        assert_eq!(send("t").await.unwrap().offset, Some(Offset(written)), "{mode}");
        written += 1;
    }
    assert_eq!(read_whole(&client, "t").await.len() as u64, written);
    assert_eq!(broker.panics(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_that_a_topics_filter_refuses_refuses_its_batch_and_no_other() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    let redact = upload(&client, "redact-json").await;
    create(&client, "people", Some((&redact, &[("fields", "card")]))).await.unwrap();
    let config = ProducerConfig { linger: Duration::from_secs(5), ..ProducerConfig::default() };
    let producer = client.producer(config).unwrap();
    // One batch each: flushed, or lingering until it is.
    let send = async |values: &[&str]| {
        let mut fates = Vec::new();
        for value in values {
            let record = ProducerRecord::new("people").partition(PartitionIndex(0));
            fates.push(producer.send(record.value(value.as_bytes())).await.unwrap());
        }
        drop(producer.flush().await);
        let mut offsets = Vec::new();
        for fate in fates {
            offsets.push(fate.await?.offset.unwrap().get());
        }
        Ok::<_, ProduceError>(offsets)
    };
    for round in 0..3 {
        assert_eq!(send(&["{}", "{}"]).await.unwrap(), [round * 2, round * 2 + 1]);
        let refused = send(&["{}", "no json", "{}"]).await.unwrap_err();
        let (code, text) = wire(&refused);
        assert_eq!(code, ErrorCode::GuestFailed, "{refused}");
        assert!(text.contains("record 1 refused: the value is not JSON"), "{text}");
        assert_eq!(count(&client, "people").await, (round + 1) * 2);
        broker.kill();
        broker.restart().await;
    }
    assert_eq!(read_whole(&client, "people").await.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_is_not_there_or_does_not_start_is_no_topics_filter() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let hostile = upload(&client, "hostile").await;
    let late = upload(&client, "keep-late").await;
    create(&client, "t", None).await.unwrap();
    let none = ModuleRef { name: ModuleName::new("keep-late").unwrap(), version: 2 };
    let before = client.admin().describe_topic("t").await.unwrap().configs;
    for (module, params, code, text) in [
        (&none, ("column", "1"), ErrorCode::UnknownModule, "keep-late@2"),
        (&late, ("colum", "1"), ErrorCode::GuestFailed, "`colum`"),
        (&hostile, ("do", "refuse-init"), ErrorCode::GuestFailed, "these parameters will not do"),
        (&hostile, ("do", "panic-in-init"), ErrorCode::GuestFailed, "cannot start"),
        (&hostile, ("do", "loop-in-init"), ErrorCode::GuestFailed, "deadline exceeded"),
    ] {
        let made = create(&client, "new", Some((module, &[params]))).await.unwrap_err();
        let altered = client.admin().alter_topic("t", filter_by(module, &[params])).await;
        for refused in [made, altered.unwrap_err()] {
            assert_eq!(refused.code(), Some(code), "{params:?}: {refused}");
            assert!(refused.to_string().contains(text), "{params:?}: {refused}");
        }
        let gone = client.admin().describe_topic("new").await.unwrap_err();
        assert_eq!(gone.code(), Some(ErrorCode::UnknownTopic), "{params:?}: {gone}");
    }
    assert_eq!(client.admin().describe_topic("t").await.unwrap().configs, before);

    // What is a topic's filter is not deleted under it.
    client.admin().alter_topic("t", filter_by(&late, &LATE)).await.unwrap();
    let used = client.admin().delete_module(late.clone()).await.unwrap_err();
    assert_eq!(used.code(), Some(ErrorCode::InUse), "{used}");
    // Parameters alone filter nothing: they go with their filter.
    let half = TopicChange::default().reset("filter");
    let half = client.admin().alter_topic("t", half).await.unwrap_err();
    assert_eq!(half.code(), Some(ErrorCode::InvalidConfig), "{half}");
    client.admin().alter_topic("t", no_filter(&LATE)).await.unwrap();
    client.admin().delete_module(late).await.unwrap();
}

/// What the broker said when it refused a batch.
fn wire(error: &ProduceError) -> (ErrorCode, String) {
    match error {
        ProduceError::Refused { error, .. } => (error.code, error.message.clone()),
        other => panic!("not refused by the broker: {other}"),
    }
}
