//! A bug in what writes the logs: a panic there stops the log it was about, and keeps nobody waiting.

use millstream_client::protocol::error::ErrorCode;
use millstream_storage::disk::{Fault, Operation};

use crate::host::{Host, describe, refusal, send, values};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_writing_a_log_stops_that_log_and_answers_its_producers() {
    for operation in [Operation::Write, Operation::Sync] {
        let mut host = Host::start().await;
        let client = host.client().await;
        for topic in ["panics", "sound"] {
            client.admin().create_topic(topic, 1).await.unwrap();
            send(&client, topic, "before").await.unwrap();
        }
        let log = host.log_of(&client, "panics").await;
        host.disk.inject(Fault::panic(operation).under(&log).on(".log"));
        for value in ["hit", "behind it"] {
            let (code, why) = refusal(&send(&client, "panics", value).await.expect_err(value));
            assert_eq!(code, ErrorCode::StorageStopped, "{why}");
            assert!(why.contains("a log writer panicked") && why.contains("told to"), "{why}");
        }
        assert!(describe(&client, "panics").await.status.contains("panicked"));
        assert_eq!(values(&client, "panics").await, ["before"]);
        // As many more turns as there are threads: all of them are still there.
        for _ in 0..8 {
            send(&client, "sound", "after").await.unwrap();
        }
        host.lose_power(3).await;
        let client = host.client().await;
        assert_eq!(values(&client, "panics").await[0], "before");
        send(&client, "panics", "goes on").await.unwrap();
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_metadata_store_is_told_and_the_logs_go_on() {
    let mut host = Host::start().await;
    let client = host.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    send(&client, "t", "before").await.unwrap();
    host.disk.inject(Fault::panic(Operation::Write).on("metadata.redb"));
    for attempt in ["hit", "behind"] {
        let refused = client.admin().create_topic(attempt, 1).await.expect_err(attempt).to_string();
        assert!(refused.contains("panicked") && refused.contains("told to"), "{refused}");
    }
    send(&client, "t", "after").await.unwrap();
    assert_eq!(values(&client, "t").await, ["before", "after"]);
    host.lose_power(1).await;
    assert_eq!(values(&host.client().await, "t").await, ["before", "after"]);
    host.stop().await;
}
