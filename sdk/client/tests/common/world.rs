//! What the brokers in miniature keep, and what they are told to do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millstream_client::protocol::error::{ErrorCode, WireError};
use millstream_client::protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicName};
use millstream_client::protocol::message::topic::{BrokerAddress, TopicRoutes};

use super::Log;

#[derive(Default)]
pub(crate) struct World {
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) faults: Faults,
    /// Every call that was served, and by whom.
    pub(crate) calls: Vec<(NodeId, &'static str)>,
    /// Every fetch stream that was asked for: by whom, at which offset, with which epoch.
    pub(crate) fetches: Vec<(NodeId, u64, Option<LeaderEpoch>)>,
    next_topic: u32,
    next_producer: i64,
    /// Bytes of bodies sent on fetch streams, and granted on them.
    pub(crate) fetched_bytes: u64,
    pub(crate) granted_bytes: u64,
}

pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<Log>,
}

/// One broker, and what it does otherwise than the others.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) address: String,
    /// It answers who leads a topic with this, whatever has happened since.
    pub(crate) stale: BTreeMap<String, TopicRoutes>,
    /// It has not heard of these topics.
    pub(crate) unaware: BTreeSet<String>,
    /// It refuses everything, because it is about to stop.
    pub(crate) stopping: bool,
    /// It keeps its connections and says nothing on them.
    pub(crate) silent: bool,
    /// It leads every partition in this epoch, as it thinks.
    pub(crate) still_leads: Option<LeaderEpoch>,
}

#[derive(Default)]
pub(crate) struct Faults {
    /// What the next batches are refused with; `None` takes one.
    pub(crate) refuse: VecDeque<Option<ErrorCode>>,
    /// The connection is closed after so many batches were appended, before they are answered.
    pub(crate) cut_after_batches: Option<u32>,
    /// The same, again after so many more.
    pub(crate) cut_every: Option<u32>,
    /// The next broker takes over after so many batches were appended, before the last is answered; and
    /// again after so many more.
    pub(crate) move_every: Option<u32>,
    pub(crate) appended: u32,
    /// The connection is closed after so many bodies were sent.
    pub(crate) cut_after_bodies: Option<u32>,
    /// Batches are appended and never answered.
    pub(crate) mute: bool,
    /// Nothing is read from produce streams until this is over.
    pub(crate) deaf: bool,
    /// Calls are not answered until this is over; streams go on.
    pub(crate) hold_calls: bool,
    /// A bit of the next body is flipped.
    pub(crate) flip: bool,
    /// The most batches of one body.
    pub(crate) batches_a_body: Option<usize>,
}

impl World {
    pub(crate) fn make_topic(&mut self, name: &str, partitions: usize) -> TopicId {
        self.next_topic += 1;
        let id = TopicId(self.next_topic);
        let partitions = (0..partitions).map(|_| Log::default()).collect();
        self.topics.insert(name.to_owned(), Topic { id, partitions });
        id
    }

    pub(crate) fn allocate_producer(&mut self) -> i64 {
        self.next_producer += 1;
        self.next_producer
    }

    pub(crate) fn log(&mut self, topic: &str, partition: usize) -> &mut Log {
        &mut self.topics.get_mut(topic).unwrap().partitions[partition]
    }

    pub(crate) fn node(&mut self, node: u32) -> &mut Node {
        self.nodes.get_mut(&NodeId(node)).unwrap()
    }

    /// So many calls of that name were served, by this broker or by all.
    pub(crate) fn count(&self, node: Option<u32>, call: &str) -> usize {
        let by = |by: NodeId| node.is_none_or(|node| NodeId(node) == by);
        self.calls.iter().filter(|(node, name)| by(*node) && *name == call).count()
    }

    /// A topic of that name, if this broker has heard of it.
    pub(crate) fn known(&self, node: NodeId, name: &TopicName) -> Result<&Topic, WireError> {
        let aware = !self.nodes[&node].unaware.contains(name.as_str());
        self.topics.get(name.as_str()).filter(|_| aware).ok_or_else(|| unknown(name))
    }

    /// One partition's log, and the epoch in which this broker leads it, if it does.
    pub(crate) fn led(
        &self,
        node: NodeId,
        name: &TopicName,
        partition: PartitionIndex,
    ) -> Result<(&Log, LeaderEpoch), WireError> {
        if self.nodes[&node].stopping {
            return Err(WireError::new(ErrorCode::ShuttingDown, "the fake is stopping"));
        }
        let log = &self.known(node, name)?.partitions[partition.0 as usize];
        if let Some(epoch) = self.nodes[&node].still_leads {
            return Ok((log, epoch));
        }
        if log.leader != Some(node) {
            let text = format!("broker {node} does not lead {name}/{partition}");
            return Err(WireError::new(ErrorCode::NotLeader, text));
        }
        Ok((log, log.epoch))
    }

    pub(crate) fn brokers(&self) -> Vec<BrokerAddress> {
        let address = |(node, known): (&NodeId, &Node)| BrokerAddress {
            node: *node,
            address: known.address.clone(),
        };
        self.nodes.iter().map(address).collect()
    }

    /// Who leads a topic's partitions, as this broker says.
    pub(crate) fn routes(&self, node: NodeId, name: &TopicName) -> Result<TopicRoutes, WireError> {
        if let Some(stale) = self.nodes[&node].stale.get(name.as_str()) {
            return Ok(stale.clone());
        }
        let topic = self.known(node, name)?;
        Ok(TopicRoutes {
            id: topic.id,
            leaders: topic.partitions.iter().map(|log| log.leader).collect(),
            brokers: self.brokers(),
            max_batch_bytes: 1 << 20,
            epochs: topic.partitions.iter().map(|log| log.epoch).collect(),
        })
    }

    /// Counts a batch that was appended; says whether its leader is deposed with it.
    pub(crate) fn deposes(&mut self, topic: &TopicName, partition: PartitionIndex) -> bool {
        let Some(every) = self.faults.move_every else { return false };
        self.faults.appended += 1;
        let now = self.faults.appended.is_multiple_of(every);
        if now {
            let nodes: Vec<_> = self.nodes.keys().copied().collect();
            let log = self.log(topic.as_str(), partition.0 as usize);
            let at = nodes.iter().position(|node| Some(*node) == log.leader).unwrap();
            log.elect(Some(nodes[(at + 1) % nodes.len()]));
        }
        now
    }
}

pub(crate) fn unknown(topic: &TopicName) -> WireError {
    WireError::new(ErrorCode::UnknownTopic, format!("no topic {topic}"))
}
