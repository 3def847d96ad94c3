//! Waiting for another process: ask again and again, up to a deadline.
//!
//! Invariant: nothing waits without a deadline, and the error says what was waited for.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer, or an error, or no time left.
pub(super) fn until<T>(
    what: &str,
    longest: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + longest;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s for {what}, in vain", longest.as_secs());
        }
        #[expect(clippy::disallowed_methods, reason = "another process can only be polled")]
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_ends_the_wait() {
        let mut asked = 0;
        let answer = until("three", Duration::from_secs(5), || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer.unwrap(), 3);
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_says_what_for() {
        let error = until::<()>("rain", Duration::ZERO, || Ok(None)).expect_err("no answer comes");
        assert!(error.to_string().contains("rain"), "{error}");
    }

    #[test]
    fn an_error_ends_the_wait_at_once() {
        assert!(until::<()>("rain", Duration::from_secs(60), || bail!("broken")).is_err());
    }
}
