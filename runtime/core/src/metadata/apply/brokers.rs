//! Brokers: who is there.
//!
//! Invariant: an address belongs to one broker.

use millstream_protocol::ids::NodeId;

use super::super::image::{Broker, Image, MAX_BROKERS};
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
    let mut others = image.brokers.iter().filter(|(other, _)| **other != node);
    if let Some((other, _)) = others.find(|(_, broker)| broker.address == address) {
        return refuse(format!("broker {other} has the address {address}: use another"));
    }
    if !image.brokers.contains_key(&node) && MAX_BROKERS <= image.brokers.len() {
        return Err(Rejection::Full { what: "brokers", limit: MAX_BROKERS });
    }
    let rack = rack.map(str::to_owned);
    image.brokers.insert(node, Broker { incarnation, address: address.to_owned(), rack });
    Ok((Response::Done, vec![Touched::Broker(node)]))
}
