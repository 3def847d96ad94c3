//! Who a broker is: the cluster's authority and the broker's certificate, made on first start.
//!
//! ```text
//!   ca.key  ca.pem          the cluster's authority: clients trust ca.pem
//!   broker.key  broker.pem  this broker, signed by the authority
//! ```
//!
//! Invariant: an authority that clients may already trust is never replaced. Keys are readable by
//! their owner only from the moment they exist, and a crash leaves each file whole or absent.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use millstream_protocol::ids::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use thiserror::Error;

use crate::tls::provider;

mod files;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The authority outlives the hardware: replacing it means visiting every client.
const CA_LIFE: Duration = DAY.saturating_mul(365 * 20);
const BROKER_LIFE: Duration = DAY.saturating_mul(365 * 2);
/// A broker certificate with less than this left is made anew when the broker starts.
const RENEW_BEFORE: Duration = DAY.saturating_mul(180);
/// Clocks differ: a certificate is valid from before it was made.
const CLOCK_SKEW: Duration = DAY;

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
         restore it", path.display()
    )]
    AuthorityKeyMissing {
        /// Where the key should be.
        path: PathBuf,
        /// Why the present certificate will not do.
        reason: String,
    },
    /// A host name cannot stand in a certificate.
    #[error("{host:?} is no host name or address: a listed host must be one")]
    BadHost {
        /// The name.
        host: String,
    },
    /// The cryptographic library failed.
    #[error("cannot make a certificate: {0}")]
    Crypto(String),
}

/// A broker's certificate, its key, and the authority that signed it.
#[derive(Debug)]
pub struct Identity {
    ca_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    renewed: bool,
}

impl Identity {
    /// Loads the identity in `dir`, or makes what is missing of it.
    ///
    /// The certificate names `localhost`, `127.0.0.1`, `::1`, [`stable_name`] and every one of
    /// `hosts` (names or addresses, without port). It is made anew, with the same key, when it ends
    /// within half a year or lacks one of them. Blocks on the file system.
    ///
    /// # Errors
    /// See [`IdentityError`]; nothing is overwritten when one is returned.
    pub fn open(dir: &Path, node: NodeId, hosts: &[String]) -> Result<Self, IdentityError> {
        let names = names(node, hosts)?;
        let paths = Paths::new(dir);
        let ca_pem = match files::read(&paths.ca)? {
            Some(pem) => pem,
            None => found_authority(&paths)?,
        };
        let key = load_or_make_key(&paths.broker_key)?;
        let present = files::read(&paths.broker)?;
        let fault = match &present {
            Some(pem) => unfit(pem, &ca_pem, &key, &names).err(),
            None => Some("it has none".to_owned()),
        };
        let renewed = fault.is_some();
        let pem = match (present, fault) {
            (Some(pem), None) => pem,
            (_, fault) => {
                let pem = issue(&paths, &ca_pem, &key, &names, node, fault.unwrap_or_default())?;
                files::write(&paths.broker, &pem, files::PUBLIC)?;
                pem
            }
        };
        let chain = certificates(&pem, &paths.broker)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Self { ca_pem, chain, key, renewed })
    }

    /// The authority's certificate, as clients need it.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Whether the broker's certificate was made by this call.
    #[must_use]
    pub fn renewed(&self) -> bool {
        self.renewed
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// The name by which a broker can be verified wherever it is reached: `broker-<id>.millstream`.
#[must_use]
pub fn stable_name(node: NodeId) -> String {
    format!("broker-{}.millstream", node.0)
}

struct Paths {
    ca: PathBuf,
    ca_key: PathBuf,
    broker: PathBuf,
    broker_key: PathBuf,
}

impl Paths {
    fn new(dir: &Path) -> Self {
        Self {
            ca: dir.join("ca.pem"),
            ca_key: dir.join("ca.key"),
            broker: dir.join("broker.pem"),
            broker_key: dir.join("broker.key"),
        }
    }
}

fn names(node: NodeId, hosts: &[String]) -> Result<Vec<String>, IdentityError> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    names.push(stable_name(node));
    for host in hosts {
        let unspecified = host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
        ServerName::try_from(host.as_str())
            .map_err(|_| IdentityError::BadHost { host: host.clone() })?;
        // "Any address" is where a broker listens, never where it is called.
        if !unspecified && !names.contains(host) {
            names.push(host.clone());
        }
    }
    Ok(names)
}

/// Makes the authority. A key without a certificate is a first start that was cut short: nobody
/// can have seen that authority, so the key serves again.
fn found_authority(paths: &Paths) -> Result<String, IdentityError> {
    if files::read(&paths.broker)?.is_some() {
        return Err(IdentityError::AuthorityMissing { path: paths.ca.clone() });
    }
    let key = load_or_make_key(&paths.ca_key)?;
    let mut params = parameters(&[], "Millstream cluster authority", CA_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&key).map_err(crypto)?.pem();
    files::write(&paths.ca, &pem, files::PUBLIC)?;
    Ok(pem)
}

fn issue(
    paths: &Paths,
    ca_pem: &str,
    key: &KeyPair,
    names: &[String],
    node: NodeId,
    reason: String,
) -> Result<String, IdentityError> {
    let ca_key = files::read(&paths.ca_key)?
        .ok_or_else(|| IdentityError::AuthorityKeyMissing { path: paths.ca_key.clone(), reason })?;
    let damaged = |path: &Path, e: rcgen::Error| IdentityError::Damaged {
        path: path.to_owned(),
        reason: e.to_string(),
    };
    let ca_key = KeyPair::from_pem(&ca_key).map_err(|e| damaged(&paths.ca_key, e))?;
    let issuer = Issuer::from_ca_cert_pem(ca_pem, ca_key).map_err(|e| damaged(&paths.ca, e))?;
    let mut params = parameters(names, &format!("Millstream broker {}", node.0), BROKER_LIFE)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Also as a client: brokers will call each other with the same certificate.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params.signed_by(key, &issuer).map_err(crypto)?.pem())
}

fn parameters(
    names: &[String],
    common_name: &str,
    life: Duration,
) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::new(names).map_err(crypto)?;
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + life).into();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

fn load_or_make_key(path: &Path) -> Result<KeyPair, IdentityError> {
    if let Some(pem) = files::read(path)? {
        return KeyPair::from_pem(&pem)
            .map_err(|e| IdentityError::Damaged { path: path.to_owned(), reason: e.to_string() });
    }
    let key = KeyPair::generate().map_err(crypto)?;
    files::write(path, &key.serialize_pem(), files::PRIVATE)?;
    Ok(key)
}

/// Checks a broker certificate as a client would, half a year from now; `Err` says what is wrong.
fn unfit(pem: &str, ca_pem: &str, key: &KeyPair, names: &[String]) -> Result<(), String> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(root.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    }
    let provider = provider();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    rustls::sign::CertifiedKey::from_der(vec![certificate.clone()], key, &provider)
        .map_err(|e| e.to_string())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| e.to_string())?;
    let then = SystemTime::now() + RENEW_BEFORE;
    let since_epoch = then.duration_since(SystemTime::UNIX_EPOCH).map_err(|e| e.to_string())?;
    for name in names {
        let name = ServerName::try_from(name.as_str()).map_err(|e| e.to_string())?;
        verifier
            .verify_server_cert(
                &certificate,
                &[],
                &name,
                &[],
                UnixTime::since_unix_epoch(since_epoch),
            )
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn certificates(pem: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| IdentityError::Damaged { path: path.to_owned(), reason: e.to_string() })
}

fn crypto(error: rcgen::Error) -> IdentityError {
    IdentityError::Crypto(error.to_string())
}

#[cfg(test)]
mod tests;
