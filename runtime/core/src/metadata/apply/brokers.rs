//! Brokers: who is there.
//!
//! Invariant: an address belongs to one broker; a broker that keeps something is not removed.

use millstream_protocol::ids::NodeId;

use super::super::image::{Broker, Image, MAX_BROKERS, Placement};
use super::{Outcome, Rejection, Response, Touched};

const MAX_ADDRESS: usize = 300;

pub(super) fn register(
    image: &mut Image,
    node: NodeId,
    incarnation: u128,
    address: &str,
    rack: Option<&str>,
) -> Outcome {
    let refuse = |problem: String| Err(Rejection::InvalidBroker { node, problem });
    let host_and_port = address.rsplit_once(':');
    let sound = host_and_port
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| 0 < p));
    if !sound || MAX_ADDRESS < address.len() {
        return refuse(format!("{address:?} is no address: write HOST:PORT"));
    }
    if rack.is_some_and(|rack| rack.is_empty() || MAX_ADDRESS < rack.len()) {
        return refuse(format!("a rack has a name of 1 to {MAX_ADDRESS} bytes"));
    }
    let (levels, level) = (image.features.of(node), image.features.level());
    if !levels.support(level) {
        return Err(Rejection::UnsupportedLevel { node, levels, level });
    }
    let mut others = image.brokers.iter().filter(|(other, _)| **other != node);
    if let Some((other, _)) = others.find(|(_, broker)| broker.address == address) {
        return refuse(format!("broker {other} has the address {address}: use another"));
    }
    if !image.brokers.contains_key(&node) && MAX_BROKERS <= image.brokers.len() {
        return Err(Rejection::Full { what: "brokers", limit: MAX_BROKERS });
    }
    let (rack, address) = (rack.map(str::to_owned), address.to_owned());
    let known = image.brokers.get(&node);
    let (controller, draining) = known.map_or((true, false), |b| (b.controller, b.draining));
    let broker = Broker { incarnation, address, rack, controller, draining, fenced: false };
    image.brokers.insert(node, broker);
    Ok((Response::Done, vec![Touched::Broker(node)]))
}

pub(super) fn set(
    image: &mut Image,
    node: NodeId,
    (controller, draining, fenced): (bool, bool, bool),
) -> Outcome {
    let broker = image.brokers.get_mut(&node).ok_or(Rejection::UnknownBroker(node))?;
    (broker.controller, broker.draining, broker.fenced) = (controller, draining, fenced);
    Ok((Response::Done, vec![Touched::Broker(node)]))
}

pub(super) fn remove(image: &mut Image, node: NodeId) -> Outcome {
    if !image.brokers.contains_key(&node) {
        return Err(Rejection::UnknownBroker(node));
    }
    let keeps = |placement: &Placement| {
        placement.replicas.contains(&node)
            || placement.voters.iter().any(|voter| voter.node == node)
    };
    let left = image.placements().filter(|(_, placement)| keeps(placement)).count();
    if left > 0 {
        let problem =
            format!("it keeps {left} partitions: drain it first, and wait until it is empty");
        return Err(Rejection::InvalidBroker { node, problem });
    }
    image.brokers.remove(&node);
    image.features.supported.remove(&node);
    Ok((Response::Done, vec![Touched::Broker(node), Touched::Supported(node)]))
}
