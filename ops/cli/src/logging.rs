//! Log lines: structured, on stderr, as text or JSON.
//!
//! Invariant: a log line never goes to stdout.

use std::io::{self, IsTerminal};

use millstream_broker::config::LogFormat;
use tracing_subscriber::EnvFilter;

use crate::failure::{Failure, Result};

/// What client verbs say unasked: that they wait for a broker, or try again.
const CLIENT_LEVEL: &str = "warn";

/// Logs of a broker, as its configuration wants them.
pub(crate) fn start(level: &str, format: LogFormat) -> Result {
    let filter = filter(level)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(Failure::new)
}

/// Refuses what `start` would refuse.
pub(crate) fn filter(level: &str) -> Result<EnvFilter> {
    EnvFilter::builder().parse(level).map_err(|error| {
        Failure::new(format!("log.level {level:?}: {error}"))
            .or_hint("error, warn, info, debug, trace, or info,millstream_broker=debug")
    })
}

/// Logs of a verb that talks to a broker: warnings, unless `MILLSTREAM_LOG_LEVEL` asks for more.
pub(crate) fn start_for_client() -> Result {
    let level = std::env::var("MILLSTREAM_LOG_LEVEL").unwrap_or_else(|_| CLIENT_LEVEL.to_owned());
    start(&level, LogFormat::Text)
}
