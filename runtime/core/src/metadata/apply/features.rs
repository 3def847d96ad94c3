//! Feature levels: what brokers support, and what the cluster works at.
//!
//! Invariant: see [`Features`](super::super::Features).

use millstream_protocol::ids::NodeId;

use super::super::features::Levels;
use super::super::image::{Image, MAX_BROKERS};
use super::{Outcome, Rejection, Response, Touched};

pub(super) fn support(image: &mut Image, node: NodeId, levels: Levels) -> Outcome {
    // It says so before it is taken in.
    let supported = &image.features.supported;
    if !supported.contains_key(&node) && MAX_BROKERS <= supported.len() {
        return Err(Rejection::Full { what: "brokers", limit: MAX_BROKERS });
    }
    let level = image.features.level;
    if !levels.support(level) {
        return Err(Rejection::UnsupportedLevel { node, levels, level });
    }
    image.features.supported.insert(node, levels);
    Ok((Response::Done, vec![Touched::Supported(node)]))
}

pub(super) fn raise(image: &mut Image, level: u32) -> Outcome {
    let known = image.features.level;
    if level <= known {
        return Err(Rejection::LevelNotRaised { level, known });
    }
    let lacks = image.brokers.keys().find(|node| !image.features.of(**node).support(level));
    if let Some(&node) = lacks {
        let levels = image.features.of(node);
        return Err(Rejection::UnsupportedLevel { node, levels, level });
    }
    image.features.level = level;
    Ok((Response::Done, vec![Touched::Level]))
}
