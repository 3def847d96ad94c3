//! Links: what lies between brokers, and between clients and brokers; each direction can be cut, lose, repeat and
//! delay datagrams.
//!
//! ```text
//!   broker 1 ──▶ front of broker 2 ──(1 ▶ 2)──▶ broker 2
//!        ◀────── front of broker 2 ◀─(2 ▶ 1)──
//! ```
//! Brokers advertise their fronts. Who sends to a front is told by which process owns the socket (`/proc`); who is
//! no broker is a client, number 0.
//!
//! Invariant: a datagram passes whole, or not at all; nothing passes a direction that is cut.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::random::Random;

/// The largest datagram.
const DATAGRAM: usize = 1 << 16;
/// Who is no broker.
pub const CLIENT: u32 = 0;

/// One direction of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Nothing passes.
    pub cut: bool,
    /// So many of a hundred are lost.
    pub loss: u64,
    /// So many of a hundred come twice.
    pub repeat: u64,
    /// Each comes late by up to so much: also after those that were sent later.
    pub delay: Duration,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Links {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// By who sends and who is sent to; what is not here is as it should be.
    links: Mutex<BTreeMap<(u32, u32), Link>>,
    /// The brokers' processes.
    processes: Mutex<BTreeMap<u32, u32>>,
    random: Mutex<Random>,
}

impl Links {
    /// Makes a front for a broker. Returns its address.
    ///
    /// # Panics
    /// If there is no socket to be had.
    pub async fn lead_to(&self, number: u32, broker: SocketAddr) -> SocketAddr {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        let at = front.local_addr().expect("it is bound");
        let front =
            Front { number, broker, socket: Arc::new(front), shared: Arc::clone(&self.shared) };
        lock(&self.tasks).spawn(front.run());
        at
    }

    /// Says which process a broker is now.
    pub fn spoken_on_by(&self, number: u32, process: u32) {
        lock(&self.shared.processes).insert(number, process);
    }

    /// Sets one direction.
    pub fn set(&self, from: u32, to: u32, link: Link) {
        lock(&self.shared.links).insert((from, to), link);
    }

    /// Sets every direction between a broker and the others, brokers 1 to `count` and clients.
    pub fn surround(&self, number: u32, count: u32, link: Link) {
        for other in (CLIENT..=count).filter(|other| *other != number) {
            self.set(number, other, link);
            self.set(other, number, link);
        }
    }

    /// Everything is as it should be.
    pub fn heal(&self) {
        lock(&self.shared.links).clear();
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// When the copies of a datagram arrive: none, one or two.
    fn arrivals(&self, from: u32, to: u32) -> Vec<Duration> {
        let link = lock(&self.links).get(&(from, to)).copied();
        let Some(link) = link else { return vec![Duration::ZERO] };
        let mut random = lock(&self.random);
        if link.cut || random.below(100) < link.loss {
            return Vec::new();
        }
        let copies = if random.below(100) < link.repeat { 2 } else { 1 };
        let most = u64::try_from(link.delay.as_micros()).unwrap_or(u64::MAX);
        let mut late = || Duration::from_micros(random.below(most.saturating_add(1)));
        (0..copies).map(|_| late()).collect()
    }

    /// Which broker has a socket at a local port.
    fn owner(&self, port: u16) -> u32 {
        let Some(inode) = inode_at(port) else { return CLIENT };
        let wanted = format!("socket:[{inode}]");
        let holds = |process: &u32| {
            let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
            let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
            links.any(|link| link.to_string_lossy() == wanted)
        };
        let processes = lock(&self.processes).clone();
        processes.iter().find(|(_, process)| holds(process)).map_or(CLIENT, |(number, _)| *number)
    }
}

/// The inode of the UDP socket at a local port, as `/proc/net/udp` has it.
fn inode_at(port: u16) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/udp").ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let local = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        if local == port { fields.get(9)?.parse().ok() } else { None }
    })
}

/// Who sends from an address, and by which socket it is passed on.
type Lane = (u32, Arc<UdpSocket>);

/// Where a broker is sought by the others.
struct Front {
    number: u32,
    broker: SocketAddr,
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
}

impl Front {
    async fn run(self) {
        let mut known: HashMap<SocketAddr, Lane> = HashMap::new();
        // Dropped, and ended, with this task.
        let mut answers = JoinSet::new();
        let mut datagram = vec![0; DATAGRAM];
        loop {
            // An error is that of an earlier send to who is gone.
            let Ok((length, source)) = self.socket.recv_from(&mut datagram).await else { continue };
            let lane = match known.get(&source) {
                Some(lane) => Lane::clone(lane),
                None => {
                    let lane = self.lane(source).await;
                    answers.spawn(self.answer(lane.0, source, Arc::clone(&lane.1)));
                    known.insert(source, lane.clone());
                    lane
                }
            };
            let (from, onward) = lane;
            for late in self.shared.arrivals(from, self.number) {
                pass(late, &datagram[..length], &onward, None).await;
            }
        }
    }

    /// For who has not sent anything before.
    async fn lane(&self, source: SocketAddr) -> Lane {
        let onward = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        onward.connect(self.broker).await.expect("an address of this host");
        (self.shared.owner(source.port()), Arc::new(onward))
    }

    fn answer(
        &self,
        from: u32,
        source: SocketAddr,
        onward: Arc<UdpSocket>,
    ) -> impl Future<Output = ()> + use<> {
        let (shared, front, number) =
            (Arc::clone(&self.shared), Arc::clone(&self.socket), self.number);
        async move {
            let mut datagram = vec![0; DATAGRAM];
            loop {
                // An error is that of an earlier send: the broker is gone, and may come back.
                let Ok(length) = onward.recv(&mut datagram).await else { continue };
                for late in shared.arrivals(number, from) {
                    pass(late, &datagram[..length], &front, Some(source)).await;
                }
            }
        }
    }
}

/// Sends a datagram on, now or later. Whether it arrives is nobody's business, as on any network.
async fn pass(late: Duration, datagram: &[u8], by: &Arc<UdpSocket>, to: Option<SocketAddr>) {
    let send = async |by: &UdpSocket, datagram: &[u8]| match to {
        Some(to) => by.send_to(datagram, to).await,
        None => by.send(datagram).await,
    };
    if late.is_zero() {
        let _ = send(by, datagram).await;
        return;
    }
    let (by, datagram) = (Arc::clone(by), datagram.to_vec());
    tokio::spawn(async move {
        tokio::time::sleep(late).await;
        let _ = match to {
            Some(to) => by.send_to(&datagram, to).await,
            None => by.send(&datagram).await,
        };
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_pass_both_ways_unless_that_way_is_cut() {
        let links = Links::default();
        let broker = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let front = links.lead_to(1, broker.local_addr().expect("bound")).await;
        // This process is broker 2.
        links.spoken_on_by(2, std::process::id());
        let other = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let mut buffer = [0; 16];
        let soon = Duration::from_millis(100);

        other.send_to(b"there", front).await.expect("sent");
        let (length, from) = broker.recv_from(&mut buffer).await.expect("passed");
        assert_eq!(&buffer[..length], b"there");
        broker.send_to(b"back", from).await.expect("sent");
        let length = other.recv(&mut buffer).await.expect("passed");
        assert_eq!(&buffer[..length], b"back");

        links.set(1, 2, Link { cut: true, ..Link::default() });
        other.send_to(b"there", front).await.expect("sent");
        let (_, from) = broker.recv_from(&mut buffer).await.expect("passed");
        broker.send_to(b"back", from).await.expect("sent");
        assert!(tokio::time::timeout(soon, other.recv(&mut buffer)).await.is_err());

        links.heal();
        broker.send_to(b"again", from).await.expect("sent");
        let length = other.recv(&mut buffer).await.expect("passed");
        assert_eq!(&buffer[..length], b"again");
    }
}
