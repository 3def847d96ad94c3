//! Whatever a guest does, its call ends with a named error, and the next call finds a usable instance.

use std::time::{Duration, Instant};

use millstream_modules::{ErrorKind, GuestError, Limits};
use millstream_tests_modules::rig::{hostile, numbers, start};

/// Short for what spins until the deadline, long enough for everything else.
fn limits() -> Limits {
    Limits { deadline: Duration::from_millis(300), ..Limits::default() }
}

async fn error_of(mode: &str) -> GuestError {
    let guest = hostile(mode, limits()).await;
    let error = guest.process(numbers(0, 10)).await.expect_err(mode);
    // A second call must fail as the first did, whether the instance was kept or made anew.
    assert_eq!(guest.process(numbers(0, 10)).await, Err(error.clone()), "{mode}, again");
    let counters = guest.scope().counters().snapshot();
    assert_eq!(counters.errors, [(error.kind(), 2)], "{mode}");
    error
}

#[tokio::test]
async fn an_endless_loop_ends_at_the_deadline() {
    let started = Instant::now();
    let deadline = limits().deadline;
    assert_eq!(error_of("loop").await, GuestError::DeadlineExceeded { deadline });
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_memory_bomb_ends_at_the_memory_limit() {
    let limit = limits().memory_bytes;
    assert_eq!(error_of("memory").await, GuestError::MemoryLimit { limit });
    assert_eq!(error_of("memory-gently").await, GuestError::MemoryLimit { limit });
}

#[tokio::test]
async fn an_output_bomb_ends_at_the_output_limit() {
    assert_eq!(error_of("output").await.kind(), ErrorKind::OutputLimit);
}

#[tokio::test]
async fn a_stack_overflow_is_named() {
    assert_eq!(error_of("stack").await, GuestError::StackOverflow);
    assert_eq!(error_of("shadow-stack").await, GuestError::StackOverflow);
}

#[tokio::test]
async fn a_panic_is_a_trap_that_quotes_its_message() {
    let GuestError::Trap { message } = error_of("panic").await else { panic!("not a trap") };
    assert!(message.contains("this is the end"), "{message}");
    assert!(message.contains("src/lib.rs"), "{message}");
}

#[tokio::test]
async fn leaving_the_process_is_a_trap() {
    let message = "the module called exit".to_owned();
    assert_eq!(error_of("exit").await, GuestError::Trap { message });
}

#[tokio::test]
async fn malformed_output_is_named() {
    for mode in [
        "endless-length",
        "no-such-output",
        "no-such-source",
        "noise",
        "short-bitmap",
        "stray-bits",
        "refuse-beyond",
    ] {
        assert_eq!(error_of(mode).await.kind(), ErrorKind::BadOutput, "{mode}");
    }
}

#[tokio::test]
async fn a_refused_record_keeps_the_instance() {
    let guest = hostile("refuse-1", limits()).await;
    let message = "I do not like it".to_owned();
    let refused = Err(GuestError::Refused { index: 1, message });
    assert_eq!(guest.process(numbers(0, 10)).await, refused);
    assert_eq!(guest.process(numbers(0, 10)).await, refused);
    assert_eq!(guest.scope().counters().snapshot().instantiations, 1);
}

#[tokio::test]
async fn a_guest_that_cannot_start_says_why() {
    let start = async |mode| start("hostile", &[("do", mode)], &["out"], limits()).await;
    let message = "these parameters will not do".to_owned();
    assert_eq!(start("refuse-init").await.unwrap_err(), GuestError::InitFailed { message });
    assert_eq!(start("loop-in-init").await.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    let error = start("panic-in-init").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Trap);
    assert!(error.to_string().contains("cannot start"), "{error}");
}

#[tokio::test]
async fn after_a_trap_the_next_batch_gets_a_new_instance() {
    for mode in ["panic-at-0", "loop-at-0"] {
        let guest = hostile(mode, limits()).await;
        guest.process(numbers(0, 10)).await.expect_err(mode);
        guest.process(numbers(10, 10)).await.expect(mode);
        assert_eq!(guest.scope().counters().snapshot().instantiations, 2, "{mode}");
    }
}

#[tokio::test]
async fn a_log_flood_is_cut_and_the_call_succeeds() {
    let guest = hostile("flood", Limits { deadline: Duration::from_secs(5), ..limits() }).await;
    guest.process(numbers(0, 10)).await.unwrap();
    let log = guest.scope().log();
    assert!(log.next_sequence() < 1_000, "{} lines", log.next_sequence());
    assert!(log.dropped_ever() > 90_000, "{} dropped", log.dropped_ever());
    assert_eq!(guest.scope().counters().snapshot().custom["floods"], 1);
}
