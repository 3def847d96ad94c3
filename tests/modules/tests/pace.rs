//! Hostile guests share their threads; others keep their pace.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millstream_modules::{Engine, EngineConfig, ErrorKind, FilterSpec, Limits, Scope};
use millstream_tests_modules::{
    guest,
    rig::{hostile, numbers},
};

fn spec(params: &[(&str, &str)], limits: Limits) -> FilterSpec {
    let params = params.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    FilterSpec { params, outputs: vec!["out".to_owned()], scope: Arc::new(Scope::new(limits)) }
}

#[tokio::test]
async fn spinning_guests_on_the_same_thread_delay_others_by_a_few_ticks() {
    let config = EngineConfig { guest_threads: 1, ..EngineConfig::default() };
    let engine = Engine::new(config).unwrap();
    let hostile = engine.load(&guest("hostile")).unwrap();
    let keep = engine.load(&guest("keep-half")).unwrap();
    let limits = Limits { deadline: Duration::from_millis(500), ..Limits::default() };
    let mut spinning = Vec::new();
    for _ in 0..3 {
        let guest = engine.start_filter(&hostile, spec(&[("do", "loop")], limits.clone())).await;
        let guest = guest.unwrap();
        spinning.push(tokio::spawn(async move { guest.process(numbers(0, 10)).await }));
    }
    let keep = engine.start_filter(&keep, spec(&[], limits)).await.unwrap();
    let (started, mut worst, mut calls) = (Instant::now(), Duration::ZERO, 0);
    while started.elapsed() < Duration::from_millis(700) {
        let call = Instant::now();
        keep.process(numbers(0, 1_000)).await.unwrap();
        worst = worst.max(call.elapsed());
        calls += 1;
    }
    // Three others with a tick each; the machine may be busy with more than this test.
    assert!(calls > 30, "{calls} calls, the worst {worst:?}");
    assert!(worst < Duration::from_millis(200), "{worst:?}");
    for guest in spinning {
        let error = guest.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    }
}

#[tokio::test]
async fn a_deadline_counts_only_the_guests_own_time() {
    let config = EngineConfig { guest_threads: 1, ..EngineConfig::default() };
    let engine = Engine::new(config).unwrap();
    let hostile = engine.load(&guest("hostile")).unwrap();
    let limits = Limits { deadline: Duration::from_millis(100), ..Limits::default() };
    let started = Instant::now();
    let mut spinning = Vec::new();
    for _ in 0..4 {
        let guest = engine.start_filter(&hostile, spec(&[("do", "loop")], limits.clone())).await;
        let guest = guest.unwrap();
        spinning.push(tokio::spawn(async move { guest.process(numbers(0, 10)).await }));
    }
    for guest in spinning {
        guest.await.unwrap().unwrap_err();
    }
    assert!(started.elapsed() >= Duration::from_millis(390), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_ends_and_the_instance_serves_the_next() {
    let limits = Limits { deadline: Duration::from_secs(600), ..Limits::default() };
    let guest = hostile("loop-at-0", limits).await;
    let call = tokio::time::timeout(Duration::from_millis(50), guest.process(numbers(0, 10)));
    call.await.expect_err("it spins");
    let next = tokio::time::timeout(Duration::from_secs(10), guest.process(numbers(10, 10)));
    next.await.expect("the spinning call is gone").expect("a new instance serves it");
}

#[tokio::test]
async fn an_engine_stops_with_guests_still_spinning() {
    let engine = Engine::new(EngineConfig::default()).unwrap();
    let hostile = engine.load(&guest("hostile")).unwrap();
    let limits = Limits { deadline: Duration::from_secs(600), ..Limits::default() };
    let guest = engine.start_filter(&hostile, spec(&[("do", "loop")], limits)).await.unwrap();
    let call = tokio::spawn(async move { guest.process(numbers(0, 10)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let started = Instant::now();
    drop(engine);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Stopped);
}

#[tokio::test]
async fn more_instances_than_allowed_are_refused_until_one_ends() {
    let config = EngineConfig { max_instances: 1, ..EngineConfig::default() };
    let engine = Engine::new(config).unwrap();
    let keep = engine.load(&guest("keep-half")).unwrap();
    let first = engine.start_filter(&keep, spec(&[], Limits::default())).await.unwrap();
    let refused = engine.start_filter(&keep, spec(&[], Limits::default())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooManyInstances);
    drop(first);
    while engine.instances() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    engine.start_filter(&keep, spec(&[], Limits::default())).await.unwrap();
}
