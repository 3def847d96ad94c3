//! The UDP socket under an endpoint: what quinn's own does, plus two things it leaves out.
//!
//! - A group of packets that would be over what UDP can carry in one send (10 packets of 65,500
//!   bytes) goes out as several sends. quinn's socket hands such a group to the kernel, which drops
//!   it without a word. So segmentation offload works for small packets and large ones work at all.
//! - On a client's socket, which is connected to one peer, "port unreachable" is noticed, so that
//!   dialling a broker that is not there fails at once.
//!
//! Invariant: every packet of a group is sent once, whatever the socket's buffer takes at a time.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use crate::settings::MAX_UDP_PAYLOAD;

/// How many half-sent groups are remembered; the oldest is forgotten and then sent again in whole,
/// which costs duplicates and nothing else.
const MAX_PARTIAL: usize = 64;
/// The authentication tag at the end of every packet: no two groups end in the same one.
const TAG: usize = 16;

/// A UDP socket on a tokio runtime, as quinn wants it.
pub(crate) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    partial: Mutex<Vec<Partial>>,
    refused: AtomicBool,
    notify_refused: Notify,
    mute: AtomicBool,
}

#[derive(Clone, Copy)]
struct Partial {
    tag: [u8; TAG],
    sent: usize,
}

/// Makes a bound socket with the buffers asked for, shareable by several endpoints on one port if
/// `reuse_port`.
pub(crate) fn bind_udp(
    addr: SocketAddr,
    buffer: usize,
    reuse_port: bool,
) -> io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_recv_buffer_size(buffer)?;
    socket.set_send_buffer_size(buffer)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

impl Socket {
    /// Takes over a socket; must be called inside the runtime that will drive it.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self {
            state: UdpSocketState::new((&socket).into())?,
            io: UdpSocket::from_std(socket)?,
            partial: Mutex::default(),
            refused: AtomicBool::new(false),
            notify_refused: Notify::new(),
            mute: AtomicBool::new(false),
        })
    }

    /// Whether the kernel ever reported "port unreachable"; only a connected socket hears of it.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits for "port unreachable".
    pub(crate) async fn refused(&self) {
        let mut notified = std::pin::pin!(self.notify_refused.notified());
        notified.as_mut().enable();
        tokio::select! {
            // A send or a receive may come by the report first and take it.
            () = notified => {}
            () = self.refusal_reported() => self.set_refused(),
        }
    }

    async fn refusal_reported(&self) {
        while !self.was_refused() {
            // Failing means that the runtime is going down; then nothing is reported any more.
            if self.io.ready(Interest::ERROR).await.is_err() {
                return std::future::pending().await;
            }
            let error = self.io.take_error().ok().flatten();
            if error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                return;
            }
            let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            // Clears the readiness, so that the next turn waits for the next report.
            let _ = self.io.try_io(Interest::ERROR, nothing);
        }
    }

    /// Sends nothing any more: nobody is there, and who comes up there later is not to hear the rest of
    /// what it never was part of. A quinn server (quinn-proto 0.11, `handle_first_packet`) that hears of
    /// a connection first by its close keeps it until the idle timeout, and its socket as long.
    pub(crate) fn mute(&self) {
        self.mute.store(true, Ordering::Relaxed);
    }

    fn set_refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
        self.notify_refused.notify_waiters();
    }

    /// One send; what goes wrong apart from a full buffer is a lost packet, as anywhere on the way.
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.mute.load(Ordering::Relaxed) {
            return Ok(());
        }
        let sent =
            self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), transmit));
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.set_refused();
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, to = %transmit.destination, "packet not sent");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Sends a group that is over what one send can carry, from where the last attempt ended.
    fn send_in_parts(&self, transmit: &Transmit<'_>, segment: usize) -> io::Result<()> {
        let part = (MAX_UDP_PAYLOAD / segment).max(1) * segment;
        let mut sent = self.resume(transmit.contents);
        while let Some(rest) = transmit.contents.get(sent..).filter(|rest| !rest.is_empty()) {
            let contents = &rest[..part.min(rest.len())];
            let segment_size = (contents.len() > segment).then_some(segment);
            if let Err(error) = self.send(&Transmit { contents, segment_size, ..*transmit }) {
                self.pause(transmit.contents, sent);
                return Err(error);
            }
            sent += contents.len();
        }
        Ok(())
    }

    fn resume(&self, contents: &[u8]) -> usize {
        let tag = tag_of(contents);
        let mut partial = self.partial();
        let found = partial.iter().position(|p| p.tag == tag);
        found.map_or(0, |at| partial.swap_remove(at).sent)
    }

    fn pause(&self, contents: &[u8], sent: usize) {
        let mut partial = self.partial();
        if partial.len() == MAX_PARTIAL {
            partial.remove(0);
        }
        partial.push(Partial { tag: tag_of(contents), sent });
    }

    fn partial(&self) -> MutexGuard<'_, Vec<Partial>> {
        self.partial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tag_of(contents: &[u8]) -> [u8; TAG] {
    *contents.last_chunk().expect("a group of packets is longer than one tag")
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match transmit.segment_size {
            Some(segment) if transmit.contents.len() > MAX_UDP_PAYLOAD => {
                self.send_in_parts(transmit, segment)
            }
            _ => self.send(transmit),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self
                .io
                .try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta));
            match received {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.set_refused();
                }
                // A full stop would take every connection of the endpoint down: nothing that the
                // kernel says about one datagram is worth that.
                Err(_) => {}
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// One: the endpoint's buffers are as large as the largest datagram, and what the kernel puts
    /// together on receive is never larger than that. quinn multiplies the two, which would be 128 MiB.
    fn max_receive_segments(&self) -> usize {
        1
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("io", &self.io).finish_non_exhaustive()
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits for room in the socket's buffer on behalf of one connection.
struct Poller {
    socket: Arc<Socket>,
    waiting: Option<Writable>,
}

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The usual case: there is room, and nothing has to be allocated to find out.
        if this.waiting.is_none() && this.socket.io.try_io(Interest::WRITABLE, || Ok(())).is_ok() {
            return Poll::Ready(Ok(()));
        }
        let socket = &this.socket;
        let waiting = this.waiting.get_or_insert_with(|| {
            let socket = Arc::clone(socket);
            Box::pin(async move { socket.io.writable().await })
        });
        let result = ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(segment: usize, count: usize) -> Vec<u8> {
        (0..count).flat_map(|n| vec![u8::try_from(n).expect("few"); segment]).collect()
    }

    #[tokio::test]
    async fn a_group_too_large_for_one_send_arrives_packet_by_packet_each_once() {
        let receiver =
            bind_udp("127.0.0.1:0".parse().expect("valid"), 4 << 20, false).expect("bound");
        let to = receiver.local_addr().expect("an address");
        let receiver = UdpSocket::from_std(receiver).expect("in a runtime");
        for (segment, count) in [(65_500, 10), (30_000, 7), (8_900, 10), (1_452, 10), (60_000, 2)] {
            // A send buffer that takes two or three packets at a time.
            let sender = bind_udp("127.0.0.1:0".parse().expect("valid"), 128 << 10, false);
            let sender = Arc::new(Socket::new(sender.expect("bound")).expect("in a runtime"));
            let contents = contents(segment, count);
            let transmit = Transmit {
                destination: to,
                ecn: None,
                contents: &contents,
                segment_size: Some(segment),
                src_ip: None,
            };
            let mut poller = Arc::clone(&sender).create_io_poller();
            let send = async {
                while let Err(error) = sender.try_send(&transmit) {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx))
                        .await
                        .expect("open");
                }
            };
            let receive = async {
                let mut buffer = vec![0; 65_536];
                for n in 0..count {
                    let len = receiver.recv(&mut buffer).await.expect("received");
                    assert_eq!((len, usize::from(buffer[0])), (segment, n));
                }
            };
            tokio::join!(send, receive);
            assert!(sender.partial().is_empty());
        }
    }

    #[tokio::test]
    async fn a_group_that_was_cut_off_goes_on_where_it_ended() {
        let socket =
            bind_udp("127.0.0.1:0".parse().expect("valid"), 128 << 10, false).expect("bound");
        let socket = Socket::new(socket).expect("in a runtime");
        let (one, other) = (contents(100, 3), contents(100, 4));
        socket.pause(&one, 200);
        socket.pause(&other, 300);
        assert_eq!((socket.resume(&one), socket.resume(&one)), (200, 0));
        assert_eq!(socket.resume(&other), 300);
        for n in 0..2 * MAX_PARTIAL {
            socket.pause(&n.to_le_bytes().repeat(8), n);
        }
        assert_eq!(socket.partial().len(), MAX_PARTIAL, "what is never resumed is forgotten");
    }
}
