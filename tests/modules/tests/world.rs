//! What a guest sees of the world: its batch, and nothing else.

use std::time::Duration;

use millstream_modules::{ErrorKind, Level, Limits, Verdict};
use millstream_tests_modules::rig::{hostile, numbers, rewritten};

async fn says(mode: &str, base_offset: u64) -> String {
    let guest = hostile(mode, Limits::default()).await;
    let verdict = guest.process(numbers(base_offset, 1)).await.expect("it answers");
    rewritten(&verdict)[0].3.clone()
}

#[tokio::test]
async fn there_are_no_arguments_no_environment_and_no_input() {
    assert_eq!(says("environment", 0).await, "0 0 Ok(0)");
}

#[tokio::test]
async fn time_is_the_batchs_and_sleeping_takes_none() {
    assert_eq!(says("clock", 0).await, "1700000000123 0ns");
}

#[tokio::test]
async fn hash_maps_have_the_same_order_in_every_instance_wherever_it_starts() {
    assert_eq!(says("order", 0).await, says("order", 77).await);
}

#[tokio::test]
async fn what_a_guest_prints_becomes_lines_of_the_log() {
    let guest = hostile("print", Limits::default()).await;
    assert_eq!(guest.process(numbers(0, 1)).await, Ok(Verdict::All));
    let lines = guest.scope().log().since(0, 10);
    let found: Vec<_> = lines.iter().map(|line| (line.level, line.message.as_str())).collect();
    let want = [
        (Level::Info, "to standard output"),
        (Level::Error, "to standard error"),
        (Level::Warn, "to the log"),
        (Level::Info, "without an end"),
    ];
    assert_eq!(found, want);
    assert!(lines.iter().all(|line| line.place == Some(("input".into(), 7))));
}

#[tokio::test]
async fn limits_change_while_an_instance_runs() {
    let guest =
        hostile("loop", Limits { deadline: Duration::from_secs(600), ..Limits::default() }).await;
    let running = guest.clone();
    let call = tokio::spawn(async move { running.process(numbers(0, 1)).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    guest.scope().set_limits(Limits { deadline: Duration::from_millis(50), ..Limits::default() });
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn a_lowered_memory_limit_replaces_an_instance_that_is_over_it() {
    let guest = hostile("hold-memory", Limits::default()).await;
    guest.process(numbers(0, 1)).await.unwrap();
    let lower = Limits { memory_bytes: 8 << 20, ..Limits::default() };
    guest.scope().set_limits(lower);
    let error = guest.process(numbers(0, 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MemoryLimit);
    guest.scope().set_limits(Limits::default());
    guest.process(numbers(0, 1)).await.unwrap();
}
