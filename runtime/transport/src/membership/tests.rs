//! Which certificates make a broker, and which make nobody.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};

use super::*;
use crate::identity::Identity;

const BOTH: [ExtendedKeyUsagePurpose; 2] =
    [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

/// An authority's directory and what everybody knows of it.
fn founded() -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::open(dir.path(), NodeId(1), &[]).unwrap();
    let authority = identity.authority().clone();
    (dir, authority)
}

fn signed(
    dir: &Path,
    names: &[&str],
    usages: &[ExtendedKeyUsagePurpose],
) -> Vec<CertificateDer<'static>> {
    let read = |name| std::fs::read_to_string(dir.join(name)).unwrap();
    let key = KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), key).unwrap();
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = usages.to_vec();
    vec![params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()]
}

fn later(days: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + days * 86_400))
}

#[test]
fn a_stable_name_is_read_letter_for_letter() {
    for id in [0, 1, 10, u32::MAX] {
        assert_eq!(node_of(&stable_name(NodeId(id))), Some(NodeId(id)));
    }
    let others = [
        "broker-01.millstream",
        "broker-+1.millstream",
        "broker--1.millstream",
        "broker-.millstream",
        "broker-1.millstream.",
        "broker-1.Millstream",
        "Broker-1.millstream",
        "broker-1.a.millstream",
        "broker-1",
        "x.broker-1.millstream",
        "broker-4294967296.millstream",
        "broker-1 .millstream",
        "*.millstream",
    ];
    for name in others {
        assert_eq!(node_of(name), None, "{name}");
    }
}

#[test]
fn a_certificate_with_one_brokers_name_and_for_clients_proves_that_broker() {
    let (dir, authority) = founded();
    let names = ["localhost", "mill.example.org", "mill-3.millstream", "broker-7.millstream"];
    let chain = signed(dir.path(), &names, &BOTH);
    assert_eq!(authority.broker(&chain, UnixTime::now()), Ok(NodeId(7)));
    assert_eq!(authority.broker(&[], UnixTime::now()), Err(Unproven::Nothing));
}

#[test]
fn what_could_pass_for_a_second_name_or_another_spelling_proves_nobody() {
    let (dir, authority) = founded();
    let broker = |names: &[&str]| {
        authority.broker(&signed(dir.path(), names, &BOTH), UnixTime::now()).unwrap_err()
    };
    assert_eq!(broker(&["localhost"]), Unproven::NoName);
    for name in ["broker-01.millstream", "BROKER-1.millstream", "broker-1.a.millstream"] {
        assert_eq!(broker(&[name]), Unproven::BadName(name.to_owned()));
    }
    for second in
        ["broker-2.millstream", "broker-1.millstream", "BROKER-2.MILLSTREAM", "broker-x.millstream"]
    {
        let expected = Unproven::SeveralNames("broker-1.millstream".to_owned(), second.to_owned());
        assert_eq!(broker(&["broker-1.millstream", second]), expected);
    }
}

#[test]
fn a_wildcard_passes_for_no_broker() {
    let (dir, authority) = founded();
    let chain = signed(dir.path(), &["*.millstream"], &BOTH);
    assert_eq!(authority.broker(&chain, UnixTime::now()), Err(Unproven::NoName));
    let certificate = EndEntityCert::try_from(&chain[0]).unwrap();
    let name = rustls::pki_types::ServerName::try_from("broker-1.millstream").unwrap();
    certificate.verify_is_valid_for_subject_name(&name).unwrap_err();
}

#[test]
fn a_certificate_that_does_not_say_that_clients_may_show_it_proves_nobody() {
    let (dir, authority) = founded();
    for usages in [&[][..], &BOTH[..1], &[ExtendedKeyUsagePurpose::Any]] {
        let chain = signed(dir.path(), &["broker-1.millstream"], usages);
        let error = authority.broker(&chain, UnixTime::now()).unwrap_err();
        assert!(error.to_string().contains("extended key usage"), "{usages:?}: {error}");
    }
    let chain = signed(dir.path(), &["broker-1.millstream"], &BOTH[1..]);
    assert_eq!(authority.broker(&chain, UnixTime::now()), Ok(NodeId(1)));
}

#[test]
fn a_certificate_proves_nobody_to_another_authority_nor_when_it_is_over() {
    let (dir, authority) = founded();
    let identity = Identity::open(dir.path(), NodeId(1), &[]).unwrap();
    let (_elsewhere, other) = founded();
    let error = other.broker(identity.chain(), UnixTime::now()).unwrap_err();
    assert!(error.is_foreign(), "{error}");
    assert_eq!(error.to_string(), "another authority signed its certificate");
    assert_eq!(authority.broker(identity.chain(), later(729)), Ok(NodeId(1)));
    let error = authority.broker(identity.chain(), later(731)).unwrap_err();
    assert_eq!(error.to_string(), "its certificate has expired");
}

#[test]
fn the_end_of_a_certificate_can_be_told() {
    let (dir, _) = founded();
    let identity = Identity::open(dir.path(), NodeId(1), &[]).unwrap();
    let left = end_of(identity.chain()).unwrap().duration_since(SystemTime::now()).unwrap();
    let days = left.as_secs_f64() / 86_400.0;
    assert!((729.9..=730.0).contains(&days), "{days}");
    assert_eq!(end_of(&[]), None);
}
