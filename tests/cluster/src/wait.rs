//! Waiting: for a condition, within a time, looking often.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(5);

/// Looks until `look` says yes with a value.
///
/// # Panics
/// If it still says no after `within`: the message holds what it said last.
pub async fn until<T, N: Debug>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, N>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(no) => assert!(
                Instant::now() < deadline,
                "{what} did not happen within {within:?}: {no:?}"
            ),
        }
        tokio::time::sleep(EVERY).await;
    }
}
