//! Finding the leader of a partition, and noticing when it is another.
//!
//! ```text
//!   refused by a leader ─▶ look up ──▶ newer epoch? ── yes ─▶ there
//!    (or lost it)             ▲             │ no: the route is stale, or nobody leads yet
//!                             └── pause ◀───┘ once; then what is known is tried again
//! ```
//!
//! Invariant: a topic is looked up once at a time, for all its partitions and all who wait; a route that
//! is no newer than the refused one is used again only after a pause and another look-up, which asks
//! another broker where there is one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{LeaderEpoch, PartitionIndex, TopicId, TopicName};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::brokers::Brokers;
use crate::calls::find_topic;
use crate::client::Client;
use crate::error::{ClientError, TopicGone};
use crate::routes::{Leader, Routes};
use crate::search::Search;

/// What is known of topics.
#[derive(Debug, Default)]
pub(crate) struct Finder(Mutex<BTreeMap<TopicName, Arc<Entry>>>);

#[derive(Debug)]
struct Entry {
    known: watch::Sender<Option<Arc<Routes>>>,
    /// How many look-ups have ended.
    ended: AtomicU64,
    /// Held while the topic is looked up.
    last: tokio::sync::Mutex<Last>,
}

/// What came of the last look-up.
#[derive(Debug, Default)]
struct Last {
    at: Option<Instant>,
    failed: Option<ClientError>,
    /// Who has said nothing new since somebody did.
    stale: Vec<String>,
}

/// Why a topic is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why<'a> {
    /// Somebody wants to know.
    Asked,
    /// A leader has refused or is gone.
    Refused,
    /// This broker owes an answer.
    Silent(&'a str),
}

/// Which partition is meant; `id` when the topic must be the one that was in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a TopicName,
    pub(crate) id: Option<TopicId>,
    pub(crate) partition: PartitionIndex,
}

impl Client {
    /// The leader of a partition, another than the one that refused if that is known.
    pub(crate) async fn leader(
        &self,
        place: Place<'_>,
        search: &mut Search,
    ) -> Result<Leader, ClientError> {
        let entry = self.finder().entry(place.topic);
        search.begin();
        if let Some(known) = entry.known()
            && let Some(leader) = place.led(&known)?.filter(|leader| search.accepts(leader))
        {
            return Ok(leader);
        }
        if !search.is_fruitless() {
            let found = self.look_up(place.topic, &entry, entry.ended(), Why::Refused).await;
            let leader = place.led(&*place.existing(found)?)?;
            if let Some(leader) = leader.filter(|leader| search.accepts(leader)) {
                return Ok(leader);
            }
        }
        let ended = entry.ended();
        search.pause().await;
        let found = self.look_up(place.topic, &entry, ended, Why::Refused).await;
        let routes = place.existing(found)?;
        let leader = place.led(&routes)?;
        search.ends_with(leader.as_ref());
        leader.ok_or_else(|| place.without_leader(&routes))
    }

    /// What is known of a topic; anew if `fresh`.
    pub(crate) async fn routes(
        &self,
        topic: &TopicName,
        fresh: bool,
    ) -> Result<Arc<Routes>, ClientError> {
        let entry = self.finder().entry(topic);
        match entry.known().filter(|_| !fresh) {
            Some(known) => Ok(known),
            None => self.look_up(topic, &entry, entry.ended(), Why::Asked).await,
        }
    }

    /// Does something at a leader, for as long as nobody is known to lead in a newer epoch: `None` when
    /// somebody is. When it is silent for so long, other brokers are asked.
    pub(crate) async fn while_leading<T>(
        &self,
        leader: &Leader,
        (silence, is_silent): (Duration, impl Fn() -> bool),
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let entry = self.finder().entry(&leader.topic);
        let mut known = entry.known.subscribe();
        let newer = |routes: &Option<Arc<Routes>>| {
            let routes = routes.as_ref().filter(|routes| routes.id == leader.id);
            routes.and_then(|routes| routes.epoch(leader.partition)) > Some(leader.epoch)
        };
        let suspect = async {
            loop {
                sleep(silence).await;
                if is_silent() {
                    self.suspect(&leader.topic, &entry, &leader.address).await;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            Ok(_) = known.wait_for(newer) => None,
            () = suspect => None,
        }
    }

    /// A leader that accepted has said in which epoch it leads. Refuses one that is known to be deposed.
    pub(crate) fn confirm(&self, leader: &mut Leader, epoch: LeaderEpoch) -> bool {
        if epoch < leader.epoch {
            return false;
        }
        leader.epoch = epoch;
        let entry = self.finder().entry(&leader.topic);
        entry.known.send_if_modified(|known| {
            let Some(routes) = known else { return false };
            let mut confirmed = Routes::clone(routes);
            confirmed.confirm(leader);
            let news = confirmed != **routes;
            if news {
                *routes = Arc::new(confirmed);
            }
            news
        });
        true
    }

    /// Asks another broker, unless the topic was looked up within the time that is called silence.
    async fn suspect(&self, topic: &TopicName, entry: &Entry, silent: &str) {
        let ended = entry.ended();
        let at = entry.last.lock().await.at;
        if at.is_none_or(|at| self.config().silence <= at.elapsed())
            && let Err(error) = self.look_up(topic, entry, ended, Why::Silent(silent)).await
        {
            tracing::debug!(%topic, %error, "nobody says who leads instead of a silent broker");
        }
    }

    /// Asks for the topic, unless somebody has while this waited for its turn: more than `ended`
    /// look-ups have ended then, and the outcome of the last is everybody's.
    async fn look_up(
        &self,
        topic: &TopicName,
        entry: &Entry,
        ended: u64,
        why: Why<'_>,
    ) -> Result<Arc<Routes>, ClientError> {
        let mut last = entry.last.lock().await;
        if entry.ended() == ended {
            let found = find_topic(self, topic, &last.asks_all_but(why)).await;
            let (broker, said) =
                found.map_or_else(|e| (None, Err(e)), |(b, said)| (Some(b), Ok(said)));
            let news = entry.take_in(said, &mut last);
            if last.failed.as_ref().is_some_and(is_unknown) {
                self.finder().forget(topic);
            }
            last.note(why, news, broker, self.brokers());
            entry.ended.fetch_add(1, Ordering::Release);
        }
        match &last.failed {
            Some(error) => Err(error.clone()),
            None => entry.known().ok_or(ClientError::Closed),
        }
    }
}

impl Finder {
    fn entry(&self, topic: &TopicName) -> Arc<Entry> {
        let mut topics = self.0.lock();
        if let Some(entry) = topics.get(topic) {
            return Arc::clone(entry);
        }
        let (known, ended) = (watch::Sender::new(None), AtomicU64::new(0));
        let entry = Arc::new(Entry { known, ended, last: tokio::sync::Mutex::default() });
        Arc::clone(topics.entry(topic.clone()).or_insert(entry))
    }

    /// There is no such topic: nothing of it is kept.
    fn forget(&self, topic: &TopicName) {
        self.0.lock().remove(topic);
    }
}

impl Entry {
    fn known(&self) -> Option<Arc<Routes>> {
        self.known.borrow().clone()
    }

    fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// Takes in what a broker has said; answers whether it was news.
    fn take_in(&self, said: Result<Routes, ClientError>, last: &mut Last) -> bool {
        (last.at, last.failed) = (Some(Instant::now()), None);
        let said = match said {
            Ok(said) => said,
            Err(error) => {
                if is_unknown(&error) {
                    self.known.send_replace(None);
                }
                last.failed = Some(error);
                return false;
            }
        };
        self.known.send_if_modified(|known| {
            let merged = match known {
                Some(known) => known.merged(said),
                None => said,
            };
            let news = known.as_deref() != Some(&merged);
            *known = Some(Arc::new(merged));
            news
        })
    }
}

impl Last {
    /// Who is not asked now, if others can be.
    fn asks_all_but(&self, why: Why<'_>) -> Vec<String> {
        let silent = if let Why::Silent(broker) = why { Some(broker.to_owned()) } else { None };
        self.stale.iter().cloned().chain(silent).collect()
    }

    /// Each broker that says nothing new is not asked again before all the others were.
    fn note(&mut self, why: Why<'_>, news: bool, broker: Option<String>, all: &Brokers) {
        if news || why == Why::Asked {
            self.stale.clear();
            return;
        }
        let Some(broker) = broker else { return };
        self.stale.retain(|stale| *stale != broker);
        self.stale.push(broker);
        if !all.has_other_than(&self.stale) {
            self.stale.drain(..self.stale.len() - 1);
        }
    }
}

impl Place<'_> {
    /// A topic that was in use and is unknown now was deleted.
    fn existing(
        self,
        routes: Result<Arc<Routes>, ClientError>,
    ) -> Result<Arc<Routes>, ClientError> {
        routes.map_err(|error| match self.id {
            Some(was) if is_unknown(&error) => {
                TopicGone::Deleted { topic: self.topic.clone(), was }.into()
            }
            _ => error,
        })
    }

    fn led(self, routes: &Routes) -> Result<Option<Leader>, ClientError> {
        let Some(was) = self.id.filter(|id| *id != routes.id) else {
            return Ok(routes.leader(self.topic, self.partition));
        };
        // An older one's routes: whoever said so has not heard of this one yet.
        if routes.id < was {
            return Ok(None);
        }
        let (topic, now) = (self.topic.clone(), routes.id);
        Err(TopicGone::Recreated { topic, was, now }.into())
    }

    fn without_leader(self, routes: &Routes) -> ClientError {
        let (topic, partition) = (self.topic.clone(), self.partition);
        let partitions = routes.partitions();
        if partition.0 < partitions {
            return ClientError::NoLeader { topic, partition };
        }
        ClientError::UnknownPartition { topic, partition, partitions }
    }
}

/// Whether a broker has said that there is no such topic.
pub(crate) fn is_unknown(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(WireError { code: ErrorCode::UnknownTopic, .. }))
}
