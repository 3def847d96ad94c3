//! A produce stream of a broker in miniature.

use std::time::Duration;

use millstream_client::protocol::batch::Batch;
use millstream_client::protocol::error::{ErrorCode, WireError};
use millstream_client::protocol::ids::NodeId;
use millstream_client::protocol::message::produce::{
    Acks, OpenProduce, ProduceAck, ProduceAnswers, ProduceBatch, ProduceReady,
};
use millstream_transport::{CloseCode, FrameReader, FrameWriter, StreamError};

use super::World;
use super::serve::{Here, LIMITS};
use super::world::unknown;

pub(crate) async fn serve(
    here: &Here,
    open: OpenProduce,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let ready = begin(&here.world.lock(), here.node, &open);
    writer.send(&ready, []).await?;
    if ready.is_err() {
        return writer.finish();
    }
    loop {
        while here.world.lock().faults.deaf {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let Some(mut frame) = reader.recv::<ProduceBatch>(LIMITS).await? else {
            return writer.finish();
        };
        let batch = Batch::parse(frame.body.read().await?).unwrap();
        here.awake().await;
        let Taken { answer, cut, mute } = take(here, &open, batch);
        if cut {
            here.connection.close(CloseCode::Internal, "told to");
            return Ok(());
        }
        if open.acks != Acks::Zero && !mute {
            writer.send(&ProduceAnswers { answers: vec![answer] }, []).await?;
        }
    }
}

fn begin(world: &World, node: NodeId, open: &OpenProduce) -> Result<ProduceReady, WireError> {
    let topic = world.known(node, &open.topic)?;
    if Some(topic.id) != open.id {
        return Err(unknown(&open.topic));
    }
    let (_, leader_epoch) = world.led(node, &open.topic, open.partition)?;
    Ok(ProduceReady { id: topic.id, leader_epoch, max_batch_bytes: 1 << 20, max_in_flight: 5 })
}

struct Taken {
    answer: Result<ProduceAck, WireError>,
    cut: bool,
    mute: bool,
}

impl Taken {
    fn refused(error: WireError) -> Self {
        Self { answer: Err(error), cut: false, mute: false }
    }
}

fn take(here: &Here, open: &OpenProduce, batch: Batch) -> Taken {
    let mut world = here.world.lock();
    if let Err(error) = world.led(here.node, &open.topic, open.partition) {
        return Taken::refused(error);
    }
    if let Some(Some(code)) = world.faults.refuse.pop_front() {
        return Taken::refused(WireError::new(code, "told to"));
    }
    let answer = world.log(open.topic.as_str(), open.partition.0 as usize).produce(batch);
    if world.deposes(&open.topic, open.partition) {
        return Taken::refused(WireError::new(ErrorCode::NotLeader, "deposed"));
    }
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
    Taken { answer, cut, mute: faults.mute }
}
