//! A fetch stream of a broker in miniature.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millstream_client::protocol::error::{ErrorCode, WireError};
use millstream_client::protocol::ids::{NodeId, Offset};
use millstream_client::protocol::message::fetch::{Credit, FetchData, FetchReady, OpenFetch};
use millstream_transport::{CloseCode, FrameReader, FrameWriter, StreamError};
use parking_lot::Mutex;

use super::World;
use super::serve::{Here, LIMITS};
use super::world::unknown;

pub(crate) async fn serve(
    here: &Here,
    open: OpenFetch,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let ready = {
        let mut world = here.world.lock();
        world.fetches.push((here.node, open.offset.get(), open.epoch));
        begin(&world, here.node, &open)
    };
    writer.send(&ready, []).await?;
    if ready.is_err() {
        return writer.finish();
    }
    here.world.lock().granted_bytes += open.credit;
    let credit = Mutex::new(i64::try_from(open.credit).unwrap());
    let earn = async {
        while let Some(frame) = reader.recv::<Credit>(LIMITS).await? {
            here.world.lock().granted_bytes += frame.message.bytes;
            *credit.lock() += i64::try_from(frame.message.bytes).unwrap();
        }
        Ok(())
    };
    tokio::select! {
        ended = earn => ended,
        ended = fill(here, &open, &credit, writer) => ended,
    }
}

fn begin(world: &World, node: NodeId, open: &OpenFetch) -> Result<FetchReady, WireError> {
    let topic = world.known(node, &open.topic)?;
    if Some(topic.id) != open.id {
        return Err(unknown(&open.topic));
    }
    let (log, leader_epoch) = world.led(node, &open.topic, open.partition)?;
    let (offset, end) = (open.offset.get(), log.high_watermark());
    let refuse = |code, text: &str| Err(WireError::new(code, text));
    if open.epoch > Some(leader_epoch) {
        return refuse(ErrorCode::NotLeader, "the fake does not know that epoch");
    }
    if log.start <= offset && open.epoch.is_some_and(|epoch| log.is_parted(offset, epoch)) {
        return refuse(ErrorCode::LogTruncated, "the fake has lost it");
    }
    if offset < log.start || end < offset {
        let text = format!("it has {} to {end}", log.start);
        return refuse(ErrorCode::OffsetOutOfRange, &text);
    }
    Ok(FetchReady {
        id: topic.id,
        leader_epoch,
        log_start: Offset(log.start),
        high_watermark: Offset(end),
    })
}

async fn fill(
    here: &Here,
    open: &OpenFetch,
    credit: &Mutex<i64>,
    writer: &mut FrameWriter,
) -> Result<(), StreamError> {
    let mut next = open.offset;
    loop {
        here.awake().await;
        let left = *credit.lock();
        let found = read(&here.world.lock(), here.node, open, next);
        let found = match found {
            Ok(found) => found.filter(|_| left > 0),
            Err(error) => {
                writer.send(&Err::<FetchData, _>(error), []).await?;
                return writer.finish();
            }
        };
        let Some((body, data)) = found else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        next = data.next_offset;
        *credit.lock() -= i64::try_from(body.len()).unwrap();
        let (body, cut) = damage(&mut here.world.lock(), &body);
        writer.send(&Ok::<_, WireError>(data), [body]).await?;
        if cut {
            here.connection.close(CloseCode::Internal, "told to");
            return Ok(());
        }
    }
}

fn read(
    world: &World,
    node: NodeId,
    open: &OpenFetch,
    next: Offset,
) -> Result<Option<(Bytes, FetchData)>, WireError> {
    let (log, _) = world.led(node, &open.topic, open.partition)?;
    let batches = world.faults.batches_a_body.unwrap_or(usize::MAX);
    let found = log.read(next.get(), open.max_body_bytes as usize, batches);
    let (high_watermark, log_start) = (Offset(log.high_watermark()), Offset(log.start));
    Ok(found.map(|(body, next_offset)| {
        (
            body,
            FetchData { high_watermark, log_start, next_offset, examined: 0, aborted: Vec::new() },
        )
    }))
}

/// What becomes of a body on its way, and whether the connection is closed behind it.
fn damage(world: &mut World, body: &Bytes) -> (Bytes, bool) {
    world.fetched_bytes += body.len() as u64;
    let mut bytes = BytesMut::from(&body[..]);
    let faults = &mut world.faults;
    if std::mem::take(&mut faults.flip) {
        *bytes.last_mut().unwrap() ^= 1;
    }
    let cut = faults.cut_after_bodies == Some(0);
    faults.cut_after_bodies = faults.cut_after_bodies.and_then(|left| left.checked_sub(1));
    (bytes.freeze(), cut)
}
