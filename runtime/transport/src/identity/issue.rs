//! Identities for further brokers, issued where the authority's key is.
//!
//! Invariant: what lies in the target directory stays, unless it is the same broker's certificate
//! of the same authority and would not do for long; the certificate is written last, so that a
//! directory that has one is complete.

use std::path::Path;
use std::time::SystemTime;

use millstream_protocol::ids::NodeId;
use rustls::pki_types::UnixTime;

use super::error::IdentityError;
use super::held::{Held, certificates};
use super::{Identity, Paths, files, names};
use crate::membership::Authority;

/// An identity that lies in a directory, ready to be taken to its broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Whether its certificate was made by this call; otherwise it was there and serves.
    pub made: bool,
    /// The names and addresses by which clients and brokers can call it.
    pub names: Vec<String>,
    /// When its certificate ends.
    pub ends: SystemTime,
}

/// Makes `ca.pem`, `broker.pem` and `broker.key` of broker `node` in `target_dir`, signed with the
/// key in `ca_dir`. `hosts` are what [`Identity::open`] takes there. A broker's own identity that is
/// there already is kept, or renewed with its key. Blocks on the file system.
///
/// # Errors
/// See [`IdentityError`]: among others, `ca_dir` has no authority, or `target_dir` holds the
/// identity of another broker or another cluster.
pub fn issue_into(
    ca_dir: &Path,
    node: NodeId,
    hosts: &[String],
    target_dir: &Path,
) -> Result<Issued, IdentityError> {
    let source = Paths::new(ca_dir);
    let needed = |path: &Path| {
        files::read(path)?.ok_or_else(|| IdentityError::NoAuthority { path: path.to_owned() })
    };
    let ca_pem = needed(&source.ca)?;
    needed(&source.ca_key)?;
    let names = names(node, hosts)?;
    let target = Paths { ca_key: source.ca_key, ..Paths::new(target_dir) };
    refuse_others(&target, &ca_pem, node)?;
    let give = |paths: &Paths| {
        files::write(&paths.ca, &ca_pem, files::PUBLIC)?;
        Ok(ca_pem.clone())
    };
    let identity = Identity::load(&target, node, hosts, give)?;
    Ok(Issued { made: identity.renewed(), names, ends: identity.ends() })
}

/// Refuses a directory that belongs to somebody else, before anything is written there.
fn refuse_others(target: &Paths, ca_pem: &str, node: NodeId) -> Result<(), IdentityError> {
    let other = |path: &Path| Err(IdentityError::OtherAuthority { path: path.to_owned() });
    match files::read(&target.ca)? {
        Some(theirs) if certificates(&theirs) != certificates(ca_pem) => return other(&target.ca),
        _ => {}
    }
    let held = Held::read(target)?;
    held.refuse_other_node(node, &target.broker)?;
    let authority = Authority::from_pem(ca_pem.as_bytes())
        .map_err(|reason| IdentityError::damaged(&target.ca, reason))?;
    match authority.broker(&held.chain, UnixTime::now()) {
        Err(error) if error.is_foreign() => other(&target.broker),
        _ => Ok(()),
    }
}
