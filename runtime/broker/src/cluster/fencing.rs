//! Fencing: who is away for long is given no new partitions, until it is back.
//!
//! Invariant: only the metadata's leader fences, and only by what it reaches itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millstream_core::metadata::{Command, Image};
use millstream_protocol::ids::NodeId;
use tokio_util::sync::CancellationToken;

use crate::drivers::metadata::Metadata;
use crate::peers::{Peers, Reach};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);

/// Runs until the broker stops.
pub(crate) async fn run(
    metadata: Metadata,
    peers: Peers,
    after: Duration,
    stop: CancellationToken,
) {
    let mut away = Away::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if !metadata.view().is_some_and(|view| view.established) {
            // Who begins to lead gives everybody the time to be heard.
            away = Away::default();
            continue;
        }
        let (image, reach) = (metadata.image(), peers.reach().borrow().clone());
        for command in away.decide(&image, peers.me().node, &reach, (Instant::now(), after)) {
            if let Err(error) = metadata.propose(command).await {
                tracing::debug!(%error, "not decided");
            }
        }
    }
}

/// Since when who is away.
#[derive(Debug, Default)]
struct Away(BTreeMap<NodeId, Instant>);

impl Away {
    fn decide(
        &mut self,
        image: &Image,
        me: NodeId,
        reach: &Reach,
        (now, after): (Instant, Duration),
    ) -> Vec<Command> {
        let mut commands = Vec::new();
        self.0.retain(|node, _| image.brokers().contains_key(node));
        for (node, broker) in image.brokers() {
            let here = *node == me || reach.is_up(*node);
            let fenced = if here {
                self.0.remove(node);
                false
            } else {
                let since = *self.0.entry(*node).or_insert(now);
                broker.fenced || after <= now.saturating_duration_since(since)
            };
            if fenced != broker.fenced {
                let (controller, draining) = (broker.controller, broker.draining);
                commands.push(Command::SetBroker { node: *node, controller, draining, fenced });
            }
        }
        commands
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_core::metadata::apply;
    use millstream_protocol::ids::Offset;

    use super::*;

    fn run(image: &mut Image, command: &Command) {
        let at = Offset(image.applied().get());
        apply(image, at, command).unwrap();
    }

    #[test]
    fn who_is_away_for_long_is_fenced_and_taken_back_at_once() {
        let mut image = Image::default();
        for node in 1..=2 {
            let (incarnation, address) = (node.into(), format!("b:{node}"));
            let node = NodeId(node);
            let rack = None;
            run(&mut image, &Command::RegisterBroker { node, incarnation, address, rack });
        }
        let (begun, after) = (Instant::now(), Duration::from_secs(60));
        let (mut away, mut reach) = (Away::default(), Reach::default());
        let mut decide = |image: &Image, reach: &Arc<Reach>, seconds| {
            let now = begun + Duration::from_secs(seconds);
            away.decide(image, NodeId(1), reach, (now, after))
        };
        let nobody = Arc::new(reach.clone());
        assert_eq!(decide(&image, &nobody, 0), []);
        assert_eq!(decide(&image, &nobody, 59), []);
        let fenced = decide(&image, &nobody, 60);
        assert!(matches!(fenced[..], [Command::SetBroker { node: NodeId(2), fenced: true, .. }]));
        run(&mut image, &fenced[0]);
        assert_eq!(decide(&image, &nobody, 200), []);
        reach.set(NodeId(2), true);
        let back = decide(&image, &Arc::new(reach), 201);
        assert!(matches!(back[..], [Command::SetBroker { node: NodeId(2), fenced: false, .. }]));
    }
}
