//! A topic's filter: what it drops leaves gaps, what it rewrites keeps its place, and its producers
//! are told the same as without it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_client::protocol::ids::{PartitionIndex, TopicName};
use millstream_client::protocol::message::topic::CreateTopic;
use millstream_client::{Compression, ProducerConfig, ProducerRecord};
use millstream_tests_cluster::jobs::upload;
use millstream_tests_cluster::reading::{count, ends, read_whole};
use millstream_tests_cluster::{Broker, Random, until};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::rows::{
    LATE, PARTITIONS, SOON, check_told, create, delay, feed, filter_by, found, grows_to, kept,
    no_filter, row, send_rows,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_topics_filter_drops_leaves_a_gap_and_is_acknowledged_like_the_rest() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    upload(&client, "keep-late").await;
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let topic = format!("late-{compression:?}");
        let configs = ["filter=keep-late@1", "filter.params.column=1", "filter.params.above=5"];
        let configs = configs.iter().flat_map(|config| ["--config", config]);
        let verb = ["topic", "create", &topic, "--partitions", "2"];
        let made = broker.cli(&verb.into_iter().chain(configs).collect::<Vec<_>>());
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let told = send_rows(&client, &topic, compression, 0..3_000).await;
        check_told(&told, &(0..3_000).collect::<Vec<_>>());
        assert_eq!(count(&client, &topic).await, 3_000, "what was dropped has offsets too");
        assert_eq!(found(&client, &topic).await, kept(&told));
    }
    let before = read_whole(&client, "late-Zstd").await;
    broker.kill();
    broker.restart().await;
    assert_eq!(read_whole(&client, "late-Zstd").await, before);
    assert_eq!(count(&client, "late-Zstd").await, 3_000, "although the log ends with nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_topics_filter_rewrites_keeps_its_place_and_nothing_is_stored_as_it_came() {
    const SECRET: &str = "4111-1111";
    let broker = Broker::start().await;
    let client = broker.client().await;
    let redact = upload(&client, "redact-json").await;
    create(&client, "people", Some((&redact, &[("fields", "card,email")]))).await.unwrap();
    let config = ProducerConfig { linger: Duration::from_millis(5), ..ProducerConfig::default() };
    let producer = client.producer(config).unwrap();
    let mut told = Vec::new();
    for number in 0..200 {
        let value = format!(r#"{{"n":{number},"card":"{SECRET}","deep":[{{"email":"a@b"}}]}}"#);
        // A deletion passes as it is.
        let value = (number % 10 != 0).then_some(value);
        let record = ProducerRecord::new("people").key(b"k").headers(&[("h", Some(b"v"))]);
        let record = ProducerRecord {
            partition: Some(PartitionIndex(number % PARTITIONS)),
            value: value.as_deref().map(str::as_bytes),
            ..record
        };
        told.push((number, producer.send(record).await.unwrap()));
    }
    producer.flush().await.unwrap();
    let mut places = BTreeMap::new();
    for (number, told) in told {
        let told = told.await.unwrap();
        let place = (number % PARTITIONS, told.offset.unwrap().get());
        places.insert(place, (number, told.timestamp.0));
    }
    let read = read_whole(&client, "people").await;
    assert_eq!(read.len(), places.len());
    for record in read {
        let (number, time) = places[&(record.partition, record.offset)];
        let redacted = format!(r#"{{"n":{number},"card":"***","deep":[{{"email":"***"}}]}}"#);
        let expected = (number % 10 != 0).then_some(redacted.into_bytes());
        assert_eq!((record.value.as_ref(), record.timestamp), (expected.as_ref(), time));
        assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(record.header("h").as_deref(), Some("v"));
    }
    assert!(!on_disk(&broker, SECRET.as_bytes()), "the secret is on the disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filtered_topic_that_is_killed_again_and_again_has_what_was_acknowledged_once() {
    let (mut random, mut broker) = (Random::new(), Broker::start().await);
    let client = broker.client().await;
    let late = upload(&client, "keep-late").await;
    create(&client, "late", Some((&late, &LATE))).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let feed = tokio::spawn(feed(client.clone(), "late", stopped));
    for _ in 0..12 {
        let goal = count(&client, "late").await + 50 + random.below(1_000);
        grows_to(&client, "late", goal).await;
        tokio::time::sleep(Duration::from_micros(random.below(3_000))).await;
        broker.kill();
        broker.restart().await;
    }
    stop.send(()).unwrap();
    let told = feed.await.unwrap();
    let numbers: Vec<_> = (0..told.len() as u64).collect();
    check_told(&told, &numbers);
    assert_eq!(count(&client, "late").await, told.len() as u64);
    assert_eq!(found(&client, "late").await, kept(&told));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_is_set_and_reset_under_load_costs_no_record_that_it_keeps() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let late = upload(&client, "keep-late").await;
    create(&client, "rows", None).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let feed = tokio::spawn(feed(client.clone(), "rows", stopped));
    let mut goal = 0;
    for round in 0..6 {
        goal = count(&client, "rows").await.max(goal) + 1_300;
        grows_to(&client, "rows", goal).await;
        let change = if round % 2 == 0 { filter_by(&late, &LATE) } else { no_filter(&LATE) };
        client.admin().alter_topic("rows", change).await.unwrap();
    }
    grows_to(&client, "rows", goal + 1_300).await;
    stop.send(()).unwrap();
    let told = feed.await.unwrap();
    check_told(&told, &(0..told.len() as u64).collect::<Vec<_>>());
    let (found, kept) = (found(&client, "rows").await, kept(&told));
    let all: BTreeSet<_> = told.iter().copied().collect();
    assert!(kept.is_subset(&found), "kept: {:?}", kept.difference(&found).next());
    assert!(found.is_subset(&all), "told: {:?}", found.difference(&all).next());
    assert!(kept.len() < found.len(), "nothing came while there was no filter");
    assert!(found.len() < all.len(), "nothing was dropped while there was one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_the_answer_that_set_a_filter_is_filtered_and_nothing_of_before_follows() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let late = upload(&client, "keep-late").await;
    create(&client, "rows", None).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let feed = tokio::spawn(feed(client.clone(), "rows", stopped));
    for _ in 0..8 {
        let goal = count(&client, "rows").await + 800;
        grows_to(&client, "rows", goal).await;
        client.admin().alter_topic("rows", filter_by(&late, &LATE)).await.unwrap();
        // Nothing that has a place after these was let through by the old settings.
        let described = client.admin().describe_topic("rows").await.unwrap();
        let set: Vec<_> = described.partitions.iter().map(|partition| partition.log_end).collect();
        let goal = count(&client, "rows").await + 1_300;
        grows_to(&client, "rows", goal).await;
        let ended = ends(&client, "rows").await;
        client.admin().alter_topic("rows", no_filter(&LATE)).await.unwrap();
        for (partition, offset, number) in found(&client, "rows").await {
            let meanwhile =
                set[partition as usize].get() <= offset && offset < ended[&partition].get();
            assert!(!meanwhile || delay(number) > 5, "{partition}/{offset}: {}", row(number));
        }
    }
    stop.send(()).unwrap();
    feed.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_found_no_room_starts_by_itself_when_there_is_some() {
    let broker = Broker::start_with(&[("MODULES_MAX_INSTANCES", "2")]).await;
    let client = broker.client().await;
    let late = upload(&client, "keep-late").await;
    let others = PARTITIONS;
    // Its filter takes all the room there is.
    create(&client, "first", Some((&late, &LATE))).await.unwrap();
    send_rows(&client, "first", Compression::None, 0..100).await;
    assert_eq!(others, 2);
    let refused = create(&client, "second", Some((&late, &LATE))).await.unwrap_err();
    assert!(refused.to_string().contains("instances"), "{refused}");
    client.admin().alter_topic("first", no_filter(&LATE)).await.unwrap();
    // One instance is taken, one is left, and two are wanted.
    let one = CreateTopic {
        name: TopicName::new("one").unwrap(),
        partitions: 1,
        replication_factor: 1,
        configs: filter_by(&late, &LATE).set,
    };
    until("room for one", SOON, async || client.admin().create_topic_with(one.clone()).await).await;
    until("room for another", SOON, async || {
        create(&client, "second", Some((&late, &LATE))).await.map_err(|error| error.to_string())
    })
    .await;
    let sending = tokio::spawn({
        let client = client.clone();
        async move { send_rows(&client, "second", Compression::None, 0..100).await }
    });
    client.admin().delete_topic("one").await.unwrap();
    let told = timeout(SOON, sending).await.expect("both filters start").unwrap();
    assert_eq!(found(&client, "second").await, kept(&told));
}

/// Whether a partition's files hold these bytes.
fn on_disk(broker: &Broker, bytes: &[u8]) -> bool {
    let mut directories = vec![broker.data_dir().join("partitions")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if std::fs::read(&path).unwrap().windows(bytes.len()).any(|part| part == bytes) {
                return true;
            }
        }
    }
    false
}
