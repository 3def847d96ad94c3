//! Liveness: which other brokers can be reached, by one heartbeat a pair of brokers.
//!
//! ```text
//!   Tick ─▶ Beat ─▶ other ─▶ Heard ─▶ Up … silence ─▶ Down
//! ```
//! Partitions have no timers of their own while they are idle: what they know of their leader's broker comes
//! from here, so that a thousand idle partitions cost what one does.
//!
//! Invariant: a broker is reachable only when both sides hear each other: a link that works one way is cut.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_protocol::ids::NodeId;

use crate::machine::{Machine, Time};

/// How often brokers speak, and how long they may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivenessConfig {
    /// Between two heartbeats.
    pub interval: Duration,
    /// A broker that was silent for so long cannot be reached.
    pub timeout: Duration,
}

impl Default for LivenessConfig {
    fn default() -> Self {
        Self { interval: Duration::from_millis(50), timeout: Duration::from_millis(300) }
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// There is another broker.
    Add(NodeId),
    /// There is no such broker any more.
    Remove(NodeId),
    /// Something came from another broker.
    Heard {
        /// Which.
        node: NodeId,
        /// Its life: another number after a restart, or after a new connection.
        session: u64,
        /// Whether it says that it hears this one.
        hears: bool,
    },
    /// The connection to another broker is gone.
    Lost(NodeId),
    /// The deadline passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a heartbeat.
    Beat {
        /// To whom.
        node: NodeId,
        /// Whether it is heard here.
        hears: bool,
    },
    /// A broker can be reached: anew, or in another life. What it was sent before may be lost.
    Up(NodeId),
    /// A broker cannot be reached any more.
    Down(NodeId),
}

/// What one broker knows of the others.
#[derive(Clone, Debug)]
pub struct Liveness {
    config: LivenessConfig,
    peers: BTreeMap<NodeId, Peer>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    beat: Time,
    heard: Option<Time>,
    session: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Added then and not heard of yet.
    New(Time),
    Up,
    Down,
}

impl Liveness {
    /// Knows nobody.
    #[must_use]
    pub const fn new(config: LivenessConfig) -> Self {
        Self { config, peers: BTreeMap::new() }
    }

    /// Whether a broker can be reached.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.state == State::Up)
    }

    /// Whether a broker is known and cannot be reached.
    #[must_use]
    pub fn is_down(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.state == State::Down)
    }

    fn heard(
        &mut self,
        now: Time,
        (node, session, hears): (NodeId, u64, bool),
        out: &mut Vec<Output>,
    ) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.heard = Some(now);
        let renewed = peer.session != session;
        peer.session = session;
        match (peer.state, hears) {
            (State::Up, true) if renewed => out.push(Output::Up(node)),
            (State::Up, true) => {}
            (State::Up, false) => {
                peer.state = State::Down;
                out.push(Output::Down(node));
            }
            (State::New(_) | State::Down, true) => {
                peer.state = State::Up;
                out.push(Output::Up(node));
            }
            (State::New(_) | State::Down, false) => {}
        }
    }

    fn lost(&mut self, node: NodeId, out: &mut Vec<Output>) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.heard = None;
            if peer.state != State::Down {
                peer.state = State::Down;
                out.push(Output::Down(node));
            }
        }
    }

    fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        for (node, peer) in &mut self.peers {
            let silent = match (peer.state, peer.heard) {
                (State::Down, _) => false,
                (State::New(added), None) => added + self.config.timeout <= now,
                (_, heard) => heard.is_none_or(|heard| heard + self.config.timeout <= now),
            };
            if silent {
                peer.state = State::Down;
                out.push(Output::Down(*node));
            }
            if peer.beat <= now {
                peer.beat = now + self.config.interval;
                let recent = |heard: Time| now < heard + self.config.timeout;
                let hears = peer.heard.is_some_and(recent);
                out.push(Output::Beat { node: *node, hears });
            }
        }
    }
}

impl Machine for Liveness {
    type Input = Input;
    type Output = Output;

    fn step(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Add(node) => {
                let state = State::New(now);
                let peer = Peer { beat: now, heard: None, session: 0, state };
                self.peers.entry(node).or_insert(peer);
            }
            Input::Remove(node) => {
                self.peers.remove(&node);
            }
            Input::Heard { node, session, hears } => self.heard(now, (node, session, hears), out),
            Input::Lost(node) => self.lost(node, out),
            Input::Tick => self.tick(now, out),
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.peers.values().map(|peer| peer.beat).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: NodeId = NodeId(2);

    struct Bench(Liveness, Vec<Output>);

    impl Bench {
        fn new() -> Self {
            let mut bench = Self(Liveness::new(LivenessConfig::default()), vec![]);
            bench.at(0, Input::Add(OTHER));
            bench
        }

        fn at(&mut self, millis: u64, input: Input) -> Vec<Output> {
            self.1.clear();
            self.0.step(Time::from_millis(millis), input, &mut self.1);
            self.1.clone()
        }
    }

    fn heard(session: u64, hears: bool) -> Input {
        Input::Heard { node: OTHER, session, hears }
    }

    #[test]
    fn a_broker_is_up_when_both_hear_each_other_and_down_when_it_falls_silent() {
        let mut bench = Bench::new();
        assert_eq!(bench.at(0, Input::Tick), [Output::Beat { node: OTHER, hears: false }]);
        assert_eq!(bench.at(10, heard(1, false)), [], "it does not hear us yet");
        assert_eq!(bench.at(50, Input::Tick), [Output::Beat { node: OTHER, hears: true }]);
        assert_eq!(bench.at(60, heard(1, true)), [Output::Up(OTHER)]);
        assert_eq!(bench.at(359, Input::Tick), [Output::Beat { node: OTHER, hears: true }]);
        let silent = bench.at(360, Input::Tick);
        assert_eq!(silent, [Output::Down(OTHER)]);
        assert_eq!(bench.at(400, heard(1, true)), [Output::Up(OTHER)]);
    }

    #[test]
    fn another_life_is_told_though_nothing_was_silent() {
        let mut bench = Bench::new();
        bench.at(10, heard(1, true));
        assert_eq!(bench.at(20, heard(2, true)), [Output::Up(OTHER)], "what was sent may be lost");
        assert_eq!(bench.at(30, heard(3, false)), [Output::Down(OTHER)]);
        assert_eq!(bench.at(40, heard(3, true)), [Output::Up(OTHER)]);
    }

    #[test]
    fn a_link_that_works_one_way_is_cut() {
        let mut bench = Bench::new();
        bench.at(10, heard(1, true));
        assert_eq!(bench.at(20, heard(1, false)), [Output::Down(OTHER)]);
        assert_eq!(bench.at(30, heard(1, true)), [Output::Up(OTHER)]);
    }

    #[test]
    fn who_was_never_heard_of_is_down_after_the_timeout_and_beaten_on() {
        let mut bench = Bench::new();
        bench.at(0, Input::Tick);
        assert!(!bench.at(299, Input::Tick).contains(&Output::Down(OTHER)));
        assert!(bench.at(300, Input::Tick).contains(&Output::Down(OTHER)));
        assert!(!bench.at(700, Input::Tick).contains(&Output::Down(OTHER)), "once");
        assert!(bench.0.deadline().is_some());
    }

    #[test]
    fn a_lost_connection_is_not_waited_for() {
        let mut bench = Bench::new();
        bench.at(10, heard(1, true));
        assert_eq!(bench.at(11, Input::Lost(OTHER)), [Output::Down(OTHER)]);
        assert_eq!(bench.at(12, Input::Lost(OTHER)), []);
    }
}
