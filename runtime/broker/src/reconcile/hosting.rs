//! Which partitions this broker keeps a replica of, and who should vote on them.
//!
//! Invariant: a replica stays open until a leader that knew so has said that it does not vote; its files go after
//! it was closed, and its ballot stays, doubted, in case that somebody still takes it for a voter.

use std::time::Instant;

use millstream_core::metadata::{Image, Placement, Topic as TopicImage, placement};
use millstream_core::replication::VoterSet;
use millstream_protocol::ids::{PartitionIndex, TopicId, TopicPartition};

use super::{Guise, Reconciler, Served};
use crate::cluster::preferred::give;
use crate::drivers::metadata::LOG;
use crate::drivers::partition::{Handle, Peering, Target, ballot_row};
use crate::opening::Standing;
use crate::partitions::{Slot, elsewhere};
use crate::peers::Opening;
use crate::run::metadata_log_damaged;

impl Reconciler {
    /// Of a topic, what is to be opened now, and what other brokers keep and is not known yet as such.
    pub(super) fn to_open(
        &self,
        id: TopicId,
        served: &Served,
        topic: &TopicImage,
    ) -> (Vec<TopicPartition>, Vec<(PartitionIndex, Slot)>) {
        let (mut here, mut others) = (Vec::new(), Vec::new());
        let now = Instant::now();
        for (index, placement) in (0_u32..).zip(&topic.partitions) {
            let partition = PartitionIndex(index);
            let id = TopicPartition { topic: id, partition };
            let is_new = served.slots.len() <= index as usize;
            let is_elsewhere = served.elsewhere.contains(&index);
            let keeps = self.keeps(id, placement);
            let due = served.again.get(&index).is_some_and(|again| again.at <= now);
            if keeps && (is_new || is_elsewhere || due) {
                here.push(id);
            }
            if is_new {
                others.push((partition, Err(elsewhere(&topic.name, partition))));
            }
        }
        (here, others)
    }

    /// Whether a replica that is not open is to be opened: it is placed here, or perhaps it votes and has not heard
    /// that it does not.
    fn keeps(&self, id: TopicPartition, placement: &Placement) -> bool {
        let me = self.opener.replica();
        let promised = self.ballots.contains_key(&id);
        placement.keeps(me) || (promised && !placement.releases(me))
    }

    /// What a replica is opened with.
    pub(super) fn standing(&self, image: &Image, id: TopicPartition) -> Standing {
        let placement = image.placement(id).expect("what is opened is placed");
        Standing::of(placement, self.ballots.get(&id).cloned().unwrap_or_default())
    }

    /// Closes the replicas that go elsewhere, and deletes their files.
    pub(super) async fn close_what_leaves(&mut self, image: &Image) {
        let me = self.opener.replica();
        let released = |id: &TopicPartition| image.placement(*id).is_some_and(|p| p.releases(me));
        let open = self.open_replicas();
        for handle in open.into_iter().filter(|handle| released(&handle.id())) {
            let id = handle.id();
            let placement = image.placement(id).expect("it was just found").clone();
            if handle.leave(placement).await {
                self.left(&handle).await;
            }
        }
    }

    fn open_replicas(&self) -> Vec<Handle> {
        let slots = self.served.values().flat_map(|served| served.slots.iter().flatten());
        slots.map(|partition| Handle::clone(partition)).collect()
    }

    async fn left(&mut self, handle: &Handle) {
        let id = handle.id();
        self.opener.close(handle).await;
        self.aimed.remove(&id);
        let name = self.served[&id.topic].name.clone();
        tracing::info!(topic = %name, partition = %id.partition, "went to other brokers");
        let mut ballot = handle.ballot();
        ballot.doubtful = true;
        if let Err(failed) = self.opener.keep_ballot(id, &ballot).await {
            // Its files are what somebody who still counts on it would miss.
            tracing::error!(partition = %id, error = %failed.error, "files of a partition that went stay");
        } else if let Err(error) = self.opener.remove(id).await {
            tracing::error!(partition = %id, %error, "files of a partition that went stay");
        }
        self.ballots.insert(id, ballot);
        let served = self.served.get_mut(&id.topic).expect("it has a replica open");
        served.set(id.partition, Err(elsewhere(&name, id.partition)));
        served.elsewhere.insert(id.partition.0);
        self.partitions.put(name, served.entry(id.topic));
    }

    /// Tells every replica who should vote, if it does not know.
    pub(super) async fn aim(&mut self, image: &Image) {
        for handle in self.open_replicas() {
            let Some(placement) = image.placement(handle.id()) else { continue };
            let Some(replicas) = placement::target(image, placement) else { continue };
            let known = VoterSet::try_from(placement.voters.clone()).ok();
            let known = known.map(|voters| (placement.voters_at, voters));
            let target = Target { replicas, known, version: placement.version };
            self.aim_one(&handle, target).await;
        }
        let log = self.metadata_log.clone();
        if let Some(replicas) = placement::controllers(image, &log.view().voters) {
            self.aim_one(&log, Target { replicas, known: None, version: 0 }).await;
        }
    }

    async fn aim_one(&mut self, handle: &Handle, target: Target) {
        if self.aimed.get(&handle.id()) != Some(&target) {
            handle.tell(Peering::Target(target.clone())).await;
            self.aimed.insert(handle.id(), target);
        }
    }

    /// Sets a damaged log aside and has it filled from the other brokers, if there are any that have what was in it.
    pub(super) async fn repair(&mut self, log: Opening) {
        let id = log.partition;
        let handle = if id == LOG { Some(self.metadata_log.clone()) } else { self.find(id) };
        let Some(handle) = handle.filter(|handle| handle.opening() == log) else {
            return tracing::debug!(partition = %id, "the damaged log was set aside before");
        };
        if handle.view().alone {
            return tracing::error!(partition = %id, "the log is damaged, and no other broker has it");
        }
        if id == LOG {
            // Everything here follows it: the broker begins anew, and sets it aside before.
            tracing::error!("the metadata log is damaged: starting anew");
            let mut ballot = handle.ballot();
            ballot.doubtful = true;
            let mut rows = metadata_log_damaged();
            rows.push(ballot_row(LOG, &ballot));
            match self.opener.keep(rows).await {
                Ok(()) => self.restart.cancel(),
                Err(failed) => tracing::error!(error = %failed.error, "cannot be noted down"),
            }
            return;
        }
        tracing::error!(partition = %id, "the log is damaged: set aside, to be filled by other brokers");
        if handle.view().leads {
            // So that nobody has to wait for an election.
            give(&handle, None).await;
        }
        self.opener.close(&handle).await;
        self.aimed.remove(&id);
        let mut ballot = handle.ballot();
        ballot.doubtful = true;
        let kept = self.opener.keep_ballot(id, &ballot).await;
        self.ballots.insert(id, ballot);
        let aside = match kept {
            Ok(()) => self.opener.set_aside(id).await,
            Err(failed) => Err(failed.error),
        };
        if let Err(error) = aside {
            tracing::error!(partition = %id, %error, "cannot be set aside");
        }
        let image = std::sync::Arc::clone(&self.last);
        if image.placement(id).is_none() {
            return;
        }
        let guise = Guise::of(&self.served[&id.topic]);
        let opened = self.open_one(id, &guise, self.standing(&image, id), &image).await;
        let served = self.served.get_mut(&id.topic).expect("its replica was found");
        served.take(id.partition, opened);
        self.partitions.put(served.name.clone(), served.entry(id.topic));
        self.aim(&image).await;
    }

    fn find(&self, id: TopicPartition) -> Option<Handle> {
        let slot = self.served.get(&id.topic)?.slots.get(id.partition.0 as usize)?;
        slot.as_ref().ok().map(|partition| Handle::clone(partition))
    }
}
