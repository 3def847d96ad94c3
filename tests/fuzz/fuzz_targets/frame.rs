//! Frames on a stream: any bytes are a frame or an error; a message that decodes encodes to what decodes to it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_protocol::error::WireError;
use millstream_protocol::frame::{FrameHeader, FrameLimits, HEADER_SIZE, decode, encode};
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_MESSAGE_BYTES};
use millstream_protocol::message::hello::{Hello, Welcome};
use millstream_protocol::message::produce::{ProduceAnswers, ProduceBatch};
use millstream_protocol::message::{Open, fetch, topic};
use serde::Serialize;
use serde::de::DeserializeOwned;

const LIMITS: FrameLimits = FrameLimits {
    message: MAX_MESSAGE_BYTES,
    body: MAX_BATCH_BYTES,
};

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<HEADER_SIZE>() else {
        return;
    };
    let message = match FrameHeader::parse(*head, LIMITS) {
        Ok(header) => &rest[..rest.len().min(header.message_len as usize)],
        Err(_) => rest,
    };
    comes_back::<Open>(message);
    comes_back::<Hello>(message);
    comes_back::<Result<Welcome, WireError>>(message);
    comes_back::<ProduceBatch>(message);
    comes_back::<ProduceAnswers>(message);
    comes_back::<fetch::Credit>(message);
    comes_back::<Result<fetch::FetchData, WireError>>(message);
    comes_back::<Result<topic::TopicDescription, WireError>>(message);
});

fn comes_back<M: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(message) = decode::<M>(bytes) else {
        return;
    };
    let frame = encode(&message, 0);
    let again: M = decode(&frame[HEADER_SIZE..]).expect("what was encoded decodes");
    assert_eq!(encode(&again, 0), frame);
}
