//! Several attempts at one thing, the next beside the one before as soon as that fails or is slow.
//!
//! Invariant: an attempt that hangs delays the next by the stagger and no more; when one succeeds, the
//! others are given up.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

/// How long an attempt to connect may take before the next is begun: as browsers do it (RFC 8305).
pub(crate) const STAGGER: Duration = Duration::from_millis(250);

/// The first success, or every failure in the order in which they came.
pub(crate) async fn race<F, T, E>(attempts: Vec<F>) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = attempts.into_iter();
    let (mut running, mut failed) = (Vec::new(), Vec::new());
    loop {
        running.extend(waiting.next().map(Box::pin));
        if running.is_empty() {
            return Err(failed);
        }
        tokio::select! {
            biased;
            ended = first(&mut running) => match ended {
                Ok(won) => return Ok(won),
                Err(error) => failed.push(error),
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

/// Waits until one of them ends, and takes it out.
async fn first<F: Future>(running: &mut Vec<Pin<Box<F>>>) -> F::Output {
    poll_fn(|cx| {
        for at in 0..running.len() {
            if let Poll::Ready(ended) = running[at].as_mut().poll(cx) {
                drop(running.remove(at));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    async fn attempt(millis: u64, outcome: Result<u64, u64>) -> Result<u64, u64> {
        sleep(Duration::from_millis(millis)).await;
        outcome
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_costs_the_stagger_and_one_that_fails_costs_what_it_takes() {
        let begun = Instant::now();
        let hangs = vec![attempt(60_000, Ok(1)), attempt(10, Err(2)), attempt(20, Ok(3))];
        assert_eq!(race(hangs).await, Ok(3));
        assert_eq!(begun.elapsed(), STAGGER + Duration::from_millis(10 + 20));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_may_still_win() {
        let slow = vec![attempt(300, Ok(1)), attempt(60_000, Ok(2))];
        assert_eq!(race(slow).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_every_reason_is_there() {
        assert_eq!(race(vec![attempt(300, Err(1)), attempt(10, Err(2))]).await, Err(vec![2, 1]));
        assert_eq!(race(Vec::<std::future::Ready<Result<u64, u64>>>::new()).await, Err(vec![]));
    }
}
