//! The window, situation by situation.

use std::time::Duration;

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use millstream_protocol::message::produce::{ProduceAck, ProducerIdentity};
use tokio::time::Instant;

use super::super::window::{Answered, Then, Unasked, Window};

const IDENTITY: ProducerIdentity = ProducerIdentity { id: ProducerId(7), epoch: ProducerEpoch(0) };
const NEXT_EPOCH: ProducerIdentity =
    ProducerIdentity { id: ProducerId(7), epoch: ProducerEpoch(1) };

/// A window in which batches are named by their sequence and have ten records each.
fn window(idempotent: bool, batches: usize, sent: usize) -> Window<i32> {
    let mut window = Window::new(idempotent.then_some(IDENTITY), 5);
    let deadline = Instant::now() + Duration::from_secs(10);
    for batch in 0..batches {
        let name = i32::try_from(batch).expect("few") * 10;
        window.push(name, 10, deadline + Duration::from_secs(batch as u64));
    }
    (0..sent).for_each(|_| window.mark_sent());
    window
}

fn written(offset: u64) -> Result<ProduceAck, WireError> {
    Ok(ProduceAck { base_offset: Offset(offset), duplicate: false })
}

fn refused(code: ErrorCode) -> Result<ProduceAck, WireError> {
    Err(WireError::new(code, "told so"))
}

fn names(window: &Window<i32>) -> Vec<i32> {
    window.iter().copied().collect()
}

fn sequences_after_renumbering(window: &mut Window<i32>) -> Vec<i32> {
    let mut sequences = Vec::new();
    window.renumber(NEXT_EPOCH, |_, stamp| {
        assert_eq!(stamp.epoch, NEXT_EPOCH.epoch);
        sequences.push(stamp.sequence.0);
    });
    sequences
}

#[test]
fn after_a_lost_stream_everything_unanswered_is_sent_again_in_order_with_the_same_numbers() {
    let mut window = window(true, 4, 3);
    let answer = window.answer(written(100)).expect("asked");
    assert!(matches!(answer, Answered::Written { batch: Some(0), .. }));
    window.stream_ended();
    for name in [10, 20, 30] {
        assert_eq!(window.unsent(), Some(&name));
        window.mark_sent();
    }
    assert_eq!(window.unsent(), None);
    assert_eq!(window.stamp().sequence, Sequence(40));
}

#[test]
fn a_duplicate_is_a_success_with_its_offset() {
    let mut window = window(true, 1, 1);
    let ack = ProduceAck { base_offset: Offset(5), duplicate: true };
    let answer = window.answer(Ok(ack)).expect("asked");
    assert_eq!(answer, Answered::Written { batch: Some(0), ack });
}

#[test]
fn a_refusal_that_may_pass_loses_nothing_and_keeps_the_order() {
    let mut window = window(true, 3, 3);
    let answer = window.answer(refused(ErrorCode::Overloaded)).expect("asked");
    assert!(matches!(answer, Answered::Again { then: Then::Reopen, .. }));
    assert_eq!((window.awaiting(), window.unsent()), (0, Some(&0)));
    assert_eq!(names(&window), [0, 10, 20]);
}

#[test]
fn a_bad_batch_fails_alone_and_those_behind_it_are_numbered_anew() {
    let mut window = window(true, 3, 3);
    let answer = window.answer(refused(ErrorCode::TooLarge)).expect("asked");
    let Answered::Failed { batch: Some(0), maybe_written: false, then, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(then, Then::Renumber { new_id: false });
    assert_eq!(sequences_after_renumbering(&mut window), [0, 10]);
    assert_eq!(window.stamp().sequence, Sequence(20));
}

#[test]
fn a_bad_batch_that_may_have_been_written_before_leaves_the_numbers_as_they_are() {
    let mut window = window(true, 2, 2);
    window.stream_ended();
    window.mark_sent();
    let answer = window.answer(refused(ErrorCode::TooLarge)).expect("asked");
    assert!(matches!(
        answer,
        Answered::Failed { batch: Some(0), maybe_written: true, then: Then::Reopen, .. }
    ));
    assert_eq!(window.stamp().sequence, Sequence(20));
}

#[test]
fn a_storage_error_says_that_the_batch_may_have_been_written() {
    let mut window = window(true, 2, 2);
    let answer = window.answer(refused(ErrorCode::StorageStopped)).expect("asked");
    assert!(matches!(
        answer,
        Answered::Failed { batch: Some(0), maybe_written: true, then: Then::Reopen, .. }
    ));
}

#[test]
fn a_broker_that_lost_what_it_had_is_written_to_under_the_next_epoch() {
    let mut window = window(true, 3, 3);
    window.answer(written(0)).expect("asked").expect_written();
    let answer = window.answer(refused(ErrorCode::OutOfOrderSequence)).expect("asked");
    let renumber = Then::Renumber { new_id: false };
    assert!(matches!(answer, Answered::Again { then, .. } if then == renumber));
    assert_eq!(sequences_after_renumbering(&mut window), [0, 10]);
}

#[test]
fn an_out_of_order_that_numbering_anew_cannot_mend_fails_the_batch() {
    let mut window = window(true, 2, 2);
    let answer = window.answer(refused(ErrorCode::OutOfOrderSequence)).expect("asked");
    assert!(matches!(answer, Answered::Failed { batch: Some(0), maybe_written: false, .. }));
}

#[test]
fn a_forgotten_producer_goes_on_under_a_new_identity_only_with_what_was_sent_once() {
    let renumber = Then::Renumber { new_id: true };
    let mut once = window(true, 2, 2);
    once.answer(written(0)).expect("asked").expect_written();
    let answer = once.answer(refused(ErrorCode::UnknownProducer)).expect("asked");
    assert!(matches!(answer, Answered::Again { then, .. } if then == renumber));

    let mut twice = window(true, 2, 2);
    twice.answer(written(0)).expect("asked").expect_written();
    twice.stream_ended();
    twice.mark_sent();
    let answer = twice.answer(refused(ErrorCode::UnknownProducer)).expect("asked");
    assert!(matches!(
        answer,
        Answered::Failed { batch: Some(10), maybe_written: true, then: Then::Reopen, .. }
    ));
}

#[test]
fn what_was_given_up_keeps_its_place_among_the_answers() {
    let mut window = window(true, 3, 2);
    let late = Instant::now() + Duration::from_secs(10);
    assert_eq!(window.expire(late), [(0, true)]);
    assert_eq!(names(&window), [10, 20]);
    let answer = window.answer(written(100)).expect("asked");
    assert!(matches!(answer, Answered::Written { batch: None, .. }));
    let answer = window.answer(written(110)).expect("asked");
    assert!(matches!(answer, Answered::Written { batch: Some(10), .. }));
}

#[test]
fn what_was_given_up_is_not_sent_again() {
    let mut window = window(true, 3, 1);
    window.expire(Instant::now() + Duration::from_secs(11));
    window.stream_ended();
    assert_eq!(window.unsent(), Some(&20));
    assert_eq!(names(&window), [20]);
}

#[test]
fn without_sequences_only_the_refused_batch_is_sent_again() {
    let mut window = window(false, 3, 3);
    let answer = window.answer(refused(ErrorCode::Overloaded)).expect("asked");
    assert!(matches!(answer, Answered::Again { then: Then::GoOn, .. }));
    assert_eq!((window.awaiting(), window.unsent()), (2, Some(&0)));
    window.answer(written(0)).expect("asked").expect_written();
    assert_eq!(window.unsent(), Some(&0));
    assert_eq!(names(&window), [20, 0]);
}

#[test]
fn an_answer_that_nobody_asked_for_is_noticed() {
    assert_eq!(window(true, 1, 0).answer(written(0)), Err(Unasked));
}

impl Answered<i32> {
    fn expect_written(&self) {
        assert!(matches!(self, Self::Written { .. }), "{self:?}");
    }
}
