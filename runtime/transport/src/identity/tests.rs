//! A broker's identity: made once, kept, renewed in time, and never overwritten by mistake.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

const NODE: NodeId = NodeId(1);

fn open(dir: &Path, hosts: &[&str]) -> Result<Identity, IdentityError> {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    Identity::open(dir, NODE, &hosts)
}

#[test]
fn a_first_start_makes_an_authority_and_later_ones_keep_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &[]).unwrap();
    assert!(first.renewed());
    let second = open(dir.path(), &[]).unwrap();
    assert!(!second.renewed());
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_eq!(first.chain(), second.chain());
    assert_eq!(first.key(), second.key());
}

#[test]
fn keys_are_readable_by_their_owner_only_and_nothing_else_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &[]).unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        found.push((entry.file_name().into_string().unwrap(), mode));
    }
    found.sort();
    let expected = [
        ("broker.key".to_owned(), 0o600),
        ("broker.pem".to_owned(), 0o644),
        ("ca.key".to_owned(), 0o600),
        ("ca.pem".to_owned(), 0o644),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_newly_listed_host_gets_a_new_certificate_from_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &[]).unwrap();
    let second = open(dir.path(), &["mill.example.org", "10.1.2.3", "0.0.0.0"]).unwrap();
    assert!(second.renewed());
    assert_ne!(first.chain(), second.chain());
    assert_eq!(first.key(), second.key(), "the key stays, and with it the reset tokens");
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert!(!open(dir.path(), &["10.1.2.3"]).unwrap().renewed());
}

#[test]
fn a_certificate_that_ends_soon_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &[]).unwrap();
    let paths = Paths::new(dir.path());
    let key = load_or_make_key(&paths.broker_key).unwrap();
    let ca_key = KeyPair::from_pem(&fs::read_to_string(&paths.ca_key).unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(first.ca_pem(), ca_key).unwrap();
    let params = parameters(&names(NODE, &[]).unwrap(), "soon over", 30 * DAY).unwrap();
    fs::write(&paths.broker, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    assert!(open(dir.path(), &[]).unwrap().renewed());
    assert!(!open(dir.path(), &[]).unwrap().renewed());
}

#[test]
fn a_first_start_that_was_cut_short_is_taken_up_again() {
    for missing in [
        &["ca.pem", "broker.key", "broker.pem"][..],
        &["broker.key", "broker.pem"],
        &["broker.pem"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &[]).unwrap();
        for name in missing {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("broker.new"), "half").unwrap();
        assert!(open(dir.path(), &[]).unwrap().renewed(), "{missing:?}");
    }
}

#[test]
fn an_authority_that_clients_may_trust_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &[]).unwrap();
    fs::remove_file(dir.path().join("ca.pem")).unwrap();
    let error = open(dir.path(), &[]).unwrap_err();
    assert!(matches!(error, IdentityError::AuthorityMissing { .. }), "{error}");
    assert!(!dir.path().join("ca.pem").exists());
}

#[test]
fn a_broker_without_the_authority_key_runs_until_it_needs_a_new_certificate() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &[]).unwrap();
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    assert!(!open(dir.path(), &[]).unwrap().renewed());
    let error = open(dir.path(), &["new.example.org"]).unwrap_err();
    assert!(matches!(error, IdentityError::AuthorityKeyMissing { .. }), "{error}");
}

#[test]
fn damaged_files_are_named() {
    for name in ["broker.key", "ca.key", "ca.pem"] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &[]).unwrap();
        fs::remove_file(dir.path().join("broker.pem")).unwrap();
        fs::write(dir.path().join(name), "garbage").unwrap();
        let error = open(dir.path(), &[]).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn what_is_no_host_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(dir.path(), &["not a host"]).unwrap_err();
    assert!(matches!(error, IdentityError::BadHost { .. }), "{error}");
}
