//! Batches that came from another broker, and the batches that a leader writes for the replicas.
//!
//! Invariant: seals and checksums are verified before anything is believed.

use bytes::Bytes;
use millstream_core::replication::{BatchFacts, Control, FetchedBatch, VoterSet};
use millstream_protocol::batch::control::{self, ControlType};
use millstream_protocol::batch::{Batch, BatchError, SealedBatches};
use millstream_protocol::ids::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

/// Batches from the leader, found sound.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(super) batches: Vec<Batch>,
    voters: Vec<Option<VoterSet>>,
    /// Room in the broker's memory that they take.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// Why bytes are no batches of a leader.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotFetched {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("the voters in a control batch do not read: {0}")]
    Voters(#[from] postcard::Error),
}

impl Fetched {
    /// Takes a body apart.
    pub(crate) fn parse(
        body: Bytes,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Self, NotFetched> {
        let (mut batches, mut voters) = (Vec::new(), Vec::new());
        for sealed in SealedBatches::new(body) {
            let batch = sealed?.batch;
            batch.verify_crc()?;
            voters.push(voters_in(&batch)?);
            batches.push(batch);
        }
        Ok(Self { batches, voters, room })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// What the core has to know of them.
    pub(super) fn facts(&self) -> Vec<FetchedBatch> {
        let each = self.batches.iter().zip(&self.voters);
        each.map(|(batch, voters)| FetchedBatch {
            base_offset: batch.header.base_offset,
            epoch: batch.header.leader_epoch,
            facts: BatchFacts::of(&batch.header, batch.bytes.len() as u64),
            voters: voters.clone(),
        })
        .collect()
    }
}

fn voters_in(batch: &Batch) -> Result<Option<VoterSet>, NotFetched> {
    if !batch.header.attributes.is_control() {
        return Ok(None);
    }
    match control::parse(batch)? {
        Some((ControlType::Voters, value)) => Ok(Some(postcard::from_bytes(&value)?)),
        _ => Ok(None),
    }
}

/// The batch of a leader's own.
pub(crate) fn control(control: &Control, at: Timestamp) -> Batch {
    let (kind, value) = match control {
        Control::LeaderChange { leader } => {
            (ControlType::LeaderChange, postcard::to_stdvec(leader))
        }
        Control::Voters(voters) => (ControlType::Voters, postcard::to_stdvec(voters)),
    };
    let value = value.expect("memory takes it");
    let bytes = control::build(kind, &value, at).expect("a small batch is built");
    Batch::parse(bytes).expect("it is one batch")
}

#[cfg(test)]
mod tests {
    use millstream_protocol::batch::{UNSYNCED_UNKNOWN, seal, stamp};
    use millstream_protocol::ids::{LeaderEpoch, NodeId, Offset, ReplicaId};

    use super::*;

    fn replica(node: u32) -> ReplicaId {
        ReplicaId { node: NodeId(node), incarnation: 7 }
    }

    fn sealed(control: &Control) -> Bytes {
        let mut batch = super::control(control, Timestamp(5)).bytes.to_vec();
        stamp(&mut batch, Offset(9), LeaderEpoch(3));
        let seal = seal(&batch, UNSYNCED_UNKNOWN);
        [&seal[..], &batch].concat().into()
    }

    #[test]
    fn voters_are_read_from_the_leaders_batch() {
        let voters = VoterSet::new([replica(1), replica(2)]);
        let mut body = sealed(&Control::LeaderChange { leader: replica(1) }).to_vec();
        body.extend_from_slice(&sealed(&Control::Voters(voters.clone())));
        let facts = Fetched::parse(Bytes::from(body), None).unwrap().facts();
        assert_eq!((facts[0].base_offset, facts[0].epoch), (Offset(9), LeaderEpoch(3)));
        assert_eq!((facts[0].voters.clone(), facts[1].voters.clone()), (None, Some(voters)));
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let body = sealed(&Control::LeaderChange { leader: replica(1) });
        for at in 0..body.len() {
            let mut flipped = body.to_vec();
            flipped[at] ^= 4;
            assert!(Fetched::parse(Bytes::from(flipped), None).is_err(), "byte {at}");
        }
    }
}
