//! Which broker a certificate proves its holder to be.
//!
//! A proof is a certificate that the cluster's authority signed, that a client may show, and that
//! carries one broker's name ([`stable_name`]). It is read by the library that the handshake reads
//! it with, so that no two readers can differ over it.
//!
//! Invariant: a certificate proves one broker or none: whatever could pass for a second name, or
//! for another spelling of one, makes it none.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use millstream_protocol::ids::NodeId;
use rustls::RootCertStore;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage};

use crate::identity::stable_name;
use crate::tls::provider;

/// The extended key usage clientAuth, 1.3.6.1.5.5.7.3.2, as DER has it. A certificate without any
/// usage could do everything, and says nothing: a broker's has to name this one.
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// Why a certificate proves no broker.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Unproven {
    /// There is none.
    #[error("it showed no certificate")]
    Nothing,
    /// The authority did not sign it, it has expired, or it is for something else.
    #[error("{}", told(.0))]
    Invalid(webpki::Error),
    /// It is somebody else's.
    #[error("its certificate names no broker")]
    NoName,
    /// It names one as no authority of ours does.
    #[error("its certificate carries {0:?}, which is no broker's name")]
    BadName(String),
    /// It could be shown for either.
    #[error("its certificate names more than one broker: {0:?} and {1:?}")]
    SeveralNames(String, String),
}

/// The cluster's authority, as far as everybody knows it: what it signed, it can tell.
#[derive(Clone)]
pub(crate) struct Authority {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Authority {
    /// The certificates in `pem`; there must be one.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| e.to_string())?;
            roots.add(certificate).map_err(|e| e.to_string())?;
        }
        if roots.is_empty() {
            return Err("no BEGIN CERTIFICATE in it".to_owned());
        }
        let algorithms = provider().signature_verification_algorithms;
        Ok(Self { roots: Arc::new(roots), algorithms })
    }

    /// What a handshake trusts.
    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    /// The broker at the other end of a connection whose handshake is done. Asked again although
    /// the handshake has verified the certificate: one that is resumed does not look at the time.
    pub(crate) fn broker_at(&self, quinn: &quinn::Connection) -> Result<NodeId, Unproven> {
        let shown = quinn.peer_identity();
        let chain = shown.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        self.broker(chain.as_deref().map_or(&[], Vec::as_slice), UnixTime::now())
    }

    /// The broker that `chain`, its own certificate first, proves at that time.
    pub(crate) fn broker(
        &self,
        chain: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<NodeId, Unproven> {
        self.verify(chain, at, KeyUsage::required(CLIENT_AUTH))?;
        broker_named_in(chain)
    }

    /// Whether `chain` can be shown by whom it names to those who call it.
    pub(crate) fn server(
        &self,
        chain: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<(), Unproven> {
        self.verify(chain, at, KeyUsage::server_auth())
    }

    fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        at: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Unproven> {
        let (own, others) = chain.split_first().ok_or(Unproven::Nothing)?;
        let (all, roots) = (self.algorithms.all, &self.roots.roots);
        let own = EndEntityCert::try_from(own).map_err(Unproven::Invalid)?;
        own.verify_for_usage(all, roots, others, at, usage, None, None)
            .map(drop)
            .map_err(Unproven::Invalid)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Unproven {
    /// Whether the certificate is another authority's, be it of the same name.
    pub(crate) fn is_foreign(&self) -> bool {
        use webpki::Error;
        matches!(self, Self::Invalid(Error::UnknownIssuer | Error::InvalidSignatureForPublicKey))
    }
}

/// The one broker that a certificate names, whoever signed it and whenever.
pub(crate) fn broker_named_in(chain: &[CertificateDer<'_>]) -> Result<NodeId, Unproven> {
    let own = chain.first().ok_or(Unproven::Nothing)?;
    let own = EndEntityCert::try_from(own).map_err(Unproven::Invalid)?;
    let mut claims = own.valid_dns_names().filter(|name| claims_a_broker(name));
    match (claims.next(), claims.next()) {
        (None, _) => Err(Unproven::NoName),
        (Some(name), None) => node_of(name).ok_or_else(|| Unproven::BadName(name.to_owned())),
        (Some(one), Some(two)) => Err(Unproven::SeveralNames(one.to_owned(), two.to_owned())),
    }
}

/// The broker whose [`stable_name`] this is, letter for letter.
pub(crate) fn node_of(name: &str) -> Option<NodeId> {
    let id = name.strip_prefix("broker-")?.strip_suffix(".millstream")?;
    let node = NodeId(id.parse().ok()?);
    (stable_name(node) == name).then_some(node)
}

/// Whether somebody who calls a broker by its stable name could take this name for it. A wildcard
/// in place of the whole label is matched by nobody: two labels would have to follow it.
pub(crate) fn claims_a_broker(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.starts_with("broker-") && name.ends_with(".millstream")
}

/// When a certificate ends. The library tells by refusing it after the end of time.
pub(crate) fn end_of(chain: &[CertificateDer<'_>]) -> Option<SystemTime> {
    let own = EndEntityCert::try_from(chain.first()?).ok()?;
    let never = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let refused = own.verify_for_usage(&[], &[], &[], never, KeyUsage::server_auth(), None, None);
    match refused.err()? {
        webpki::Error::CertExpired { not_after, .. } => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
        }
        _ => None,
    }
}

fn told(error: &webpki::Error) -> String {
    use webpki::Error;
    match error {
        Error::CertExpired { .. } => "its certificate has expired".to_owned(),
        Error::CertNotValidYet { .. } => "its certificate is not valid yet".to_owned(),
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => {
            "another authority signed its certificate".to_owned()
        }
        Error::RequiredEkuNotFoundContext(_) => {
            "its certificate is not for this use (extended key usage)".to_owned()
        }
        other => format!("its certificate is not valid: {other}"),
    }
}

#[cfg(test)]
mod tests;
