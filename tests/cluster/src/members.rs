//! Members of a consumer group as processes of their own, what they read and when they owned what.
//!
//! A member is a `millstream consume --group`: its records come on stdout, what it owned and committed from its log,
//! with the time on the machine's one clock.
//!
//! Oracle: owners do not overlap; every record is read by some member; a partition goes on exactly where it was
//! committed last, so that what is read twice was not committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};

use crate::binary;

/// Microseconds since 1970.
type Moment = u128;

/// Who stood still for so long may have been fenced, and not have heard of it before its end.
const SUSPECT: Moment = 1_000_000;

/// One life of a member.
#[derive(Debug)]
pub struct Member {
    child: Child,
    out: PathBuf,
    log: PathBuf,
    /// When it was gone, if it was killed.
    killed: Option<Moment>,
    frozen: Option<Moment>,
    /// It stood still for so long that it may have been fenced.
    suspect: bool,
}

/// What members are started with.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What it reads.
    pub topic: String,
    /// Any brokers.
    pub brokers: String,
    /// The cluster's authority.
    pub ca: PathBuf,
    /// Where output goes.
    pub dir: PathBuf,
}

/// What a member did.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Records in the order in which they were read.
    pub read: Vec<(u32, u64)>,
    /// When it owned a partition.
    pub owned: Vec<Owned>,
    /// What it was told is committed, and when.
    pub committed: Vec<(Moment, u32, u64)>,
    /// It was fenced, or may have been, and went on until it heard of it.
    pub lost: bool,
}

/// A time for which a partition was owned.
#[derive(Clone, Copy, Debug)]
pub struct Owned {
    /// The partition.
    pub partition: u32,
    /// From when.
    pub from: Moment,
    /// Until when.
    pub until: Moment,
}

impl Group {
    /// Starts a member.
    ///
    /// # Panics
    /// If the system does not let it.
    #[must_use]
    pub fn member(&self, number: usize) -> Member {
        let file = |end: &str| self.dir.join(format!("{}-{number}.{end}", self.name));
        let (out, log) = (file("out"), file("log"));
        let create = |path: &Path| File::create(path).expect("a file for a member");
        let child = Command::new(binary::millstream())
            .args(["consume", &self.topic, "--group", &self.name, "--format", "json"])
            .env("MILLSTREAM_BROKER", &self.brokers)
            .env("MILLSTREAM_CA", &self.ca)
            .env("MILLSTREAM_LOG_LEVEL", "warn,millstream_client::group=debug")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(create(&out))
            .stderr(create(&log))
            .spawn()
            .expect("the binary runs");
        Member { child, out, log, killed: None, frozen: None, suspect: false }
    }
}

impl Member {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// If the system does not let it.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is a child");
        self.child.wait().expect("it is a child");
        self.killed = Some(now());
    }

    /// Stops or continues it with SIGSTOP and SIGCONT.
    ///
    /// # Panics
    /// If the system does not let it.
    pub fn freeze(&mut self, frozen: bool) {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        kill_process(self.pid(), signal).expect("it is a child");
        let since = std::mem::replace(&mut self.frozen, frozen.then(now));
        self.suspect |= since.is_some_and(|since| since + SUSPECT < now());
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// If it fails.
    pub fn stop(&mut self) {
        if self.frozen.is_some() {
            self.freeze(false);
        }
        kill_process(self.pid(), Signal::INT).expect("it is a child");
        let status = self.child.wait().expect("it is a child");
        if status.signal().is_some() && self.said().is_empty() {
            // It had not begun to listen to signals, nor anything else.
            self.killed = Some(now());
            return;
        }
        assert!(status.success(), "{status}: {}", self.said());
    }

    /// What it said on stderr.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it did, after its end.
    ///
    /// # Panics
    /// If its output is not what a member prints.
    #[must_use]
    pub fn account(&self) -> Account {
        let read = read(&self.out);
        let mut account = Account { read, lost: self.suspect, ..Account::default() };
        let mut open = BTreeMap::new();
        for line in self.said().lines() {
            let Some((at, rest)) = stamped(line) else { continue };
            if let Some((turn, partitions)) = rebalanced(rest) {
                for partition in partitions {
                    if turn == "Assigned" {
                        open.insert(partition, at);
                    } else if let Some(from) = open.remove(&partition) {
                        account.owned.push(Owned { partition, from, until: at });
                    }
                    account.lost |= turn == "Lost";
                }
            } else if rest.contains(": committed ") {
                let number = |name| field(rest, name).parse::<u64>().expect("a number");
                let partition = u32::try_from(number("partition=")).expect("small");
                account.committed.push((at, partition, number("offset=")));
            }
        }
        let end = self.killed.unwrap_or_else(now);
        let rest = open.into_iter().map(|(partition, from)| Owned { partition, from, until: end });
        account.owned.extend(rest);
        account
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros()
}

/// Partition and offset of each record; a last line that was cut by a kill is none.
fn read(out: &Path) -> Vec<(u32, u64)> {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| -> (u32, u64) {
        let record: serde_json::Value = serde_json::from_str(line).expect("a record as JSON");
        let number = |name: &str| record[name].as_u64().expect("a number");
        (u32::try_from(number("partition")).expect("small"), number("offset"))
    };
    whole.lines().map(parse).collect()
}

/// The moment of a log line such as `2026-11-27T01:02:03.456789Z DEBUG …`, and the rest.
fn stamped(line: &str) -> Option<(Moment, &str)> {
    let (stamp, rest) = line.trim_start().split_once(' ')?;
    let (date, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, by| -> Option<Vec<u128>> {
        text.split(by).map(|n: &str| n.parse().ok()).collect()
    };
    let (date, (clock, micros)) = (numbers(date, '-')?, time.split_once('.')?);
    let (clock, micros) = (numbers(clock, ':')?, micros.parse::<u128>().ok()?);
    let [year, month, day] = date[..] else { return None };
    let [hours, minutes, seconds] = clock[..] else { return None };
    // Days since 1970 in the Gregorian calendar: years begin in March, so that the leap day is the last.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days - 719_468;
    let whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
    Some((whole * 1_000_000 + micros, rest))
}

/// Which turn of which partitions a line tells.
fn rebalanced(rest: &str) -> Option<(&str, Vec<u32>)> {
    let told = rest.split_once(": rebalanced ")?.1;
    let partitions = field(told, "partitions=");
    let number = |place: &str| place.rsplit('/').next()?.parse().ok();
    Some((field(told, "turn="), partitions.split(',').filter_map(number).collect()))
}

fn field<'a>(rest: &'a str, name: &str) -> &'a str {
    let value = rest.split_once(name).map_or("", |(_, value)| value);
    value.split_whitespace().next().unwrap_or_default()
}

/// Holds what all members of a group did against what was written: `ends` is the end of each partition, `written` the
/// offsets of all records.
///
/// # Panics
/// If it was not right.
pub fn audit(accounts: &[Account], written: &BTreeSet<(u32, u64)>) {
    no_two_owners(accounts);
    let read: BTreeSet<_> = accounts.iter().flat_map(|account| account.read.clone()).collect();
    let missing: Vec<_> = written.difference(&read).take(5).collect();
    assert!(missing.is_empty(), "nobody read {missing:?}");
    let unknown: Vec<_> = read.difference(written).take(5).collect();
    assert!(unknown.is_empty(), "nobody wrote {unknown:?}");
    nothing_committed_is_read_again(accounts);
}

fn no_two_owners(accounts: &[Account]) {
    let all = |account: &Account| account.owned.clone();
    // Who was fenced while it stood still believed for a while that it owned what others had.
    let mut owned: Vec<_> = accounts.iter().filter(|account| !account.lost).flat_map(all).collect();
    owned.sort_by_key(|owned| (owned.partition, owned.from));
    for pair in owned.windows(2) {
        let overlap = pair[0].partition == pair[1].partition && pair[1].from < pair[0].until;
        assert!(!overlap, "two own a partition: {pair:?}");
    }
}

/// A member begins where the group had committed, or behind.
fn nothing_committed_is_read_again(accounts: &[Account]) {
    let committed: Vec<_> = accounts.iter().flat_map(|account| account.committed.clone()).collect();
    for account in accounts.iter().filter(|account| !account.lost) {
        let mut next = BTreeMap::new();
        for owned in &account.owned {
            let before = |(at, partition, _): &&(Moment, u32, u64)| {
                *partition == owned.partition && *at < owned.from
            };
            let known = committed.iter().filter(before).map(|(.., offset)| *offset).max();
            let first = next.entry(owned.partition).or_insert(known);
            *first = known.min(*first);
        }
        for (partition, offset) in &account.read {
            let from = next.get(partition).copied().flatten().unwrap_or(0);
            assert!(from <= *offset, "{partition}/{offset} was committed, up to {from}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_read() {
        let line = "2026-11-27T01:02:03.000456Z DEBUG millstream_client::group: rebalanced turn=Revoked \
                    partitions=a/1,b.c/12";
        let (at, rest) = stamped(line).expect("a moment");
        assert_eq!(at, 1_795_741_323_000_456);
        assert_eq!(rebalanced(rest), Some(("Revoked", vec![1, 12])));
        assert!(stamped("no line of a log").is_none());
    }
}
