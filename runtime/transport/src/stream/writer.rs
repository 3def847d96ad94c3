//! The sending half: frames go out in order, bodies as they are.
//!
//! Invariant: a frame is written whole or the stream is reset; cancelling a send loses nothing, the
//! rest of the frame goes out with the next one.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use millstream_protocol::frame;
use quinn::SendStream;
use serde::Serialize;

use crate::error::{StreamCode, StreamError, connection_error};

/// Small frames are put together up to about this many bytes before they are handed to QUIC.
const COALESCE: usize = 16 << 10;

/// Writes frames to a stream. Dropping it ends the stream, as [`finish`](Self::finish) does.
#[derive(Debug)]
pub struct FrameWriter {
    stream: SendStream,
    peer: SocketAddr,
    /// Headers, messages and small bodies that are not part of `pending` yet.
    scratch: BytesMut,
    /// What is to be written, in order; `scratch` comes after it.
    pending: Vec<Bytes>,
    pending_bytes: usize,
    /// Flushes since the connection's own task last had a chance to run.
    flushes: u32,
}

/// After so many flushes that never had to wait, the connection's task gets its turn. quinn keeps
/// every write as one piece until it is acknowledged and walks over the pieces when it sends: left
/// to pile up, 100-byte frames cost 4.5 µs each instead of 0.4.
const FLUSHES_IN_A_ROW: u32 = 64;

/// A body chunk up to this size is copied beside its message: cheaper than to keep track of it.
const COPY_BELOW: usize = 1_024;

impl FrameWriter {
    pub(crate) fn new(stream: SendStream, peer: SocketAddr) -> Self {
        Self {
            stream,
            peer,
            scratch: BytesMut::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            flushes: 0,
        }
    }

    /// Sends a frame: waits while the peer does not read. Body chunks are not copied (small ones
    /// apart); their memory is held until the peer has acknowledged it.
    ///
    /// # Errors
    /// The connection is gone, or the peer has stopped the stream.
    pub async fn send<M, B>(&mut self, message: &M, body: B) -> Result<(), StreamError>
    where
        M: Serialize + ?Sized,
        B: IntoIterator<Item = Bytes>,
    {
        self.feed(message, body);
        self.flush().await
    }

    /// Puts a frame in line without sending it: many small frames and one [`flush`](Self::flush)
    /// cost little more than one frame. The caller bounds what it feeds by [`fed`](Self::fed).
    pub fn feed<M, B>(&mut self, message: &M, body: B)
    where
        M: Serialize + ?Sized,
        B: IntoIterator<Item = Bytes>,
    {
        let body: smallvec::SmallVec<[Bytes; 4]> = body.into_iter().collect();
        let body_len = body.iter().map(Bytes::len).sum();
        let head = frame::encode(message, body_len);
        self.scratch.extend_from_slice(&head);
        self.pending_bytes += head.len() + body_len;
        for chunk in body {
            if chunk.len() <= COPY_BELOW {
                self.scratch.extend_from_slice(&chunk);
            } else {
                self.seal();
                self.pending.push(chunk);
            }
        }
        if self.scratch.len() >= COALESCE {
            self.seal();
        }
    }

    /// Bytes in line that were not handed to QUIC yet.
    #[must_use]
    pub fn fed(&self) -> usize {
        self.pending_bytes
    }

    /// Hands everything in line to QUIC; waits while the peer does not read.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        self.flush_watched(|_| ()).await
    }

    /// The same, and says each time when some was taken how many bytes are still in line.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn flush_watched(&mut self, left: impl Fn(usize)) -> Result<(), StreamError> {
        self.flushes += 1;
        if self.flushes >= FLUSHES_IN_A_ROW {
            self.flushes = 0;
            tokio::task::yield_now().await;
        }
        self.seal();
        while !self.pending.is_empty() {
            let written = self.stream.write_chunks(&mut self.pending).await;
            let written = written.map_err(|error| self.error(error))?;
            // What was written of a chunk that did not fit whole is already cut off its front.
            self.pending.drain(..written.chunks);
            self.pending_bytes -= written.bytes;
            left(self.pending_bytes);
        }
        Ok(())
    }

    /// Ends the stream after what was written. What was only fed is not sent.
    ///
    /// # Errors
    /// [`StreamError::Ended`] if it was ended or reset before.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        self.stream.finish().map_err(|_| StreamError::Ended)
    }

    /// Gives the stream up: the peer gets `code`, what is under way is dropped.
    pub fn reset(&mut self, code: StreamCode) {
        self.pending.clear();
        self.pending_bytes = 0;
        self.scratch.clear();
        // An error means that it is over already, which is what was wanted.
        let _ = self.stream.reset(code.into());
    }

    /// Among the streams of this connection, a higher number is served first. 0 to begin with.
    pub fn set_priority(&self, priority: i32) {
        // An error means that the stream is over, and has no more use for a priority.
        let _ = self.stream.set_priority(priority);
    }

    /// Waits until the peer has everything after [`finish`](Self::finish), or wants no more of it.
    ///
    /// # Errors
    /// The peer stopped the stream, or the connection is gone.
    pub async fn delivered(&mut self) -> Result<(), StreamError> {
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(StreamError::Stopped(code.into())),
            Err(quinn::StoppedError::ConnectionLost(error)) => {
                Err(connection_error(error, self.peer, false).into())
            }
            Err(quinn::StoppedError::ZeroRttRejected) => Err(StreamError::Ended),
        }
    }

    fn seal(&mut self) {
        if !self.scratch.is_empty() {
            self.pending.push(self.scratch.split().freeze());
        }
    }

    fn error(&self, error: quinn::WriteError) -> StreamError {
        match error {
            quinn::WriteError::Stopped(code) => StreamError::Stopped(code.into()),
            quinn::WriteError::ConnectionLost(error) => {
                connection_error(error, self.peer, false).into()
            }
            quinn::WriteError::ClosedStream | quinn::WriteError::ZeroRttRejected => {
                StreamError::Ended
            }
        }
    }
}
