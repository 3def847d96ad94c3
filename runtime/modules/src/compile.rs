//! Compile: uploads on threads of their own, a few at a time, and no caller waits for ever.
//!
//! A compiler that has begun cannot be stopped. So what would take it very long is refused before it
//! begins (`inspect`), whoever waits for it gives up after a while, and it keeps its place among the
//! few until it is done.
//!
//! Invariant: no more uploads are compiled at once than there are places.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use wasmtime::component::Component;

use crate::UploadError;
use crate::threads::lower_priority;

/// Places for uploads that are being compiled.
#[derive(Debug)]
pub(crate) struct Compilers(Arc<Places>);

#[derive(Debug)]
struct Places {
    free: Mutex<usize>,
    returned: Condvar,
}

/// One place, until it is dropped.
struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.returned.notify_one();
    }
}

impl Compilers {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Places { free: Mutex::new(places.max(1)), returned: Condvar::new() }))
    }

    /// Compiles an upload: waits `limit` for a place, and as long again for the compiler.
    pub(crate) fn compile(
        &self,
        engine: &wasmtime::Engine,
        bytes: &[u8],
        nice: i32,
        limit: Duration,
    ) -> Result<Component, UploadError> {
        let place = self.place(limit)?;
        let (engine, bytes) = (engine.clone(), bytes.to_vec());
        let (done, compiled) = sync_channel(1);
        let work = move || {
            let _place = place;
            lower_priority(nice);
            // Whoever waited may have given up.
            drop(done.send(Component::new(&engine, bytes)));
        };
        let started = thread::Builder::new().name("compile".to_owned()).spawn(work);
        started.map_err(|error| refused(format!("no thread for it: {error}")))?;
        match compiled.recv_timeout(limit) {
            Ok(compiled) => compiled.map_err(|error| refused(format!("{error:#}"))),
            Err(RecvTimeoutError::Timeout) => Err(UploadError::TooSlow { limit }),
            Err(RecvTimeoutError::Disconnected) => Err(broken()),
        }
    }

    fn place(&self, limit: Duration) -> Result<Place, UploadError> {
        let (deadline, mut free) = (Instant::now() + limit, self.0.free.lock());
        while *free == 0 {
            let late = self.0.returned.wait_until(&mut free, deadline).timed_out();
            if late && *free == 0 {
                return Err(UploadError::Busy { limit });
            }
        }
        *free -= 1;
        drop(free);
        Ok(Place(Arc::clone(&self.0)))
    }
}

/// Compiles a module that was admitted before, for as long as it takes and beside all places.
pub(crate) fn compile_known(
    engine: &wasmtime::Engine,
    bytes: &[u8],
    nice: i32,
) -> Result<Component, UploadError> {
    let compiled = thread::scope(|scope| {
        let compile = || {
            lower_priority(nice);
            Component::new(engine, bytes)
        };
        scope.spawn(compile).join()
    });
    compiled.map_err(|_| broken())?.map_err(|error| refused(format!("{error:#}")))
}

fn broken() -> UploadError {
    refused("the compiler failed on it".to_owned())
}

fn refused(message: String) -> UploadError {
    UploadError::Compile { message }
}
