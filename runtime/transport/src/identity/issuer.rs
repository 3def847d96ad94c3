//! The cluster's authority at work: founding it, and signing certificates with its key.
//!
//! Invariant: a certificate leaves here only if the authority that everybody knows vouches for it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use millstream_protocol::ids::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::error::IdentityError;
use super::{DAY, Paths, files, load_or_make_key};

/// The authority outlives the hardware: replacing it means visiting every client.
const CA_LIFE: Duration = DAY.saturating_mul(365 * 20);
const BROKER_LIFE: Duration = DAY.saturating_mul(365 * 2);
/// Clocks differ: a certificate is valid from before it was made.
const CLOCK_SKEW: Duration = DAY;

/// Makes the authority. A key without a certificate is a first start that was cut short: nobody
/// can have seen that authority, so the key serves again.
pub(super) fn found_authority(paths: &Paths) -> Result<String, IdentityError> {
    if files::read(&paths.broker)?.is_some() {
        return Err(IdentityError::AuthorityMissing { path: paths.ca.clone() });
    }
    let key = load_or_make_key(&paths.ca_key)?;
    let mut params = parameters(&[], "Millstream cluster authority", CA_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&key).map_err(IdentityError::crypto)?.pem();
    files::write(&paths.ca, &pem, files::PUBLIC)?;
    Ok(pem)
}

/// The key by which the authority signs, if it is there.
pub(super) fn authority<'a>(
    paths: &Paths,
    ca_pem: &'a str,
) -> Result<Option<Issuer<'a, KeyPair>>, IdentityError> {
    let Some(key) = files::read(&paths.ca_key)? else {
        return Ok(None);
    };
    let key = key_from(&key, &paths.ca_key)?;
    Issuer::from_ca_cert_pem(ca_pem, key)
        .map(Some)
        .map_err(|error| IdentityError::damaged(&paths.ca, error))
}

/// Signs the certificate of a broker.
pub(super) fn sign(
    issuer: &Issuer<'_, KeyPair>,
    key: &KeyPair,
    names: &[String],
    node: NodeId,
) -> Result<String, IdentityError> {
    let mut params = parameters(names, &format!("Millstream broker {}", node.0), BROKER_LIFE)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Also as a client: brokers call each other with the same certificate.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params.signed_by(key, issuer).map_err(IdentityError::crypto)?.pem())
}

/// Reads a private key.
pub(super) fn key_from(pem: &str, path: &Path) -> Result<KeyPair, IdentityError> {
    KeyPair::from_pem(pem).map_err(|error| IdentityError::damaged(path, error))
}

pub(super) fn parameters(
    names: &[String],
    common_name: &str,
    life: Duration,
) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::new(names).map_err(IdentityError::crypto)?;
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + life).into();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}
