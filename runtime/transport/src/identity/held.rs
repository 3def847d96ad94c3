//! The certificate and key that a broker has, and what they must be for it to use them.
//!
//! Invariant: what passes the check, every client and every broker of the cluster accepts.

use std::path::Path;
use std::time::SystemTime;

use millstream_protocol::ids::NodeId;
use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use webpki::EndEntityCert;

use super::error::IdentityError;
use super::{Paths, files, issuer};
use crate::membership::{Authority, broker_named_in};
use crate::tls::provider;

/// What lies in a broker's directory.
pub(super) struct Held {
    /// The certificate, or nothing where there is none that can be read.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: Option<KeyPair>,
}

impl Held {
    pub(super) fn read(paths: &Paths) -> Result<Self, IdentityError> {
        let chain = files::read(&paths.broker)?.map(|pem| certificates(&pem)).unwrap_or_default();
        let key = files::read(&paths.broker_key)?;
        let key = key.map(|pem| issuer::key_from(&pem, &paths.broker_key)).transpose()?;
        Ok(Self { chain, key })
    }

    /// A directory belongs to one broker; nothing else in it would fit another.
    pub(super) fn refuse_other_node(
        &self,
        expected: NodeId,
        path: &Path,
    ) -> Result<(), IdentityError> {
        match broker_named_in(&self.chain) {
            Ok(found) if found != expected => {
                Err(IdentityError::OtherNode { path: path.to_owned(), found, expected })
            }
            _ => Ok(()),
        }
    }
}

/// What a certificate must be.
pub(super) struct Wanted<'a> {
    pub(super) authority: &'a Authority,
    pub(super) names: &'a [String],
    pub(super) node: NodeId,
}

impl Wanted<'_> {
    /// Checks as those at the other end would at that time; `Err` says what is wrong.
    pub(super) fn check(&self, held: &Held, at: SystemTime) -> Result<(), String> {
        let (Some(own), Some(key)) = (held.chain.first(), &held.key) else {
            return Err("it has none that can be read, with its key".to_owned());
        };
        let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).map_err(|e| e.to_string())?;
        let at = UnixTime::since_unix_epoch(since_epoch);
        self.authority.server(&held.chain, at).map_err(|e| e.to_string())?;
        match self.authority.broker(&held.chain, at) {
            Ok(node) if node == self.node => {}
            Ok(node) => return Err(format!("its certificate is that of broker {node}")),
            Err(error) => return Err(error.to_string()),
        }
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        rustls::sign::CertifiedKey::from_der(held.chain.clone(), key, &provider())
            .map_err(|e| e.to_string())?;
        self.names.iter().try_for_each(|name| carries(own, name))
    }
}

fn carries(certificate: &CertificateDer<'_>, name: &str) -> Result<(), String> {
    let certificate = EndEntityCert::try_from(certificate).map_err(|e| e.to_string())?;
    let server_name = ServerName::try_from(name).map_err(|e| e.to_string())?;
    certificate
        .verify_is_valid_for_subject_name(&server_name)
        .map_err(|_| format!("its certificate does not name {name}"))
}

/// The certificates in a text, or none if one of them cannot be read.
pub(super) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap_or_default()
}
