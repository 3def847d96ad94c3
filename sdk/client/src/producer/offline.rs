//! A topic whose batches are finished and then acknowledged on the spot: what `send` costs without
//! a broker. For measurements and for the tests of programs that produce.

use std::sync::Arc;

use millstream_protocol::ids::{NodeId, Offset, TopicId, TopicName};
use millstream_protocol::message::produce::{ProduceAck, ProducerIdentity};
use millstream_protocol::message::topic::TopicRoutes;
use tokio::time::{Instant, sleep_until};

use super::lane::{Lane, Step};
use super::topic::Turn;
use super::{Producer, Shared};
use crate::error::ClientError;

impl Producer {
    /// Makes a topic in this producer alone: its batches are compressed, numbered and checksummed as
    /// any other, and then thrown away and acknowledged. No broker hears of them.
    ///
    /// # Errors
    /// The name is no topic's name.
    #[doc(hidden)]
    pub fn offline_topic(&self, name: &str, partitions: u32) -> Result<(), ClientError> {
        let shared = &self.handle.0;
        let routes = TopicRoutes {
            id: TopicId(0),
            leaders: vec![Some(NodeId(0)); partitions as usize],
            brokers: Vec::new(),
            max_batch_bytes: 16 << 20,
            epochs: Vec::new(),
        };
        let turn = Arc::new(Turn::new(partitions, 0));
        let topic = shared.put(TopicName::new(name)?, &routes.into(), turn, Vec::new());
        for lane in &topic.lanes {
            lane.start();
            lane.renumber(ProducerIdentity {
                id: millstream_protocol::ids::ProducerId(0),
                epoch: millstream_protocol::ids::ProducerEpoch(0),
            });
            shared.spawn(sink(Arc::clone(lane), Arc::clone(shared)));
        }
        Ok(())
    }
}

async fn sink(lane: Arc<Lane>, shared: Arc<Shared>) {
    let mut next = Offset(0);
    loop {
        match lane.next_step(&shared.config, &shared.budget, (usize::MAX, true), Instant::now()) {
            Step::Send(_) => {
                let ack = ProduceAck { base_offset: next, duplicate: false };
                next = next.next();
                lane.answer(Ok(ack), || std::time::Duration::ZERO);
            }
            Step::Finish => return,
            Step::Wait => tokio::select! {
                () = lane.woken() => {}
                () = shared.cancelled.cancelled() => return,
            },
            Step::WaitUntil(at) => tokio::select! {
                () = lane.woken() => {}
                () = sleep_until(at) => {}
                () = shared.cancelled.cancelled() => return,
            },
        }
    }
}
