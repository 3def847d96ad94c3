//! What people write in arguments: pairs, partitions, places in a log.
//!
//! Invariant: what is refused is refused with the text as given and an example of what would be taken.

mod pair;
mod partition;
mod place;

pub(crate) use pair::{Pair, collect};
pub(crate) use partition::NamedPartition;
pub(crate) use place::Place;
