//! Size, linger and room, in paused time.

use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::batch::Batch;
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{
    Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicName,
};
use millstream_protocol::message::produce::{Acks, ProduceAck, ProducerIdentity};
use tokio::time::{Instant, advance};

use super::super::budget::Budget;
use super::super::config::ProducerConfig;
use super::super::delivery::Delivery;
use super::super::lane::{Lane, Step};
use super::super::queue::{Appended, Event};
use super::super::record::ProducerRecord;
use super::super::topic::Turn;
use crate::error::ProduceError;

struct Bench {
    lane: Lane,
    budget: Budget,
    config: ProducerConfig,
}

impl Bench {
    fn new(config: ProducerConfig) -> Self {
        let topic = TopicName::new("t").expect("a name");
        let turn = Arc::new(Turn::new(2, 0));
        let (batch_bytes, in_flight) = (config.batch_bytes, config.max_in_flight);
        let lane =
            Lane::new(topic, PartitionIndex(0), batch_bytes, in_flight, turn, Arc::default());
        lane.renumber(ProducerIdentity { id: ProducerId(1), epoch: ProducerEpoch(0) });
        Self { lane, budget: Budget::new(config.buffer_bytes), config }
    }

    fn append(&self, value: &[u8]) -> Appended {
        let record = ProducerRecord::new("t").key(b"k").value(value);
        let appended = self.lane.append(&record, Timestamp(0), false, &self.budget, &mut None);
        appended.expect("a good record")
    }

    fn event(&self, value: &[u8]) -> Event {
        match self.append(value) {
            Appended::Done { event, .. } => event,
            other => panic!("{other:?}"),
        }
    }

    fn step(&self) -> Step {
        self.lane.next_step(&self.config, &self.budget, (5, true), Instant::now())
    }

    /// The records of the batch that is sent now.
    fn sent(&self) -> Option<u32> {
        match self.step() {
            Step::Send(bytes) => Some(Batch::parse(bytes).expect("a batch").header.record_count),
            _ => None,
        }
    }
}

fn written() -> Result<ProduceAck, WireError> {
    Ok(ProduceAck { base_offset: Offset(0), duplicate: false })
}

fn config() -> ProducerConfig {
    ProducerConfig { batch_bytes: 1_000, linger: Duration::from_millis(5), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_more_as_long_as_linger_says_and_no_longer() {
    let bench = Bench::new(config());
    assert_eq!(bench.event(b"one"), Event::Opened);
    let Step::WaitUntil(at) = bench.step() else { panic!("it should linger") };
    assert_eq!(at - Instant::now(), Duration::from_millis(5));
    advance(Duration::from_millis(4)).await;
    assert_eq!(bench.event(b"two"), Event::Nothing);
    assert_eq!(bench.sent(), None);
    advance(Duration::from_millis(1)).await;
    assert_eq!(bench.sent(), Some(2));
    assert!(matches!(bench.step(), Step::Wait));
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_does_not_wait_and_batches_leave_in_order() {
    let bench = Bench::new(config());
    let value = [7; 400];
    assert_eq!(bench.event(&value), Event::Opened);
    assert_eq!(bench.event(&value), Event::Nothing);
    assert_eq!(bench.event(&value), Event::Filled);
    assert_eq!(bench.sent(), Some(2));
    assert_eq!(bench.sent(), None, "the third record lingers");
    advance(Duration::from_millis(5)).await;
    assert_eq!(bench.sent(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn without_linger_what_is_there_leaves_at_once() {
    let bench = Bench::new(ProducerConfig { linger: Duration::ZERO, ..config() });
    bench.event(b"one");
    bench.event(b"two");
    assert_eq!(bench.sent(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_record_larger_than_a_batch_goes_alone() {
    let bench = Bench::new(config());
    bench.event(b"small");
    assert_eq!(bench.event(&[0; 5_000]), Event::Filled);
    assert_eq!((bench.sent(), bench.sent()), (Some(1), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_batches_are_on_their_way_and_the_next_grows_meanwhile() {
    let bench = Bench::new(ProducerConfig { linger: Duration::ZERO, max_in_flight: 2, ..config() });
    for _ in 0..2 {
        bench.event(b"x");
        assert_eq!(bench.sent(), Some(1));
    }
    bench.event(b"x");
    bench.event(b"x");
    assert_eq!(bench.sent(), None);
    bench.lane.answer(written(), || Duration::ZERO);
    assert_eq!(bench.sent(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_may_go_anywhere_goes_to_the_next_partition_when_the_batch_is_full() {
    let bench = Bench::new(config());
    let value = [0; 400];
    let record = ProducerRecord::new("t").value(&value);
    for _ in 0..2 {
        let done = bench.lane.append(&record, Timestamp(0), true, &bench.budget, &mut None);
        assert!(matches!(done, Ok(Appended::Done { .. })));
    }
    let moved = bench.lane.append(&record, Timestamp(0), true, &bench.budget, &mut None);
    assert!(matches!(moved, Ok(Appended::NextTurn)));
    assert_eq!(bench.sent(), Some(2));
}

/// Appends until there is no room, and says how much is missing.
fn fill(bench: &Bench) -> (Vec<Delivery>, usize) {
    let mut deliveries = Vec::new();
    loop {
        match bench.append(&[0; 400]) {
            Appended::Done { delivery, .. } => deliveries.push(delivery),
            Appended::NoRoom(needed) => return (deliveries, needed),
            Appended::NextTurn => panic!("it has a key"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_takes_no_more_until_a_batch_is_settled() {
    let bench = Bench::new(ProducerConfig { buffer_bytes: 3_000, acks: Acks::One, ..config() });
    let (deliveries, needed) = fill(&bench);
    assert!((400..500).contains(&needed), "{needed}");
    assert!((4..=7).contains(&deliveries.len()), "{}", deliveries.len());
    bench.lane.fail_all(|maybe_written| ProduceError::Closed { maybe_written });
    assert!(deliveries.iter().all(|delivery| delivery.try_result().is_some()));
    assert!(matches!(bench.append(&[0; 400]), Appended::Done { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acknowledged_in_time_is_given_up_and_says_whether_it_may_be_written() {
    let timeout = Duration::from_secs(30);
    let bench = Bench::new(ProducerConfig { delivery_timeout: timeout, ..config() });
    let Appended::Done { delivery: sent, .. } = bench.append(&[0; 2_000]) else { panic!("room") };
    assert_eq!(bench.sent(), Some(1));
    let Appended::Done { delivery: waiting, .. } = bench.append(b"x") else { panic!("room") };
    let next = bench.lane.expire(Instant::now(), timeout);
    assert_eq!(next - Instant::now(), timeout);
    advance(timeout).await;
    bench.lane.expire(Instant::now(), timeout);
    for (delivery, maybe_written) in [(sent, true), (waiting, false)] {
        let error = delivery.await.expect_err("too late");
        assert!(matches!(error, ProduceError::TimedOut { .. }), "{error}");
        assert_eq!(error.maybe_written(), maybe_written);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_encoded_leaves_nothing_behind() {
    let bench = Bench::new(config());
    let too_many = vec![("h", None); 2_000];
    let record = ProducerRecord::new("t").key(b"k").headers(&too_many);
    let refused = bench.lane.append(&record, Timestamp(0), false, &bench.budget, &mut None);
    assert!(matches!(refused, Err(ProduceError::InvalidRecord { .. })));
    assert!(bench.lane.is_idle());
    assert_eq!(bench.event(b"good"), Event::Opened);
}

#[tokio::test(start_paused = true)]
async fn a_lane_ends_when_it_takes_no_more_records_and_everything_is_answered() {
    let bench = Bench::new(config());
    bench.event(b"x");
    bench.lane.stop(ProduceError::Closed { maybe_written: false });
    assert_eq!(bench.sent(), Some(1), "what is here does not linger");
    assert!(matches!(bench.step(), Step::Wait));
    bench.lane.answer(written(), || Duration::ZERO);
    assert!(matches!(bench.step(), Step::Finish));

    let still_open = Bench::new(config());
    assert!(matches!(still_open.step(), Step::Wait), "more may come");
}

#[tokio::test(start_paused = true)]
async fn answers_that_never_come_do_not_keep_a_lane_from_its_end() {
    let timeout = Duration::from_secs(30);
    let bench = Bench::new(ProducerConfig { delivery_timeout: timeout, ..config() });
    for _ in 0..bench.config.max_in_flight {
        bench.event(&[0; 2_000]);
        assert_eq!(bench.sent(), Some(1));
    }
    bench.lane.stop(ProduceError::Closed { maybe_written: false });
    assert!(matches!(bench.step(), Step::Wait));
    advance(timeout).await;
    bench.lane.expire(Instant::now(), timeout);
    assert!(matches!(bench.step(), Step::Finish));
    assert!(bench.lane.is_over());
}

#[tokio::test(start_paused = true)]
async fn room_that_was_waited_for_is_enough_though_the_open_batch_has_left_meanwhile() {
    let (buffer_bytes, batch_bytes) = (3_000, 100_000);
    let bench = Bench::new(ProducerConfig { buffer_bytes, batch_bytes, ..config() });
    let (_deliveries, needed) = fill(&bench);
    advance(Duration::from_millis(5)).await;
    assert!(bench.sent().is_some());
    bench.lane.answer(written(), || Duration::ZERO);
    // Others take all that is left.
    let (mut waited_for, mut others) = (bench.budget.nothing(), bench.budget.nothing());
    assert!(waited_for.try_extend(needed) && others.try_extend(buffer_bytes - needed));
    let record = ProducerRecord::new("t").key(b"k").value(&[0; 400]);
    let room = &mut Some(waited_for);
    let appended = bench.lane.append(&record, Timestamp(0), false, &bench.budget, room);
    assert!(matches!(appended, Ok(Appended::Done { .. })), "{appended:?}");
}

#[test]
fn a_flush_misses_no_batch_that_is_just_being_given_up() {
    let bench = Bench::new(config());
    let delivery = |_| match bench.append(&[0; 2_000]) {
        Appended::Done { delivery, .. } => delivery,
        other => panic!("{other:?}"),
    };
    let deliveries: Vec<_> = (0..2_000).map(delivery).collect();
    let begun = std::sync::Barrier::new(2);
    let flush_until_nothing_waits = || {
        begun.wait();
        loop {
            let mut fates = Vec::new();
            bench.lane.flush(&mut fates);
            let waiting = deliveries.iter().filter(|d| d.try_result().is_none()).count();
            assert!(waiting <= fates.len(), "{waiting} wait, and it knows of {}", fates.len());
            if waiting == 0 {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(flush_until_nothing_waits);
        begun.wait();
        let timeout = bench.config.delivery_timeout;
        bench.lane.expire(Instant::now() + timeout, timeout);
    });
}
