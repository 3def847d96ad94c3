//! Hostile guests: each call ends with its named error, and nobody else on the broker notices.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::ids::PartitionIndex;
use millstream_client::protocol::message::job::{ErrorPolicy, JobLimits, JobPartition, LastResort};
use millstream_client::{Client, ClientError, ProducerConfig, ProducerRecord, TopicChange};
use millstream_tests_cluster::jobs::{caught_up, spec, upload};
use millstream_tests_cluster::pace::{Walker, check_kept};
use millstream_tests_cluster::reading::{count, read_whole};
use millstream_tests_cluster::{Broker, until};

const SOON: Duration = Duration::from_secs(60);

/// What a guest does, what its error is called among dead letters, and how it begins.
const MODES: [(&str, &str, &str); 7] = [
    ("loop", "deadline-exceeded", "deadline exceeded"),
    ("memory", "memory-limit", "memory limit"),
    ("output", "output-limit", "output limit"),
    ("stack", "stack-overflow", "stack overflow"),
    ("panic", "trap", "trap: "),
    ("exit", "trap", "trap: "),
    ("noise", "bad-output", "bad output"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_guest_ends_with_its_named_error_while_others_keep_their_pace() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let walker = Walker::start(&client, "walked").await;
    let (hostile, honest) =
        (upload(&client, "hostile").await, upload(&client, "csv-to-json").await);
    client.admin().create_topic("victims", 1).await.unwrap();
    client.admin().create_topic("out", 1).await.unwrap();
    client.admin().create_topic("rows", 1).await.unwrap();
    client.admin().create_topic("json", 1).await.unwrap();
    let job = spec("honest", &honest, (&["rows"], &["json"]), &[("columns", "a,b")]);
    client.admin().deploy_job(job).await.unwrap();
    send(&client, "victims", 3).await;
    let resident = broker.resident_bytes();
    let before = walker.pace().await;

    for (mode, _, _) in MODES {
        // Tried again and again, for as long as the pace of others is measured.
        let mut job = spec(mode, &hostile, (&["victims"], &["out"]), &[("do", mode)]);
        job.on_error = ErrorPolicy { retries: 1_000, backoff_ms: 10, then: LastResort::Stop };
        client.admin().deploy_job(job).await.unwrap();
    }
    for (mode, _, text) in MODES {
        let failed = until("a failure", SOON, async || failure(&client, mode).await).await;
        assert!(failed.last_error.as_deref().unwrap().starts_with(text), "{mode}: {failed:?}");
        assert_eq!(failed.position.get(), 0, "{mode}");
    }
    let during = walker.pace().await;
    send(&client, "rows", 100).await;
    caught_up(&client, "honest").await;
    assert_eq!(count(&client, "json").await, 100);
    let grown = broker.resident_bytes().saturating_sub(resident);
    assert!(grown < 512 << 20, "{} MiB for hostile guests", grown >> 20);
    for (mode, ..) in MODES {
        client.admin().delete_job(mode).await.unwrap();
    }
    check_kept((before, during, walker.pace().await), "beside seven hostile guests");
    assert_eq!(broker.panics(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_loops_on_every_record_of_a_batch_holds_up_nobody_who_changes_or_ends_its_job()
{
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    let hostile = upload(&client, "hostile").await;
    client.admin().create_topic("victims", 1).await.unwrap();
    client.admin().create_topic("out", 1).await.unwrap();
    send(&client, "victims", 3_000).await;
    // Each record takes its second; or the first call the longest that there is.
    let jobs = [("each", 1_000, 3), ("all", 60_000, 0)].map(|(name, batch_ms, errors)| {
        let mut job = spec(name, &hostile, (&["victims"], &["out"]), &[("do", "loop")]);
        job.limits.batch_ms = batch_ms;
        (job, errors)
    });
    for (job, errors) in &jobs {
        let name = job.name.as_str();
        let loops = async || {
            let before = client.admin().describe_job(name).await;
            let before = before.map_or(0, |job| job.partitions[0].errors);
            until("a guest that loops", SOON, async || {
                let now = client.admin().describe_job(name).await.unwrap();
                let now = now.partitions[0].clone();
                let loops = now.status == "running" && before + errors <= now.errors;
                if loops { Ok(()) } else { Err(now) }
            })
            .await;
        };
        client.admin().deploy_job(job.clone()).await.unwrap();
        loops().await;
        let limits = Some(job.limits);
        within("an update", client.admin().update_job(name, None, limits)).await;
        loops().await;
        let more = TopicChange::default().partitions(if *errors == 0 { 3 } else { 2 });
        within("more partitions", client.admin().alter_topic("out", more)).await;
        loops().await;
        let other = format!("beside-{name}");
        let (admin, other_admin) = (client.admin(), client.admin());
        let deleted = within("an end", admin.delete_job(name));
        let created = within("another topic", other_admin.create_topic(&other, 1));
        tokio::join!(deleted, created);
        client.admin().deploy_job(job.clone()).await.unwrap();
        loops().await;
    }
    broker.stop().await;
    assert!(!broker.said().contains("in time"), "{}", broker.said());
}

/// What the broker answers within seconds.
async fn within<T>(what: &str, asked: impl Future<Output = Result<T, ClientError>>) -> T {
    let answered = tokio::time::timeout(Duration::from_secs(10), asked).await;
    answered.unwrap_or_else(|_| panic!("{what} takes too long")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hostile_guest_fails_on_lands_among_the_dead_letters_under_the_errors_name() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let hostile = upload(&client, "hostile").await;
    client.admin().create_topic("victims", 1).await.unwrap();
    client.admin().create_topic("out", 1).await.unwrap();
    send(&client, "victims", 2).await;
    for (mode, ..) in MODES {
        let mut job = spec(mode, &hostile, (&["victims"], &["out"]), &[("do", mode)]);
        job.limits.batch_ms = 200;
        client.admin().deploy_job(job).await.unwrap();
    }
    for (mode, kind, text) in MODES {
        caught_up(&client, mode).await;
        let dead = read_whole(&client, &format!("{mode}.dlq")).await;
        assert_eq!(dead.len(), 2, "{mode}");
        for letter in dead {
            assert_eq!(letter.header("millstream.error.kind").as_deref(), Some(kind));
            let error = letter.header("millstream.error").unwrap();
            assert!(error.starts_with(text), "{mode}: {error}");
            assert_eq!(letter.text(), "1,2");
        }
    }
    assert_eq!(count(&client, "out").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_that_are_raised_while_the_job_fails_let_it_go_on() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let hostile = upload(&client, "hostile").await;
    client.admin().create_topic("victims", 1).await.unwrap();
    client.admin().create_topic("out", 1).await.unwrap();
    send(&client, "victims", 5).await;
    let params = [("do", "hold-memory")];
    let mut job = spec("tight", &hostile, (&["victims"], &["out"]), &params);
    job.on_error = ErrorPolicy { retries: 1_000, backoff_ms: 10, then: LastResort::Stop };
    job.limits.memory_bytes = 16 << 20;
    client.admin().deploy_job(job.clone()).await.unwrap();
    let failed = until("a failure", SOON, async || failure(&client, "tight").await).await;
    assert!(failed.last_error.unwrap().starts_with("memory limit"));

    let limits = JobLimits { memory_bytes: 256 << 20, ..job.limits };
    client.admin().update_job("tight", None, Some(limits)).await.unwrap();
    caught_up(&client, "tight").await;
    assert_eq!(count(&client, "out").await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_stops_at_poison_says_so_and_goes_on_when_it_is_resumed_after_a_change() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    let hostile = upload(&client, "hostile").await;
    let honest = upload(&client, "csv-to-json").await;
    client.admin().create_topic("victims", 1).await.unwrap();
    client.admin().create_topic("out", 1).await.unwrap();
    send(&client, "victims", 5).await;
    let mut job = spec("stops", &hostile, (&["victims"], &["out"]), &[("do", "panic")]);
    job.on_error = ErrorPolicy { retries: 1, backoff_ms: 10, then: LastResort::Stop };
    client.admin().deploy_job(job).await.unwrap();
    let stopped = until("the stop", SOON, async || {
        let partition = failure(&client, "stops").await?;
        if partition.status == "stopped" { Ok(partition) } else { Err(format!("{partition:?}")) }
    })
    .await;
    assert!(stopped.last_error.as_deref().unwrap().contains("this is the end"));
    assert_eq!(stopped.lag, 5);
    // A version that does not take the job's parameters is refused before anything changes.
    let refused = client.admin().update_job("stops", Some(honest), None).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::GuestFailed), "{refused}");
    assert!(refused.to_string().contains("unknown parameter `do`"), "{refused}");
    // Resumed, it tries again, fails again, and stops again.
    client.admin().resume_job("stops").await.unwrap();
    until("another stop", SOON, async || {
        let again = failure(&client, "stops").await?;
        let done = again.status == "stopped" && stopped.errors < again.errors;
        if done { Ok(()) } else { Err(format!("{again:?}")) }
    })
    .await;
    broker.kill();
    broker.restart().await;
    assert_eq!(count(&client, "out").await, 0);
    client.admin().delete_job("stops").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_guests_say_is_in_the_jobs_log_and_a_flood_is_bounded() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let hostile = upload(&client, "hostile").await;
    client.admin().create_topic("victims", 1).await.unwrap();
    client.admin().create_topic("out", 1).await.unwrap();
    for mode in ["print", "flood"] {
        let job = spec(mode, &hostile, (&["victims"], &["out"]), &[("do", mode)]);
        client.admin().deploy_job(job).await.unwrap();
    }
    send(&client, "victims", 1).await;
    for mode in ["print", "flood"] {
        caught_up(&client, mode).await;
    }
    let said = until("log lines", SOON, async || {
        let page = client.admin().job_logs("print", 0, 100).await.unwrap();
        let said: Vec<_> = page.lines.into_iter().map(|line| (line.level, line.text)).collect();
        if said.len() < 4 { Err(said) } else { Ok(said) }
    })
    .await;
    for (level, text) in [
        ("info", "to standard output"),
        ("error", "to standard error"),
        ("info", "without an end"),
        ("warn", "to the log"),
    ] {
        assert!(said.contains(&(level.to_owned(), text.to_owned())), "{said:?}");
    }
    let flood = client.admin().job_logs("flood", 0, 10_000).await.unwrap();
    assert!(!flood.lines.is_empty());
    assert!(flood.lines.len() < 100_000, "{}", flood.lines.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_a_jobs_log_says_which_of_its_inputs_it_is_about() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let hostile = upload(&client, "hostile").await;
    for topic in ["victims", "witnesses", "out"] {
        client.admin().create_topic(topic, 1).await.unwrap();
    }
    let inputs = ["victims", "witnesses"];
    for mode in ["print", "greet"] {
        let job = spec(mode, &hostile, (&inputs, &["out"]), &[("do", mode)]);
        client.admin().deploy_job(job).await.unwrap();
    }
    send(&client, "witnesses", 1).await;
    // One prints in each call, and only the second input has a record; the other while it starts.
    for (mode, lines, about) in [("print", 4, &inputs[1..]), ("greet", 2, &inputs[..])] {
        let mut topics = until("log lines", SOON, async || {
            let page = client.admin().job_logs(mode, 0, 100).await.unwrap();
            let topics: Vec<_> = page.lines.into_iter().map(|line| line.topic).collect();
            if topics.len() < lines { Err(topics) } else { Ok(topics) }
        })
        .await;
        topics.sort();
        topics.dedup();
        assert_eq!(topics.iter().map(|topic| topic.as_str()).collect::<Vec<_>>(), about, "{mode}");
    }
}

/// How the job's only partition stands, once it has failed.
async fn failure(client: &Client, job: &str) -> Result<JobPartition, String> {
    let job = client.admin().describe_job(job).await.unwrap();
    let partition = job.partitions.into_iter().next().unwrap();
    if partition.last_error.is_some() { Ok(partition) } else { Err(format!("{partition:?}")) }
}

async fn send(client: &Client, topic: &str, records: u32) {
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for _ in 0..records {
        let record = ProducerRecord::new(topic).partition(PartitionIndex(0)).value(b"1,2");
        drop(producer.send(record).await.unwrap());
    }
    producer.close().await.unwrap();
}
