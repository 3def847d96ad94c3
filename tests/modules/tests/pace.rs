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
    FilterSpec {
        params,
        outputs: vec!["out".to_owned()],
        scope: Arc::new(Scope::new(limits)),
        place: None,
    }
}

#[tokio::test]
async fn a_guest_has_its_turn_while_others_spin_on_its_only_thread() {
    let config = EngineConfig { guest_threads: 1, ..EngineConfig::default() };
    let engine = Engine::new(config).unwrap();
    let hostile = engine.load(&guest("hostile")).unwrap();
    let keep = engine.load(&guest("keep-half")).unwrap();
    let limits = Limits::default();
    let keep = engine.start_filter(&keep, spec(&[], limits.clone())).await;
    let keep = keep.unwrap();
    let mut spinning = Vec::new();
    for _ in 0..3 {
        let spec = spec(&[("do", "loop")], limits.clone());
        let guest = engine.start_filter(&hostile, spec).await.unwrap();
        spinning.push(tokio::spawn(async move { guest.process(numbers(0, 10)).await }));
    }
    let served = Arc::clone(keep.scope());
    // Several callers, so that a call always waits when its turn comes.
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let keep = keep.clone();
            tokio::spawn(async move { while keep.process(numbers(0, 1_000)).await.is_ok() {} })
        })
        .collect();
    let first = spinning.swap_remove(0).await.unwrap().unwrap_err();
    // The spinning guest had a second of the thread, in turns of a tick; without turns this would be none.
    let calls = served.counters().snapshot().calls;
    assert_eq!(first.kind(), ErrorKind::DeadlineExceeded);
    assert!(calls >= 20, "{calls} calls");
    for caller in callers {
        caller.abort();
    }
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
