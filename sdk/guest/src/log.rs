//! Log lines and counters: all that a filter can say beside its output.
//!
//! Invariant: neither changes what a filter outputs.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For the module's author.
    Debug,
    /// For the operator.
    Info,
    /// Something is odd.
    Warn,
    /// Something is wrong.
    Error,
}

/// One line of the job's log. Outside WebAssembly it goes to standard error.
pub fn line(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    {
        use crate::bindings::millstream::module::host;
        let level = match level {
            Level::Trace => host::Level::Trace,
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::log(level, message);
    }
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?} {message}");
}

/// A line for the operator.
pub fn info(message: &str) {
    line(Level::Info, message);
}

/// A line about something odd.
pub fn warn(message: &str) {
    line(Level::Warn, message);
}

/// A line about something wrong.
pub fn error(message: &str) {
    line(Level::Error, message);
}

/// Adds to one of the module's own counters, shown with the job's metrics. Outside WebAssembly it does nothing.
pub fn count(name: &str, by: u64) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::millstream::module::host::count(name, by);
    #[cfg(not(target_arch = "wasm32"))]
    let _ = (name, by);
}
