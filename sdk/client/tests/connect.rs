//! Reaching a broker, or saying why not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::FakeBroker;
use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::ids::TopicName;
use millstream_client::protocol::message::topic::FindTopic;
use millstream_client::{Client, ClientError};

#[tokio::test]
async fn nobody_there_says_whom_it_looked_for_and_what_to_do() {
    let mut broker = FakeBroker::with_topic("t", 1);
    broker.stop().await;
    let started = Instant::now();
    let error = Client::connect(broker.config()).await.expect_err("nobody is there").to_string();
    assert!(error.contains(&broker.addr.to_string()), "{error}");
    assert!(error.contains("is `millstream serve` running there?"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "a refusal is heard at once");
}

#[tokio::test]
async fn a_broker_of_another_cluster_is_not_trusted() {
    let (ours, theirs) = (FakeBroker::with_topic("t", 1), FakeBroker::with_topic("t", 1));
    let mut config = ours.config();
    config.brokers = vec![theirs.addr.to_string()];
    let error = Client::connect(config).await.expect_err("another authority");
    assert!(matches!(error, ClientError::Rejected { .. }), "{error}");
    assert!(error.to_string().contains("--ca"), "{error}");
}

#[tokio::test]
async fn any_broker_that_answers_will_do() {
    let broker = FakeBroker::with_topic("t", 1);
    let mut config = broker.config();
    config.brokers.insert(0, "127.0.0.1:1".to_owned());
    let client = Client::connect(config).await.unwrap();
    let name = TopicName::new("t").unwrap();
    assert_eq!(client.call(FindTopic { name }).await.unwrap().leaders.len(), 1);
}

#[tokio::test]
async fn a_call_rides_over_a_restart_and_a_refusal_comes_through() {
    let mut broker = FakeBroker::with_topic("t", 1);
    let client = broker.client().await;
    broker.stop().await;
    let find = |name: &str| FindTopic { name: TopicName::new(name).unwrap() };
    let waiting = tokio::spawn({
        let (client, find) = (client.clone(), find("t"));
        async move { client.call(find).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    broker.start();
    assert!(waiting.await.unwrap().is_ok());
    let error = client.call(find("other")).await.expect_err("no such topic");
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic));
}

#[tokio::test]
async fn a_call_to_a_broker_that_is_gone_ends_with_its_timeout() {
    let mut broker = FakeBroker::with_topic("t", 1);
    let mut config = broker.config();
    config.request_timeout = Duration::from_millis(300);
    let client = Client::connect(config).await.unwrap();
    broker.stop().await;
    let error = client.admin().list_topics().await.expect_err("nobody answers");
    assert!(error.is_retriable(), "{error}");
    assert!(error.to_string().contains("millstream serve"), "{error}");
}
