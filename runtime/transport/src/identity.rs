//! Who a broker is: the cluster's authority and the broker's certificate, made on first start.
//!
//! ```text
//!   ca.key  ca.pem          the cluster's authority: clients trust ca.pem
//!   broker.key  broker.pem  this broker, signed by the authority
//! ```
//!
//! The first broker founds the authority and keeps its key. Every other one is given `ca.pem`,
//! `broker.pem` and `broker.key` by [`issue_into`], and runs without `ca.key`.
//!
//! Invariant: an authority that clients may already trust is never replaced, nor is another
//! broker's identity. Keys are readable by their owner only from the moment they exist, and a crash
//! leaves each file whole or absent.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use millstream_protocol::ids::NodeId;
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

use crate::membership::{Authority, claims_a_broker, end_of};
use crate::tls::caller_crypto;

mod error;
mod files;
mod held;
mod issue;
mod issuer;

pub use error::IdentityError;
use held::{Held, Wanted};
pub use issue::{Issued, issue_into};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A broker certificate with less than this left is made anew when the broker starts.
const RENEW_BEFORE: Duration = DAY.saturating_mul(180);
/// By these a broker is reached from its own host, whoever it is.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A broker's certificate, its key, and the authority that signed it.
pub struct Identity {
    node: NodeId,
    ca_pem: String,
    authority: Authority,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ends: SystemTime,
    renewed: bool,
    calling: Arc<QuicClientConfig>,
}

impl Identity {
    /// Loads the identity in `dir`, or makes what is missing of it, an authority included.
    ///
    /// The certificate names `localhost`, `127.0.0.1`, `::1`, [`stable_name`] and every one of
    /// `hosts` (names or addresses, without port). It is made anew, with the same key, when it ends
    /// within half a year or lacks one of them; where the authority's key is not in `dir`, one that
    /// ends soon is used while it lasts, with a warning. Blocks on the file system.
    ///
    /// # Errors
    /// See [`IdentityError`]; nothing is overwritten when one is returned.
    pub fn open(dir: &Path, node: NodeId, hosts: &[String]) -> Result<Self, IdentityError> {
        Self::load(&Paths::new(dir), node, hosts, issuer::found_authority)
    }

    /// As [`Identity::open`], for a broker that joins a cluster: that cluster has an authority, so
    /// none is founded.
    ///
    /// # Errors
    /// See [`IdentityError`]: `NoIdentity` when `dir` has no authority's certificate.
    pub fn join(dir: &Path, node: NodeId, hosts: &[String]) -> Result<Self, IdentityError> {
        let command = command(node, &names(node, hosts)?);
        let absent =
            |paths: &Paths| Err(IdentityError::NoIdentity { path: paths.ca.clone(), command });
        Self::load(&Paths::new(dir), node, hosts, absent)
    }

    /// `absent` yields the authority's certificate where there is none yet.
    fn load(
        paths: &Paths,
        node: NodeId,
        hosts: &[String],
        absent: impl FnOnce(&Paths) -> Result<String, IdentityError>,
    ) -> Result<Self, IdentityError> {
        let names = names(node, hosts)?;
        let ca_pem = match files::read(&paths.ca)? {
            Some(pem) => pem,
            None => absent(paths)?,
        };
        let authority = Authority::from_pem(ca_pem.as_bytes())
            .map_err(|reason| IdentityError::damaged(&paths.ca, reason))?;
        let mut held = Held::read(paths)?;
        held.refuse_other_node(node, &paths.broker)?;
        let wanted = Wanted { authority: &authority, names: &names, node };
        let renewed = renew_if_due(&mut held, &wanted, paths, &ca_pem)?;
        let unusable = |reason: String| IdentityError::damaged(&paths.broker, reason);
        let ends = end_of(&held.chain).ok_or_else(|| unusable("it has no end".to_owned()))?;
        let key = held.key.ok_or_else(|| unusable("it has no key".to_owned()))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let calling = caller_crypto(&authority, &held.chain, &key)
            .map_err(|error| unusable(error.to_string()))?;
        let chain = held.chain;
        Ok(Self { node, ca_pem, authority, chain, key, ends, renewed, calling })
    }

    /// The broker whose identity it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The authority's certificate, as clients need it.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// When the broker's certificate ends.
    #[must_use]
    pub fn ends(&self) -> SystemTime {
        self.ends
    }

    /// Whether the broker's certificate was made by this call.
    #[must_use]
    pub fn renewed(&self) -> bool {
        self.renewed
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// What TLS is told when this broker calls another: made once, shared by all calls.
    pub(crate) fn calling(&self) -> Arc<QuicClientConfig> {
        Arc::clone(&self.calling)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Identity");
        debug.field("node", &self.node).field("ends", &self.ends).finish_non_exhaustive()
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
    let mut names: Vec<String> = LOCAL.map(str::to_owned).to_vec();
    names.push(stable_name(node));
    for host in hosts {
        let unspecified = host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
        ServerName::try_from(host.as_str())
            .map_err(|_| IdentityError::BadHost { host: host.clone() })?;
        // "Any address" is where a broker listens, never where it is called.
        if unspecified || names.contains(host) {
            continue;
        }
        if claims_a_broker(host) {
            return Err(IdentityError::ReservedHost { host: host.clone() });
        }
        names.push(host.clone());
    }
    Ok(names)
}

/// Makes the certificate anew, and a key if there is none, when it will not do for long; says
/// whether it did.
fn renew_if_due(
    held: &mut Held,
    wanted: &Wanted<'_>,
    paths: &Paths,
    ca_pem: &str,
) -> Result<bool, IdentityError> {
    let now = SystemTime::now();
    if wanted.check(held, now + RENEW_BEFORE).is_ok() {
        return Ok(false);
    }
    let Some(issuer) = issuer::authority(paths, ca_pem)? else {
        let command = command(wanted.node, wanted.names);
        return use_while_it_lasts(wanted.check(held, now), held, command, paths);
    };
    let key = match held.key.take() {
        Some(key) => key,
        None => load_or_make_key(&paths.broker_key)?,
    };
    let pem = issuer::sign(&issuer, &key, wanted.names, wanted.node)?;
    let fresh = Held { chain: held::certificates(&pem), key: Some(key) };
    wanted.check(&fresh, now + RENEW_BEFORE).map_err(|reason| {
        let reason = format!("what it signs does not serve: {reason}; is it the key of ca.pem?");
        IdentityError::damaged(&paths.ca_key, reason)
    })?;
    files::write(&paths.broker, &pem, files::PUBLIC)?;
    *held = fresh;
    Ok(true)
}

/// A certificate that is to be renewed and cannot be here is no reason to stand still.
fn use_while_it_lasts(
    checked: Result<(), String>,
    held: &Held,
    command: String,
    paths: &Paths,
) -> Result<bool, IdentityError> {
    checked.map_err(|reason| IdentityError::AuthorityKeyMissing {
        path: paths.ca_key.clone(),
        reason,
        command: command.clone(),
    })?;
    let left = end_of(&held.chain).and_then(|end| end.duration_since(SystemTime::now()).ok());
    let days = left.unwrap_or_default().as_secs() / DAY.as_secs();
    tracing::warn!(
        days,
        "this broker's certificate ends in so many days: run `{command}` where the cluster's \
         ca.key is, copy broker.pem and broker.key here and start it again",
    );
    Ok(false)
}

/// What an operator types for an identity with these names.
fn command(node: NodeId, names: &[String]) -> String {
    let given = |name: &&String| !LOCAL.contains(&name.as_str()) && **name != stable_name(node);
    let hosts: String = names.iter().filter(given).map(|name| format!(" --host {name}")).collect();
    format!("millstream cluster add --node-id {node}{hosts} --out DIR")
}

fn load_or_make_key(path: &Path) -> Result<KeyPair, IdentityError> {
    if let Some(pem) = files::read(path)? {
        return issuer::key_from(&pem, path);
    }
    let key = KeyPair::generate().map_err(IdentityError::crypto)?;
    files::write(path, &key.serialize_pem(), files::PRIVATE)?;
    Ok(key)
}

#[cfg(test)]
mod tests;
