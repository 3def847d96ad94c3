//! Child processes: run one, capture one, or watch one line by line.
//!
//! Invariant: a child that fails is an error that shows the command, so that it can be repeated.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// A command that runs in the workspace's root.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    command
}

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs a command with this process's own output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("`{}` did not start", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output; its standard error goes into the error.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("`{}` did not start", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", shown(command), output.status, said.trim_end());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not UTF-8", shown(command)))
}

/// Runs a command, passes its output on line by line, and shows each line to `see`.
///
/// Returns whether the command succeeded.
pub(crate) fn watch(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{}` did not start", shown(command)))?;
    let out = child.stdout.take().context("no pipe for standard output")?;
    let err = child.stderr.take().context("no pipe for standard error")?;
    let (sender, lines) = mpsc::sync_channel(1024);
    thread::scope(|scope| {
        let second = sender.clone();
        scope.spawn(move || send_lines(out, &sender));
        scope.spawn(move || send_lines(err, &second));
        for line in lines {
            eprintln!("{line}");
            see(&without_colour(&line));
        }
    });
    Ok(child.wait().context("the child was lost")?.success())
}

fn send_lines(from: impl Read, to: &mpsc::SyncSender<String>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while matches!(from.read_until(b'\n', &mut line), Ok(read) if read > 0) {
        let text = String::from_utf8_lossy(&line);
        if to.send(text.trim_end_matches(['\n', '\r']).to_owned()).is_err() {
            return;
        }
        line.clear();
    }
}

/// The text without terminal escapes (`ESC [ … letter`).
pub(crate) fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(next) = rest.next() {
        if next != '\u{1b}' {
            plain.push(next);
        } else if rest.next() == Some('[') {
            // The escape ends with its first letter.
            let _ = rest.by_ref().find(char::is_ascii_alphabetic);
        }
    }
    plain
}

/// Whether a program is on the path and answers `--version`.
pub(crate) fn found(program: &str, arguments: &[&str]) -> bool {
    let asked = command(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .stdin(Stdio::null())
        .status();
    matches!(asked, Ok(status) if status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out_of_a_line() {
        assert_eq!(without_colour("\u{1b}[32;1m  Summary\u{1b}[0m [1 s]"), "  Summary [1 s]");
        assert_eq!(without_colour("plain"), "plain");
    }

    #[test]
    fn a_failed_command_is_named_in_its_error() {
        let error = run(command("sh").args(["-c", "exit 3"])).expect_err("it exits with 3");
        assert!(error.to_string().contains("sh -c exit 3"), "{error}");
    }

    #[test]
    fn a_captured_failure_carries_what_the_command_said() {
        let error = capture(command("sh").args(["-c", "echo why >&2; exit 1"]))
            .expect_err("it exits with 1");
        assert!(error.to_string().contains("why"), "{error}");
    }

    #[test]
    fn both_streams_of_a_watched_command_are_seen() {
        let mut seen = Vec::new();
        let good = watch(command("sh").args(["-c", "echo one; echo two >&2"]), |line| {
            seen.push(line.to_owned());
        });
        seen.sort();
        assert!(good.expect("sh runs"));
        assert_eq!(seen, ["one", "two"]);
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert!(!found("no-such-program-anywhere", &["--version"]));
    }
}
