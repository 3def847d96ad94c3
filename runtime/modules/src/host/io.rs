//! `wasi:io`: standard input that is at its end, standard output and error that become log lines,
//! and waiting that is over at once.
//!
//! Invariant: nothing here blocks, and no handle has anything behind it on the host.

use wasmtime::{
    StoreContextMut,
    component::{
        ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType, WasmList,
    },
};

use super::{HostStop, State, state::handle, wasi};
use crate::Level;

/// The number behind a handle to standard output.
pub(super) const STDOUT: u32 = 1;
/// The number behind a handle to standard error.
pub(super) const STDERR: u32 = 2;
/// Bytes that a stream says it takes at once.
const ROOM: u64 = 64 << 10;

/// `wasi:io/streams` `input-stream`.
pub(super) enum InputStream {}
/// `wasi:io/streams` `output-stream`.
pub(super) enum OutputStream {}
/// `wasi:io/error` `error`; never made.
pub(super) enum IoError {}
/// `wasi:io/poll` `pollable`; always ready.
pub(super) enum Pollable {}

/// `wasi:io/streams` `stream-error`.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[allow(dead_code, reason = "part of the contract; nothing here fails")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

type Store<'a> = StoreContextMut<'a, State>;
type Input = Resource<InputStream>;
type Output = Resource<OutputStream>;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut error = linker.instance(&wasi("io/error"))?;
    error.resource("error", ResourceType::host::<IoError>(), |_, _| Ok(()))?;
    error.func_wrap(
        "[method]error.to-debug-string",
        |_: Store<'_>, (_,): (Resource<IoError>,)| Ok((String::from("no error"),)),
    )?;
    link_poll(&mut linker.instance(&wasi("io/poll"))?)?;
    let mut streams = linker.instance(&wasi("io/streams"))?;
    link_input(&mut streams)?;
    link_output(&mut streams)
}

fn link_poll(poll: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    poll.resource("pollable", ResourceType::host::<Pollable>(), |_, _| Ok(()))?;
    poll.func_wrap("[method]pollable.ready", |_: Store<'_>, (_,): (Resource<Pollable>,)| {
        Ok((true,))
    })?;
    poll.func_wrap("[method]pollable.block", |_: Store<'_>, (_,): (Resource<Pollable>,)| Ok(()))?;
    poll.func_wrap("poll", |_: Store<'_>, (pollables,): (Vec<Resource<Pollable>>,)| {
        let count = u32::try_from(pollables.len()).map_err(|_| HostStop::TooMuch)?;
        Ok(((0..count).collect::<Vec<u32>>(),))
    })
}

fn link_input(streams: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    streams.resource("input-stream", ResourceType::host::<InputStream>(), |_, _| Ok(()))?;
    for read in ["[method]input-stream.read", "[method]input-stream.blocking-read"] {
        streams.func_wrap(read, |_: Store<'_>, (_, _): (Input, u64)| {
            Ok((Err::<Vec<u8>, _>(StreamError::Closed),))
        })?;
    }
    for skip in ["[method]input-stream.skip", "[method]input-stream.blocking-skip"] {
        streams.func_wrap(skip, |_: Store<'_>, (_, _): (Input, u64)| {
            Ok((Err::<u64, _>(StreamError::Closed),))
        })?;
    }
    streams.func_wrap("[method]input-stream.subscribe", |_: Store<'_>, (_,): (Input,)| {
        Ok((handle::<Pollable>(0),))
    })
}

fn link_output(streams: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    streams.resource("output-stream", ResourceType::host::<OutputStream>(), |_, _| Ok(()))?;
    streams.func_wrap("[method]output-stream.check-write", |_: Store<'_>, (_,): (Output,)| {
        Ok((Ok::<u64, StreamError>(ROOM),))
    })?;
    for write in ["[method]output-stream.write", "[method]output-stream.blocking-write-and-flush"] {
        streams.func_wrap(
            write,
            |mut store: Store<'_>, (stream, bytes): (Output, WasmList<u8>)| {
                write_lines(&mut store, &stream, &bytes);
                Ok((Ok::<(), StreamError>(()),))
            },
        )?;
    }
    for zeroes in [
        "[method]output-stream.write-zeroes",
        "[method]output-stream.blocking-write-zeroes-and-flush",
    ] {
        streams.func_wrap(zeroes, |_: Store<'_>, (_, _): (Output, u64)| {
            Ok((Ok::<(), StreamError>(()),))
        })?;
    }
    for flush in ["[method]output-stream.flush", "[method]output-stream.blocking-flush"] {
        streams
            .func_wrap(flush, |_: Store<'_>, (_,): (Output,)| Ok((Ok::<(), StreamError>(()),)))?;
    }
    for splice in ["[method]output-stream.splice", "[method]output-stream.blocking-splice"] {
        streams.func_wrap(splice, |_: Store<'_>, (_, _, _): (Output, Input, u64)| {
            Ok((Err::<u64, _>(StreamError::Closed),))
        })?;
    }
    streams.func_wrap("[method]output-stream.subscribe", |_: Store<'_>, (_,): (Output,)| {
        Ok((handle::<Pollable>(0),))
    })
}

fn write_lines(store: &mut Store<'_>, stream: &Output, bytes: &WasmList<u8>) {
    let level = if stream.rep() == STDERR { Level::Error } else { Level::Info };
    // More than the stream said it takes is cut, so that a call into the host stays short.
    let taken = bytes.len().min(usize::try_from(ROOM).unwrap_or(usize::MAX));
    let bytes = bytes.as_le_slice(&*store)[..taken].to_vec();
    store.data_mut().write(level, &bytes);
}
