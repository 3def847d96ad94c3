//! What is asked of every message: it comes back as it went, and damage to it is never a panic.

use std::fmt::Debug;

use millstream_protocol::frame::{
    FrameError, FrameHeader, FrameLimits, HEADER_SIZE, decode, encode,
};
use millstream_protocol::limits::{MAX_FETCH_BODY_BYTES, MAX_MESSAGE_BYTES};
use proptest::prelude::*;
use proptest::sample::Index;
use serde::Serialize;
use serde::de::DeserializeOwned;

const LIMITS: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: MAX_FETCH_BODY_BYTES };

/// Where an encoding is cut, and which of its bytes become what.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    cut: Index,
    bytes: Vec<(Index, u8)>,
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let bytes = proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4);
    (any::<Index>(), bytes).prop_map(|(cut, bytes)| Damage { cut, bytes })
}

/// The encoding without the lengths in front of it, which are checked here.
fn message_of<M: Serialize>(message: &M, body: usize) -> Vec<u8> {
    let frame = encode(message, body);
    let (head, encoded) = frame.split_first_chunk::<HEADER_SIZE>().unwrap();
    let head = FrameHeader::parse(*head, LIMITS).unwrap();
    assert_eq!((head.message_len as usize, head.body_len as usize), (encoded.len(), body));
    encoded.to_vec()
}

/// Encodes, decodes, compares; then damages the encoding and decodes again.
pub(crate) fn comes_back<M>(message: &M, damage: &Damage)
where
    M: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let encoded = message_of(message, damage.cut.index(MAX_FETCH_BODY_BYTES));
    assert_eq!(decode::<M>(&encoded).as_ref(), Ok(message));

    let longer = [&encoded[..], &[0]].concat();
    assert!(matches!(decode::<M>(&longer), Err(FrameError::Trailing { extra: 1, .. })));
    if encoded.is_empty() {
        return;
    }
    let cut = damage.cut.index(encoded.len());
    let refused = decode::<M>(&encoded[..cut]);
    assert!(matches!(refused, Err(FrameError::Undecodable { .. })), "{cut} bytes: {refused:?}");

    let mut damaged = encoded;
    for (place, byte) in &damage.bytes {
        let place = place.index(damaged.len());
        damaged[place] = *byte;
    }
    is_read_or_refused::<M>(&damaged);
    is_read_or_refused::<M>(&damaged[..cut]);
}

/// An error, or a value that encodes to what decodes to it.
pub(crate) fn is_read_or_refused<M>(bytes: &[u8])
where
    M: Serialize + DeserializeOwned + PartialEq + Debug,
{
    if let Ok(message) = decode::<M>(bytes) {
        assert_eq!(decode::<M>(&message_of(&message, 0)), Ok(message));
    }
}
