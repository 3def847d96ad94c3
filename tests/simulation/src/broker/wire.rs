//! Batches on the wire: from a body to what the core has to know of it, and control batches.
//!
//! Invariant: every seal and checksum is verified before anything is believed.

use bytes::Bytes;
use millstream_core::log::producers::Stamp;
use millstream_core::log::transactions::Part;
use millstream_core::machine::Token;
use millstream_core::replication::{BatchFacts, Body, Control, FetchedBatch, VoterSet};
use millstream_protocol::batch::control::{self, ControlType};
use millstream_protocol::batch::{Batch, SealedBatches};
use millstream_protocol::ids::Timestamp;

/// A body's batches, and what the core has to know of them.
pub(crate) fn fetched(token: Token, body: &Bytes) -> (Vec<Batch>, Body) {
    let mut batches = Vec::new();
    let mut facts = Vec::new();
    for sealed in SealedBatches::new(body.clone()) {
        let batch = sealed.expect("a leader sends sealed batches").batch;
        batch.verify_crc().expect("a leader sends whole batches");
        facts.push(FetchedBatch {
            base_offset: batch.header.base_offset,
            epoch: batch.header.leader_epoch,
            facts: BatchFacts::of(&batch.header, batch.bytes.len() as u64),
            voters: voters(&batch),
        });
        batches.push(batch);
    }
    (batches, Body::Batches { token, batches: facts })
}

fn voters(batch: &Batch) -> Option<VoterSet> {
    if !batch.header.attributes.is_control() {
        return None;
    }
    match control::parse(batch).expect("a control batch reads") {
        Some((ControlType::Voters, value)) => {
            Some(postcard::from_bytes(&value).expect("voters decode"))
        }
        _ => None,
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

/// The end of a transaction.
pub(crate) fn marker(marker: &Stamp) -> Batch {
    let (of, commit) = ((marker.producer, marker.epoch), marker.part == Part::Commit);
    Batch::parse(control::build_marker(of, commit, Timestamp(0))).expect("it is one batch")
}
