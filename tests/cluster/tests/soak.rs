//! Minutes of mixed faults under load: run by `cargo xtask soak`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use millstream_tests_cluster::cluster::{Cluster, Shape};
use millstream_tests_cluster::fault::{FAULTS, strike};
use millstream_tests_cluster::load::{Plan, unacknowledged};
use millstream_tests_cluster::oracle::check_replicated;
use millstream_tests_cluster::{Audience, Load, Random, read_all};

fn given(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: cargo xtask soak"]
async fn minutes_of_mixed_faults_lose_nothing_and_repeat_nothing() {
    let minutes = given("MILLSTREAM_SOAK_MINUTES", 1);
    let brokers = given("MILLSTREAM_SOAK_BROKERS", 3);
    let mut random = Random::new();
    println!("MILLSTREAM_SEED={}", random.seed());
    let shape = Shape { links: true, ..Shape::default() };
    let mut cluster = Cluster::start_with(brokers, shape).await;
    let created = ["topic", "create", "load", "--partitions", "6", "--replication-factor", "3"];
    let created = cluster.cli(1, &created);
    assert!(created.status.success(), "{created:?}");
    let client = cluster.client().await;
    cluster.settles(&client, "load").await;

    let load = Load::start(&client, &Plan::new("load", 6));
    let audience = Audience::gather(&client, "load", 2).await;
    let (began, mut strikes) = (Instant::now(), [0; FAULTS.len()]);
    while began.elapsed() < Duration::from_secs(60) * minutes {
        let which = usize::try_from(random.below(FAULTS.len() as u64)).unwrap();
        println!("{:>4} s: {:?}", began.elapsed().as_secs(), FAULTS[which]);
        strike(&mut cluster, &client, &load, FAULTS[which], &mut random).await;
        strikes[which] += 1;
    }
    cluster.settles(&client, "load").await;
    let history = load.finish().await;
    let log = read_all(&client, "load").await;
    check_replicated(&history, &log);
    assert_eq!(unacknowledged(&history), Vec::<&_>::new(), "every send outlives the faults");
    assert_eq!(log.len(), history.len());
    for saw in audience.dismiss(&client).await {
        assert!(saw == log, "a consumer that read along saw the same, once and in order");
    }
    let each: Vec<_> = FAULTS.iter().zip(strikes).map(|(f, n)| format!("{f:?} {n}")).collect();
    println!("{} records acknowledged, read by all, each once; {}", log.len(), each.join(", "));
}
