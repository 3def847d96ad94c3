//! `millstream cluster add`: identities for further brokers, with no broker anywhere.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use millstream_protocol::ids::NodeId;
use millstream_storage::data_dir::DataDir;
use millstream_transport::Identity;

/// The data directory of a cluster's first broker.
fn founder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    Identity::open(dir.path(), NodeId(1), &[]).unwrap();
    dir
}

fn add(data_dir: &Path, node: &str, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(["cluster", "add", "--node-id", node, "--out"]).arg(out).args(more);
    command.env("MILLSTREAM_DATA_DIR", data_dir).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_further_broker_is_given_a_directory_that_it_can_start_in() {
    let (founder, out) = (founder(), tempfile::tempdir().unwrap());
    let out = out.path().join("broker-2");
    let more = ["--host", "10.0.0.2", "--host", "mill-2.example.org", "--output", "json"];
    let added = add(founder.path(), "2", &out, &more);
    assert_eq!(added.status.code(), Some(0), "{}", text(&added.stderr));
    let document: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!((&document["node_id"], &document["made"]), (&2.into(), &true.into()));
    let next =
        format!("millstream serve --data-dir {} --node-id 2 --join HOST:PORT", out.display());
    assert_eq!(document["next"], next);
    let data = DataDir::open(&out).unwrap();
    let hosts = ["10.0.0.2".to_owned(), "mill-2.example.org".to_owned()];
    let identity = Identity::join(data.root(), NodeId(2), &hosts).unwrap();
    assert!(!identity.renewed());
}

#[test]
fn what_is_anothers_is_refused_and_kept() {
    let (ours, theirs, out) = (founder(), founder(), tempfile::tempdir().unwrap());
    let added = add(ours.path(), "2", out.path(), &[]);
    assert!(text(&added.stdout).contains("broker-2.millstream"), "{}", text(&added.stderr));
    let certificate = std::fs::read(out.path().join("broker.pem")).unwrap();
    for (from, node, expected) in [
        (ours.path(), "3", "is the identity of broker 2, and this is to be broker 3"),
        (theirs.path(), "2", "is of another cluster's authority"),
    ] {
        let refused = add(from, node, out.path(), &[]);
        assert_eq!(refused.status.code(), Some(1), "{node}");
        assert!(text(&refused.stderr).contains(expected), "{}", text(&refused.stderr));
        assert!(refused.stdout.is_empty());
    }
    let again = add(ours.path(), "2", out.path(), &[]);
    assert!(text(&again.stdout).contains("kept"), "{}", text(&again.stdout));
    assert_eq!(std::fs::read(out.path().join("broker.pem")).unwrap(), certificate);
}
