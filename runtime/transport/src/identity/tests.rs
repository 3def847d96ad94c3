//! A broker's identity: made once, kept, renewed in time, and never overwritten by mistake.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::Issuer;

use super::issuer::parameters;
use super::*;

const NODE: NodeId = NodeId(1);

fn open(dir: &Path, hosts: &[&str]) -> Result<Identity, IdentityError> {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    Identity::open(dir, NODE, &hosts)
}

/// What lies in a directory.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

/// Puts in a certificate that ends then.
fn shorten(dir: &Path, ca_dir: &Path, node: NodeId, end: SystemTime) {
    let (paths, ca) = (Paths::new(dir), Paths::new(ca_dir));
    let key = load_or_make_key(&paths.broker_key).unwrap();
    let ca_key = KeyPair::from_pem(&fs::read_to_string(&ca.ca_key).unwrap()).unwrap();
    let ca_pem = fs::read_to_string(&ca.ca).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key).unwrap();
    let mut params = parameters(&names(node, &[]).unwrap(), "soon over", DAY).unwrap();
    params.not_before = (SystemTime::now() - 10 * DAY).into();
    params.not_after = end.into();
    params.extended_key_usages = vec![
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        rcgen::ExtendedKeyUsagePurpose::ClientAuth,
    ];
    fs::write(&paths.broker, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
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
fn what_every_call_of_a_broker_needs_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let identity = open(dir.path(), &[]).unwrap();
    assert!(Arc::ptr_eq(&identity.calling(), &identity.calling()));
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
    open(dir.path(), &[]).unwrap();
    shorten(dir.path(), dir.path(), NODE, SystemTime::now() + 30 * DAY);
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
    let before = contents(dir.path());
    let error = open(dir.path(), &["new.example.org"]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("does not name new.example.org"), "{text}");
    let command = "millstream cluster add --node-id 1 --host new.example.org --out DIR";
    assert!(text.contains(command), "{text}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn without_the_authority_key_a_certificate_is_used_while_it_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let founder = tempfile::tempdir().unwrap();
    open(founder.path(), &[]).unwrap();
    issue_into(founder.path(), NodeId(2), &[], dir.path()).unwrap();
    shorten(dir.path(), founder.path(), NodeId(2), SystemTime::now() + 30 * DAY);
    assert!(!Identity::open(dir.path(), NodeId(2), &[]).unwrap().renewed());
    shorten(dir.path(), founder.path(), NodeId(2), SystemTime::now() - DAY);
    let error = Identity::open(dir.path(), NodeId(2), &[]).unwrap_err().to_string();
    assert!(error.contains("has expired"), "{error}");
    assert!(error.contains("`millstream cluster add --node-id 2 --out DIR`"), "{error}");
}

#[test]
fn a_directory_of_one_broker_is_no_identity_for_another() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &[]).unwrap();
    let before = contents(dir.path());
    let error = Identity::open(dir.path(), NodeId(2), &[]).unwrap_err();
    assert!(matches!(error, IdentityError::OtherNode { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("of broker 1") && text.contains("to be broker 2"), "{text}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_broker_that_joins_founds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = ["10.0.0.2".to_owned(), "0.0.0.0".to_owned()];
    let error = Identity::join(dir.path(), NodeId(2), &hosts).unwrap_err().to_string();
    let command = "`millstream cluster add --node-id 2 --host 10.0.0.2 --out DIR`";
    assert!(error.contains(command), "{error}");
    assert!(contents(dir.path()).is_empty());
    // Nor with half an identity, of which it makes no second half.
    let founder = tempfile::tempdir().unwrap();
    open(founder.path(), &[]).unwrap();
    fs::copy(founder.path().join("ca.pem"), dir.path().join("ca.pem")).unwrap();
    let error = Identity::join(dir.path(), NodeId(2), &hosts).unwrap_err();
    assert!(matches!(error, IdentityError::AuthorityKeyMissing { .. }), "{error}");
    assert_eq!(contents(dir.path()).len(), 1);
}

#[test]
fn a_founder_may_join_what_it_founded() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &[]).unwrap();
    assert!(!Identity::join(dir.path(), NODE, &[]).unwrap().renewed());
    let hosts = ["mill.example.org".to_owned()];
    assert!(Identity::join(dir.path(), NODE, &hosts).unwrap().renewed());
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

#[test]
fn a_host_that_is_another_brokers_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for host in ["broker-2.millstream", "BROKER-1.millstream", "broker-1.millstream."] {
        let error = open(dir.path(), &[host]).unwrap_err();
        assert!(matches!(error, IdentityError::ReservedHost { .. }), "{host}: {error}");
    }
    open(dir.path(), &["broker-1.millstream", "mill.millstream"]).unwrap();
}

#[test]
fn a_key_that_is_not_the_authoritys_issues_nothing() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &[]).unwrap();
    fs::write(dir.path().join("ca.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let before = contents(dir.path());
    let error = open(dir.path(), &["new.example.org"]).unwrap_err().to_string();
    assert!(error.contains("ca.key is damaged") && error.contains("another authority"), "{error}");
    assert_eq!(contents(dir.path()), before);
}

mod issuing {
    //! Identities for further brokers.

    use super::*;

    fn founder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &[]).unwrap();
        dir
    }

    fn issue(ca: &Path, node: u32, hosts: &[&str], out: &Path) -> Result<Issued, IdentityError> {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        issue_into(ca, NodeId(node), &hosts, out)
    }

    #[test]
    fn an_issued_identity_is_whole_and_private_and_its_broker_takes_it() {
        let (founder, out) = (founder(), tempfile::tempdir().unwrap());
        let out = out.path().join("new").join("broker-2");
        let issued = issue(founder.path(), 2, &["10.0.0.2", "mill-2.example.org"], &out).unwrap();
        assert!(issued.made);
        let expected = [
            "localhost",
            "127.0.0.1",
            "::1",
            "broker-2.millstream",
            "10.0.0.2",
            "mill-2.example.org",
        ];
        assert_eq!(issued.names, expected);
        let files = contents(&out);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["broker.key", "broker.pem", "ca.pem"]);
        assert_eq!(files["ca.pem"], fs::read(founder.path().join("ca.pem")).unwrap());
        let mode = fs::metadata(out.join("broker.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let hosts = ["10.0.0.2".to_owned()];
        for take in [Identity::open, Identity::join] {
            let identity = take(&out, NodeId(2), &hosts).unwrap();
            assert!(!identity.renewed());
            assert_eq!((identity.node(), identity.ends()), (NodeId(2), issued.ends));
        }
        assert_eq!(contents(&out), files);
    }

    #[test]
    fn what_serves_is_kept_and_what_does_not_is_renewed_with_its_key() {
        let (founder, out) = (founder(), tempfile::tempdir().unwrap());
        let first = issue(founder.path(), 2, &[], out.path()).unwrap();
        let files = contents(out.path());
        let again = issue(founder.path(), 2, &[], out.path()).unwrap();
        assert_eq!(again, Issued { made: false, ..first });
        assert_eq!(contents(out.path()), files);
        assert!(issue(founder.path(), 2, &["10.0.0.2"], out.path()).unwrap().made);
        let renewed = contents(out.path());
        assert_ne!(renewed["broker.pem"], files["broker.pem"]);
        assert_eq!(renewed["broker.key"], files["broker.key"]);
    }

    #[test]
    fn an_issue_that_was_cut_short_is_taken_up_again() {
        for missing in [&["broker.pem"][..], &["broker.pem", "broker.key"], &["ca.pem"]] {
            let (founder, out) = (founder(), tempfile::tempdir().unwrap());
            issue(founder.path(), 2, &[], out.path()).unwrap();
            for name in missing {
                fs::remove_file(out.path().join(name)).unwrap();
            }
            fs::write(out.path().join("broker.new"), "half").unwrap();
            issue(founder.path(), 2, &[], out.path()).unwrap();
            Identity::join(out.path(), NodeId(2), &[]).unwrap();
        }
    }

    #[test]
    fn another_brokers_and_another_clusters_identity_are_kept() {
        let (ours, theirs, out) = (founder(), founder(), tempfile::tempdir().unwrap());
        issue(ours.path(), 2, &[], out.path()).unwrap();
        let files = contents(out.path());
        let error = issue(ours.path(), 3, &[], out.path()).unwrap_err();
        assert!(matches!(error, IdentityError::OtherNode { .. }), "{error}");
        let error = issue(theirs.path(), 2, &[], out.path()).unwrap_err();
        assert!(matches!(error, IdentityError::OtherAuthority { .. }), "{error}");
        assert_eq!(contents(out.path()), files);
        // Nor is it the name of the authority's file that counts.
        fs::remove_file(out.path().join("ca.pem")).unwrap();
        let error = issue(theirs.path(), 2, &[], out.path()).unwrap_err();
        assert!(matches!(error, IdentityError::OtherAuthority { .. }), "{error}");
        assert_eq!(contents(out.path()).len(), 2);
        for node in [1, 2] {
            let before = contents(theirs.path());
            issue(ours.path(), node, &[], theirs.path()).unwrap_err();
            assert_eq!(contents(theirs.path()), before, "a founder stays one");
        }
    }

    #[test]
    fn without_an_authority_nothing_is_issued() {
        let (founder, out) = (founder(), tempfile::tempdir().unwrap());
        for missing in ["ca.key", "ca.pem"] {
            fs::remove_file(founder.path().join(missing)).unwrap();
            let error = issue(founder.path(), 2, &[], out.path()).unwrap_err();
            assert!(matches!(error, IdentityError::NoAuthority { .. }), "{error}");
            assert!(error.to_string().contains(missing), "{error}");
        }
        assert!(contents(out.path()).is_empty());
    }

    #[test]
    fn a_bad_host_leaves_nothing_behind() {
        let (founder, out) = (founder(), tempfile::tempdir().unwrap());
        for host in ["not a host", "broker-1.millstream"] {
            issue(founder.path(), 2, &[host], out.path()).unwrap_err();
            assert!(contents(out.path()).is_empty(), "{host}");
        }
    }
}
