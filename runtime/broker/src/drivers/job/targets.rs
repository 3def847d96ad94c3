//! Targets: the partitions that a job writes to.
//!
//! Invariant: the dead-letter topic comes behind the outputs, where no module can name it.

use millstream_protocol::error::WireError;
use millstream_protocol::ids::PartitionIndex;
use millstream_protocol::message::job::JobSpec;

use crate::filter::Target;
use crate::jobs::Tools;
use crate::partitions::{Partition, unknown_topic};

/// The partitions that a job writes to.
pub(super) struct Targets {
    topics: Vec<Vec<Partition>>,
    /// What each topic takes.
    pub(super) each: Vec<Target>,
    /// The place of the dead-letter topic.
    pub(super) dead_letters: usize,
}

impl Targets {
    pub(super) fn find(tools: &Tools, spec: &JobSpec) -> Result<Self, WireError> {
        let (mut topics, mut each) = (Vec::with_capacity(spec.outputs.len() + 1), Vec::new());
        let dead = tools.dead_letter_topic(spec);
        for name in spec.outputs.iter().chain(&dead) {
            let topic = tools.partitions.topic(name).ok_or_else(|| unknown_topic(name))?;
            let partitions: Vec<Partition> =
                topic.partitions.into_iter().collect::<Result<_, _>>()?;
            let takes = |of: &Partition| of.settings().max_batch_bytes as usize;
            each.push(Target {
                partitions: u32::try_from(partitions.len()).expect("partitions are bounded"),
                max_batch_bytes: partitions.iter().map(takes).min().unwrap_or_default(),
            });
            topics.push(partitions);
        }
        Ok(Self { topics, each, dead_letters: spec.outputs.len() })
    }

    /// Every partition of every output, and of the dead letters.
    pub(super) fn all(&self) -> impl Iterator<Item = &Partition> {
        self.topics.iter().flatten()
    }

    pub(super) fn partition(&self, output: usize, partition: PartitionIndex) -> &Partition {
        &self.topics[output][partition.0 as usize]
    }
}
