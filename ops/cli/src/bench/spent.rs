//! What a run cost: time on the clock, CPU seconds of client and broker, memory.
//!
//! Invariant: CPU seconds are those of the measured stretch alone; peak memory is since a process's start.

use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::failure::{Failure, Result};

/// Jiffies a second in `/proc/PID/stat`: part of Linux's interface to programs.
const TICKS: f64 = 100.0;

/// A measurement that is under way.
pub(super) struct Meter {
    started: Instant,
    client_cpu: Duration,
    /// Their process ids and CPU seconds.
    brokers: Vec<(u32, f64)>,
}

/// What was spent between start and stop.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Spent {
    /// On the clock.
    pub(super) seconds: f64,
    /// User and system time of this process.
    pub(super) client_cpu_seconds: f64,
    /// The most memory this process ever had resident, the values to be sent included.
    pub(super) client_peak_rss_bytes: u64,
    /// User and system time of the brokers.
    pub(super) broker_cpu_seconds: Option<f64>,
    /// The most memory the brokers had resident since their starts, added up.
    pub(super) broker_peak_rss_bytes: Option<u64>,
}

impl Meter {
    /// Starts; `brokers` are the process ids of brokers on this machine.
    pub(super) fn start(brokers: &[u32]) -> Result<Self> {
        let brokers = brokers.iter().map(|pid| Ok((*pid, cpu_seconds(*pid)?)));
        let brokers = brokers.collect::<Result<_>>()?;
        Ok(Self { client_cpu: own_cpu(), brokers, started: Instant::now() })
    }

    /// Ends the measured stretch.
    pub(super) fn stop(self) -> Result<Spent> {
        let seconds = self.started.elapsed().as_secs_f64();
        let client_cpu = own_cpu().saturating_sub(self.client_cpu);
        let mut sums = None;
        for (pid, before) in self.brokers {
            let (cpu, peak) = sums.unwrap_or_default();
            sums = Some((cpu + cpu_seconds(pid)? - before, peak + memory(pid)?.peak));
        }
        Ok(Spent {
            seconds,
            client_cpu_seconds: client_cpu.as_secs_f64(),
            client_peak_rss_bytes: memory(std::process::id())?.peak,
            broker_cpu_seconds: sums.map(|(cpu, _)| cpu),
            broker_peak_rss_bytes: sums.map(|(_, peak)| peak),
        })
    }
}

/// User and system time of this process.
pub(super) fn own_cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(spent).unwrap_or_default()
}

/// User and system time of a process, to a hundredth of a second.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    parse_stat(&read(pid, "stat")?).ok_or_else(|| unreadable(pid, "stat"))
}

/// Bytes a process has resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Now.
    pub(super) now: u64,
    /// The most since its start.
    pub(super) peak: u64,
}

/// Bytes a process has resident.
pub(super) fn memory(pid: u32) -> Result<Memory> {
    parse_status(&read(pid, "status")?).ok_or_else(|| unreadable(pid, "status"))
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).map_err(|error| {
        Failure::new(error)
            .context(format!("cannot read {path}"))
            .or_hint("--broker-pid PID of a broker that runs on this machine, or leave it out")
    })
}

fn unreadable(pid: u32, file: &str) -> Failure {
    Failure::new(format!("/proc/{pid}/{file} does not look as it does on Linux"))
}

/// `utime` and `stime`, the 14th and 15th field; the second is a name that may hold anything.
fn parse_stat(text: &str) -> Option<f64> {
    let mut fields = text.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(f64::from(ticks()? + ticks()?) / TICKS)
}

fn parse_status(text: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Memory { now: kib("VmRSS:")? << 10, peak: kib("VmHWM:")? << 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_process_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 9 8 7";
        assert_eq!(parse_stat(stat), Some(2.0));
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse_status(status), Some(Memory { now: 1 << 20, peak: 2 << 20 }));
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let me = std::process::id();
        let spent = Meter::start(&[me, me]).expect("there").stop().expect("there");
        let twice = memory(me).expect("there").peak * 2;
        assert!(spent.broker_peak_rss_bytes.expect("two brokers") <= twice);
        assert!(spent.client_peak_rss_bytes > 1 << 20);
        assert!(own_cpu() > Duration::ZERO);
    }
}
