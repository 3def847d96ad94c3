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
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Component;

use crate::UploadError;
use crate::threads::lower_priority;

/// Places for uploads that are being compiled.
#[derive(Debug)]
pub(crate) struct Compilers(Arc<Semaphore>);

/// A place among the few uploads that are compiled at once, until it is dropped.
#[derive(Debug)]
pub struct CompilePlace {
    _permit: OwnedSemaphorePermit,
}

impl Compilers {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Waits for a place: whoever has waited longest is next.
    pub(crate) async fn place(&self, limit: Duration) -> Result<CompilePlace, UploadError> {
        let place = tokio::time::timeout(limit, Arc::clone(&self.0).acquire_owned()).await;
        let place = place.map_err(|_| UploadError::Busy { limit })?;
        Ok(CompilePlace { _permit: place.expect("the places are never closed") })
    }
}

/// Compiles an upload in a place for it, and waits `limit` for the compiler.
pub(crate) fn compile(
    engine: &wasmtime::Engine,
    bytes: &Bytes,
    place: CompilePlace,
    nice: i32,
    limit: Duration,
) -> Result<Component, UploadError> {
    let (engine, bytes) = (engine.clone(), bytes.clone());
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
