//! Markers: a decided transaction is ended wherever it wrote, by whoever leads there, however long that takes.
//!
//! ```text
//!   coordinator ──▶ Marking::all ──▶ leader of a partition: a marker in its log
//!                        │           coordinator of a group: its offsets count, or are dropped
//!                        └── again, until every place has its marker or is gone
//! ```
//!
//! Invariant: a place counts as ended when its marker is committed there, or when the metadata says that it is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use millstream_core::groups::Ask;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{NodeId, TopicPartition};
use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::{MarkedPlace, Marker, WriteMarkers};

use crate::broker::Broker;
use crate::groups::TOPIC as GROUPS;

/// How long another broker may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Before it is tried again.
const AGAIN: Duration = Duration::from_millis(20);
/// The most between two attempts.
const AGAIN_AT_MOST: Duration = Duration::from_secs(1);

/// What it takes to have markers written.
pub(crate) struct Marking {
    broker: Arc<Broker>,
}

impl Marking {
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }

    /// A producer id that nobody has.
    pub(crate) async fn producers(
        &self,
        count: usize,
    ) -> Result<Vec<millstream_protocol::ids::ProducerId>, WireError> {
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            ids.push(self.broker.producer_ids.next(&self.broker.metadata).await?);
        }
        Ok(ids)
    }

    /// Has all of them written. Ends only when they are.
    pub(crate) async fn all(&self, mut markers: Vec<Marker>) {
        let mut pause = AGAIN;
        loop {
            markers = self.some(markers).await;
            if markers.is_empty() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_AT_MOST);
        }
    }

    /// Tries each once. Returns what is left.
    async fn some(&self, markers: Vec<Marker>) -> Vec<Marker> {
        let (mut here, mut elsewhere) = (Vec::new(), BTreeMap::<NodeId, Vec<Marker>>::new());
        let mut left = Vec::new();
        for marker in markers {
            match self.whereabouts(&marker.at) {
                Whereabouts::Gone => {}
                Whereabouts::Nowhere => left.push(marker),
                Whereabouts::At(node) if node == self.broker.node => here.push(marker),
                Whereabouts::At(node) => elsewhere.entry(node).or_default().push(marker),
            }
        }
        let here = async {
            let fates = join_all(here.iter().map(|marker| write(&self.broker, marker))).await;
            (here, fates)
        };
        let elsewhere = elsewhere.into_iter().map(|(node, markers)| self.at(node, markers));
        let (here, elsewhere) = tokio::join!(here, join_all(elsewhere));
        for (markers, fates) in [here].into_iter().chain(elsewhere) {
            for (marker, fate) in markers.into_iter().zip(fates) {
                if let Err(error) = fate {
                    if !error.is_retriable() {
                        tracing::warn!(%error, place = ?marker.at, "a transaction's end is not written yet");
                    }
                    left.push(marker);
                }
            }
        }
        left
    }

    async fn at(
        &self,
        node: NodeId,
        markers: Vec<Marker>,
    ) -> (Vec<Marker>, Vec<Result<(), WireError>>) {
        let asked = WriteMarkers { markers: markers.clone() };
        let fates = match self.broker.peers.call(node, asked, ANSWER).await {
            Ok(written) if written.fates.len() == markers.len() => written.fates,
            Ok(_) => {
                let text = format!("broker {node} answered for other markers than it was sent");
                vec![Err(WireError::new(ErrorCode::Internal, text)); markers.len()]
            }
            Err(error) => vec![Err(error); markers.len()],
        };
        (markers, fates)
    }

    fn whereabouts(&self, place: &MarkedPlace) -> Whereabouts {
        let partition = match place {
            MarkedPlace::Partition(partition) => Some(*partition),
            MarkedPlace::Group(group) => {
                let image = self.broker.image();
                let topic = image.topic(&GROUPS).map(|(id, _)| id);
                topic
                    .zip(self.broker.groups.partition_of(group))
                    .map(|(topic, partition)| TopicPartition { topic, partition })
            }
        };
        let Some(partition) = partition else { return Whereabouts::Nowhere };
        if self.is_gone(partition) {
            return Whereabouts::Gone;
        }
        let leader = self.broker.peers.leaders().of(partition).1;
        leader.map_or(Whereabouts::Nowhere, Whereabouts::At)
    }

    /// A topic's id was given out, and the topic is not there.
    fn is_gone(&self, partition: TopicPartition) -> bool {
        self.broker.image().was_deleted(partition.topic)
    }
}

enum Whereabouts {
    At(NodeId),
    Nowhere,
    Gone,
}

/// Writes a marker here.
pub(crate) async fn write(broker: &Broker, marker: &Marker) -> Result<(), WireError> {
    let Marker { at, producer, epoch, commit } = marker;
    let of = ProducerIdentity { id: *producer, epoch: *epoch };
    match at {
        MarkedPlace::Partition(partition) => {
            let handle = broker.peers.hosted().get(*partition).ok_or_else(|| {
                let text = format!("partition {partition} is not here");
                WireError::new(ErrorCode::NotLeader, text)
            })?;
            handle.end_transaction(of, *commit).await
        }
        MarkedPlace::Group(group) => {
            let ask = Ask::EndTransaction { group: group.clone(), producer: of, commit: *commit };
            broker.groups.ask(group, ask).await.map(drop)
        }
    }
}
