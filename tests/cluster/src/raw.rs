//! Raw: frames on streams, without the client that would never send what a test wants to.

use millstream_client::protocol::error::WireError;
use millstream_client::protocol::frame::FrameLimits;
use millstream_client::protocol::ids::{Offset, PartitionIndex, TopicName};
use millstream_client::protocol::message::Open;
use millstream_client::protocol::message::fetch::{FetchFilter, OpenFetch};
use millstream_client::protocol::message::hello::{Hello, NEWEST_VERSION, OLDEST_VERSION};
use millstream_client::protocol::message::produce::{Acks, OpenProduce, ProduceReady};
use millstream_client::protocol::message::transaction::Isolation;
use millstream_transport::{
    Connection, FrameReader, FrameWriter, Target, TransportSettings, Trust, connect,
};

use crate::process::Broker;

/// For any answer.
pub const LIMITS: FrameLimits = FrameLimits { message: 1 << 20, body: 64 << 20 };

/// A connection that was greeted, and that nobody else uses.
///
/// # Panics
/// If the broker cannot be reached.
pub async fn dial(broker: &Broker) -> Connection {
    dial_with(broker, &TransportSettings::default()).await
}

/// The same, with windows of its own.
///
/// # Panics
/// If the broker cannot be reached.
pub async fn dial_with(broker: &Broker, settings: &TransportSettings) -> Connection {
    let trust = Trust::from_pem_file(&broker.data_dir().join("ca.pem")).expect("its authority");
    let hello = Hello {
        oldest: OLDEST_VERSION,
        newest: NEWEST_VERSION,
        features: Vec::new(),
        client_id: "raw".to_owned(),
        software: "test".to_owned(),
    };
    connect(&Target::at(broker.address()), &trust, settings, hello).await.expect("it greets")
}

/// A produce stream into partition 0 of a topic.
///
/// # Panics
/// If it is refused.
pub async fn produce(connection: &Connection, topic: &str) -> (FrameWriter, FrameReader) {
    let (mut writer, mut reader) = connection.open().await.expect("one more stream");
    let open = OpenProduce {
        topic: TopicName::new(topic).expect("a topic's name"),
        id: None,
        partition: PartitionIndex(0),
        acks: Acks::All,
    };
    writer.send(&Open::Produce(open), []).await.expect("it is sent");
    let ready = reader.recv::<Result<ProduceReady, WireError>>(LIMITS).await;
    ready.expect("an answer").expect("a frame").message.expect("it is ready");
    (writer, reader)
}

/// A fetch stream from the beginning of partition 0 of a topic, with these grants. The answer is not
/// awaited: it may not come, for want of room that only reading makes.
///
/// # Panics
/// If it cannot be asked for.
pub async fn fetch(
    connection: &Connection,
    topic: &str,
    grants: (u64, u32),
) -> (FrameWriter, FrameReader) {
    fetch_filtered(connection, topic, grants, None).await
}

/// The same, through a filter.
///
/// # Panics
/// If it cannot be asked for.
pub async fn fetch_filtered(
    connection: &Connection,
    topic: &str,
    (credit, max_body_bytes): (u64, u32),
    filter: Option<FetchFilter>,
) -> (FrameWriter, FrameReader) {
    let (mut writer, reader) = connection.open().await.expect("one more stream");
    let open = OpenFetch {
        topic: TopicName::new(topic).expect("a topic's name"),
        id: None,
        partition: PartitionIndex(0),
        offset: Offset::ZERO,
        epoch: None,
        credit,
        max_body_bytes,
        filter,
        isolation: Isolation::ReadUncommitted,
    };
    writer.send(&Open::Fetch(open), []).await.expect("it is sent");
    (writer, reader)
}
