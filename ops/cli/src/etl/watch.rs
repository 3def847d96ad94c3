//! A long work, watched: its bar, and the signals that end it early.

use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use millstream_etl::{EtlError, Progress};
use tokio::time::MissedTickBehavior;

use crate::failure::{Failure, Result};
use crate::progress;
use crate::signals::Stop;

/// How often the bar is moved.
const TICK: Duration = Duration::from_millis(100);

/// Awaits a work; `bar` makes the bar as soon as its length is known.
pub(super) async fn watch<T>(
    progress: &Arc<Progress>,
    bar: impl Fn(u64) -> ProgressBar,
    work: impl Future<Output = std::result::Result<T, EtlError>>,
) -> Result<T> {
    let mut stop = Stop::listen()?;
    let mut drawn: Option<ProgressBar> = None;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = std::pin::pin!(work);
    let ended = loop {
        tokio::select! {
            ended = &mut work => break ended.map_err(Failure::from),
            signal = stop.requested() => break Err(stopped(signal)),
            _ = ticks.tick() => draw(&mut drawn, progress, &bar),
        }
    };
    drawn.unwrap_or_else(progress::none).finish_and_clear();
    ended
}

fn draw(drawn: &mut Option<ProgressBar>, progress: &Progress, bar: &impl Fn(u64) -> ProgressBar) {
    let (total, done) = (progress.total(), progress.done());
    match drawn {
        Some(bar) => bar.set_position(done),
        None if total > 0 => {
            let bar = bar(total).with_position(done);
            // What an earlier attempt did says nothing about the rate of this one.
            bar.reset_eta();
            *drawn = Some(bar);
        }
        None => {}
    }
}

fn stopped(signal: &str) -> Failure {
    Failure::new(format!("stopped by {signal}; what is finished is kept"))
        .or_hint("the same command again: it goes on there")
}
