//! What a stretch of work cost this process: wall clock, CPU seconds, peak memory.

use std::fs;
use std::time::Instant;

/// A running measurement.
pub(crate) struct Cost {
    began: Instant,
    cpu: f64,
}

impl Cost {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu_seconds() }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(crate) fn cpu(&self) -> f64 {
        cpu_seconds() - self.cpu
    }
}

/// User and system time, in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(") ").next().unwrap();
    let ticks = |n: usize| fields.split(' ').nth(n).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// The most memory this process has had, in MiB.
pub(crate) fn peak_rss() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
