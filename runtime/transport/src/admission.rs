//! Who may come in: counts of connections and handshakes, over all shards of a listener.
//!
//! Invariant: the counts never exceed the settings, and every count is given back exactly once,
//! by dropping what was counted.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::settings::TransportSettings;

/// Counts over all shards of a listener.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Limits {
    connections: usize,
    connections_per_ip: usize,
    handshakes: usize,
    unproven_per_ip: usize,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    handshakes: usize,
    by_ip: BTreeMap<IpAddr, PerIp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct PerIp {
    connections: usize,
    handshakes: usize,
}

/// What to do with a first packet.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Let it try.
    Admit(HandshakePermit),
    /// Have it prove its address first.
    Prove,
    /// Send it away.
    Refuse,
}

impl Admission {
    /// Nobody is in.
    #[must_use]
    pub fn new(settings: &TransportSettings) -> Self {
        Self {
            limits: Limits {
                connections: settings.max_connections,
                connections_per_ip: settings.max_connections_per_ip,
                handshakes: settings.max_handshakes,
                unproven_per_ip: settings.max_unproven_per_ip,
            },
            counts: Mutex::default(),
        }
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counts().connections
    }

    /// Handshakes under way.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.counts().handshakes
    }

    /// Decides on a first packet from `ip`, which has `proven` that it receives what is sent there.
    pub(crate) fn decide(self: &Arc<Self>, ip: IpAddr, proven: bool) -> Decision {
        let ip = ip.to_canonical();
        let mut counts = self.counts();
        let from_ip = counts.by_ip.get(&ip).copied().unwrap_or_default();
        // Handshakes count as connections to be, or a burst could pass the bound.
        let full = counts.connections + counts.handshakes >= self.limits.connections
            || from_ip.connections + from_ip.handshakes >= self.limits.connections_per_ip;
        if full || counts.handshakes >= self.limits.handshakes {
            return Decision::Refuse;
        }
        if !proven && from_ip.handshakes >= self.limits.unproven_per_ip {
            return Decision::Prove;
        }
        counts.handshakes += 1;
        counts.by_ip.entry(ip).or_default().handshakes += 1;
        Decision::Admit(HandshakePermit { admission: Arc::clone(self), ip })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn change(&mut self, ip: IpAddr, change: impl FnOnce(&mut PerIp)) {
        let entry = self.by_ip.entry(ip).or_default();
        change(entry);
        if entry.connections == 0 && entry.handshakes == 0 {
            self.by_ip.remove(&ip);
        }
    }
}

/// One handshake under way.
#[derive(Debug)]
pub(crate) struct HandshakePermit {
    admission: Arc<Admission>,
    ip: IpAddr,
}

impl HandshakePermit {
    /// The handshake has become a connection; says how many there are now.
    pub(crate) fn establish(self) -> (ConnectionPermit, usize) {
        let admission = Arc::clone(&self.admission);
        let ip = self.ip;
        let mut counts = admission.counts();
        counts.connections += 1;
        counts.change(ip, |of_ip| of_ip.connections += 1);
        let connections = counts.connections;
        drop(counts);
        (ConnectionPermit { admission, ip }, connections)
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        counts.handshakes -= 1;
        counts.change(self.ip, |of_ip| of_ip.handshakes -= 1);
    }
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    admission: Arc<Admission>,
    ip: IpAddr,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        counts.connections -= 1;
        counts.change(self.ip, |of_ip| of_ip.connections -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn admission() -> Arc<Admission> {
        Arc::new(Admission::new(&TransportSettings {
            max_connections: 4,
            max_connections_per_ip: 3,
            max_handshakes: 3,
            max_unproven_per_ip: 1,
            ..TransportSettings::default()
        }))
    }

    fn admit(admission: &Arc<Admission>, ip: IpAddr, proven: bool) -> HandshakePermit {
        match admission.decide(ip, proven) {
            Decision::Admit(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_with_a_handshake_under_way_must_prove_itself_for_the_next() {
        let admission = admission();
        let first = admit(&admission, A, false);
        assert!(matches!(admission.decide(A, false), Decision::Prove));
        let _other = admit(&admission, B, false);
        let _proven = admit(&admission, A, true);
        drop(first);
        assert_eq!(admission.handshakes(), 2);
    }

    #[test]
    fn what_is_over_the_bounds_is_refused_and_room_comes_back() {
        let admission = admission();
        let connections: Vec<_> =
            (0..3).map(|_| admit(&admission, A, true).establish().0).collect();
        assert!(matches!(admission.decide(A, true), Decision::Refuse), "per address");
        let (last, count) = admit(&admission, B, true).establish();
        assert_eq!(count, 4);
        assert!(matches!(admission.decide(B, true), Decision::Refuse), "in all");
        drop((connections, last));
        assert_eq!(admission.connections(), 0);
        assert!(admission.counts().by_ip.is_empty());
    }

    #[test]
    fn handshakes_are_bounded_whoever_makes_them() {
        let admission = admission();
        let ips = (1..=3).map(|n| IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, n)));
        let _held: Vec<_> = ips.map(|ip| admit(&admission, ip, false)).collect();
        assert!(matches!(admission.decide(A, false), Decision::Refuse));
    }
}
