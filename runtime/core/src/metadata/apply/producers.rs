//! Producer ids: each is given out once.
//!
//! Invariant: a client is never given an id of a job (bit 62).

use millstream_protocol::ids::ProducerId;

use super::super::image::Image;
use super::{Outcome, Rejection, Response, Touched};

/// The most ids of one lot.
const MOST: u32 = 1 << 20;

pub(super) fn allocate(image: &mut Image, count: u32) -> Outcome {
    if count == 0 || MOST < count {
        return Err(Rejection::Allocation { count, most: MOST });
    }
    let first = ProducerId(image.allocations.producers);
    let next = image.allocations.producers + i64::from(count);
    assert!(!ProducerId(next).is_job(), "2^62 producer ids were given out");
    image.allocations.producers = next;
    Ok((Response::Producers { first, count }, vec![Touched::Allocations]))
}
