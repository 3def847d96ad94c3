//! Placement: which broker keeps what, and who should lead. Pure functions of the image.
//!
//! Replicas of a partition go to different racks as long as there are some, then to the broker that keeps the
//! fewest; who should lead (the first) is the one that leads the fewest. A move is planned one replica at a time
//! and leaves the others where they are.
//!
//! Invariant: nothing new goes to a broker that is draining or fenced; a plan is concrete commands that say
//! what they were planned on.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::ids::{NodeId, ReplicaId, TopicPartition};
use millstream_protocol::limits::MAX_PARTITIONS;

use super::command::Command;
use super::image::{Broker, Image, Placement};
use super::rejection::Rejection;
use crate::replication::VoterSet;

/// The most voters of the metadata.
const MOST_CONTROLLERS: usize = 5;

/// Places `count` new partitions.
///
/// # Errors
/// [`Rejection`] when there are too many, or too few brokers.
pub fn new(image: &Image, count: u32, factor: usize) -> Result<Vec<Vec<NodeId>>, Rejection> {
    if count == 0 || MAX_PARTITIONS < count {
        let given = count.into();
        return Err(Rejection::Partitions { given, least: 1, most: MAX_PARTITIONS });
    }
    let mut load = Load::of(image);
    let brokers = load.takers().count();
    if factor == 0 || brokers < factor {
        return Err(Rejection::ReplicationFactor { given: factor, brokers });
    }
    Ok((0..count).map(|_| load.place(factor)).collect())
}

/// How many brokers can be given something.
pub(super) fn takers(image: &Image) -> usize {
    Load::of(image).takers().count()
}

/// Moves everything that a broker keeps to others.
///
/// # Errors
/// [`Rejection`] when there is no such broker, or nobody to take a partition.
pub fn drain(image: &Image, node: NodeId) -> Result<Vec<Command>, Rejection> {
    if !image.brokers().contains_key(&node) {
        return Err(Rejection::UnknownBroker(node));
    }
    let mut load = Load::of(image);
    load.brokers.remove(&node);
    let mut commands = Vec::new();
    for (id, placement) in image.placements().filter(|(_, p)| p.replicas.contains(&node)) {
        let others: Vec<_> = placement.replicas.iter().filter(|n| **n != node).copied().collect();
        let Some(taker) = load.next(&others) else {
            let topic = image.topics()[&id.topic].name.clone();
            return Err(Rejection::NoRoom { topic, partition: id.partition.0, node });
        };
        commands.push(load.swap(id, placement, node, taker));
    }
    Ok(commands)
}

/// Evens out what brokers keep: moves replicas from those that keep the most to those that keep the fewest,
/// until they differ by one.
#[must_use]
pub fn balance(image: &Image) -> Vec<Command> {
    let mut load = Load::of(image);
    let mut placed: BTreeMap<TopicPartition, Placement> =
        image.placements().map(|(id, placement)| (id, placement.clone())).collect();
    let mut moved = BTreeMap::new();
    while let Some((id, from, to)) = load.lopsided(&placed) {
        let before = image.placement(id).expect("it is placed").replicas.clone();
        let placement = placed.get_mut(&id).expect("it is placed");
        let Command::PlacePartition { replicas, .. } = load.swap(id, placement, from, to) else {
            unreachable!("a swap is a placement");
        };
        placement.replicas.clone_from(&replicas);
        moved.insert(id, place(id, before, replicas));
    }
    moved.into_values().collect()
}

/// Who should vote on metadata: of the brokers that may, those that vote already stay, and as many others join them as
/// make an odd number, at most five. So a second broker alone does not join: two decide no better than one, and stop
/// when either does.
#[must_use]
pub fn controllers(image: &Image, voters: &VoterSet) -> Option<VoterSet> {
    let fit = |broker: &Broker| broker.controller && !broker.draining;
    let fit = image.brokers().iter().filter(|(_, broker)| fit(broker));
    let mut fit: Vec<ReplicaId> = fit.filter_map(|(node, _)| image.replica(*node)).collect();
    fit.sort_by_key(|replica| (image.brokers()[&replica.node].fenced, replica.node));
    let votes = |replica: &ReplicaId| voters.iter().any(|voter| voter.node == replica.node);
    let (mut chosen, others): (Vec<_>, Vec<_>) = fit.into_iter().partition(votes);
    chosen.truncate(MOST_CONTROLLERS);
    // A founder that has not registered yet: nobody has decided that it should not vote.
    chosen.extend(voters.iter().filter(|voter| !image.brokers().contains_key(&voter.node)));
    let room = MOST_CONTROLLERS.saturating_sub(chosen.len());
    let mut joining = others.len().min(room);
    if (chosen.len() + joining).is_multiple_of(2) {
        joining = joining.saturating_sub(1);
    }
    chosen.extend(others.into_iter().take(joining));
    VoterSet::try_from(chosen).ok()
}

/// Who should vote on a partition: its replicas as their disks are now.
#[must_use]
pub fn target(image: &Image, placement: &Placement) -> Option<VoterSet> {
    let replicas: Vec<_> =
        placement.replicas.iter().filter_map(|node| image.replica(*node)).collect();
    VoterSet::try_from(replicas).ok()
}

/// What each broker keeps.
struct Load {
    brokers: BTreeMap<NodeId, Kept>,
}

struct Kept {
    rack: Option<String>,
    takes: bool,
    replicas: usize,
    leaders: usize,
}

impl Load {
    fn of(image: &Image) -> Self {
        let kept = |broker: &Broker| Kept {
            rack: broker.rack.clone(),
            takes: !broker.draining && !broker.fenced,
            replicas: 0,
            leaders: 0,
        };
        let brokers = image.brokers().iter().map(|(node, broker)| (*node, kept(broker))).collect();
        let mut load = Self { brokers };
        for (_, placement) in image.placements() {
            load.add(&placement.replicas);
        }
        load
    }

    fn add(&mut self, replicas: &[NodeId]) {
        for (n, node) in replicas.iter().enumerate() {
            if let Some(kept) = self.brokers.get_mut(node) {
                kept.replicas += 1;
                kept.leaders += usize::from(n == 0);
            }
        }
    }

    fn remove(&mut self, replicas: &[NodeId]) {
        for (n, node) in replicas.iter().enumerate() {
            if let Some(kept) = self.brokers.get_mut(node) {
                kept.replicas -= 1;
                kept.leaders -= usize::from(n == 0);
            }
        }
    }

    /// The brokers that take something new.
    fn takers(&self) -> impl Iterator<Item = (&NodeId, &Kept)> {
        self.brokers.iter().filter(|(_, kept)| kept.takes)
    }

    /// The best broker for one more replica beside `others`.
    fn next(&self, others: &[NodeId]) -> Option<NodeId> {
        let racks: BTreeSet<_> =
            others.iter().filter_map(|node| self.brokers.get(node)?.rack.as_ref()).collect();
        let shares = |kept: &Kept| kept.rack.as_ref().is_some_and(|rack| racks.contains(rack));
        let free = self.takers().filter(|(node, _)| !others.contains(node));
        let best =
            free.min_by_key(|(node, kept)| (shares(kept), kept.replicas, kept.leaders, **node));
        best.map(|(node, _)| *node)
    }

    fn place(&mut self, factor: usize) -> Vec<NodeId> {
        let mut replicas = Vec::with_capacity(factor);
        while replicas.len() < factor {
            replicas.push(self.next(&replicas).expect("there are brokers enough"));
        }
        self.lead(&mut replicas);
        self.add(&replicas);
        replicas
    }

    /// Puts the one that leads the fewest first.
    fn lead(&self, replicas: &mut [NodeId]) {
        replicas.sort_by_key(|node| (self.brokers.get(node).map(|kept| kept.leaders), *node));
    }

    /// Puts `to` in the place of `from`.
    fn swap(
        &mut self,
        id: TopicPartition,
        placement: &Placement,
        from: NodeId,
        to: NodeId,
    ) -> Command {
        let before = placement.replicas.clone();
        self.remove(&before);
        let mut after: Vec<_> =
            before.iter().map(|node| if *node == from { to } else { *node }).collect();
        if before.first() == Some(&from) {
            self.lead(&mut after);
        }
        self.add(&after);
        place(id, before, after)
    }

    /// A replica that would better lie elsewhere: which, where from, where to.
    fn lopsided(
        &self,
        placed: &BTreeMap<TopicPartition, Placement>,
    ) -> Option<(TopicPartition, NodeId, NodeId)> {
        let (from, most) =
            self.brokers.iter().max_by_key(|(node, kept)| (kept.replicas, **node))?;
        let (to, fewest) = self.takers().min_by_key(|(node, kept)| (kept.replicas, **node))?;
        if most.replicas <= fewest.replicas + 1 {
            return None;
        }
        let fits = |placement: &Placement| {
            let here = placement.replicas.contains(from) && !placement.replicas.contains(to);
            let others: Vec<_> =
                placement.replicas.iter().filter(|n| *n != from).copied().collect();
            here && self.next(&others) == Some(*to)
        };
        let found = placed.iter().find(|(_, placement)| fits(placement));
        found.map(|(id, _)| (*id, *from, *to))
    }
}

fn place(id: TopicPartition, planned_on: Vec<NodeId>, replicas: Vec<NodeId>) -> Command {
    Command::PlacePartition { topic: id.topic, partition: id.partition, planned_on, replicas }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millstream_protocol::ids::Offset;

    use super::*;
    use crate::metadata::{apply, plan};
    use millstream_protocol::message::topic::CreateTopic;

    fn cluster(racks: &[Option<&str>]) -> Image {
        let mut image = Image::default();
        for (node, rack) in (1..).zip(racks) {
            run(
                &mut image,
                &Command::RegisterBroker {
                    node: NodeId(node),
                    incarnation: node.into(),
                    address: format!("b:{node}"),
                    rack: rack.map(str::to_owned),
                },
            );
        }
        image
    }

    fn run(image: &mut Image, command: &Command) {
        let at = Offset(image.applied().get());
        apply(image, at, command).unwrap();
    }

    fn topic(image: &mut Image, name: &str, partitions: u32, factor: u16) {
        let request = CreateTopic {
            name: name.parse().unwrap(),
            partitions,
            replication_factor: factor,
            configs: BTreeMap::new(),
        };
        let command = plan::create_topic(image, &request).unwrap();
        run(image, &command);
    }

    fn replicas(image: &Image) -> BTreeMap<NodeId, (usize, usize)> {
        let load = Load::of(image);
        load.brokers.iter().map(|(node, kept)| (*node, (kept.replicas, kept.leaders))).collect()
    }

    #[test]
    fn replicas_and_leaders_are_spread_evenly_and_over_racks() {
        let mut image =
            cluster(&[Some("a"), Some("a"), Some("b"), Some("b"), Some("c"), Some("c")]);
        topic(&mut image, "t", 60, 3);
        for (_, placement) in image.placements() {
            let racks: BTreeSet<_> =
                placement.replicas.iter().map(|node| &image.brokers()[node].rack).collect();
            assert_eq!(racks.len(), 3, "{placement:?}");
        }
        assert!(replicas(&image).values().all(|kept| *kept == (30, 10)), "{:?}", replicas(&image));
    }

    #[test]
    fn a_drained_broker_keeps_nothing_and_the_others_share_it() {
        let mut image = cluster(&[None; 4]);
        topic(&mut image, "t", 40, 3);
        let node = NodeId(2);
        let (controller, draining, fenced) = (false, true, false);
        run(&mut image, &Command::SetBroker { node, controller, draining, fenced });
        for command in drain(&image, node).unwrap() {
            run(&mut image, &command);
        }
        let kept = replicas(&image);
        assert_eq!(kept[&NodeId(2)], (0, 0));
        assert!(kept.values().all(|(replicas, _)| *replicas == 0 || *replicas == 40), "{kept:?}");
        let error = drain(&image, NodeId(1)).unwrap_err();
        assert!(error.to_string().contains("nowhere to go"), "{error}");
    }

    #[test]
    fn a_new_broker_gets_its_share_and_the_rest_stays() {
        let mut image = cluster(&[None; 3]);
        topic(&mut image, "t", 40, 3);
        run(
            &mut image,
            &Command::RegisterBroker {
                node: NodeId(4),
                incarnation: 4,
                address: "b:4".into(),
                rack: None,
            },
        );
        let commands = balance(&image);
        assert_eq!(commands.len(), 30, "no more moves than needed");
        for command in &commands {
            run(&mut image, command);
        }
        let kept = replicas(&image);
        assert!(kept.values().all(|(replicas, _)| *replicas == 30), "{kept:?}");
        assert_eq!(balance(&image), [], "what is even stays");
    }

    #[test]
    fn nothing_new_goes_to_a_broker_that_is_draining_or_fenced() {
        let mut image = cluster(&[None; 4]);
        for (node, draining, fenced) in [(1, true, false), (2, false, true)] {
            let node = NodeId(node);
            run(&mut image, &Command::SetBroker { node, controller: true, draining, fenced });
        }
        topic(&mut image, "t", 8, 2);
        let kept = replicas(&image);
        assert_eq!((kept[&NodeId(1)].0, kept[&NodeId(2)].0), (0, 0));
        assert!(new(&image, 1, 3).is_err(), "two are left");
    }

    #[test]
    fn an_odd_number_of_controllers_votes_and_those_who_vote_stay() {
        let mut image = cluster(&[None; 7]);
        let of = |nodes: &[u32]| {
            VoterSet::new(
                nodes
                    .iter()
                    .map(|node| ReplicaId { node: NodeId(*node), incarnation: (*node).into() }),
            )
        };
        let mut seen = Vec::new();
        for node in (1..8).rev() {
            let voters = controllers(&image, &of(&[3]));
            seen.push(voters.map_or_else(String::new, |voters| voters.to_string()));
            let (node, controller) = (NodeId(node), false);
            let (draining, fenced) = (false, false);
            run(&mut image, &Command::SetBroker { node, controller, draining, fenced });
        }
        assert_eq!(seen, ["1,2,3,4,5", "1,2,3,4,5", "1,2,3,4,5", "1,2,3", "1,2,3", "1", "1"]);
        assert_eq!(controllers(&image, &of(&[3])), None, "nobody has the role");
        for node in [3, 1, 2, 4, 5, 6] {
            let (node, controller) = (NodeId(node), true);
            let (draining, fenced) = (false, false);
            run(&mut image, &Command::SetBroker { node, controller, draining, fenced });
        }
        assert_eq!(
            controllers(&image, &of(&[8, 3])).unwrap().to_string(),
            "1,2,3,4,8",
            "8 is to come"
        );
        let node = NodeId(2);
        let (controller, draining, fenced) = (false, false, false);
        run(&mut image, &Command::SetBroker { node, controller, draining, fenced });
        let left = controllers(&image, &of(&[2, 3, 4])).unwrap();
        assert_eq!(left.to_string(), "1,3,4,5,6", "another takes its place");
    }
}
