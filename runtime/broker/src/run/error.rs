//! Why a broker did not start.
//!
//! Invariant: each names what is in the way; what can be chosen otherwise says how.

use std::net::SocketAddr;

use millstream_protocol::error::WireError;
use millstream_storage::blobs::BlobError;
use millstream_storage::data_dir::DataDirError;
use millstream_storage::metadata::MetadataError;
use millstream_transport::IdentityError;
use thiserror::Error;

/// Why a broker did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The metadata store.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The modules' directory.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// Certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The QUIC port.
    #[error(transparent)]
    Listen(#[from] millstream_transport::ListenError),
    /// The admin port.
    #[error("cannot listen on {address} for HTTP: {source}; choose another with --admin")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread or a runtime.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// Stored metadata that is no image of a cluster.
    #[error("the stored metadata cannot be used: {0}")]
    Image(String),
    /// The cluster that was to be joined.
    #[error("cannot join the cluster: {0}")]
    Join(String),
    /// The metadata log.
    #[error("the metadata log cannot be used: {0}")]
    MetadataLog(WireError),
}
