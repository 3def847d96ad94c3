//! How connections and streams end, in words that say what to do next.
//!
//! Invariant: a peer's bytes never become anything but one of these values; numbers that a newer
//! peer may send are kept as they came.

use std::net::SocketAddr;

use millstream_protocol::frame::FrameError;
use quinn::{TransportErrorCode, VarInt};
use thiserror::Error;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A code this build does not know.
            Other(u32),
        }

        impl $name {
            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $value,)*
                    Self::Other(number) => number,
                }
            }
        }

        impl From<VarInt> for $name {
            fn from(number: VarInt) -> Self {
                match number.into_inner() {
                    $($value => Self::$variant,)*
                    other => Self::Other(u32::try_from(other).unwrap_or(u32::MAX)),
                }
            }
        }

        impl From<$name> for VarInt {
            fn from(code: $name) -> Self {
                Self::from_u32(code.number())
            }
        }
    };
}

codes! {
    /// Why a side closed a connection.
    CloseCode {
        /// It has no more use for it.
        Done = 0,
        /// The broker is stopping.
        ShuttingDown = 1,
        /// Both sides have no protocol version in common.
        UnsupportedVersion = 2,
        /// The peer broke the protocol.
        ProtocolViolation = 3,
        /// The peer asks for more than it is given.
        Overloaded = 4,
        /// A fault of the closing side.
        Internal = 5,
    }
}

codes! {
    /// Why a side reset or stopped a stream.
    StreamCode {
        /// It has no more use for it.
        Cancelled = 0,
        /// The broker is stopping.
        ShuttingDown = 1,
        /// What came in could not be understood.
        Malformed = 2,
        /// What came in was larger than allowed.
        TooLarge = 3,
        /// More is in flight than is taken.
        Overloaded = 4,
        /// A fault of the resetting side.
        Internal = 5,
    }
}

/// Why there is no connection (any more).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectionError {
    /// The host answered that nobody listens there.
    #[error("nothing listens at udp {peer}: is the broker running, and is this its address?")]
    Unreachable {
        /// The address that was tried.
        peer: SocketAddr,
    },
    /// Nothing came back, or nothing came any more.
    #[error("no answer from {peer}: the broker is down, or a firewall drops udp to its port")]
    TimedOut {
        /// The address that fell silent.
        peer: SocketAddr,
    },
    /// The broker's certificate is not one we trust.
    #[error(
        "the broker at {peer} is not trusted: {reason}; pass the cluster's own ca.pem with --ca FILE or MILLSTREAM_CA"
    )]
    Untrusted {
        /// The address that was tried.
        peer: SocketAddr,
        /// What the check found.
        reason: String,
    },
    /// The peer showed a certificate, or none, that does not make it the broker it should be.
    #[error(
        "{peer} did not prove to be a broker of this cluster: {reason}; is it the right \
         address, and was its identity made by `millstream cluster add` with this cluster's authority?"
    )]
    Unproven {
        /// The address of the other side.
        peer: SocketAddr,
        /// What the check found.
        reason: String,
    },
    /// The peer does not take the certificate that this side showed.
    #[error(
        "{peer} does not accept this broker's certificate: {reason}; both sides need the same \
         cluster's ca.pem, and certificates and clocks that agree"
    )]
    NotAccepted {
        /// The address of the other side.
        peer: SocketAddr,
        /// What it found.
        reason: String,
    },
    /// The peer speaks QUIC, but not our protocol.
    #[error("{peer} is no millstream broker, or one that is too old or too new for this client")]
    NotMillstream {
        /// The address that was tried.
        peer: SocketAddr,
    },
    /// No protocol version in common.
    #[error("no protocol version in common with {peer}: {reason}")]
    UnsupportedVersion {
        /// The address of the other side.
        peer: SocketAddr,
        /// Which versions either side speaks.
        reason: String,
    },
    /// The broker takes no more connections.
    #[error("the broker at {peer} takes no more connections now; try again later")]
    Refused {
        /// The address that refused.
        peer: SocketAddr,
    },
    /// The peer closed the connection.
    #[error("{peer} closed the connection: {reason} ({code:?})")]
    Closed {
        /// The address of the other side.
        peer: SocketAddr,
        /// Why.
        code: CloseCode,
        /// Why, in words.
        reason: String,
    },
    /// The peer no longer knows this connection: it was restarted.
    #[error("{peer} was restarted and no longer knows this connection; connect again")]
    Forgotten {
        /// The address of the other side.
        peer: SocketAddr,
    },
    /// We closed it ourselves.
    #[error("the connection was closed on this side")]
    ClosedHere,
    /// The peer broke the protocol, or QUIC failed beneath it.
    #[error("connection to {peer} failed: {reason}")]
    Failed {
        /// The address of the other side.
        peer: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The endpoint could not be set up on this side.
    #[error("cannot open a udp socket for {peer}: {reason}")]
    Local {
        /// The address that was to be reached.
        peer: SocketAddr,
        /// What the system said.
        reason: String,
    },
}

impl ConnectionError {
    /// The same where both sides may be brokers, and nobody chose whom to trust.
    pub(crate) fn among_brokers(self) -> Self {
        match self {
            Self::Untrusted { peer, reason } => Self::Unproven { peer, reason },
            other => other,
        }
    }
}

/// Why a stream ended before its time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    /// The connection is gone.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The peer gave up what it was sending.
    #[error("the peer reset the stream ({0:?})")]
    Reset(StreamCode),
    /// The peer no longer wants what we send.
    #[error("the peer stopped reading the stream ({0:?})")]
    Stopped(StreamCode),
    /// The stream ended in the middle of a frame.
    #[error("the stream ended inside a frame: {missing} bytes are missing")]
    Truncated {
        /// How many bytes were still to come.
        missing: usize,
    },
    /// The bytes are no frame that belongs here.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream was ended or reset on this side before.
    #[error("the stream was already ended on this side")]
    Ended,
}

impl StreamError {
    /// The code to reset the stream with when this error is the peer's doing.
    #[must_use]
    pub const fn code(&self) -> StreamCode {
        match self {
            Self::Frame(FrameError::MessageTooLarge { .. } | FrameError::BodyTooLarge { .. }) => {
                StreamCode::TooLarge
            }
            Self::Frame(_) | Self::Truncated { .. } => StreamCode::Malformed,
            Self::Reset(code) | Self::Stopped(code) => *code,
            Self::Connection(_) | Self::Ended => StreamCode::Cancelled,
        }
    }
}

/// The TLS alert "no application protocol in common", as a QUIC error code (RFC 9001, 4.8).
const NO_ALPN: u64 = 0x178;

/// Translates quinn's error; `refused` says whether the host answered "port unreachable".
pub(crate) fn connection_error(
    error: quinn::ConnectionError,
    peer: SocketAddr,
    refused: bool,
) -> ConnectionError {
    use quinn::ConnectionError as Quinn;
    match error {
        Quinn::TimedOut | Quinn::LocallyClosed if refused => ConnectionError::Unreachable { peer },
        Quinn::TimedOut => ConnectionError::TimedOut { peer },
        Quinn::LocallyClosed => ConnectionError::ClosedHere,
        Quinn::Reset => ConnectionError::Forgotten { peer },
        Quinn::VersionMismatch => ConnectionError::NotMillstream { peer },
        Quinn::ApplicationClosed(close) => closed(peer, close.error_code.into(), &close.reason),
        Quinn::ConnectionClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            match transport(peer, close.error_code, reason) {
                ConnectionError::Untrusted { peer, reason } => {
                    ConnectionError::NotAccepted { peer, reason }
                }
                other => other,
            }
        }
        Quinn::TransportError(error) => transport(peer, error.code, error.reason),
        Quinn::CidsExhausted => {
            ConnectionError::Failed { peer, reason: "connection ids exhausted".to_owned() }
        }
    }
}

fn closed(peer: SocketAddr, code: CloseCode, reason: &[u8]) -> ConnectionError {
    let reason = String::from_utf8_lossy(reason).into_owned();
    match code {
        CloseCode::UnsupportedVersion => ConnectionError::UnsupportedVersion { peer, reason },
        code => ConnectionError::Closed { peer, code, reason },
    }
}

fn transport(peer: SocketAddr, code: TransportErrorCode, reason: String) -> ConnectionError {
    const CERTIFICATE: &str = "invalid peer certificate: ";
    if code == TransportErrorCode::CONNECTION_REFUSED {
        return ConnectionError::Refused { peer };
    }
    if u64::from(code) == NO_ALPN {
        return ConnectionError::NotMillstream { peer };
    }
    match reason.find(CERTIFICATE) {
        Some(at) => {
            let reason = reason[at + CERTIFICATE.len()..].to_owned();
            ConnectionError::Untrusted { peer, reason }
        }
        None if reason.is_empty() => ConnectionError::Failed { peer, reason: code.to_string() },
        None => ConnectionError::Failed { peer, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire_and_unknown_ones_are_kept() {
        for number in 0..10 {
            let code = CloseCode::from(VarInt::from_u32(number));
            assert_eq!(VarInt::from(code), VarInt::from_u32(number));
            let code = StreamCode::from(VarInt::from_u32(number));
            assert_eq!(VarInt::from(code), VarInt::from_u32(number));
        }
        assert_eq!(CloseCode::from(VarInt::from_u32(99)), CloseCode::Other(99));
    }
}
