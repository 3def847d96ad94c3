//! What TLS is told: TLS 1.3 and `millstream/1` only, AES-128-GCM first, and whom to trust.
//!
//! Invariant: a client talks to a broker whose certificate was signed by the cluster's authority and
//! names the broker as it was called, or it does not talk. A broker asks whoever calls it for a
//! certificate: none is fine, and makes a client; one that the authority did not sign, or that has
//! expired, ends the handshake. There is no way to skip this.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_protocol::message::hello::ALPN;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ConfigBuilder};
use thiserror::Error;

use crate::identity::Identity;
use crate::membership::Authority;

/// A certificate file larger than this is not one.
const MAX_CA_BYTES: u64 = 1 << 20;

/// Where a client should look when it has no usable authority.
const WHERE: &str = "the broker keeps it as ca.pem in its data directory; copy that file here and \
                     name it with --ca FILE or MILLSTREAM_CA";

/// Why a file cannot serve as the authority to trust.
#[derive(Debug, Error)]
pub enum TrustError {
    /// There is no such file.
    #[error("no cluster certificate at {}: {WHERE}", path.display())]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read the cluster certificate {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds no certificate.
    #[error("{} holds no PEM certificate ({reason}): {WHERE}", path.display())]
    NotACertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The authority a client trusts: exactly the certificates of one file, and no other.
#[derive(Clone)]
pub struct Trust {
    crypto: Arc<QuicClientConfig>,
}

impl Trust {
    /// Reads the authority's certificate from a PEM file.
    ///
    /// # Errors
    /// The file is missing, unreadable, or holds no certificate; the text says where to find one.
    pub fn from_pem_file(path: &Path) -> Result<Self, TrustError> {
        let path_buf = || path.to_owned();
        let unreadable = |source| TrustError::Unreadable { path: path_buf(), source };
        let meta = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => TrustError::Missing { path: path_buf() },
            _ => unreadable(source),
        })?;
        if meta.len() > MAX_CA_BYTES {
            let reason = format!("{} bytes are too many", meta.len());
            return Err(TrustError::NotACertificate { path: path_buf(), reason });
        }
        let pem = fs::read(path).map_err(unreadable)?;
        Self::from_pem(&pem)
            .map_err(|reason| TrustError::NotACertificate { path: path_buf(), reason })
    }

    /// Trusts the certificates in `pem`.
    ///
    /// # Errors
    /// Says why the text holds no usable certificate.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let config = client(&Authority::from_pem(pem)?).with_no_client_auth();
        Ok(Self { crypto: client_crypto(config) })
    }

    pub(crate) fn crypto(&self) -> Arc<QuicClientConfig> {
        Arc::clone(&self.crypto)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

/// The broker's side: whoever shows a certificate has to be of the cluster, and clients show none.
pub(crate) fn server_crypto(identity: &Identity) -> Result<Arc<QuicServerConfig>, rustls::Error> {
    let roots = identity.authority().roots();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .expect("an authority has a certificate, and there are no lists of revoked ones");
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain().to_vec(), identity.key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(QuicServerConfig::try_from(config).expect("the provider has AES-128-GCM")))
}

/// A broker that calls another: it trusts the cluster's authority only, and shows its certificate.
pub(crate) fn caller_crypto(
    authority: &Authority,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<Arc<QuicClientConfig>, rustls::Error> {
    let config = client(authority).with_client_auth_cert(chain.to_vec(), key.clone_key())?;
    Ok(client_crypto(config))
}

fn client(authority: &Authority) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_root_certificates(authority.roots())
}

fn client_crypto(mut config: ClientConfig) -> Arc<QuicClientConfig> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(QuicClientConfig::try_from(config).expect("the provider has AES-128-GCM"))
}

/// ring with AES-128-GCM first: the cheapest of the three on anything with AES instructions.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_authority_says_where_to_find_one() {
        let error = Trust::from_pem_file(Path::new("/nowhere/ca.pem")).expect_err("missing");
        let text = error.to_string();
        assert!(text.contains("/nowhere/ca.pem"), "{text}");
        assert!(text.contains("--ca FILE or MILLSTREAM_CA"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_certificate_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.pem");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "hello", broken] {
            fs::write(&path, text).expect("written");
            let error = Trust::from_pem_file(&path).expect_err("not a certificate");
            assert!(matches!(error, TrustError::NotACertificate { .. }), "{text:?}: {error}");
        }
    }
}
