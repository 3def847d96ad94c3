//! How many bytes a second may be spent on replicas that catch up.
//!
//! Invariant: over any time, no more is let through than the rate allows and one body.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rate {
    bytes_per_second: u64,
    /// When what was let through is paid for.
    free: Mutex<Option<Instant>>,
}

impl Rate {
    /// 0 is no limit.
    pub(crate) const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, free: Mutex::new(None) }
    }

    /// Waits until so many bytes may go.
    pub(crate) async fn take(&self, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        let price = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let turn = {
            let mut free = self.free.lock();
            let now = Instant::now();
            let turn = free.map_or(now, |free| free.max(now));
            *free = Some(turn + price);
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_through_takes_its_time_and_idle_time_is_not_saved_up() {
        let (rate, begun) = (Rate::new(1_000), Instant::now());
        for _ in 0..5 {
            rate.take(100).await;
        }
        assert_eq!(begun.elapsed().as_millis(), 400, "the first goes at once");
        tokio::time::advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..3 {
            rate.take(100).await;
        }
        assert_eq!(begun.elapsed().as_millis(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_waits_for_nothing() {
        let begun = Instant::now();
        Rate::new(0).take(usize::MAX).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
