//! How a message and its body lie on a stream: `message_len u32 LE | body_len u32 LE | message | body`.
//!
//! Invariant: both lengths are held against a bound before anything is allocated for them, and a
//! message is decoded to its last byte or refused.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Bytes before every message.
pub const HEADER_SIZE: usize = 8;

/// The two lengths in front of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the encoded message.
    pub message_len: u32,
    /// Bytes of the raw body behind it.
    pub body_len: u32,
}

/// What the reader of a stream is ready to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// The most bytes of a message.
    pub message: usize,
    /// The most bytes of a body.
    pub body: usize,
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The message is larger than this stream takes.
    #[error("message of {len} bytes: the most here is {max}")]
    MessageTooLarge {
        /// Announced bytes.
        len: u32,
        /// Allowed bytes.
        max: usize,
    },
    /// The body is larger than this stream takes.
    #[error("body of {len} bytes: the most here is {max}")]
    BodyTooLarge {
        /// Announced bytes.
        len: u32,
        /// Allowed bytes.
        max: usize,
    },
    /// The bytes are not an encoding of the message that belongs here.
    #[error("undecodable {what}: {reason}")]
    Undecodable {
        /// The Rust type that was expected.
        what: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// Bytes were left over behind the message.
    #[error("{extra} bytes left over behind {what}")]
    Trailing {
        /// The Rust type that was expected.
        what: &'static str,
        /// How many bytes.
        extra: usize,
    },
}

impl FrameHeader {
    /// Reads the lengths and holds them against `limits`.
    ///
    /// # Errors
    /// [`FrameError::MessageTooLarge`] or [`FrameError::BodyTooLarge`].
    pub fn parse(bytes: [u8; HEADER_SIZE], limits: FrameLimits) -> Result<Self, FrameError> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let message_len = u32::from_le_bytes([a, b, c, d]);
        let body_len = u32::from_le_bytes([e, f, g, h]);
        if message_len as usize > limits.message {
            return Err(FrameError::MessageTooLarge { len: message_len, max: limits.message });
        }
        if body_len as usize > limits.body {
            return Err(FrameError::BodyTooLarge { len: body_len, max: limits.body });
        }
        Ok(Self { message_len, body_len })
    }
}

/// The header and the message, ready to be sent in front of a body of `body_len` bytes.
///
/// # Panics
/// When the message cannot be encoded or is over 4 GiB: our own messages never are.
#[must_use]
pub fn encode<M: Serialize + ?Sized>(message: &M, body_len: usize) -> Vec<u8> {
    let mut out = vec![0; HEADER_SIZE];
    out = postcard::to_extend(message, out).expect("a message of our own encodes");
    let message_len = u32::try_from(out.len() - HEADER_SIZE).expect("a message under 4 GiB");
    let body_len = u32::try_from(body_len).expect("a body under 4 GiB");
    out[..4].copy_from_slice(&message_len.to_le_bytes());
    out[4..8].copy_from_slice(&body_len.to_le_bytes());
    out
}

/// Decodes a whole message.
///
/// # Errors
/// [`FrameError::Undecodable`] and [`FrameError::Trailing`].
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, FrameError> {
    let what = short_name::<M>();
    let (message, rest) = postcard::take_from_bytes(bytes)
        .map_err(|e| FrameError::Undecodable { what, reason: e.to_string() })?;
    if !rest.is_empty() {
        return Err(FrameError::Trailing { what, extra: rest.len() });
    }
    Ok(message)
}

fn short_name<M>() -> &'static str {
    let full = std::any::type_name::<M>();
    full.split('<').next().and_then(|path| path.rsplit("::").next()).unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits { message: 64, body: 1024 };

    #[test]
    fn a_frame_reads_as_it_was_written() {
        let bytes = encode(&("hello", 7_u32), 1024);
        let (head, message) = bytes.split_at(HEADER_SIZE);
        let head = FrameHeader::parse(head.try_into().expect("8 bytes"), LIMITS).expect("fits");
        assert_eq!(head, FrameHeader { message_len: 7, body_len: 1024 });
        assert_eq!(decode::<(String, u32)>(message), Ok(("hello".to_owned(), 7)));
    }

    #[test]
    fn a_length_over_the_bound_is_refused_before_it_is_believed() {
        let parse = |m: u32, b: u32| {
            let mut h = [0; 8];
            h[..4].copy_from_slice(&m.to_le_bytes());
            h[4..].copy_from_slice(&b.to_le_bytes());
            FrameHeader::parse(h, LIMITS)
        };
        assert!(matches!(parse(65, 0), Err(FrameError::MessageTooLarge { len: 65, max: 64 })));
        assert!(matches!(parse(0, u32::MAX), Err(FrameError::BodyTooLarge { .. })));
        assert!(parse(64, 1024).is_ok());
    }

    #[test]
    fn bytes_behind_a_message_are_refused() {
        let mut bytes = postcard::to_stdvec(&5_u8).expect("encodes");
        bytes.push(0);
        assert_eq!(decode::<u8>(&bytes), Err(FrameError::Trailing { what: "u8", extra: 1 }));
        assert!(matches!(decode::<String>(&[200]), Err(FrameError::Undecodable { .. })));
    }
}
