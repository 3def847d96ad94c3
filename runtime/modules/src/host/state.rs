//! State: what the host keeps for one instance.
//!
//! Invariant: everything in it is bounded, and what a call changes is reset before the next.

use std::sync::Arc;

use wasmtime::{ResourceLimiter, component::Resource};

use super::random::Generator;
use crate::{BatchInput, Level, Scope, log_ring::MAX_LINE_BYTES, meter::Meter};

/// Elements of all tables of one instance.
const MAX_TABLE_ELEMENTS: usize = 100_000;

/// What the host keeps for one instance.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) scope: Arc<Scope>,
    pub(crate) meter: Arc<Meter>,
    /// The topic and partition in process, as far as they are known.
    pub(crate) place: Option<(Arc<str>, u32)>,
    /// What the clocks say, in milliseconds since 1970.
    pub(crate) clock_millis: u64,
    pub(crate) random: Generator,
    /// Seeds hash maps; the same in every instance of the module, so that their order is too.
    pub(crate) hash_seed: (u64, u64),
    pub(crate) stdout: LineBuffer,
    pub(crate) stderr: LineBuffer,
    /// The last whole line on standard error: a panic's message.
    pub(crate) last_error_line: String,
    /// Bytes of linear memory in use.
    pub(crate) memory_bytes: usize,
    /// The guest was refused memory during this call.
    pub(crate) memory_refused: bool,
    memory_limit: usize,
    table_elements: usize,
}

/// The host ends a call for a reason of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostStop {
    #[error("the deadline passed")]
    Deadline,
    #[error("the module called exit")]
    Exit,
    #[error("the module asked for too much at once")]
    TooMuch,
}

/// Standard output or standard error: bytes that become log lines.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer(Vec<u8>);

impl State {
    pub(crate) fn new(scope: Arc<Scope>, meter: Arc<Meter>, hash_seed: (u64, u64)) -> Self {
        let memory_limit = scope.limits().memory_bytes;
        Self {
            scope,
            meter,
            place: None,
            clock_millis: 0,
            random: Generator::seeded(0, 0),
            hash_seed,
            stdout: LineBuffer::default(),
            stderr: LineBuffer::default(),
            last_error_line: String::new(),
            memory_bytes: 0,
            memory_refused: false,
            memory_limit,
            table_elements: 0,
        }
    }

    /// Sets what a call on this batch may know.
    pub(crate) fn start_batch(&mut self, batch: &BatchInput) {
        self.place = Some((Arc::clone(&batch.topic), batch.partition));
        self.clock_millis = u64::try_from(batch.base_timestamp).unwrap_or(0);
        self.random = Generator::seeded(batch.partition, batch.base_offset);
        self.last_error_line.clear();
        self.memory_refused = false;
        self.memory_limit = self.scope.limits().memory_bytes;
    }

    /// Logs what was written without a line's end.
    pub(crate) fn end_batch(&mut self) {
        self.flush(Level::Info);
        self.flush(Level::Error);
    }

    pub(crate) fn log(&self, level: Level, message: &str) {
        self.scope.log_line(level, self.place.as_ref(), message);
    }

    /// Takes bytes written to standard output (`Info`) or standard error (`Error`).
    pub(crate) fn write(&mut self, level: Level, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.buffer(level).push(&rest[..end]);
            self.flush(level);
            rest = &rest[end + 1..];
        }
        self.buffer(level).push(rest);
    }

    fn flush(&mut self, level: Level) {
        let bytes = std::mem::take(&mut self.buffer(level).0);
        if !bytes.is_empty() {
            let line = String::from_utf8_lossy(&bytes);
            self.log(level, &line);
            if level == Level::Error {
                self.last_error_line = panic_line(&self.last_error_line, &line);
            }
        }
    }

    fn buffer(&mut self, level: Level) -> &mut LineBuffer {
        if level == Level::Error { &mut self.stderr } else { &mut self.stdout }
    }
}

/// What to quote of a panic: Rust writes where on one line, what on the next, and a note on a third.
fn panic_line(so_far: &str, line: &str) -> String {
    if line.starts_with("note: ") {
        so_far.to_owned()
    } else if so_far.contains(" panicked at ") && so_far.ends_with(':') {
        format!("{so_far} {line}")
    } else {
        line.to_owned()
    }
}

impl LineBuffer {
    /// Adds to the line; what goes beyond a line's size is dropped.
    fn push(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory_bytes - current + desired;
        let allowed = total <= self.memory_limit;
        if allowed {
            self.memory_bytes = total;
        } else {
            self.memory_refused = true;
        }
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(%error, "a guest's memory could not grow");
        self.memory_refused = true;
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.table_elements - current + desired;
        let allowed = total <= MAX_TABLE_ELEMENTS;
        if allowed {
            self.table_elements = total;
        }
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        32
    }

    fn memories(&self) -> usize {
        8
    }

    fn tables(&self) -> usize {
        32
    }
}

/// A handle whose number says what it is; the host keeps nothing behind it.
pub(super) fn handle<T: 'static>(number: u32) -> Resource<T> {
    Resource::new_own(number)
}
