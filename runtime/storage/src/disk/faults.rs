//! Faults to inject into the in-memory disk: which operation fails, where, when and how.
//!
//! Invariant: a fault fires at a counted operation, never at random, so that a failing run replays.

use std::io;
use std::path::{Path, PathBuf};

/// What a fault can hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Opening an existing file.
    Open,
    /// Creating a file.
    Create,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Syncing a file's bytes.
    Sync,
    /// Cutting a file.
    Truncate,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Syncing a directory's names.
    SyncDir,
}

/// One planned failure: `times` operations of a kind fail after `skip` of them went well.
#[derive(Debug, Clone)]
pub struct Fault {
    operation: Operation,
    errno: i32,
    skip: u32,
    times: u32,
    partial: Option<usize>,
    panics: bool,
    name_contains: String,
    under: PathBuf,
}

impl Fault {
    /// The next `operation` fails once with EIO, an input/output error.
    #[must_use]
    pub fn eio(operation: Operation) -> Fault {
        const EIO: i32 = 5;
        Fault {
            operation,
            errno: EIO,
            skip: 0,
            times: 1,
            partial: None,
            panics: false,
            name_contains: String::new(),
            under: PathBuf::new(),
        }
    }

    /// The next `operation` fails once with ENOSPC, no space left.
    #[must_use]
    pub fn enospc(operation: Operation) -> Fault {
        const ENOSPC: i32 = 28;
        Fault { errno: ENOSPC, ..Fault::eio(operation) }
    }

    /// The next `operation` panics, as a bug at this place would.
    #[must_use]
    pub fn panic(operation: Operation) -> Fault {
        Fault { panics: true, ..Fault::eio(operation) }
    }

    /// Lets `count` operations go well first.
    #[must_use]
    pub fn after(mut self, count: u32) -> Fault {
        self.skip = count;
        self
    }

    /// Fails `count` operations instead of one.
    #[must_use]
    pub fn times(mut self, count: u32) -> Fault {
        self.times = count;
        self
    }

    /// A write puts this many bytes into the file before the error is met: the first call is short, the next one fails.
    #[must_use]
    pub fn after_partial_write(mut self, bytes: usize) -> Fault {
        self.partial = Some(bytes);
        self
    }

    /// Hits only files whose name contains `part`.
    #[must_use]
    pub fn on(mut self, part: &str) -> Fault {
        part.clone_into(&mut self.name_contains);
        self
    }

    /// Hits only what lies below `dir`.
    #[must_use]
    pub fn under(mut self, dir: &Path) -> Fault {
        dir.clone_into(&mut self.under);
        self
    }

    fn matches(&self, operation: Operation, path: &Path) -> bool {
        self.operation == operation
            && path.starts_with(&self.under)
            && path.file_name().is_some_and(|name| {
                self.name_contains.is_empty()
                    || name.to_string_lossy().contains(&self.name_contains)
            })
    }
}

/// What a matching fault does to the operation at hand.
#[derive(Debug)]
pub(super) enum Effect {
    Fail(io::Error),
    ShortWrite(usize),
    Panic,
}

/// The faults still to come.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts one operation and says what happens to it.
    pub(super) fn hit(&mut self, operation: Operation, path: &Path) -> Option<Effect> {
        let index = self.0.iter().position(|fault| fault.matches(operation, path))?;
        let fault = &mut self.0[index];
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        if let Some(bytes) = fault.partial.take() {
            return Some(Effect::ShortWrite(bytes));
        }
        let (error, panics) = (io::Error::from_raw_os_error(fault.errno), fault.panics);
        fault.times = fault.times.saturating_sub(1);
        if fault.times == 0 {
            self.0.remove(index);
        }
        Some(if panics { Effect::Panic } else { Effect::Fail(error) })
    }
}
