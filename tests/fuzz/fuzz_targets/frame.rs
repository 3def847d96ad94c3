//! Frames on a stream: any bytes are a frame or an error; a message that decodes encodes to what decodes to it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_protocol::error::WireError;
use millstream_protocol::frame::{FrameHeader, FrameLimits, HEADER_SIZE, decode, encode};
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_MESSAGE_BYTES};
use millstream_protocol::message::hello::{Hello, Welcome};
use millstream_protocol::message::produce::{self, ProduceAnswers, ProduceBatch};
use millstream_protocol::message::{Open, cluster, fetch, job, module, offsets, peer, replica, topic};
use serde::Serialize;
use serde::de::DeserializeOwned;

const LIMITS: FrameLimits = FrameLimits {
    message: MAX_MESSAGE_BYTES,
    body: MAX_BATCH_BYTES,
};

/// What a call or the opening of a stream is answered with.
type Answer<M> = Result<M, WireError>;

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
    comes_back::<Answer<Welcome>>(message);
    comes_back::<ProduceBatch>(message);
    comes_back::<ProduceAnswers>(message);
    comes_back::<fetch::Credit>(message);
    comes_back::<Answer<fetch::FetchData>>(message);
    comes_back::<Answer<produce::ProduceReady>>(message);
    comes_back::<Answer<fetch::FetchReady>>(message);
    comes_back::<Answer<()>>(message);
    comes_back::<Answer<topic::TopicDescription>>(message);
    comes_back::<Answer<Vec<topic::TopicSummary>>>(message);
    comes_back::<Answer<topic::TopicRoutes>>(message);
    comes_back::<Answer<produce::ProducerIdentity>>(message);
    comes_back::<Answer<Vec<offsets::PartitionOffset>>>(message);
    comes_back::<Answer<offsets::EpochEnd>>(message);
    comes_back::<Answer<module::ModuleDescription>>(message);
    comes_back::<Answer<Vec<module::ModuleDescription>>>(message);
    comes_back::<Answer<job::JobDescription>>(message);
    comes_back::<Answer<Vec<job::JobSummary>>>(message);
    comes_back::<Answer<job::JobLogPage>>(message);
    comes_back::<Answer<cluster::ClusterDescription>>(message);
    comes_back::<Answer<cluster::PlacementPlan>>(message);
    comes_back::<Answer<peer::JoinedCluster>>(message);
    comes_back::<peer::PeerFrame>(message);
    comes_back::<replica::Envelope>(message);
});

fn comes_back<M: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(message) = decode::<M>(bytes) else {
        return;
    };
    let frame = encode(&message, 0);
    let again: M = decode(&frame[HEADER_SIZE..]).expect("what was encoded decodes");
    assert_eq!(encode(&again, 0), frame);
}
