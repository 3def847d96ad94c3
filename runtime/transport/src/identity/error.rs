//! Why a broker has no identity, and what its operator does about it.
//!
//! Invariant: an error that another identity would end names the command that makes one.

use std::io;
use std::path::PathBuf;

use millstream_protocol::ids::NodeId;
use thiserror::Error;

/// Why a broker has no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what its name says.
    #[error("{} is damaged ({reason}): restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The broker has a certificate, but the authority that signed it is gone.
    #[error(
        "{} is missing but broker.pem is there: restore it, or remove broker.pem and broker.key too \
         to found a new authority that every client has to be given", path.display()
    )]
    AuthorityMissing {
        /// Where the authority's certificate should be.
        path: PathBuf,
    },
    /// A certificate has to be issued, but the authority's key is not here.
    #[error(
        "this broker needs a new certificate ({reason}), but the authority's key {} is not here: \
         run `{command}` where the cluster's ca.key is, and copy broker.pem and broker.key from DIR \
         here", path.display()
    )]
    AuthorityKeyMissing {
        /// Where the key should be.
        path: PathBuf,
        /// Why the present certificate will not do.
        reason: String,
        /// What makes one that will.
        command: String,
    },
    /// The broker is to join a cluster, of which it has nothing.
    #[error(
        "{} is missing, and a broker that joins a cluster founds no authority of its own: run \
         `{command}` where the cluster's ca.key is, and copy the directory that it makes to {}",
        path.display(), path.parent().unwrap_or(path).display()
    )]
    NoIdentity {
        /// Where the authority's certificate should be.
        path: PathBuf,
        /// What makes an identity.
        command: String,
    },
    /// There is no authority that could issue an identity.
    #[error(
        "{} is not there, so no identity can be issued from there: name the data directory that has \
         the cluster's ca.pem and ca.key, which is the one of the cluster's first broker",
        path.display()
    )]
    NoAuthority {
        /// What was looked for.
        path: PathBuf,
    },
    /// The identity that is there is another broker's.
    #[error(
        "{} is the identity of broker {found}, and this is to be broker {expected}: start it as \
         broker {found}, or take another directory for broker {expected}", path.display()
    )]
    OtherNode {
        /// The certificate.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Whose it should be.
        expected: NodeId,
    },
    /// The identity that is there is of another cluster.
    #[error(
        "{} is of another cluster's authority and is not replaced: take another directory",
        path.display()
    )]
    OtherAuthority {
        /// The certificate.
        path: PathBuf,
    },
    /// A host name cannot stand in a certificate.
    #[error("{host:?} is no host name or address: a listed host must be one")]
    BadHost {
        /// The name.
        host: String,
    },
    /// A host name would let the broker pass for another.
    #[error("{host:?} is the name of another broker: a certificate with both would prove neither")]
    ReservedHost {
        /// The name.
        host: String,
    },
    /// The cryptographic library failed.
    #[error("cannot make a certificate: {0}")]
    Crypto(String),
}

impl IdentityError {
    pub(super) fn crypto(error: rcgen::Error) -> Self {
        Self::Crypto(error.to_string())
    }

    pub(super) fn damaged(path: &std::path::Path, reason: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.to_string() }
    }
}
