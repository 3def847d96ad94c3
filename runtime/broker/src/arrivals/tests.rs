//! Who gets memory for what arrives, and in which order.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;

const MIB: usize = 1 << 20;

/// As much in bodies of a size as a connection can get.
fn hold(share: &Share, body: usize) -> Vec<Arrival> {
    std::iter::from_fn(|| share.try_take(share.counted(body))).collect()
}

/// One who waits, looked after by hand.
struct Waits<'a>(Pin<Box<dyn Future<Output = Arrival> + 'a>>);

impl<'a> Waits<'a> {
    fn new(share: &'a Share, bytes: usize) -> Self {
        let mut this = Self(Box::pin(share.take(bytes)));
        assert!(this.served().is_none(), "there is nothing for it yet");
        this
    }

    fn served(&mut self) -> Option<Arrival> {
        match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(arrival) => Some(arrival),
            Poll::Pending => None,
        }
    }
}

fn now(share: &Share, bytes: usize) -> Option<Arrival> {
    let mut take = Box::pin(share.take(bytes));
    match take.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(arrival) => Some(arrival),
        Poll::Pending => None,
    }
}

#[test]
fn whoever_holds_all_it_can_get_leaves_room_for_others() {
    let arrivals = Arrivals::new(256 << 20);
    let hostile: Vec<_> = (0..16).map(|_| arrivals.share()).collect();
    let held: Vec<_> = hostile.iter().map(|share| (share, hold(share, 15 * MIB))).collect();
    assert!(held.iter().all(|(_, held)| held.len() <= 2), "nobody has more than its part");
    let honest = arrivals.share();
    assert!(4 <= hold(&honest, MIB).len(), "sixteen who hold what they can");
    drop(held);
    assert_eq!(arrivals.taken(), 0, "all of it came back");
}

#[test]
fn a_body_larger_than_its_part_has_its_turn() {
    let arrivals = Arrivals::new(8 << 20);
    let (one, other) = (arrivals.share(), arrivals.share());
    let large = now(&one, 16 * MIB).expect("nothing is taken");
    assert!(now(&one, 16 * MIB).is_none(), "one at a time");
    drop((large, now(&other, MIB).expect("there is room beside it")));
    drop(now(&one, 16 * MIB).expect("it came back"));
}

#[test]
fn a_large_body_has_its_turn_however_many_small_ones_come_and_they_go_on_meanwhile() {
    let arrivals = Arrivals::new(256 << 20);
    let shares: Vec<_> = (0..400).map(|_| arrivals.share()).collect();
    let mut small: Vec<_> = shares.iter().map_while(|share| now(share, MIB)).collect();
    assert!(190 <= small.len(), "{}", small.len());
    let large = arrivals.share();
    let mut waits = Waits::new(&large, 15 * MIB);
    // Each that ends is followed by one that begins, if it may.
    let mut ended = 0;
    let large = loop {
        if let Some(large) = waits.served() {
            break large;
        }
        assert!(!small.is_empty(), "all have ended and the large one was not served");
        drop(small.remove(0));
        ended += 1;
        assert!(ended <= 100, "{ended} ended and it had no turn");
        let another = arrivals.share();
        if let Some(next) = another.try_take(MIB as u64) {
            small.push(next);
        }
    };
    drop(large);
}

#[test]
fn who_waits_is_served_in_order_and_the_small_pass_the_large_that_fell_silent() {
    let arrivals = Arrivals::new(256 << 20);
    let shares: Vec<_> = (0..40).map(|_| arrivals.share()).collect();
    let mut held: Vec<_> = shares.iter().map_while(|share| now(share, 15 * MIB)).collect();
    let count = held.len();
    assert!((4..20).contains(&count), "{count}");
    let mut first = Waits::new(&shares[count], 15 * MIB);
    let mut second = Waits::new(&shares[count + 1], 15 * MIB);
    let honest = arrivals.share();
    for _ in 0..100 {
        drop(now(&honest, MIB).expect("the lane is for those"));
    }
    drop(held.pop());
    assert!(second.served().is_none(), "it came later");
    let first = first.served().expect("it was next");
    assert!(second.served().is_none(), "there was room for one");
    drop(first);
    second.served().expect("now it is next");
}

#[test]
fn who_gives_up_waiting_holds_up_nobody_and_leaves_nothing() {
    let arrivals = Arrivals::new(256 << 20);
    let shares: Vec<_> = (0..40).map(|_| arrivals.share()).collect();
    let held: Vec<_> = shares.iter().map_while(|share| now(share, 15 * MIB)).collect();
    let (last, count) = (arrivals.share(), held.len());
    let gives_up = Waits::new(&shares[count], 16 * MIB);
    let served = Waits::new(&shares[count + 1], 16 * MIB);
    let mut behind = Waits::new(&last, 6 * MIB);
    drop(gives_up);
    drop(held);
    // Served and never looked: what it got comes back.
    drop(served);
    drop(behind.served().expect("nobody is before it"));
    drop(behind);
    assert_eq!(arrivals.taken(), 0);
    assert_eq!(arrivals.0.waiting.load(Ordering::SeqCst), 0);
    assert!(now(&last, 16 * MIB).is_some(), "the road is free");
}

#[test]
fn a_connection_with_nothing_left_of_its_share_goes_on_with_its_own_bodies() {
    let arrivals = Arrivals::new(64 << 20);
    let share = arrivals.share();
    let mut held = hold(&share, MIB);
    let mut waits = Waits::new(&share, MIB);
    let other = arrivals.share();
    assert!(now(&other, MIB).is_some(), "it waits for itself and holds up nobody");
    drop(held.pop());
    waits.served().expect("its own came back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_forgotten_when_all_come_and_go_at_once() {
    let arrivals = Arrivals::new(8 << 20);
    let clients = (0..16_usize).map(|client| {
        let share = arrivals.share();
        tokio::spawn(async move {
            for n in 0..500 {
                let arrival = share.take((client * 7 + n) * 4_001 % (2 * MIB)).await;
                tokio::task::yield_now().await;
                drop(arrival);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        let done = tokio::time::timeout(std::time::Duration::from_secs(60), client).await;
        done.expect("it was told each time").expect("it ends");
    }
    assert_eq!((arrivals.taken(), arrivals.0.waiting.load(Ordering::SeqCst)), (0, 0));
}
