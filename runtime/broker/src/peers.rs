//! The other brokers: what is said to them, what is asked of them, and what is known of them.
//!
//! ```text
//!   partition ──tell──▶ Line (queues) ──▶ streams of this broker's connection to the other
//!   partition ◀─urgent── Hosted ◀── serve::peer ◀── streams of the other's connection to this broker
//!   everybody ◀── Reach ◀── Watcher ◀── heartbeats, lost connections
//! ```
//!
//! Each broker calls each other one, and speaks on the connection that it made; answers to calls come back on it.
//!
//! Invariant: to tell a broker something never waits, and promises nothing: who has to be heard says it again.

mod damage;
mod hosted;
mod leaders;
mod line;
mod link;
mod rate;
mod reach;
mod watcher;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use millstream_core::liveness::{Input, LivenessConfig};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::{LeaderEpoch, NodeId, ReplicaId, TopicPartition};
use millstream_protocol::limits::MAX_MESSAGE_BYTES;
use millstream_protocol::message::peer::Leadership;
use millstream_protocol::message::replica::Envelope;
use millstream_protocol::message::{Call, Open, Request};
use millstream_transport::{Identity, StreamError, TransportSettings};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use damage::{Damaged, Opening, Reports};
pub(crate) use hosted::Hosted;
pub(crate) use leaders::Leaders;
pub(crate) use line::{Batches, Cargo, Load};
pub(crate) use rate::Rate;
pub(crate) use reach::Reach;
pub(crate) use watcher::Watcher;

use crate::cores::Cores;
use link::Link;
use watcher::Events;

/// How long a connection between brokers may be silent before it is made anew, and how long a call for one may take.
const IDLE: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_secs(2);

/// A handle to the others; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct Peers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    me: ReplicaId,
    /// Another number in each life of this broker.
    life: u64,
    links: ArcSwap<BTreeMap<NodeId, Arc<Link>>>,
    /// Who changes the links.
    changing: Mutex<()>,
    leaders: Leaders,
    hosted: Hosted,
    reach: watch::Receiver<Arc<Reach>>,
    events: Events,
    settled: Notify,
    bulk: Rate,
    identity: Option<Arc<Identity>>,
    settings: TransportSettings,
}

/// What a broker has to know to speak to others.
pub(crate) struct Introduction {
    pub(crate) me: ReplicaId,
    pub(crate) life: u64,
    /// None for who never calls anybody.
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) settings: TransportSettings,
    pub(crate) liveness: LivenessConfig,
    /// Bytes a second for replicas that catch up; 0 is no limit.
    pub(crate) bulk_rate: u64,
}

impl Peers {
    /// Knows nobody yet. The watcher is to be run.
    pub(crate) fn new(introduction: Introduction) -> (Self, Watcher) {
        let Introduction { me, life, identity, mut settings, liveness, bulk_rate } = introduction;
        (settings.idle_timeout, settings.handshake_timeout) = (IDLE, CALL);
        settings.keep_alive = IDLE / 2;
        let (events, reach, watcher) = Watcher::new(liveness);
        let inner = Inner {
            me,
            life,
            links: ArcSwap::default(),
            changing: Mutex::default(),
            leaders: Leaders::default(),
            hosted: Hosted::default(),
            reach,
            events,
            settled: Notify::new(),
            bulk: Rate::new(bulk_rate),
            identity,
            settings,
        };
        (Self(Arc::new(inner)), watcher)
    }

    /// For a broker that is alone for good, in tests.
    #[cfg(test)]
    pub(crate) fn none(me: ReplicaId) -> Self {
        let (settings, liveness) = (TransportSettings::default(), LivenessConfig::default());
        Self::new(Introduction { me, life: 0, identity: None, settings, liveness, bulk_rate: 0 }).0
    }

    /// This broker, and the incarnation of its disk.
    pub(crate) fn me(&self) -> ReplicaId {
        self.0.me
    }

    /// Another number in each life of this broker.
    pub(crate) fn life(&self) -> u64 {
        self.0.life
    }

    /// Who leads what.
    pub(crate) fn leaders(&self) -> &Leaders {
        &self.0.leaders
    }

    /// The replicas on this broker.
    pub(crate) fn hosted(&self) -> &Hosted {
        &self.0.hosted
    }

    /// Told when the voters of a partition that is led here are settled.
    pub(crate) fn voters_settled(&self) -> &Notify {
        &self.0.settled
    }

    /// Which brokers can be reached.
    pub(crate) fn reach(&self) -> watch::Receiver<Arc<Reach>> {
        self.0.reach.clone()
    }

    /// The other brokers that are part of the cluster.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.0.links.load().keys().copied().collect()
    }

    /// Who is there besides this broker, and where.
    pub(crate) async fn set(
        &self,
        brokers: &BTreeMap<NodeId, String>,
        cores: &Cores,
        stop: &CancellationToken,
    ) {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        {
            let _changing = self.0.changing.lock();
            let mut links = BTreeMap::clone(&self.0.links.load());
            links.retain(|node, link| {
                let stays = brokers.contains_key(node);
                if !stays {
                    link.stop.cancel();
                    removed.push(*node);
                }
                stays
            });
            for (node, address) in brokers.iter().filter(|(node, _)| **node != self.me().node) {
                match links.get(node) {
                    Some(link) => link.moved(address),
                    None => {
                        let link = Link::new(*node, address, self.0.life, stop.child_token());
                        links.insert(*node, Arc::clone(&link));
                        added.push(link);
                    }
                }
            }
            self.0.links.store(Arc::new(links));
        }
        for node in removed {
            self.happened(Input::Remove(node)).await;
        }
        for link in added {
            self.happened(Input::Add(link.node)).await;
            let all = cores.all();
            let core = &all[link.node.0 as usize % all.len()];
            core.spawn(link.keep(self.clone()));
        }
    }

    /// Tells the watcher what happened.
    pub(crate) async fn happened(&self, input: Input) {
        // When the watcher has ended, the broker has.
        let _ = self.0.events.send(input).await;
    }

    /// Says something to another replica, as well as it can be done.
    pub(crate) fn tell(&self, envelope: Envelope) {
        let line = self.line(envelope.to.node);
        if !line.is_some_and(|line| line.small(envelope)) {
            tracing::trace!(?envelope, "not sent");
        }
    }

    /// Says something to another replica, with something behind it, as well as it can be done.
    pub(crate) fn tell_with(&self, envelope: Envelope, cargo: Cargo) {
        let line = self.line(envelope.to.node);
        if !line.is_some_and(|line| line.load(Load { envelope, cargo }, false)) {
            tracing::trace!(?envelope, "not sent");
        }
    }

    /// Lets everybody know that this broker leads a partition, or does not any more.
    pub(crate) fn announce(&self, partition: TopicPartition, epoch: LeaderEpoch, leads: bool) {
        let lead = Leadership { partition, epoch, leads };
        self.0.leaders.heard(self.me().node, &lead);
        for link in self.0.links.load().values() {
            if let Some(line) = link.line() {
                line.leads(lead);
            }
        }
    }

    /// Asks another broker.
    pub(crate) async fn call<C: Call + Into<Request>>(
        &self,
        node: NodeId,
        request: C,
        limit: Duration,
    ) -> Result<C::Response, WireError> {
        self.call_with(node, request, Bytes::new(), limit).await
    }

    /// Asks another broker, with something behind the question.
    pub(crate) async fn call_with<C: Call + Into<Request>>(
        &self,
        node: NodeId,
        request: C,
        body: Bytes,
        limit: Duration,
    ) -> Result<C::Response, WireError> {
        const ANSWER: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: 0 };
        let line = self.line(node).ok_or_else(|| unreachable_broker(node))?;
        let asking = async {
            let (mut writer, mut reader) = line.connection.open().await?;
            writer.send(&Open::Call(request.into()), [body]).await?;
            writer.finish()?;
            let frame = reader.recv::<Result<C::Response, WireError>>(ANSWER).await?;
            Ok::<_, StreamError>(frame.map(|frame| frame.message))
        };
        match tokio::time::timeout(limit, asking).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => Err(unreachable_broker(node)),
            Ok(Err(error)) => {
                tracing::debug!(%node, %error, call = C::NAME, "not answered");
                Err(unreachable_broker(node))
            }
            Err(_) => {
                let text = format!("broker {node} did not answer within {limit:?}");
                Err(WireError::new(ErrorCode::TimedOut, text))
            }
        }
    }

    fn line(&self, node: NodeId) -> Option<Arc<line::Line>> {
        self.0.links.load().get(&node)?.line()
    }

    fn is_connected(&self, node: NodeId) -> bool {
        self.line(node).is_some()
    }

    fn beat(&self, node: NodeId, hears: bool) {
        if let Some(line) = self.line(node) {
            line.beat(hears);
        }
    }

    fn bulk_rate(&self) -> &Rate {
        &self.0.bulk
    }

    fn credentials(&self) -> (&Identity, &TransportSettings) {
        let identity = self.0.identity.as_deref().expect("who is alone for good calls nobody");
        (identity, &self.0.settings)
    }
}

fn unreachable_broker(node: NodeId) -> WireError {
    let text = format!("broker {node} cannot be reached: ask again in a moment");
    WireError::new(ErrorCode::NotLeader, text)
}
