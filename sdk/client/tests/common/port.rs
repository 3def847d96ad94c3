//! A port that stays its broker's while the broker is stopped: no other test, and no client's socket,
//! gets it meanwhile.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

/// Below the ports that systems give out by themselves.
const RANGE: std::ops::Range<u32> = 10_000..32_000;

/// The TCP port of the same number, which nobody else can have then.
pub(crate) struct Port {
    addr: SocketAddr,
    _reserved: TcpListener,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let ports = RANGE.end - RANGE.start;
        let first = std::process::id().wrapping_mul(7_919) % ports;
        let mut turns = (0..ports).map(|turn| RANGE.start + (first + turn) % ports);
        let reserved = turns.find_map(|port| {
            let addr = (Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap());
            let reserved = TcpListener::bind(addr).ok()?;
            UdpSocket::bind(addr).is_ok().then_some(reserved)
        });
        let reserved = reserved.expect("a port is free");
        Self { addr: reserved.local_addr().unwrap(), _reserved: reserved }
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until nobody listens there any more.
    pub(crate) async fn is_free(&self) {
        while UdpSocket::bind(self.addr).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
