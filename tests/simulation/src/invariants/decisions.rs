//! What is decided as of an offset is the same on every broker, whether it was applied from the log or came as a
//! snapshot (Raft, section 7).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use millstream_protocol::ids::{NodeId, Offset};

use super::{Checked, demand};

/// What was decided, as those have it who had it first.
#[derive(Debug, Default)]
pub(crate) struct Decisions(BTreeMap<Offset, (NodeId, Bytes)>);

impl Decisions {
    pub(crate) fn seen(&mut self, broker: NodeId, applied: Offset, bytes: Bytes) -> Checked {
        match self.0.entry(applied) {
            Entry::Vacant(place) => {
                place.insert((broker, bytes));
                Ok(())
            }
            Entry::Occupied(known) => {
                let (first, known) = known.get();
                demand(*known == bytes, "everybody decides the same", || {
                    format!(
                        "brokers {first} and {broker} differ in what is decided as of {applied}"
                    )
                })
            }
        }
    }
}
