//! Progress bars for long work.
//!
//! Invariant: a bar is drawn on stderr, only when that is a terminal, and is gone when the work is done.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(125);
const BYTES: &str =
    "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
const UNKNOWN_BYTES: &str = "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}";
const RECORDS: &str = "{msg} {wide_bar} {human_pos}/{human_len} records {per_sec} {eta}";
const STEPS: &str = "{msg} {wide_bar} {pos}/{len} {elapsed}";

/// A bar over bytes, or a spinner where their number is not known.
pub(crate) fn bytes(doing: &str, total: Option<u64>) -> ProgressBar {
    match total {
        Some(total) => bar(ProgressBar::new(total), doing, BYTES),
        None => bar(ProgressBar::no_length(), doing, UNKNOWN_BYTES),
    }
}

/// A bar over records.
pub(crate) fn records(doing: &str, total: u64) -> ProgressBar {
    bar(ProgressBar::new(total), doing, RECORDS)
}

/// A bar over the steps of a measurement, which take about as long each.
pub(crate) fn steps(doing: &str, total: u64) -> ProgressBar {
    bar(ProgressBar::new(total), doing, STEPS)
}

/// No bar at all.
pub(crate) fn none() -> ProgressBar {
    ProgressBar::hidden()
}

fn bar(bar: ProgressBar, doing: &str, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the templates above are valid");
    bar.set_style(style);
    bar.set_message(doing.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_valid() {
        for drawn in [bytes("a", Some(1)), bytes("b", None), records("c", 1), steps("d", 1), none()]
        {
            drawn.finish_and_clear();
        }
    }
}
