//! Tables, their names on disk, and how a row's value is stored.
//!
//! Invariant: a table's name and a value's framing never change within a schema version; changing either takes a new
//! version and a migration.

use millstream_protocol::batch::checksum::Crc32c;
use redb::TableDefinition;

/// The schema this version writes.
pub const SCHEMA_VERSION: u32 = 1;

/// What is stored about the store itself: schema version, identities, applied offset.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const META_SCHEMA: &str = "schema_version";
pub(super) const META_CLUSTER: &str = "cluster_id";
pub(super) const META_INCARNATION: &str = "incarnation";
pub(super) const META_APPLIED: &str = "applied";

/// A table of rows: key bytes to value bytes, whose meaning is their writer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Table {
    /// Topics.
    Topics,
    /// Configuration overrides.
    Configs,
    /// Module versions.
    Modules,
    /// Jobs.
    Jobs,
    /// How far each job has come in each input partition.
    Positions,
    /// Epoch and vote of each partition this broker takes part in.
    Votes,
    /// Brokers of the cluster.
    Brokers,
    /// Ids handed out so far.
    Allocations,
    /// Feature levels.
    Features,
}

impl Table {
    /// All tables, in the order in which they are loaded.
    pub const ALL: [Table; 9] = [
        Table::Topics,
        Table::Configs,
        Table::Modules,
        Table::Jobs,
        Table::Positions,
        Table::Votes,
        Table::Brokers,
        Table::Allocations,
        Table::Features,
    ];

    /// The table's name on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Topics => "topics",
            Table::Configs => "configs",
            Table::Modules => "modules",
            Table::Jobs => "jobs",
            Table::Positions => "positions",
            Table::Votes => "votes",
            Table::Brokers => "brokers",
            Table::Allocations => "allocations",
            Table::Features => "features",
        }
    }

    pub(super) fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// Bytes of the checksum that follows a value.
const CRC_BYTES: usize = 4;

/// A value as stored: its bytes, then a CRC-32C over table, key and value, so that a damaged row is found, and one that
/// ended up under the wrong key too.
pub(super) fn seal_value(table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(value.len() + CRC_BYTES);
    stored.extend_from_slice(value);
    stored.extend_from_slice(&row_crc(table, key, value).to_be_bytes());
    stored
}

/// The value of a stored row, or none if it was damaged.
pub(super) fn open_value<'a>(table: &str, key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (value, crc) = stored.split_last_chunk::<CRC_BYTES>()?;
    (row_crc(table, key, value) == u32::from_be_bytes(*crc)).then_some(value)
}

fn row_crc(table: &str, key: &[u8], value: &[u8]) -> u32 {
    let mut digest = Crc32c::new();
    digest.update(&(table.len() as u64).to_be_bytes());
    digest.update(table.as_bytes());
    digest.update(&(key.len() as u64).to_be_bytes());
    digest.update(key);
    digest.update(value);
    digest.value()
}
