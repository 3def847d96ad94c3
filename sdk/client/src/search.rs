//! One partition's search for its leader: who has refused, and how long to pause.
//!
//! Invariant: a leader that is no newer than the one that refused is not tried again without a pause; the
//! pauses of one search grow until a leader does what it is asked.

use std::time::Duration;

use tokio::time::sleep;

use crate::backoff::{Backoff, BackoffConfig};
use crate::routes::Leader;

/// See the module.
#[derive(Debug)]
pub(crate) struct Search {
    refused: Option<Leader>,
    /// The last look-up brought nobody new: the next one comes after a pause.
    fruitless: bool,
    /// It has paused since the last attempt.
    paused: bool,
    backoff: Backoff,
}

impl Search {
    pub(crate) fn new(config: BackoffConfig) -> Self {
        Self { refused: None, fruitless: false, paused: false, backoff: Backoff::new(config) }
    }

    /// This leader has refused, or is gone; without one, none was found.
    pub(crate) async fn failed(&mut self, leader: Option<Leader>) {
        match leader {
            Some(leader) => self.refused = Some(leader),
            None if self.paused => self.paused = false,
            None => self.pause().await,
        }
    }

    /// Waits before the same leader is tried again.
    pub(crate) async fn pause(&mut self) {
        self.paused = true;
        sleep(self.backoff.pause()).await;
    }

    /// How long to wait before the same is tried again.
    pub(crate) fn next_pause(&mut self) -> Duration {
        self.backoff.pause()
    }

    /// The leader was the right one. Whether it also does what it is asked is still to be seen.
    pub(crate) fn found(&mut self) {
        (self.refused, self.fruitless) = (None, false);
    }

    /// The leader does what it is asked: the next pause is a short one.
    pub(crate) fn succeeded(&mut self) {
        self.found();
        self.backoff.reset();
    }

    /// The next attempt begins.
    pub(crate) const fn begin(&mut self) {
        self.paused = false;
    }

    /// Whether the next look-up comes after a pause.
    pub(crate) const fn is_fruitless(&self) -> bool {
        self.fruitless
    }

    /// Whether a leader is neither the one that refused nor an older one.
    pub(crate) fn accepts(&self, leader: &Leader) -> bool {
        self.refused.as_ref().is_none_or(|refused| refused.epoch < leader.epoch)
    }

    /// This is the leader that is tried now, whether or not there is a newer one than before.
    pub(crate) fn ends_with(&mut self, leader: Option<&Leader>) {
        self.fruitless = leader.is_none_or(|leader| !self.accepts(leader));
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicName};
    use tokio::time::Instant;

    use super::*;

    fn leader(epoch: u32) -> Leader {
        Leader {
            topic: TopicName::new("t").expect("a name"),
            id: TopicId(1),
            partition: PartitionIndex(0),
            epoch: LeaderEpoch(epoch),
            node: NodeId(1),
            address: "a:1".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_newer_leader_is_gone_to_at_once_and_who_finds_none_pauses_once() {
        let mut search = Search::new(BackoffConfig::default());
        assert!(search.accepts(&leader(5)));
        search.failed(Some(leader(5))).await;
        assert!(!search.accepts(&leader(5)), "the same again");
        assert!(search.accepts(&leader(6)));
        search.ends_with(Some(&leader(5)));
        assert!(search.is_fruitless());
        search.found();
        assert!(search.accepts(&leader(5)) && !search.is_fruitless());

        search.begin();
        search.pause().await;
        let begun = Instant::now();
        search.failed(None).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "it has paused");
        search.begin();
        search.failed(None).await;
        assert!(Duration::ZERO < begun.elapsed());
    }
}
