//! A topic as a producer knows it: its lanes, and which of them a record goes to.
//!
//! Invariant: a given partition wins; then the key; then the partition whose turn it is. A turn
//! lasts one batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use millstream_protocol::ids::{PartitionIndex, TopicId, TopicName};
use millstream_protocol::partitioner::partition_of_key;

use super::config::Partitioner;
use super::lane::Lane;
use super::record::ProducerRecord;
use crate::error::ClientError;

/// See the module. Replaced as a whole when partitions are added.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) id: TopicId,
    pub(crate) max_batch_bytes: usize,
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) turn: Arc<Turn>,
    replaced: AtomicBool,
}

/// Whose turn it is among the partitions, for records without a key.
#[derive(Debug)]
pub(crate) struct Turn {
    current: AtomicU32,
    partitions: AtomicU32,
}

impl Topic {
    pub(crate) const fn new(
        name: TopicName,
        id: TopicId,
        max_batch_bytes: usize,
        lanes: Vec<Arc<Lane>>,
        turn: Arc<Turn>,
    ) -> Self {
        Self { name, id, max_batch_bytes, lanes, turn, replaced: AtomicBool::new(false) }
    }

    /// There is a newer one with more lanes.
    pub(crate) fn replace(&self) {
        self.replaced.store(true, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    /// The lane that a record goes to.
    #[inline]
    pub(crate) fn lane_of(
        &self,
        record: &ProducerRecord<'_>,
        partitioner: &Partitioner,
    ) -> Result<&Arc<Lane>, ClientError> {
        let given = match (record.partition, partitioner, record.key) {
            (Some(given), ..) => Some(given),
            (None, Partitioner::Kafka, Some(key)) => Some(partition_of_key(key, self.count())),
            (None, Partitioner::Custom(choose), _) => choose(record, self.count()),
            (None, ..) => None,
        };
        match given {
            Some(partition) => self.lane(partition),
            None => self.lane_in_turn(),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a topic has at most 10,000 partitions")]
    pub(crate) const fn count(&self) -> u32 {
        self.lanes.len() as u32
    }

    fn lane(&self, partition: PartitionIndex) -> Result<&Arc<Lane>, ClientError> {
        self.lanes.get(partition.0 as usize).ok_or_else(|| ClientError::UnknownPartition {
            topic: self.name.clone(),
            partition,
            partitions: self.count(),
        })
    }

    /// The partition whose turn it is; the turn of one whose broker is away is passed over.
    #[inline]
    fn lane_in_turn(&self) -> Result<&Arc<Lane>, ClientError> {
        let current = self.turn.current();
        let lane = self.lane_or_first(current)?;
        if !lane.is_down() {
            return Ok(lane);
        }
        self.turn.end(current);
        self.lane_or_first(self.turn.current())
    }

    /// Whoever still has the topic in its hands that is just being replaced has no lane for the turn
    /// of a partition that was added.
    #[inline]
    fn lane_or_first(&self, current: u32) -> Result<&Arc<Lane>, ClientError> {
        self.lane(PartitionIndex(current)).or_else(|_| self.lane(PartitionIndex(0)))
    }
}

impl Turn {
    /// Begins with the partition that `random` says.
    #[expect(clippy::cast_possible_truncation, reason = "less than the number of partitions")]
    pub(crate) fn new(partitions: u32, random: u64) -> Self {
        let first = (random >> 8) % u64::from(partitions.max(1));
        Self { current: AtomicU32::new(first as u32), partitions: AtomicU32::new(partitions) }
    }

    #[inline]
    fn current(&self) -> u32 {
        self.current.load(Ordering::Relaxed)
    }

    /// The batch of `partition` is full or on its way: if it was its turn, that is over.
    pub(crate) fn end(&self, partition: u32) {
        let partitions = self.partitions.load(Ordering::Relaxed).max(1);
        let next = (partition + 1) % partitions;
        // Lost races are fine: then somebody else has ended the turn.
        let _ =
            self.current.compare_exchange(partition, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Partitions were added.
    pub(crate) fn grow(&self, partitions: u32) {
        self.partitions.store(partitions, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(partitions: u32, turn: &Arc<Turn>) -> Topic {
        let name = TopicName::new("t").expect("a name");
        let lane = |index| {
            let (index, turn) = (PartitionIndex(index), Arc::clone(turn));
            Arc::new(Lane::new(name.clone(), index, 1_000, 5, turn, Arc::default()))
        };
        let lanes = (0..partitions).map(lane).collect();
        Topic::new(name.clone(), TopicId(1), 1_000, lanes, Arc::clone(turn))
    }

    #[test]
    fn a_record_on_its_way_through_a_topic_that_is_just_being_replaced_finds_a_lane() {
        let turn = Arc::new(Turn::new(3, 0));
        let (before, after) = (topic(3, &turn), topic(5, &turn));
        turn.grow(5);
        let record = ProducerRecord::new("t");
        let partition =
            |topic: &Topic| topic.lane_of(&record, &Partitioner::Kafka).map(|lane| lane.index.0);
        (0..3).for_each(|current| turn.end(current));
        assert_eq!((partition(&before), partition(&after)), (Ok(0), Ok(3)));
        after.lanes[3].set_down(true);
        before.lanes[0].set_down(true);
        assert_eq!(partition(&before), Ok(0), "there is no other");
        assert_eq!(partition(&after), Ok(4));
    }

    #[test]
    fn turns_go_round_and_only_the_one_whose_turn_it_is_ends_it() {
        let turn = Turn::new(3, 0);
        assert_eq!(turn.current(), 0);
        turn.end(2);
        assert_eq!(turn.current(), 0);
        for next in [1, 2, 0] {
            turn.end(turn.current());
            assert_eq!(turn.current(), next);
        }
        turn.grow(5);
        for next in [1, 2, 3, 4, 0] {
            turn.end(turn.current());
            assert_eq!(turn.current(), next);
        }
        assert!(Turn::new(3, u64::MAX).current() < 3);
    }
}
