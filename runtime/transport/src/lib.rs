//! What carries: QUIC endpoints, connections, framed streams and TLS identities.
//!
//! ```text
//!   bind(addr, shards) ──▶ ListenerSocket ──listen()──▶ Listener ──accept()──▶ Incoming
//!                           one a core                                            │ handshake()
//!   Trust + connect(addr) ────────────────── Hello / Welcome ─────────────▶ Connection
//!   Identity + connect_as(addr) ────────────────────┘                             │
//!                                                                                 │ open() / accept()
//!                                                              FrameWriter ◀──────┴──────▶ FrameReader
//! ```
//!
//! Reading order:
//! - [`settings`]: every bound and window, with the measurements behind the defaults.
//! - [`identity`] and [`tls`]: who a broker is, whom a client trusts; `membership`: which broker a
//!   certificate proves; `secrets`: files that only their owner reads.
//! - [`socket`]: the UDP socket underneath; the one place that knows about segmentation offload.
//! - [`endpoint`] and [`dial`]: the two ways to come by a connection; [`admission`] says who may.
//! - [`connection`], [`greeting`], [`error`]: version negotiation, streams, and how things end.
//! - [`stream`]: frames on a stream.
//!
//! This crate never reads a batch, never touches a log, never skips the verification of a
//! certificate, and never holds more than its settings allow for one peer or for all of them.

#![forbid(unsafe_code)]

pub mod admission;
pub mod connection;
pub mod dial;
pub mod endpoint;
pub mod error;
pub mod greeting;
pub mod identity;
mod membership;
mod secrets;
pub mod settings;
pub mod socket;
pub mod stream;
pub mod tls;

pub use connection::Connection;
pub use dial::{Target, connect, connect_as};
pub use endpoint::{Incoming, ListenError, Listener, ListenerSocket, bind};
pub use error::{CloseCode, ConnectionError, StreamCode, StreamError};
pub use greeting::Greeting;
pub use identity::{Identity, IdentityError, Issued, issue_into, stable_name};
pub use settings::{PathSettings, TransportSettings};
pub use stream::{Body, Frame, FrameReader, FrameWriter};
pub use tls::{Trust, TrustError};
