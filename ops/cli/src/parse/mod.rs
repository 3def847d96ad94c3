//! What people write in arguments: pairs, places in a log.
//!
//! Invariant: what is refused is refused with the text as given and an example of what would be taken.

mod pair;
mod place;

pub(crate) use pair::{Pair, collect};
pub(crate) use place::Place;
