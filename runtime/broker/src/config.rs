//! Configuration: one struct a section, from defaults, a TOML file, the environment and flags.
//!
//! Later sources win. The environment's names are `MILLSTREAM_<SECTION>_<KEY>`, such as
//! `MILLSTREAM_STORAGE_IO_THREADS`.
//!
//! Invariant: a key that nobody reads is refused, wherever it came from.

mod quantity;
mod sections;
mod sources;

pub use quantity::{Bytes, Duration, InvalidQuantity};
pub use sections::{
    Admin, Groups, Log, LogFormat, Modules, Replication, Server, Storage, Transactions, Transport,
};
pub use sources::{ConfigError, Overrides};

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Everything that a broker can be told before it starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who the broker is, where it listens and where it keeps its data.
    pub server: Server,
    /// The HTTP port for metrics and health.
    pub admin: Admin,
    /// Logs on disk.
    pub storage: Storage,
    /// Brokers among each other.
    pub replication: Replication,
    /// Consumer groups.
    pub groups: Groups,
    /// Transactions.
    pub transactions: Transactions,
    /// QUIC.
    pub transport: Transport,
    /// WebAssembly modules.
    pub modules: Modules,
    /// The broker's own log lines.
    pub log: Log,
}

impl Config {
    /// Puts the sources together and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`] names the source, the key and what is wrong with it.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let config = sources::merge(file, environment, flags)?;
        config.check()?;
        Ok(config)
    }

    /// The configuration as a TOML document that [`Config::load`] reads back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a configuration is plain tables of plain values")
    }

    fn check(&self) -> Result<(), ConfigError> {
        let range = |key: &'static str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(ConfigError::OutOfRange { key, value, low, high })
        };
        range("server.cores", self.server.cores as u64, 0, 256)?;
        range("server.max_connections", self.server.max_connections as u64, 1, 1 << 20)?;
        range("groups.partitions", self.groups.partitions.into(), 1, 10_000)?;
        range("groups.replication_factor", self.groups.replication_factor.into(), 1, 9)?;
        let transactions = &self.transactions;
        range("transactions.partitions", transactions.partitions.into(), 1, 10_000)?;
        range("transactions.replication_factor", transactions.replication_factor.into(), 1, 9)?;
        range("server.in_flight", self.server.in_flight.0, 32 << 20, 1 << 40)?;
        let millis = |duration: Duration| u64::try_from(duration.0.as_millis()).unwrap_or(u64::MAX);
        let (day, save) = (24 * 60 * 60 * 1000, self.storage.position_save);
        range("storage.position_save (ms)", millis(save), 10, day)?;
        range("storage.compaction_check (ms)", millis(self.storage.compaction_check), 10, day)?;
        range("storage.retention_check (ms)", millis(self.storage.retention_check), 10, day)?;
        let Replication { heartbeat, timeout, election, fence_after, .. } = self.replication;
        range("replication.heartbeat (ms)", millis(heartbeat), 5, 10_000)?;
        range("replication.timeout (ms)", millis(timeout), 2 * millis(heartbeat), 60_000)?;
        range("replication.election (ms)", millis(election), 20, 60_000)?;
        range("replication.fence_after (ms)", millis(fence_after), millis(timeout), day)?;
        range("storage.io_threads", self.storage.io_threads as u64, 1, 256)?;
        range("transport.max_streams", self.transport.max_streams.into(), 8, 1 << 16)?;
        range("transport.stream_window", self.transport.stream_window.0, 1 << 16, 1 << 30)?;
        range("transport.connection_window", self.transport.connection_window.0, 1 << 16, 1 << 32)?;
        range("modules.guest_threads", self.modules.guest_threads as u64, 0, 256)?;
        range("modules.max_instances", self.modules.max_instances as u64, 1, 1 << 16)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
