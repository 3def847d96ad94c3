//! Clocks that tick in steps much finer than a runtime's timers: one for tasks, one for threads.
//!
//! Invariant: ticks that nobody waited for are not lost: the next wait is over at once.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Ticks from its making on: tokio's timers have steps of a millisecond, this one of what the kernel can.
pub(super) struct Ticker(AsyncFd<OwnedFd>);

impl Ticker {
    /// A tick every `period`, which is not zero.
    pub(super) fn new(period: Duration) -> io::Result<Self> {
        let timer = ticking(period, period, TimerfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd never changes its number"
        )]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Waits for the next tick; how many there were since the last wait does not matter.
    pub(super) async fn tick(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut count = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut count)?));
            // An error of `try_io` itself means that it was not ready after all.
            if let Ok(read) = read {
                return read.map(drop);
            }
        }
    }
}

/// The same for a thread that has nothing else to do.
pub(super) struct ThreadTicker(OwnedFd);

impl ThreadTicker {
    /// A tick after `first`, and then one every `period`; neither is zero.
    pub(super) fn new(first: Duration, period: Duration) -> io::Result<Self> {
        ticking(first, period, TimerfdFlags::empty()).map(Self)
    }

    /// As [`Ticker::tick`], but it is the thread that waits.
    pub(super) fn tick(&self) -> io::Result<()> {
        rustix::io::read(&self.0, &mut [0; 8])?;
        Ok(())
    }
}

fn ticking(first: Duration, period: Duration, flags: TimerfdFlags) -> io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags | TimerfdFlags::CLOEXEC)?;
    let time = |span| {
        Timespec::try_from(span)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a period beyond all time"))
    };
    let spec = Itimerspec { it_interval: time(period)?, it_value: time(first)? };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
    Ok(timer)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn ticks_come_in_steps_finer_than_a_millisecond() {
        let ticker = Ticker::new(Duration::from_micros(100)).expect("a timer");
        let started = Instant::now();
        for _ in 0..10 {
            ticker.tick().await.expect("ticks");
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_micros(900), "{took:?}");
    }

    #[test]
    fn a_thread_waits_for_each_tick() {
        let started = Instant::now();
        let step = Duration::from_micros(100);
        let ticker = ThreadTicker::new(3 * step, step).expect("a timer");
        for _ in 0..10 {
            ticker.tick().expect("ticks");
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_micros(1_100), "{took:?}");
    }
}
