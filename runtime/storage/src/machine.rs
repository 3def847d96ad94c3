//! Which run of the machine this is: what was in memory only is gone when it is another one.

use std::fs;

/// Names this run of the machine, if the system does: another name each time that it is started.
#[must_use]
pub fn boot_id() -> Option<String> {
    let named = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(named.trim().to_owned())
}
