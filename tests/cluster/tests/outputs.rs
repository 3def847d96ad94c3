//! What a job makes of its input when it is more than a batch holds, when its input was deleted far
//! ahead of it, and when it starts in the middle of a batch.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use millstream_client::protocol::batch::{SealedBatches, UNSYNCED_UNKNOWN, seal, stamp};
use millstream_client::protocol::ids::{Offset, PartitionIndex, Timestamp, TopicName};
use millstream_client::protocol::message::job::{JobLimits, JobSpec, StartPosition};
use millstream_client::protocol::message::topic::CreateTopic;
use millstream_client::{Client, ProducerConfig, ProducerRecord, TopicChange};
use millstream_tests_cluster::jobs::{caught_up, spec, upload};
use millstream_tests_cluster::reading::{Whole, count, read_whole};
use millstream_tests_cluster::{Broker, Random, until};

const SOON: Duration = Duration::from_secs(60);
const COLUMNS: usize = 100;
/// Rows of one batch: as JSON, and as dead letters, they are more than a batch holds.
const ROWS: u64 = 15_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_and_dead_letters_over_the_size_of_a_batch_are_written_once_whatever_is_killed() {
    let (mut random, mut broker) = (Random::new(), Broker::start().await);
    let client = broker.client().await;
    for topic in ["rows", "json"] {
        client.admin().create_topic(topic, 1).await.unwrap();
    }
    let module = upload(&client, "csv-to-json").await;
    let columns: Vec<_> = (0..COLUMNS).map(|n| format!("column-number-{n}")).collect();
    let job = spec("json", &module, (&["rows"], &["json"]), &[("columns", &columns.join(","))]);
    client.admin().deploy_job(roomy(job)).await.unwrap();
    let written = async || count(&client, "json").await + count(&client, "json.dlq").await;
    let mut interrupted = 0;
    for round in 0..6 {
        let before = written().await;
        // Every second batch has a column too many in each row.
        let columns = if round % 2 == 0 { COLUMNS } else { COLUMNS + 1 };
        let row = |number| vec![format!("{number:08}"); columns].join(",");
        let rows: Vec<_> = (round * ROWS..(round + 1) * ROWS).map(|n| (n, row(n))).collect();
        send_batch(&client, "rows", rows.iter().map(|(_, row)| (None, row.as_bytes()))).await;
        until("the first of several batches", SOON, async || {
            if before < written().await { Ok(()) } else { Err(()) }
        })
        .await;
        tokio::time::sleep(Duration::from_micros(random.below(3_000) * (round % 3))).await;
        broker.kill();
        interrupted += u64::from(in_outputs(&broker) < before + ROWS);
        broker.restart().await;
        caught_up(&client, "json").await;
        assert_eq!(written().await, before + ROWS, "round {round}");
    }
    assert!(0 < interrupted, "no kill fell between the outputs of one input batch");
    let all = |parity| (0..6).filter(move |n| n % 2 == parity);
    let numbers = |parity| all(parity).flat_map(|n| n * ROWS..(n + 1) * ROWS).collect::<Vec<_>>();
    let number = |record: &Whole| {
        let text = record.text();
        let digits = text.trim_start_matches("{\"column-number-0\":").trim_start_matches('"');
        digits[..8].parse::<u64>().unwrap_or_else(|_| panic!("{}", &text[..40]))
    };
    for (topic, parity) in [("json", 0), ("json.dlq", 1)] {
        let records = read_whole(&client, topic).await;
        let found: Vec<_> = records.iter().map(number).collect();
        assert!(found == numbers(parity), "{topic}: each once and in order");
        let headers = |record: &Whole| {
            let each = record.headers.iter();
            each.map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>()
        };
        let bytes: usize = records.iter().map(|record| size(record) + headers(record)).sum();
        assert!(3 * (16 << 20) < bytes, "{topic}: {bytes} bytes fit a batch for each input batch");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_no_batch_of_the_output_holds_is_a_dead_letter_and_the_others_are_not() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let hostile = upload(&client, "hostile").await;
    client.admin().create_topic("in", 1).await.unwrap();
    let configs = BTreeMap::from([("max.message.bytes".to_owned(), "65536".to_owned())]);
    let name = TopicName::new("narrow").unwrap();
    let topic = CreateTopic { name, partitions: 1, replication_factor: 1, configs };
    client.admin().create_topic_with(topic).await.unwrap();
    let job = spec("copy", &hostile, (&["in"], &["narrow"]), &[]);
    client.admin().deploy_job(roomy(job)).await.unwrap();
    let sizes = [40_000, 40_000, 100_000, 10, 66_000, 65_000, 20];
    let values = sizes.map(|size| vec![b'v'; size]);
    send_batch(&client, "in", values.iter().map(|value| (None, &value[..]))).await;
    caught_up(&client, "copy").await;
    let kept = read_whole(&client, "narrow").await;
    assert_eq!(kept.iter().map(size).collect::<Vec<_>>(), [40_000, 40_000, 10, 65_000, 20]);
    let dead = read_whole(&client, "copy.dlq").await;
    assert_eq!(dead.iter().map(size).collect::<Vec<_>>(), [100_000, 66_000]);
    for letter in dead {
        assert_eq!(letter.header("millstream.error.kind").as_deref(), Some("output-too-large"));
        let error = letter.header("millstream.error").unwrap();
        assert!(error.contains("65536") && error.contains("max.message.bytes"), "{error}");
    }
    // The limit may be raised while the job runs.
    let change = TopicChange::default().set("max.message.bytes", "1048576");
    client.admin().alter_topic("narrow", change).await.unwrap();
    send_batch(&client, "in", values.iter().map(|value| (None, &value[..]))).await;
    caught_up(&client, "copy").await;
    assert_eq!(count(&client, "narrow").await, 5 + sizes.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_dead_letter_fits_no_batch_is_named_in_a_smaller_one() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let module = upload(&client, "csv-to-json").await;
    for topic in ["in", "out"] {
        client.admin().create_topic(topic, 1).await.unwrap();
    }
    let job = spec("json", &module, (&["in"], &["out"]), &[("columns", "a,b")]);
    client.admin().deploy_job(roomy(job)).await.unwrap();
    let names: Vec<_> = (0..1_024).map(|n| format!("h{n}")).collect();
    let headers: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
    let large = vec![b'x'; (8 << 20) - 64];
    // The times of the second and the third are further apart than those of one batch can be.
    let records: [(i64, &[u8], &[_]); 5] = [
        (0, b"1,2", &[]),
        (i64::MAX, b"late", &[]),
        (-5, b"early", &headers[..1]),
        (1, b"many headers", &headers),
        (2, &large, &[]),
    ];
    let producer = client.producer(one_batch()).unwrap();
    let mut fates = Vec::new();
    for (time, value, headers) in records {
        let record = ProducerRecord::new("in").key(b"k").value(value).headers(headers);
        fates.push(producer.send(record.timestamp(Timestamp(time))).await.unwrap());
    }
    producer.close().await.unwrap();
    for fate in fates {
        fate.await.unwrap();
    }
    caught_up(&client, "json").await;
    assert_eq!(count(&client, "out").await, 1);
    let letters = read_whole(&client, "json.dlq").await;
    let found: Vec<_> = letters
        .iter()
        .map(|letter| {
            let header = |name: &str| letter.header(&format!("millstream.{name}"));
            assert_eq!(header("error.kind").unwrap(), "refused");
            assert_eq!(letter.key.is_some(), letter.value.is_some());
            assert_eq!(
                (header("topic").unwrap(), header("partition").unwrap()),
                ("in".into(), "0".into())
            );
            (header("offset").unwrap(), letter.timestamp, letter.value.clone(), header("omitted"))
        })
        .collect();
    let letter = |offset: &str, time, value: Option<&[u8]>, omitted: Option<&str>| {
        (offset.to_owned(), time, value.map(<[u8]>::to_vec), omitted.map(str::to_owned))
    };
    assert_eq!(
        found,
        [
            letter("1", i64::MAX, Some(b"late"), None),
            letter("2", -5, Some(b"early"), None),
            letter("3", 1, Some(b"many headers"), Some("headers")),
            letter("4", 2, None, Some("headers, key, value")),
        ]
    );
    assert_eq!(letters[1].headers[0], ("h0".to_owned(), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_input_was_deleted_far_ahead_of_it_goes_on_and_writes_once() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    let hostile = upload(&client, "hostile").await;
    for (topic, partitions) in [("in", 1), ("out", 2)] {
        client.admin().create_topic(topic, partitions).await.unwrap();
    }
    let job = spec("copy", &hostile, (&["in"], &["out"]), &[]);
    client.admin().deploy_job(job).await.unwrap();
    let keys = ["a", "b", "c", "d", "e", "f"];
    let send = async || {
        for key in keys {
            let value = key.as_bytes();
            send_batch(&client, "in", [(Some(value), value)].into_iter()).await;
        }
    };
    send().await;
    caught_up(&client, "copy").await;
    let mut written = keys.len();
    // Half of what a sequence can tell apart, and a little more or less; and the whole of it.
    for gap in [(1_u64 << 30) - 1, 1 << 30, (1 << 31) - 3, 1 << 31, 5 << 28, 1 << 40] {
        client.admin().pause_job("copy").await.unwrap();
        send().await;
        broker.stop().await;
        move_log(&broker, keys.len(), gap);
        broker.restart().await;
        client.admin().resume_job("copy").await.unwrap();
        caught_up(&client, "copy").await;
        written += keys.len();
        let out = texts(&read_whole(&client, "out").await);
        assert_eq!(out.len(), written, "after a gap of {gap}: {out:?}");
        broker.kill();
        broker.restart().await;
        caught_up(&client, "copy").await;
        assert_eq!(read_whole(&client, "out").await.len(), written, "a replay after {gap}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_starts_at_a_time_handles_nothing_that_lies_before_it_in_the_same_batch() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    let hostile = upload(&client, "hostile").await;
    for topic in ["in", "out"] {
        client.admin().create_topic(topic, 1).await.unwrap();
    }
    let values: Vec<_> = (0..10).map(|n| n.to_string()).collect();
    let producer = client.producer(one_batch()).unwrap();
    let mut fates = Vec::new();
    for (time, value) in (1_000..).zip(&values) {
        let record = ProducerRecord::new("in").value(value.as_bytes()).timestamp(Timestamp(time));
        fates.push(producer.send(record).await.unwrap());
    }
    producer.close().await.unwrap();
    for fate in fates {
        fate.await.unwrap();
    }
    let mut job = spec("copy", &hostile, (&["in"], &["out"]), &[]);
    job.start = StartPosition::Timestamp(Timestamp(1_004));
    client.admin().deploy_job(job.clone()).await.unwrap();
    caught_up(&client, "copy").await;
    assert_eq!(texts(&read_whole(&client, "out").await), values[4..]);
    broker.kill();
    broker.restart().await;
    caught_up(&client, "copy").await;
    assert_eq!(read_whole(&client, "out").await.len(), 6);
    let partition = &client.admin().describe_job("copy").await.unwrap().partitions[0];
    assert_eq!(partition.position, Offset(10));
}

fn roomy(job: JobSpec) -> JobSpec {
    let limits = JobLimits { batch_ms: 20_000, memory_bytes: 1 << 30, ..job.limits };
    JobSpec { limits, ..job }
}

fn one_batch() -> ProducerConfig {
    let linger = Duration::from_secs(60);
    ProducerConfig { batch_bytes: 15 << 20, linger, ..ProducerConfig::default() }
}

/// Sends records, key and value each, as one batch.
async fn send_batch<'a>(
    client: &Client,
    topic: &str,
    records: impl Iterator<Item = (Option<&'a [u8]>, &'a [u8])>,
) {
    let producer = client.producer(one_batch()).unwrap();
    let mut fates = Vec::new();
    for (key, value) in records {
        let record = ProducerRecord::new(topic).partition(PartitionIndex(0)).value(value);
        fates.push(producer.send(ProducerRecord { key, ..record }).await.unwrap());
    }
    producer.close().await.unwrap();
    for fate in fates {
        fate.await.unwrap();
    }
}

/// How many records lie in the logs of a broker that was killed, but for its first topic's: whole batches
/// only.
fn in_outputs(broker: &Broker) -> u64 {
    let first = partition_directory(broker);
    let partitions = std::fs::read_dir(broker.data_dir().join("partitions")).unwrap();
    let outputs = partitions.map(|entry| entry.unwrap().path()).filter(|path| *path != first);
    let logs = outputs.flat_map(|directory| std::fs::read_dir(directory).unwrap());
    let logs = logs.map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.flat_map(|log| {
        let batches = SealedBatches::new(Bytes::from(std::fs::read(log).unwrap()));
        batches.map_while(Result::ok).map(|sealed| u64::from(sealed.batch.header.record_count))
    })
    .sum()
}

/// Makes the log of a stopped broker's first topic one that begins with its last `keep` batches, so
/// many offsets later: as if retention had deleted all that lay before.
fn move_log(broker: &Broker, keep: usize, gap: u64) {
    let directory = partition_directory(broker);
    let mut segments: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    let bytes = segments.iter().flat_map(|segment| std::fs::read(segment).unwrap());
    let batches: Vec<_> =
        SealedBatches::new(Bytes::from_iter(bytes)).map(|batch| batch.unwrap().batch).collect();
    let (mut moved, mut first) = (Vec::new(), None);
    for batch in &batches[batches.len() - keep..] {
        let base = batch.header.base_offset + gap;
        let mut bytes = batch.bytes.to_vec();
        stamp(&mut bytes, base, batch.header.leader_epoch);
        moved.extend(seal(&bytes, UNSYNCED_UNKNOWN));
        moved.extend(bytes);
        first.get_or_insert(base);
    }
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join(format!("{:020}.log", first.unwrap().get())), moved).unwrap();
}

fn partition_directory(broker: &Broker) -> PathBuf {
    let mut found: Vec<_> = std::fs::read_dir(broker.data_dir().join("partitions"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found.swap_remove(0)
}

fn texts(records: &[Whole]) -> Vec<String> {
    records.iter().map(Whole::text).collect()
}

fn size(record: &Whole) -> usize {
    record.value.as_ref().map_or(0, Vec::len)
}
