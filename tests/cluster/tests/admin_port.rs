//! The admin port: a broker says that it lives, and counts what it does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use millstream_client::protocol::ids::{ModuleRef, Offset, PartitionIndex, TopicPartition};
use millstream_client::protocol::message::fetch::FetchFilter;
use millstream_client::protocol::message::group::{Committed, OffsetCommit};
use millstream_client::protocol::message::produce::{ProduceAnswers, ProduceBatch};
use millstream_client::protocol::message::topic::CreateTopic;
use millstream_client::{Client, ConsumerConfig, ProducerConfig, ProducerRecord, StartAt};
use millstream_tests_cluster::jobs::{caught_up, spec, upload};
use millstream_tests_cluster::{Broker, raw, until};
use millstream_transport::Connection;

/// More than one batch's worth would only take longer.
const RECORDS: u32 = 100;

/// Every metric there is, as documented.
fn documented() -> BTreeSet<String> {
    let document = include_str!("../../../runtime/broker/METRICS.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

/// A page, read: every sample by name and labels.
struct Page {
    families: BTreeSet<String>,
    samples: BTreeMap<String, f64>,
}

impl Page {
    fn of(broker: &Broker) -> Self {
        let text = broker.admin_page("/metrics").unwrap();
        let word = |line: &str, n| line.split(' ').nth(n).unwrap().to_owned();
        let types = text.lines().filter(|line| line.starts_with("# TYPE "));
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        let samples: Vec<_> = samples.collect();
        let (families, count) = (types.map(|line| word(line, 2)).collect(), samples.len());
        let page = Self { families, samples: samples.into_iter().collect() };
        assert_eq!(page.samples.len(), count, "every series is there once");
        page
    }

    fn get(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("{series} in {:#?}", self.samples))
    }

    fn naming<'p>(&'p self, label: &'p str) -> impl Iterator<Item = &'p String> {
        self.samples.keys().filter(move |series| series.contains(label))
    }
}

/// A group has committed an offset of the topic that is counted.
async fn commit(client: &Client, offset: u64) {
    let topic = client.admin().describe_topic("counted").await.unwrap().id;
    let partition = TopicPartition { topic, partition: PartitionIndex(0) };
    let committed = Committed { offset: Offset(offset), epoch: None, metadata: String::new() };
    let offsets = vec![OffsetCommit { partition, committed }];
    assert_eq!(client.admin().commit_offsets("counters", offsets).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_metric_is_there_after_known_traffic_and_right() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let _raw = traffic(&broker, &client).await;
    commit(&client, u64::from(RECORDS) - 1).await;
    until("how far groups are behind", Duration::from_secs(30), async || {
        let page = Page::of(&broker);
        match page.naming("group=").next() {
            Some(_) => Ok(()),
            None => Err("it is looked up now and then"),
        }
    })
    .await;
    let page = Page::of(&broker);
    assert_eq!(page.families, documented(), "the page and METRICS.md");

    let records = f64::from(RECORDS);
    for (series, value) in [
        ("append_records_total{topic=\"counted\"}", records),
        ("append_records_total{topic=\"thinned\"}", records / 2.0),
        ("produce_refused_total{topic=\"counted\",code=\"corrupt_batch\"}", 3.0),
        ("fetch_streams_total{topic=\"counted\"}", 2.0),
        ("fetch_records_total{topic=\"counted\"}", 2.0 * records),
        ("log_start_offset{topic=\"counted\",partition=\"0\"}", 0.0),
        ("log_high_watermark{topic=\"counted\",partition=\"0\"}", records),
        ("replicas_not_in_sync{topic=\"counted\",partition=\"0\"}", 0.0),
        ("log_stopped{topic=\"counted\",partition=\"0\"}", 0.0),
        ("filter_records_in_total{place=\"ingress\",topic=\"thinned\"}", records),
        ("filter_records_out_total{place=\"ingress\",topic=\"thinned\"}", records / 2.0),
        ("filter_records_in_total{place=\"fetch\",topic=\"counted\"}", records),
        ("filter_records_out_total{place=\"fetch\",topic=\"counted\"}", records / 2.0),
        ("group_lag{group=\"counters\",topic=\"counted\",partition=\"0\"}", 1.0),
        ("log_last_stable_offset{topic=\"counted\",partition=\"0\"}", records),
        ("job_records_in_total{job=\"counting\"}", records),
        ("job_records_out_total{job=\"counting\"}", records / 2.0),
        ("job_lag{job=\"counting\",topic=\"counted\",partition=\"0\"}", 0.0),
        ("job_instances_total{job=\"counting\"}", 1.0),
        ("job_custom_total{job=\"flood\",counter=\"floods\"}", 1.0),
        ("filter_errors_total{place=\"ingress\",topic=\"refusing\",kind=\"trap\"}", 1.0),
        ("produce_refused_total{topic=\"refusing\",code=\"guest_failed\"}", 1.0),
        // The batch, and then the record that it was.
        ("job_errors_total{job=\"panic\",kind=\"trap\"}", 2.0),
        ("streams_broken_total", 2.0),
        ("requests_total{request=\"CreateTopic\",result=\"topic_exists\"}", 1.0),
        ("connections", 2.0),
        ("connections_total", 2.0),
    ] {
        let found = page.get(&format!("millstream_{series}"));
        assert!((found - value).abs() < 0.5, "{series}: {found} where {value} was expected");
    }
    let (read, sent) = ("fetch_read_bytes_total", "fetch_sent_bytes_total");
    let bytes = |name| page.get(&format!("millstream_{name}{{topic=\"counted\"}}"));
    assert!(bytes(sent) < bytes(read) && bytes(read) / 2.0 < bytes(sent), "a filter dropped half");
    for name in ["transport_received_bytes_total", "transport_sent_bytes_total"] {
        assert!(bytes("append_bytes_total") < page.get(&format!("millstream_{name}")), "{name}");
    }
    for histogram in [
        "produce_seconds_count{topic=\"counted\"}",
        "fetch_seconds_count{topic=\"counted\"}",
        "filter_guest_seconds_count{place=\"ingress\",topic=\"thinned\"}",
        "filter_guest_seconds_count{place=\"fetch\",topic=\"counted\"}",
        "job_guest_seconds_count{job=\"counting\"}",
        "request_seconds_count{request=\"CreateTopic\"}",
        "log_write_seconds_count",
        "log_sync_seconds_count",
        "log_group_batches_count",
    ] {
        assert!(1.0 <= page.get(&format!("millstream_{histogram}")), "{histogram}");
    }
    assert_eq!(broker.admin_page("/healthz"), Ok("ok\n".to_owned()));
    assert_eq!(broker.admin_page("/readyz"), Ok("ready\n".to_owned()));
    assert!(broker.admin_page("/nothing").unwrap_err().contains("404"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_takes_its_series_with_it() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let _raw = traffic(&broker, &client).await;
    let page = Page::of(&broker);
    for label in ["job=\"counting\"", "job=\"flood\"", "topic=\"counted\"", "topic=\"thinned\""] {
        assert!(page.naming(label).next().is_some(), "{label}");
    }
    for job in ["counting", "flood", "panic"] {
        client.admin().delete_job(job).await.unwrap();
    }
    for topic in ["counted", "thinned"] {
        client.admin().delete_topic(topic).await.unwrap();
    }
    let page = Page::of(&broker);
    for label in ["job=", "topic=\"counted\"", "topic=\"thinned\""] {
        assert_eq!(page.naming(label).collect::<Vec<_>>(), Vec::<&String>::new(), "{label}");
    }
    client.admin().create_topic("counted", 1).await.unwrap();
    let page = Page::of(&broker);
    let again = page.get("millstream_append_records_total{topic=\"counted\"}");
    assert!(again < 0.5, "{again} records in a new topic");
}

/// A hundred records through everything: two topics, one with a filter; two consumers, one with a
/// filter; two jobs, of which one counts and one fails; and what is refused.
async fn traffic(broker: &Broker, client: &Client) -> Connection {
    let (half, hostile) = (upload(client, "keep-half").await, upload(client, "hostile").await);
    client.admin().create_topic("counted", 1).await.unwrap();
    client.admin().create_topic("counted", 1).await.unwrap_err();
    filtered(client, "thinned", &[("filter", &half.to_string())]).await;
    for topic in ["out", "victims"] {
        client.admin().create_topic(topic, 1).await.unwrap();
    }
    for topic in ["counted", "thinned"] {
        fill(client, topic, RECORDS).await;
    }
    let filter = FetchFilter { module: half.clone(), params: Default::default() };
    for filter in [None, Some(filter)] {
        let config = ConsumerConfig { filter, ..ConsumerConfig::default() };
        let consumer = client.consumer(config).unwrap();
        consumer.assign_all("counted", StartAt::Earliest).await.unwrap();
        while consumer.next().await.unwrap().next_offset().get() < u64::from(RECORDS) {}
    }
    let job = spec("counting", &half, (&["counted"], &["out"]), &[]);
    client.admin().deploy_job(job).await.unwrap();
    caught_up(client, "counting").await;
    fill(client, "victims", 1).await;
    for mode in ["flood", "panic"] {
        let job = spec(mode, &hostile, (&["victims"], &["out"]), &[("do", mode)]);
        client.admin().deploy_job(job).await.unwrap();
        caught_up(client, mode).await;
    }
    what_is_refused(broker, client, &hostile).await
}

/// Batches that are none, streams that are none, and a topic whose filter fails. The connection it
/// came on is still open.
async fn what_is_refused(broker: &Broker, client: &Client, hostile: &ModuleRef) -> Connection {
    let module = hostile.to_string();
    filtered(client, "refusing", &[("filter", &module), ("filter.params.do", "panic")]).await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let sent = producer.send(ProducerRecord::new("refusing").value(b"1,2")).await.unwrap();
    sent.await.unwrap_err();

    let connection = raw::dial(broker).await;
    let (mut writer, mut reader) = raw::produce(&connection, "counted").await;
    for _ in 0..3 {
        let noise = Bytes::from(vec![0xA5; 100]);
        writer.send(&ProduceBatch {}, [noise]).await.unwrap();
        let answer = reader.recv::<ProduceAnswers>(raw::LIMITS).await.unwrap().unwrap();
        answer.message.answers[0].as_ref().unwrap_err();
    }
    for _ in 0..2 {
        let (mut writer, mut reader) = connection.open().await.unwrap();
        writer.send(&vec![0xff_u8; 100], []).await.unwrap();
        assert!(reader.recv::<ProduceAnswers>(raw::LIMITS).await.is_err(), "it is given up");
    }
    connection
}

async fn filtered(client: &Client, name: &str, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let (name, configs) = (name.parse().unwrap(), configs.collect());
    let topic = CreateTopic { name, partitions: 1, replication_factor: 1, configs };
    client.admin().create_topic_with(topic).await.unwrap();
}

/// So many records, of which every second begins with an odd byte.
async fn fill(client: &Client, topic: &str, records: u32) {
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for number in 0..records {
        let value = format!("{}, the first of a record", number % 2);
        drop(producer.send(ProducerRecord::new(topic).value(value.as_bytes())).await.unwrap());
    }
    producer.close().await.unwrap();
}
