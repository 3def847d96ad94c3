//! The receiving half: one frame at a time, its body as it comes or in one piece.
//!
//! Invariant: no more is held than one frame within the limits plus what one read may bring beyond
//! it; every call may be cancelled and called again without losing a byte.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use millstream_protocol::frame::{self, FrameError, FrameHeader, FrameLimits, HEADER_SIZE};
use quinn::RecvStream;
use serde::de::DeserializeOwned;

use crate::error::{StreamCode, StreamError, connection_error};

/// Chunks taken from QUIC at a time: each is what one packet brought.
const CHUNKS: usize = 16;
/// A body in one piece that is shorter than this is copied out, so that a few bytes do not keep the
/// packet they came in.
const COPY_BELOW: usize = 4_096;

/// Reads frames from a stream. Dropping it tells the peer to stop, unless all was read.
#[derive(Debug)]
pub struct FrameReader {
    stream: RecvStream,
    peer: SocketAddr,
    /// What has arrived and was not given out.
    chunks: VecDeque<Bytes>,
    buffered: usize,
    /// What is left of the body of the last frame.
    body_left: usize,
    /// A frame's header, once it was taken off `chunks`.
    header: Option<FrameHeader>,
    ended: bool,
}

/// A frame: its message, and its body still to be read. What is not read of the body is skipped by
/// the next [`FrameReader::recv`].
#[derive(Debug)]
pub struct Frame<'r, M> {
    /// The message.
    pub message: M,
    /// The body; it may be empty.
    pub body: Body<'r>,
}

/// The body of a frame.
#[derive(Debug)]
pub struct Body<'r> {
    reader: &'r mut FrameReader,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream, peer: SocketAddr) -> Self {
        Self {
            stream,
            peer,
            chunks: VecDeque::new(),
            buffered: 0,
            body_left: 0,
            header: None,
            ended: false,
        }
    }

    /// Waits for the next frame; `None` when the peer has ended the stream after a whole frame.
    ///
    /// # Errors
    /// The connection or the stream is gone, a length is over `limits`, or the bytes are no `M`.
    /// Only after the last of these can the stream still be read on.
    pub async fn recv<M: DeserializeOwned>(
        &mut self,
        limits: FrameLimits,
    ) -> Result<Option<Frame<'_, M>>, StreamError> {
        while self.next_of_body().await?.is_some() {}
        let header = match self.header {
            Some(header) => header,
            None => {
                if !self.gather(HEADER_SIZE).await? {
                    return Ok(None);
                }
                let header = FrameHeader::parse(self.take_header(), limits)?;
                self.header = Some(header);
                header
            }
        };
        let message_len = header.message_len as usize;
        if !self.gather(message_len).await? && message_len > 0 {
            return Err(StreamError::Truncated { missing: message_len });
        }
        self.header = None;
        self.body_left = header.body_len as usize;
        let message = self.decode(message_len)?;
        Ok(Some(Frame { message, body: Body { reader: self } }))
    }

    /// Whether the next frame has arrived already, message and body, so that
    /// [`recv`](Self::recv) and reading the body will not wait: the time to answer what came before
    /// is when this turns false.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        let rest = self.buffered.saturating_sub(self.body_left);
        match self.header {
            Some(header) => rest >= header.message_len as usize + header.body_len as usize,
            None => self.next_frame_len().is_some_and(|len| rest >= len),
        }
    }

    /// The whole length of the frame behind the present body, if its header has arrived.
    fn next_frame_len(&self) -> Option<usize> {
        let mut header = [0; HEADER_SIZE];
        let (mut skip, mut found) = (self.body_left, 0);
        for chunk in &self.chunks {
            let part = &chunk[skip.min(chunk.len())..];
            skip -= chunk.len() - part.len();
            let part = &part[..part.len().min(HEADER_SIZE - found)];
            header[found..found + part.len()].copy_from_slice(part);
            found += part.len();
            if found == HEADER_SIZE {
                break;
            }
        }
        let [a, b, c, d, e, f, g, h] = header;
        let message = u32::from_le_bytes([a, b, c, d]) as usize;
        let body = u32::from_le_bytes([e, f, g, h]) as usize;
        (found == HEADER_SIZE).then_some(HEADER_SIZE + message + body)
    }

    /// Tells the peer that nothing more of this stream is wanted, and why.
    pub fn stop(&mut self, code: StreamCode) {
        // An error means that it is over already, which is what was wanted.
        let _ = self.stream.stop(code.into());
        self.chunks.clear();
        self.buffered = 0;
        self.ended = true;
    }

    /// Waits until `wanted` bytes are here; `false` if the stream ended before the first of them.
    async fn gather(&mut self, wanted: usize) -> Result<bool, StreamError> {
        while self.buffered < wanted {
            if self.ended || !self.fill().await? {
                if self.buffered == 0 {
                    return Ok(false);
                }
                return Err(StreamError::Truncated { missing: wanted - self.buffered });
            }
        }
        Ok(true)
    }

    /// Takes what has arrived from QUIC, waiting for something to arrive; `false` at the end.
    async fn fill(&mut self) -> Result<bool, StreamError> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let count = self.stream.read_chunks(&mut chunks).await.map_err(|e| self.error(e))?;
        let Some(count) = count else {
            self.ended = true;
            return Ok(false);
        };
        for chunk in chunks.into_iter().take(count) {
            self.buffered += chunk.len();
            self.chunks.push_back(chunk);
        }
        Ok(true)
    }

    async fn next_of_body(&mut self) -> Result<Option<Bytes>, StreamError> {
        if self.body_left == 0 {
            return Ok(None);
        }
        if self.chunks.is_empty() && (self.ended || !self.fill().await?) {
            return Err(StreamError::Truncated { missing: self.body_left });
        }
        let front = self.front().len();
        let chunk = self.take_front(front.min(self.body_left));
        self.body_left -= chunk.len();
        Ok(Some(chunk))
    }

    /// The next `len` gathered bytes in one piece: copied if they came in several.
    fn take(&mut self, len: usize) -> Bytes {
        if self.front().len() >= len {
            return self.take_front(len);
        }
        let mut whole = BytesMut::with_capacity(len);
        while whole.len() < len {
            let front = self.front().len();
            let part = self.take_front(front.min(len - whole.len()));
            whole.extend_from_slice(&part);
        }
        whole.freeze()
    }

    fn take_header(&mut self) -> [u8; HEADER_SIZE] {
        if let Some(header) = self.front().first_chunk().copied() {
            self.consume(HEADER_SIZE);
            return header;
        }
        let header = self.take(HEADER_SIZE);
        *header.first_chunk().expect("as long as was asked for")
    }

    /// Decodes the next `len` gathered bytes; where they lie, if they lie in one piece.
    fn decode<M: DeserializeOwned>(&mut self, len: usize) -> Result<M, FrameError> {
        if let Some(bytes) = self.front().get(..len) {
            let message = frame::decode(bytes);
            self.consume(len);
            return message;
        }
        frame::decode(&self.take(len))
    }

    /// The next `len` gathered bytes, copied.
    fn copy(&mut self, len: usize) -> Bytes {
        if let Some(bytes) = self.front().get(..len) {
            let copy = Bytes::copy_from_slice(bytes);
            self.consume(len);
            return copy;
        }
        self.take(len)
    }

    fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    /// Drops the first `len` bytes of the first chunk.
    fn consume(&mut self, len: usize) {
        let Some(front) = self.chunks.front_mut() else {
            return;
        };
        front.advance(len);
        if front.is_empty() {
            self.chunks.pop_front();
        }
        self.buffered -= len;
    }

    /// The first `len` bytes of the first chunk.
    fn take_front(&mut self, len: usize) -> Bytes {
        let Some(front) = self.chunks.front_mut() else {
            assert!(len == 0, "only what was gathered is taken");
            return Bytes::new();
        };
        let taken = front.split_to(len);
        if front.is_empty() {
            self.chunks.pop_front();
        }
        self.buffered -= len;
        taken
    }

    fn error(&self, error: quinn::ReadError) -> StreamError {
        use quinn::ReadError;
        match error {
            ReadError::Reset(code) => StreamError::Reset(code.into()),
            ReadError::ConnectionLost(error) => connection_error(error, self.peer, false).into(),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => StreamError::Ended,
        }
    }
}

impl Body<'_> {
    /// Bytes that are still to be read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.reader.body_left
    }

    /// The next piece as it arrived, not copied; `None` when the body is whole.
    ///
    /// # Errors
    /// The connection or stream is gone, or ended too early.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        self.reader.next_of_body().await
    }

    /// What is left of the body in one piece: copied once if it came in several. Memory for the
    /// copy is taken when all of it has arrived.
    ///
    /// # Errors
    /// As [`next_chunk`](Self::next_chunk).
    pub async fn read(&mut self) -> Result<Bytes, StreamError> {
        let wanted = self.reader.body_left;
        if !self.reader.gather(wanted).await? && wanted > 0 {
            return Err(StreamError::Truncated { missing: wanted });
        }
        self.reader.body_left = 0;
        Ok(if wanted < COPY_BELOW { self.reader.copy(wanted) } else { self.reader.take(wanted) })
    }
}
