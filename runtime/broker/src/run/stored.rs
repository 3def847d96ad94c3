//! What the metadata store holds, read at the start.
//!
//! Invariant: a row that does not read ends the start: damage never reads as "there is nothing".

use std::collections::BTreeMap;

use millstream_core::metadata::Image;
use millstream_core::metadata::rows::Table as CoreTable;
use millstream_core::replication::Vote;
use millstream_protocol::ids::Offset;
use millstream_storage::data_dir::{DataDir, DataDirError};
use millstream_storage::disk::{AnyDisk, Disk as _};
use millstream_storage::metadata::{Identity, Store, Table};

use super::error::StartError;

/// What the store holds.
pub(super) struct Stored {
    pub(super) store: Store,
    pub(super) identity: Identity,
    pub(super) image: Image,
    pub(super) votes: BTreeMap<Vec<u8>, Vote>,
    pub(super) positions: BTreeMap<Vec<u8>, Offset>,
}

impl Stored {
    pub(super) fn load(disk: &AnyDisk, data: &DataDir) -> Result<Self, StartError> {
        let fresh = Identity { cluster: random(), incarnation: random() };
        let unmade =
            |source| DataDirError::Io { action: "create", path: data.root().to_owned(), source };
        disk.create_dir_all(data.root()).map_err(unmade)?;
        let store = Store::open(disk, &data.metadata_file(), fresh)?;
        let loaded = store.load()?;
        let unusable = |error: &dyn std::fmt::Display| StartError::Image(error.to_string());
        let tables: BTreeMap<_, _> = loaded.tables.iter().map(|(t, rows)| (*t, rows)).collect();
        let rows = TABLES.iter().flat_map(|(core, table)| {
            tables[table].iter().map(|(key, value)| (*core, key.as_slice(), value.as_slice()))
        });
        let image = Image::from_rows(loaded.applied, rows).map_err(|e| unusable(&e))?;
        let mut votes = BTreeMap::new();
        for (key, value) in tables[&Table::Votes] {
            let vote = postcard::from_bytes(value).map_err(|e| unusable(&e))?;
            votes.insert(key.clone(), vote);
        }
        let mut positions = BTreeMap::new();
        for (key, value) in tables[&Table::Positions] {
            let position = postcard::from_bytes(value).map_err(|e| unusable(&e))?;
            positions.insert(key.clone(), position);
        }
        Ok(Self { identity: store.identity(), store, image, votes, positions })
    }
}

/// The two crates' names of the tables that make the image.
const TABLES: [(CoreTable, Table); 6] = [
    (CoreTable::Topics, Table::Topics),
    (CoreTable::Configs, Table::Configs),
    (CoreTable::Modules, Table::Modules),
    (CoreTable::Jobs, Table::Jobs),
    (CoreTable::Brokers, Table::Brokers),
    (CoreTable::Allocations, Table::Allocations),
];

/// Numbers that name a cluster and a disk: random, from the system.
fn random() -> u128 {
    use std::hash::{BuildHasher as _, RandomState};
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    half() << 64 | half()
}
