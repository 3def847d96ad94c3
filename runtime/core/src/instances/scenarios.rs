//! What an instance does, situation by situation.

use proptest::prelude::*;

use super::*;

struct Bench {
    instance: Instance,
    now: Time,
}

fn policy(retries: u32, then: LastResort) -> ErrorPolicy {
    ErrorPolicy { retries, backoff_ms: 100, then }
}

impl Bench {
    fn running(policy: ErrorPolicy) -> Self {
        let mut bench = Self { instance: Instance::new(policy, 1), now: Time::from_millis(1) };
        assert_eq!(bench.step(Input::Start), [Output::Run]);
        bench
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.instance.step(self.now, input, &mut out);
        out
    }

    fn fail(&mut self, at: u64) -> Vec<Output> {
        self.step(Input::Failed { at: Offset(at), error: "trap: unreachable".into() })
    }

    fn wait(&mut self) -> Vec<Output> {
        self.now = self.instance.deadline().expect("it is backing off");
        self.step(Input::Tick)
    }
}

#[test]
fn a_failed_batch_is_tried_again_then_taken_record_by_record() {
    let mut bench = Bench::running(policy(2, LastResort::DeadLetter));
    for _ in 0..2 {
        assert_eq!(bench.fail(70), [Output::Halt]);
        assert_eq!(bench.instance.status(), Status::BackingOff);
        assert_eq!(bench.step(Input::Tick), [], "not before its time");
        assert_eq!(bench.wait(), [Output::Run]);
    }
    let each = Output::RunEach { at: Offset(70), dead_letter: true };
    assert_eq!(bench.fail(70), [Output::Halt, each]);
    bench.step(Input::Handled);
    assert_eq!(bench.fail(80), [Output::Halt], "the next batch has its own retries");
    assert_eq!(bench.instance.last_error(), Some("trap: unreachable"));
}

#[test]
fn skip_leaves_records_out_without_a_letter() {
    let mut bench = Bench::running(policy(0, LastResort::Skip));
    let each = Output::RunEach { at: Offset(5), dead_letter: false };
    assert_eq!(bench.fail(5), [Output::Halt, each]);
}

#[test]
fn stop_stops_until_somebody_resumes() {
    let mut bench = Bench::running(policy(0, LastResort::Stop));
    let error: Arc<str> = "trap: unreachable".into();
    assert_eq!(bench.fail(5), [Output::Halt, Output::Stopped { at: Offset(5), error }]);
    assert_eq!(bench.instance.status().to_string(), "stopped");
    assert_eq!(bench.instance.deadline(), None);
    assert_eq!(bench.step(Input::Start), [Output::Run]);
}

#[test]
fn a_handled_batch_clears_the_count() {
    let mut bench = Bench::running(policy(1, LastResort::Stop));
    for _ in 0..10 {
        assert_eq!(bench.fail(5), [Output::Halt]);
        assert_eq!(bench.wait(), [Output::Run]);
        bench.step(Input::Handled);
    }
}

#[test]
fn what_the_module_cannot_help_is_never_given_up_for() {
    let mut bench = Bench::running(policy(0, LastResort::Stop));
    for _ in 0..100 {
        let hindered = bench.step(Input::Hindered { error: "disk full".into() });
        assert_eq!(hindered, [Output::Halt]);
        assert_eq!(bench.wait(), [Output::Run]);
    }
}

#[test]
fn a_hindrance_while_going_record_by_record_goes_on_record_by_record() {
    let mut bench = Bench::running(policy(0, LastResort::DeadLetter));
    bench.fail(5);
    bench.step(Input::Hindered { error: "disk full".into() });
    assert_eq!(bench.wait(), [Output::RunEach { at: Offset(5), dead_letter: true }]);
}

#[test]
fn a_paused_instance_runs_nothing_and_a_new_version_starts_over() {
    let mut bench = Bench::running(policy(1, LastResort::Stop));
    assert_eq!(bench.step(Input::Pause), [Output::Halt]);
    assert_eq!(bench.step(Input::Pause), []);
    assert_eq!(bench.fail(5), [], "a late report counts for nothing");
    let update = Input::Update { policy: policy(0, LastResort::Skip) };
    assert_eq!(bench.step(update.clone()), []);
    assert_eq!(bench.step(Input::Start), [Output::Run]);
    assert_eq!(bench.step(update), [Output::Halt, Output::Run]);
}

proptest! {
    #[test]
    fn whatever_happens_guests_run_one_at_a_time_and_only_when_running(
        inputs in prop::collection::vec((0u8..7, 0u64..4), 1..80),
        retries in 0u32..3,
        then in prop_oneof![Just(LastResort::DeadLetter), Just(LastResort::Skip), Just(LastResort::Stop)],
    ) {
        let mut bench = Bench { instance: Instance::new(policy(retries, then), 1), now: Time::ZERO };
        let mut running = false;
        for (kind, at) in inputs {
            let error: Arc<str> = "x".into();
            let input = match kind {
                0 => Input::Start,
                1 => Input::Pause,
                2 => Input::Update { policy: policy(retries, then) },
                3 => Input::Handled,
                4 => Input::Failed { at: Offset(at), error },
                5 => Input::Hindered { error },
                _ => {
                    bench.now = bench.instance.deadline().unwrap_or(bench.now);
                    Input::Tick
                }
            };
            for output in bench.step(input) {
                match output {
                    Output::Run | Output::RunEach { .. } => {
                        prop_assert!(!running, "a second guest");
                        running = true;
                    }
                    Output::Halt => {
                        prop_assert!(running, "nothing to halt");
                        running = false;
                    }
                    Output::Stopped { .. } => prop_assert!(!running),
                }
            }
            prop_assert_eq!(running, bench.instance.status() == Status::Running);
        }
    }
}
