//! Every bound and window of the transport, and the measurements behind the defaults.
//!
//! Invariant: whatever a peer does, it costs at most what these numbers say.
//!
//! What was measured (two processes, loopback, one stream, 512 KiB writes, medians of several runs):
//!
//! | setting | MB/s | lost packets | receiver's peak RSS |
//! |---|---|---|---|
//! | 65,500-byte packets, 16 MiB stream window, 64 MiB in flight | 4,250 | 180-400 in 3 GB | 22 MB |
//! | the same, 2 MiB stream window, 4 MiB in flight | 5,350 | none | 8 MB |
//! | 16,300-byte packets in groups of 4, 2 MiB window | 4,700 | none | 8 MB |
//! | 8,900-byte packets in groups of 7, 2 MiB window | 4,350 | none | 8 MB |
//! | 1,452-byte packets in groups of 10 | 1,700 | none | 23 MB |
//!
//! On one host a packet that is in flight lies in the receiver's socket buffer, so a window larger
//! than that buffer only buys losses. Across a network the window has to cover bandwidth × delay.
//! Hence two sets of [`PathSettings`], chosen by the peer's address.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt, congestion};
use thiserror::Error;

/// The largest UDP payload that IPv4 carries.
pub(crate) const MAX_UDP_PAYLOAD: usize = 65_507;
/// What an endpoint announces that it takes in one datagram: anything that UDP can carry.
pub(crate) const MAX_RECEIVED_PAYLOAD: u16 = 65_527;

const MIB: u32 = 1 << 20;

/// What depends on how far away the peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSettings {
    /// Bytes a peer may have sent on one stream before we read them.
    pub stream_receive_window: u32,
    /// Bytes a peer may have sent on all its streams before we read them.
    pub connection_receive_window: u32,
    /// Bytes of ours that may be written and not yet acknowledged, over all streams of a connection.
    pub send_window: u32,
    /// Bytes that may be sent before the first acknowledgement comes back.
    pub initial_congestion_window: u32,
    /// The largest packet that path-MTU discovery tries, in bytes of UDP payload.
    pub max_packet: u16,
}

/// All settings of the transport. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportSettings {
    /// For a peer on this host.
    pub local: PathSettings,
    /// For a peer across a network.
    pub network: PathSettings,
    /// Receive and send buffer asked of the kernel for each socket; it may grant less.
    pub socket_buffer: usize,
    /// Bidirectional streams that one peer may have open at a time.
    pub max_streams: u32,
    /// A connection on which nothing arrives for so long is dead.
    pub idle_timeout: Duration,
    /// How often a client speaks when it has nothing to say, so that it does not look dead.
    pub keep_alive: Duration,
    /// From the first packet to the end of the greeting; also how long a client tries.
    pub handshake_timeout: Duration,
    /// Connections that a listener holds, over all its shards.
    pub max_connections: usize,
    /// Connections from one address.
    pub max_connections_per_ip: usize,
    /// Handshakes under way, over all shards; more are refused.
    pub max_handshakes: usize,
    /// Handshakes under way from one address that has not proved it is its own; more must prove it
    /// first (a QUIC Retry).
    pub max_unproven_per_ip: usize,
    /// Unread bytes over all connections of a listener: a connection's window is its share of this.
    pub receive_budget: u64,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            local: PathSettings {
                stream_receive_window: 2 * MIB,
                connection_receive_window: 32 * MIB,
                send_window: 4 * MIB,
                initial_congestion_window: MIB,
                max_packet: 65_500,
            },
            network: PathSettings {
                stream_receive_window: 16 * MIB,
                connection_receive_window: 64 * MIB,
                send_window: 32 * MIB,
                initial_congestion_window: 14_720,
                max_packet: 8_900,
            },
            socket_buffer: 4 << 20,
            max_streams: 1_024,
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(8),
            handshake_timeout: Duration::from_secs(10),
            max_connections: 4_096,
            max_connections_per_ip: 4_096,
            max_handshakes: 256,
            max_unproven_per_ip: 16,
            receive_budget: 1 << 30,
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name} = {value}: {rule}")]
pub struct SettingsError {
    /// The field, as in [`TransportSettings`].
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What would be right.
    pub rule: &'static str,
}

/// The smallest receive window a connection is left with when there are very many of them.
const MIN_WINDOW: u32 = MIB;

impl TransportSettings {
    /// Refuses what cannot work, by name.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn validate(&self) -> Result<(), SettingsError> {
        for (path, names) in [(&self.local, LOCAL_NAMES), (&self.network, NETWORK_NAMES)] {
            path.validate(names)?;
        }
        let at_least_one = "must be at least 1";
        check(self.max_streams >= 1, "max_streams", self.max_streams, at_least_one)?;
        check(self.max_streams <= 65_536, "max_streams", self.max_streams, "at most 65536")?;
        check(self.max_connections >= 1, "max_connections", self.max_connections, at_least_one)?;
        check(
            self.max_connections_per_ip >= 1,
            "max_connections_per_ip",
            self.max_connections_per_ip,
            at_least_one,
        )?;
        check(self.max_handshakes >= 1, "max_handshakes", self.max_handshakes, at_least_one)?;
        check(
            self.socket_buffer >= 128 << 10,
            "socket_buffer",
            self.socket_buffer,
            "must hold two of the largest packets: at least 131072",
        )?;
        let idle = self.idle_timeout;
        check(
            (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&idle),
            "idle_timeout",
            format!("{idle:?}"),
            "between 100 ms and an hour",
        )?;
        check(
            self.keep_alive * 2 <= idle,
            "keep_alive",
            format!("{:?}", self.keep_alive),
            "at most half of idle_timeout, or one lost packet ends a quiet connection",
        )
    }

    /// The settings for a peer at `peer`.
    #[must_use]
    pub fn path(&self, peer: SocketAddr) -> &PathSettings {
        if is_local(peer.ip()) { &self.local } else { &self.network }
    }

    /// A connection's receive window when there are `connections` of them: its share of the budget.
    #[must_use]
    pub fn window_share(&self, path: &PathSettings, connections: usize) -> u32 {
        let share = self.receive_budget / connections.max(1) as u64;
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        share.clamp(MIN_WINDOW.min(path.connection_receive_window), path.connection_receive_window)
    }

    /// quinn's form of these settings.
    pub(crate) fn to_quinn(&self, path: &PathSettings, side: Side) -> TransportConfig {
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(path.max_packet);
        let mut cubic = congestion::CubicConfig::default();
        cubic.initial_window(path.initial_congestion_window.into());
        let idle = IdleTimeout::try_from(self.idle_timeout).expect("validated: at most an hour");
        let streams = if side == Side::Server { self.max_streams } else { 0 };
        let mut config = TransportConfig::default();
        config
            .stream_receive_window(path.stream_receive_window.into())
            .receive_window(path.connection_receive_window.into())
            .send_window(path.send_window.into())
            .max_concurrent_bidi_streams(VarInt::from_u32(streams))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(Some(idle))
            .keep_alive_interval((side == Side::Client).then_some(self.keep_alive))
            .mtu_discovery_config(Some(mtu))
            .congestion_controller_factory(Arc::new(cubic));
        config
    }
}

/// Which end of a connection: a broker opens no streams, a client offers none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl PathSettings {
    fn validate(&self, names: [&'static str; 4]) -> Result<(), SettingsError> {
        let [stream, connection, send, packet] = names;
        let rule = "between 65536 and 1073741824";
        let range = 1 << 16..=1 << 30;
        check(
            range.contains(&self.stream_receive_window),
            stream,
            self.stream_receive_window,
            rule,
        )?;
        check(
            range.contains(&self.connection_receive_window)
                && self.connection_receive_window >= self.stream_receive_window,
            connection,
            self.connection_receive_window,
            "between the stream's window and 1073741824",
        )?;
        check(range.contains(&self.send_window), send, self.send_window, rule)?;
        check(
            (1_200..=65_500).contains(&self.max_packet),
            packet,
            self.max_packet,
            "between 1200 and 65500",
        )
    }
}

const LOCAL_NAMES: [&str; 4] = [
    "local.stream_receive_window",
    "local.connection_receive_window",
    "local.send_window",
    "local.max_packet",
];
const NETWORK_NAMES: [&str; 4] = [
    "network.stream_receive_window",
    "network.connection_receive_window",
    "network.send_window",
    "network.max_packet",
];

fn check(
    ok: bool,
    name: &'static str,
    value: impl ToString,
    rule: &'static str,
) -> Result<(), SettingsError> {
    if ok { Ok(()) } else { Err(SettingsError { name, value: value.to_string(), rule }) }
}

/// Whether packets to `peer` stay on this host, so that the loopback device carries them.
pub(crate) fn is_local(peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    if peer.is_loopback() {
        return true;
    }
    // Connecting a UDP socket sends nothing; it only asks for the route, and a route to ourselves
    // starts and ends at the same address.
    let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let from =
        UdpSocket::bind(any).and_then(|s| s.connect((peer, 9)).and_then(|()| s.local_addr()));
    from.is_ok_and(|from| from.ip() == peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(TransportSettings::default().validate(), Ok(()));
    }

    #[test]
    fn a_setting_that_cannot_work_is_refused_by_name() {
        let mut settings = TransportSettings::default();
        settings.network.max_packet = 700;
        let error = settings.validate().expect_err("too small");
        assert_eq!(error.to_string(), "network.max_packet = 700: between 1200 and 65500");
        let settings = TransportSettings {
            keep_alive: Duration::from_secs(20),
            ..TransportSettings::default()
        };
        assert_eq!(settings.validate().expect_err("too long").name, "keep_alive");
    }

    #[test]
    fn a_peer_on_this_host_gets_the_local_path() {
        let settings = TransportSettings::default();
        for local in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let addr = local.parse().expect("an address");
            assert_eq!(settings.path(addr), &settings.local, "{local}");
        }
        let far = "192.0.2.1:1".parse().expect("an address");
        assert_eq!(settings.path(far), &settings.network);
    }

    #[test]
    fn many_connections_share_the_budget() {
        let settings = TransportSettings::default();
        let share = |n| settings.window_share(&settings.network, n);
        assert_eq!(share(1), settings.network.connection_receive_window);
        assert_eq!(share(64), 16 * MIB);
        assert_eq!(share(100_000), MIN_WINDOW);
    }
}
