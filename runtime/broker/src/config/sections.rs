//! The sections of the configuration and their defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Bytes, Duration};

/// Who the broker is, where it listens and where it keeps its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The broker's number in the cluster.
    pub node_id: u32,
    /// The UDP address for clients and peers.
    pub listen: SocketAddr,
    /// `host:port` that clients are told; the listening address when empty.
    pub advertise: String,
    /// Where logs, metadata, modules and certificates lie.
    pub data_dir: PathBuf,
    /// Brokers of the cluster to be part of, `host:port` with commas between; a cluster of its own when empty.
    /// Matters until the broker is part of it.
    pub join: String,
    /// What the broker shares the fate of, such as a rack or a zone: replicas are spread over them.
    pub rack: String,
    /// Threads that serve connections and partitions; 0 is one a core.
    pub cores: usize,
    /// Connections at a time, over all cores.
    pub max_connections: usize,
    /// Bytes of received batches that are not yet appended, over all connections.
    pub in_flight: Bytes,
    /// How long a graceful stop may take.
    pub stop_timeout: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            node_id: 1,
            listen: SocketAddr::from(([127, 0, 0, 1], 9440)),
            advertise: String::new(),
            data_dir: PathBuf::from("./millstream-data"),
            join: String::new(),
            rack: String::new(),
            cores: 0,
            max_connections: 4096,
            in_flight: Bytes(256 << 20),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

impl Server {
    /// The addresses in `join`.
    #[must_use]
    pub fn join_addresses(&self) -> Vec<String> {
        let each = self.join.split(',').map(str::trim);
        each.filter(|address| !address.is_empty()).map(str::to_owned).collect()
    }

    /// The rack, if there is one.
    #[must_use]
    pub fn rack_name(&self) -> Option<String> {
        (!self.rack.is_empty()).then(|| self.rack.clone())
    }
}

/// The HTTP port for metrics and health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The TCP address.
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9441)) }
    }
}

/// Logs on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Threads that write and sync; so many logs can sync at the same time.
    pub io_threads: usize,
    /// How often retention is enforced.
    pub retention_check: Duration,
    /// How often job positions are saved.
    pub position_save: Duration,
    /// Bytes of logs that are read again each second to find damage; 0 is never.
    pub scrub_rate: Bytes,
    /// How often compacted topics are looked at.
    pub compaction_check: Duration,
    /// Bytes that a compaction reads and writes each second; 0 is no limit.
    pub compaction_rate: Bytes,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            io_threads: 4,
            retention_check: Duration::from_secs(30),
            position_save: Duration::from_secs(1),
            scrub_rate: Bytes(4 << 20),
            compaction_check: Duration::from_secs(15),
            compaction_rate: Bytes(64 << 20),
        }
    }
}

/// Brokers among each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replication {
    /// Between two signs of life to another broker.
    pub heartbeat: Duration,
    /// A broker without a sign of life for so long is not reached any more: others take over what it led.
    pub timeout: Duration,
    /// A replica that knows of no leader stands for election within this.
    pub election: Duration,
    /// Bytes a second for replicas that are far behind; 0 is no limit.
    pub catch_up_rate: Bytes,
    /// How often partitions are given back to the brokers that should lead them; 0 is never.
    pub leader_balance: Duration,
    /// A broker that was not reached for so long is given no new partitions.
    pub fence_after: Duration,
    /// Bytes of the metadata's log that are kept at least: who is further behind is sent a snapshot.
    pub metadata_log: Bytes,
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            timeout: Duration::from_millis(300),
            election: Duration::from_millis(600),
            catch_up_rate: Bytes(100 << 20),
            leader_balance: Duration::from_secs(30),
            fence_after: Duration::from_secs(60),
            metadata_log: Bytes(32 << 20),
        }
    }
}

/// Consumer groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Groups {
    /// Partitions of `__groups`, over which groups are spread; it counts when the first group is made.
    pub partitions: u32,
    /// Replicas of each of them, as far as there are brokers; it counts when the first group is made.
    pub replication_factor: u16,
    /// How long the offsets of a group that nobody uses are kept.
    pub offsets_retention: Duration,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            partitions: 16,
            replication_factor: 3,
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Transactions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transactions {
    /// Partitions of `__transactions`, over which transactional ids are spread; it counts when the first is taken.
    pub partitions: u32,
    /// Replicas of each of them, as far as there are brokers; it counts when the first id is taken.
    pub replication_factor: u16,
    /// How long a transactional id that nobody uses is kept.
    pub retention: Duration,
}

impl Default for Transactions {
    fn default() -> Self {
        Self {
            partitions: 16,
            replication_factor: 3,
            retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// QUIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transport {
    /// Bytes in flight towards the broker on one stream.
    pub stream_window: Bytes,
    /// Bytes in flight towards the broker on one connection.
    pub connection_window: Bytes,
    /// Bytes in flight from the broker on one connection.
    pub send_window: Bytes,
    /// Streams that one connection may have open.
    pub max_streams: u32,
    /// A connection without a sign of life for so long is closed.
    pub idle_timeout: Duration,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            stream_window: Bytes(16 << 20),
            connection_window: Bytes(64 << 20),
            send_window: Bytes(32 << 20),
            max_streams: 1024,
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// WebAssembly modules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Modules {
    /// Threads that run guests; 0 is one a core.
    pub guest_threads: usize,
    /// Guest instances at a time.
    pub max_instances: usize,
    /// The largest module that may be uploaded.
    pub max_bytes: Bytes,
}

impl Default for Modules {
    fn default() -> Self {
        Self { guest_threads: 0, max_instances: 1024, max_bytes: Bytes(32 << 20) }
    }
}

/// The broker's own log lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A filter as `tracing` reads it, such as `info` or `info,millstream_broker=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
