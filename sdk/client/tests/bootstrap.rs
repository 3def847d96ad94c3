//! Some brokers are given, others are learned, any of them may be away: calls find one that answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::{FakeBroker, FakeCluster, soon};
use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::ids::{NodeId, Offset, TopicName};
use millstream_client::protocol::message::offsets::OffsetSpec;
use millstream_client::protocol::message::topic::CreateTopic;
use millstream_client::{Client, ClientConfig, ClientError, ProducerConfig};

/// An address at which packets arrive and nobody answers.
fn black_hole() -> (std::net::UdpSocket, String) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

#[tokio::test]
async fn a_dead_bootstrap_address_first_costs_a_short_attempt_and_not_a_timeout() {
    let broker = FakeBroker::with_topic("t", 1);
    let (_open, hangs) = black_hole();
    for dead in ["127.0.0.1:1".to_owned(), "nowhere.invalid:1".to_owned(), hangs] {
        let mut config = broker.config();
        config.brokers.insert(0, dead);
        let begun = Instant::now();
        let client = Client::connect(config).await.unwrap();
        client.admin().list_topics().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn where_no_address_answers_it_is_said_when_all_have_failed() {
    let broker = FakeBroker::with_topic("t", 1);
    let brokers = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
    let config = ClientConfig { brokers, ..broker.config() };
    let error = soon(Client::connect(config)).await.expect_err("nobody is there");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_broker_of_another_cluster_among_those_given_does_not_keep_a_call_from_waiting_for_ours()
{
    let theirs = FakeBroker::with_topic("t", 1);
    let mut ours = FakeBroker::with_topic("t", 1);
    let mut config = ours.config();
    config.brokers.insert(0, theirs.addr.to_string());
    ours.stop().await;
    let client = Client::lazy(config).unwrap();
    let waiting = tokio::spawn(async move { client.admin().list_topics().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    ours.start();
    assert_eq!(soon(waiting).await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn brokers_that_were_not_given_are_learned_and_asked_when_the_others_are_gone() {
    let mut cluster = FakeCluster::with_topic(3, "t", 1);
    let client = cluster.client(&[1]).await;
    cluster.broker(1).stop().await;
    assert_eq!(soon(client.admin().list_topics()).await.unwrap().len(), 1);
    cluster.broker(2).stop().await;
    assert_eq!(soon(client.admin().list_topics()).await.unwrap().len(), 1);
    assert_eq!(cluster.world.lock().count(Some(3), "ListTopics"), 1);
}

#[tokio::test]
async fn a_call_moves_to_another_broker_when_one_is_stopping_and_does_not_come_back() {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    let client = cluster.client(&[1, 2]).await;
    cluster.node(1).stopping = true;
    for name in ["one", "two"] {
        soon(client.admin().create_topic(name, 1)).await.unwrap();
    }
    let world = cluster.world.lock();
    assert!(world.topics.contains_key("one") && world.topics.contains_key("two"));
    let asked = (world.count(Some(1), "CreateTopic"), world.count(Some(2), "CreateTopic"));
    assert_eq!(asked, (1, 2), "the second call knows better");
}

#[tokio::test]
async fn a_call_that_only_reads_moves_on_when_a_broker_falls_silent() {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    let config = ClientConfig { silence: Duration::from_millis(100), ..cluster.config(&[1, 2]) };
    let client = Client::connect(config).await.unwrap();
    cluster.node(1).silent = true;
    assert_eq!(soon(client.admin().list_topics()).await.unwrap().len(), 1);
    assert_eq!(cluster.world.lock().count(Some(2), "ListTopics"), 1);
    cluster.node(1).silent = false;
}

#[tokio::test]
async fn a_call_that_changes_something_is_not_sent_to_a_second_broker_while_the_first_may_do_it() {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    let config = ClientConfig {
        request_timeout: Duration::from_millis(400),
        silence: Duration::from_millis(50),
        ..cluster.config(&[1, 2])
    };
    let client = Client::connect(config).await.unwrap();
    cluster.node(1).silent = true;
    let error = soon(client.admin().create_topic("made", 1)).await.expect_err("no answer");
    assert!(matches!(error, ClientError::TimedOut { unsure: true, .. }), "{error}");
    assert_eq!(cluster.world.lock().count(Some(2), "CreateTopic"), 0);
}

#[tokio::test]
async fn a_call_fails_only_at_its_deadline_and_says_what_went_wrong_last() {
    let mut cluster = FakeCluster::with_topic(2, "t", 1);
    let request_timeout = Duration::from_millis(600);
    let config = ClientConfig { request_timeout, ..cluster.config(&[1, 2]) };
    let client = Client::connect(config).await.unwrap();
    cluster.broker(1).stop().await;
    cluster.broker(2).stop().await;
    let begun = Instant::now();
    let error = soon(client.admin().create_topic("t", 1)).await.expect_err("nobody is there");
    assert!(request_timeout <= begun.elapsed(), "{:?}", begun.elapsed());
    let ClientError::TimedOut { last, unsure: false, .. } = &error else { panic!("{error}") };
    assert!(last.contains("cannot reach a broker"), "{last}");

    let waiting = tokio::spawn(async move { client.admin().list_topics().await });
    cluster.broker(2).start();
    assert_eq!(soon(waiting).await.unwrap().unwrap().len(), 1, "one of them is back");
}

#[tokio::test]
async fn a_topic_that_one_broker_has_not_heard_of_is_found_at_another() {
    let cluster = FakeCluster::with_topic(2, "t", 3);
    cluster.node(1).unaware.insert("t".to_owned());
    let client = cluster.client(&[1]).await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    assert_eq!(soon(producer.prepare("t")).await, Ok(3));
}

#[tokio::test]
async fn a_topic_that_all_brokers_do_not_know_is_unknown() {
    let mut cluster = FakeCluster::with_topic(3, "t", 1);
    let client = cluster.client(&[1, 2, 3]).await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let error = soon(producer.prepare("other")).await.expect_err("nobody knows it").to_string();
    assert!(error.contains("no topic other"), "{error}");
    assert_eq!(cluster.world.lock().count(None, "FindTopic"), 3, "each was asked");
    cluster.broker(2).stop().await;
    cluster.broker(3).stop().await;
    let error = soon(producer.prepare("other")).await.expect_err("it is still unknown").to_string();
    assert!(error.contains("no topic other"), "{error}");
}

#[tokio::test]
async fn offsets_are_asked_of_each_partitions_own_leader() {
    let cluster = FakeCluster::with_topic(3, "t", 40);
    for (partition, leader) in (0..40).zip([1, 2, 3].into_iter().cycle()) {
        cluster.fill("t", partition, partition, 1);
        cluster.lead("t", partition, leader);
    }
    let client = cluster.client(&[2]).await;
    let found = client.admin().list_offsets("t", None, OffsetSpec::Latest).await.unwrap();
    let expected: Vec<_> = (0..40).map(Offset).collect();
    assert_eq!(found.iter().map(|found| found.offset).collect::<Vec<_>>(), expected);
    cluster.lead("t", 7, 1);
    let one = found[7].partition;
    let found = client.admin().list_offsets("t", Some(one), OffsetSpec::Latest).await.unwrap();
    assert_eq!((found.len(), found[0].offset), (1, Offset(7)), "it has moved meanwhile");
}

#[tokio::test]
async fn a_partition_that_nobody_leads_is_asked_for_until_somebody_does() {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    cluster.log("t", 0).elect(None);
    let client = cluster.client(&[1]).await;
    let asking =
        tokio::spawn(
            async move { client.admin().list_offsets("t", None, OffsetSpec::Earliest).await },
        );
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.log("t", 0).elect(Some(NodeId(2)));
    assert_eq!(soon(asking).await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refusal_that_does_not_pass_is_not_taken_to_another_broker() {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    let client = cluster.client(&[1, 2]).await;
    let name = TopicName::new("t").unwrap();
    let create =
        CreateTopic { name, partitions: 1, replication_factor: 1, configs: BTreeMap::new() };
    let error = soon(client.call(create)).await.expect_err("it is there");
    assert_eq!(error.code(), Some(ErrorCode::TopicExists));
    assert_eq!(cluster.world.lock().count(None, "CreateTopic"), 1);
}
