//! The streams of the broker in miniature.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use millstream_client::protocol::batch::Batch;
use millstream_client::protocol::error::{ErrorCode, WireError};
use millstream_client::protocol::frame::FrameLimits;
use millstream_client::protocol::ids::{
    LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicName,
};
use millstream_client::protocol::message::fetch::{Credit, FetchData, FetchReady, OpenFetch};
use millstream_client::protocol::message::offsets::{ListOffsets, OffsetSpec, PartitionOffset};
use millstream_client::protocol::message::produce::{
    Acks, OpenProduce, ProduceAnswers, ProduceBatch, ProduceReady, ProducerIdentity,
};
use millstream_client::protocol::message::topic::{BrokerAddress, TopicRoutes};
use millstream_client::protocol::message::{Open, Request};
use millstream_transport::{
    CloseCode, Connection, FrameReader, FrameWriter, Greeting, Listener, StreamError,
};
use parking_lot::Mutex;

use super::World;

const LIMITS: FrameLimits = FrameLimits { message: 1 << 20, body: 32 << 20 };

type Shared = Arc<Mutex<World>>;

pub(crate) async fn accept(listener: Listener, greeting: Greeting, world: Shared) {
    while let Some(incoming) = listener.accept().await {
        let (greeting, world) = (greeting.clone(), Arc::clone(&world));
        tokio::spawn(async move {
            let Ok(connection) = incoming.handshake(&greeting).await else {
                return;
            };
            while let Ok((mut writer, mut reader)) = connection.accept().await {
                let (connection, world) = (connection.clone(), Arc::clone(&world));
                tokio::spawn(async move {
                    // However it ends, the client has to cope.
                    let _ = stream(&connection, &world, &mut writer, &mut reader).await;
                });
            }
        });
    }
}

async fn stream(
    connection: &Connection,
    world: &Shared,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let Some(frame) = reader.recv::<Open>(LIMITS).await? else {
        return Ok(());
    };
    match frame.message {
        Open::Call(request) => call(world, request, writer).await,
        Open::Produce(open) => produce(connection, world, open, writer, reader).await,
        Open::Fetch(open) => fetch(connection, world, open, writer, reader).await,
    }
}

fn unknown(topic: &TopicName) -> WireError {
    WireError::new(ErrorCode::UnknownTopic, format!("no topic {topic}"))
}

async fn call(
    world: &Shared,
    request: Request,
    writer: &mut FrameWriter,
) -> Result<(), StreamError> {
    while world.lock().faults.hold_calls {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    match request {
        Request::FindTopic(find) => {
            let routes = routes(&world.lock(), &find.name);
            writer.send(&routes, []).await?;
        }
        Request::AllocateProducer(_) => {
            let id = {
                let mut world = world.lock();
                world.next_producer += 1;
                ProducerId(world.next_producer)
            };
            let identity = ProducerIdentity { id, epoch: ProducerEpoch(0) };
            writer.send(&Ok::<_, WireError>(identity), []).await?;
        }
        Request::ListOffsets(list) => {
            let offsets = offsets(&world.lock(), &list);
            writer.send(&offsets, []).await?;
        }
        other => {
            let text = format!("the fake has no {}", other.name());
            let error = WireError::new(ErrorCode::InvalidRequest, text);
            writer.send(&Err::<(), _>(error), []).await?;
        }
    }
    writer.finish()
}

fn routes(world: &World, name: &TopicName) -> Result<TopicRoutes, WireError> {
    let topic = world.topics.get(name.as_str()).ok_or_else(|| unknown(name))?;
    let broker = BrokerAddress { node: NodeId(1), address: world.address.clone() };
    Ok(TopicRoutes {
        id: topic.id,
        leaders: vec![Some(NodeId(1)); topic.partitions.len()],
        brokers: vec![broker],
        max_batch_bytes: 1 << 20,
    })
}

fn offsets(world: &World, list: &ListOffsets) -> Result<Vec<PartitionOffset>, WireError> {
    let topic = world.topics.get(list.topic.as_str()).ok_or_else(|| unknown(&list.topic))?;
    let partition = list.partition.unwrap_or(PartitionIndex(0));
    let log = &topic.partitions[partition.0 as usize];
    let offset = match list.at {
        OffsetSpec::Earliest => Offset(log.start),
        _ => Offset(log.end),
    };
    Ok(vec![PartitionOffset { partition, offset, timestamp: None, leader_epoch: LeaderEpoch(1) }])
}

async fn produce(
    connection: &Connection,
    world: &Shared,
    open: OpenProduce,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let found = routes(&world.lock(), &open.topic)
        .and_then(|r| if Some(r.id) == open.id { Ok(r) } else { Err(unknown(&open.topic)) });
    let ready = found.map(|routes| ProduceReady {
        id: routes.id,
        leader_epoch: LeaderEpoch(1),
        max_batch_bytes: 1 << 20,
        max_in_flight: 5,
    });
    writer.send(&ready, []).await?;
    if ready.is_err() {
        return writer.finish();
    }
    loop {
        while world.lock().faults.deaf {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let Some(mut frame) = reader.recv::<ProduceBatch>(LIMITS).await? else {
            return writer.finish();
        };
        let batch = Batch::parse(frame.body.read().await?).unwrap();
        let (answer, cut, mute) = take(world, &open, batch);
        if cut {
            connection.close(CloseCode::Internal, "told to");
            return Ok(());
        }
        if open.acks != Acks::Zero && !mute {
            writer.send(&ProduceAnswers { answers: vec![answer] }, []).await?;
        }
    }
}

type Taken =
    (Result<millstream_client::protocol::message::produce::ProduceAck, WireError>, bool, bool);

fn take(world: &Shared, open: &OpenProduce, batch: Batch) -> Taken {
    let mut world = world.lock();
    let mute = world.faults.mute;
    if let Some(Some(code)) = world.faults.refuse.pop_front() {
        return (Err(WireError::new(code, "told to")), false, mute);
    }
    let topic = world.topics.get_mut(open.topic.as_str()).unwrap();
    let answer = topic.partitions[open.partition.0 as usize].produce(batch);
    let faults = &mut world.faults;
    let cut = match &mut faults.cut_after_batches {
        Some(1) => {
            faults.cut_after_batches = faults.cut_every;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    };
    (answer, cut, mute)
}

async fn fetch(
    connection: &Connection,
    world: &Shared,
    open: OpenFetch,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let ready = begin(&world.lock(), &open);
    writer.send(&ready, []).await?;
    if ready.is_err() {
        return writer.finish();
    }
    world.lock().granted_bytes += open.credit;
    let credit = Mutex::new(i64::try_from(open.credit).unwrap());
    let earn = async {
        while let Some(frame) = reader.recv::<Credit>(LIMITS).await? {
            world.lock().granted_bytes += frame.message.bytes;
            *credit.lock() += i64::try_from(frame.message.bytes).unwrap();
        }
        Ok(())
    };
    tokio::select! {
        ended = earn => ended,
        ended = fill(connection, world, &open, &credit, writer) => ended,
    }
}

fn begin(world: &World, open: &OpenFetch) -> Result<FetchReady, WireError> {
    let topic = world.topics.get(open.topic.as_str()).ok_or_else(|| unknown(&open.topic))?;
    if Some(topic.id) != open.id {
        return Err(unknown(&open.topic));
    }
    let log = &topic.partitions[open.partition.0 as usize];
    if open.offset.get() < log.start || log.end < open.offset.get() {
        let text = format!("it has {} to {}", log.start, log.end);
        return Err(WireError::new(ErrorCode::OffsetOutOfRange, text));
    }
    Ok(FetchReady {
        id: topic.id,
        leader_epoch: LeaderEpoch(1),
        log_start: Offset(log.start),
        high_watermark: Offset(log.end),
    })
}

async fn fill(
    connection: &Connection,
    world: &Shared,
    open: &OpenFetch,
    credit: &Mutex<i64>,
    writer: &mut FrameWriter,
) -> Result<(), StreamError> {
    let mut next = open.offset;
    loop {
        let left = *credit.lock();
        let found = if left > 0 { read(&world.lock(), open, next) } else { None };
        let Some((body, data)) = found else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        next = data.next_offset;
        *credit.lock() -= i64::try_from(body.len()).unwrap();
        let (body, cut) = {
            let mut world = world.lock();
            world.fetched_bytes += body.len() as u64;
            let mut bytes = BytesMut::from(&body[..]);
            if std::mem::take(&mut world.faults.flip) {
                *bytes.last_mut().unwrap() ^= 1;
            }
            let cut = world.faults.cut_after_bodies == Some(0);
            world.faults.cut_after_bodies =
                world.faults.cut_after_bodies.and_then(|left| left.checked_sub(1));
            (bytes.freeze(), cut)
        };
        writer.send(&Ok::<_, WireError>(data), [body]).await?;
        if cut {
            connection.close(CloseCode::Internal, "told to");
            return Ok(());
        }
    }
}

fn read(world: &World, open: &OpenFetch, next: Offset) -> Option<(bytes::Bytes, FetchData)> {
    let log = &world.topics[open.topic.as_str()].partitions[open.partition.0 as usize];
    let batches = world.faults.batches_a_body.unwrap_or(usize::MAX);
    let (body, next_offset) = log.read(next.get(), open.max_body_bytes as usize, batches)?;
    let (high_watermark, log_start) = (Offset(log.end), Offset(log.start));
    Some((body, FetchData { high_watermark, log_start, next_offset, examined: 0 }))
}
