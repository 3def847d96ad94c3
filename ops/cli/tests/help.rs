//! What the command line says of itself, and how it refuses.

use std::process::{Command, Output};

/// Every command with a help of its own.
const COMMANDS: [&[&str]; 56] = [
    &[],
    &["serve"],
    &["topic"],
    &["topic", "create"],
    &["topic", "list"],
    &["topic", "describe"],
    &["topic", "alter"],
    &["topic", "delete"],
    &["produce"],
    &["consume"],
    &["group"],
    &["group", "list"],
    &["group", "describe"],
    &["group", "reset"],
    &["group", "delete"],
    &["txn"],
    &["txn", "list"],
    &["txn", "describe"],
    &["txn", "abort"],
    &["etl"],
    &["etl", "run"],
    &["etl", "load"],
    &["module"],
    &["module", "upload"],
    &["module", "list"],
    &["module", "describe"],
    &["module", "delete"],
    &["job"],
    &["job", "deploy"],
    &["job", "list"],
    &["job", "describe"],
    &["job", "pause"],
    &["job", "resume"],
    &["job", "update"],
    &["job", "logs"],
    &["job", "delete"],
    &["cluster"],
    &["cluster", "status"],
    &["cluster", "add"],
    &["cluster", "drain"],
    &["cluster", "move"],
    &["cluster", "balance"],
    &["cluster", "remove"],
    &["cluster", "recover"],
    &["cluster", "upgrade"],
    &["log", "dump"],
    &["bench"],
    &["bench", "produce"],
    &["bench", "failover"],
    &["bench", "group"],
    &["bench", "transaction"],
    &["bench", "consume"],
    &["bench", "latency"],
    &["bench", "filter"],
    &["bench", "ceiling"],
    &["bench", "startup"],
];

fn millstream(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILLSTREAM_") {
            command.env_remove(name);
        }
    }
    let dir = std::env::temp_dir();
    command.args(args).env("COLUMNS", "100").current_dir(dir).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_command_has_its_help() {
    for command in COMMANDS {
        let output = millstream(&[command, &["--help"]].concat());
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        assert_eq!(text(&output.stderr), "", "{command:?}");
        let name = [&["millstream"], command].concat().join("-");
        insta::assert_snapshot!(name, text(&output.stdout));
    }
}

#[test]
fn wrong_usage_ends_with_two_and_says_nothing_on_stdout() {
    let wrong: [&[&str]; 16] = [
        &[],
        &["topic"],
        &["topics"],
        &["topic", "create"],
        &["topic", "create", "a/b"],
        &["topic", "create", "t", "--config", "novalue"],
        &["topic", "alter", "t"],
        &["consume", "t", "--from", "yesterday"],
        &["consume", "t", "--filter-param", "a=1"],
        &["consume", "t", "--group", "g", "--until-end"],
        &["produce", "t", "--key-separator", ":", "--key-json", "id"],
        &["produce", "t", "--acks", "2"],
        &["module", "describe", "redact"],
        &["job", "update", "j"],
        &["cluster", "add", "--node-id", "2"],
        &["cluster", "add", "--node-id", "two", "--out", "o"],
    ];
    for args in wrong {
        let output = millstream(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn what_fails_ends_with_one_and_says_what_to_do_in_two_lines() {
    let failing: [(&[&str], &str); 5] = [
        (&["topic", "list", "--data-dir", "/nowhere"], "--ca FILE"),
        (
            &["cluster", "add", "--node-id", "2", "--out", "/nowhere/2", "--data-dir", "/nowhere"],
            "/nowhere/ca.pem is not there",
        ),
        (&["log", "dump", "/nowhere/1.log"], "cannot read /nowhere/1.log"),
        (&["serve", "--check", "--config", "/nowhere.toml"], "cannot read"),
        (&["serve", "--check", "--log-level", "loud=louder"], "log.level"),
    ];
    for (args, expected) in failing {
        let output = millstream(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.lines().count() <= 2, "{said}");
        assert!(said.contains(expected) && text(&output.stdout).is_empty(), "{said}");
    }
}

#[test]
fn the_configuration_in_force_is_printed_and_reads_back() {
    let printed = millstream(&["serve", "--print-config", "--listen", "127.0.0.1:7"]);
    assert_eq!(printed.status.code(), Some(0));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &printed.stdout).expect("written");
    let path = file.path().to_str().expect("a path");
    let checked = millstream(&["serve", "--check", "--config", path]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let again = millstream(&["serve", "--print-config", "--config", path]);
    assert_eq!(text(&again.stdout), text(&printed.stdout));
    let json = millstream(&["serve", "--print-config", "--output", "json"]);
    assert!(text(&json.stdout).starts_with("{\n"), "{}", text(&json.stdout));
}
