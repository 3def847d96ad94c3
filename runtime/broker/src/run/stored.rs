//! What the metadata store holds, read at the start.
//!
//! Invariant: a row that does not read ends the start: damage never reads as "there is nothing".

use std::collections::BTreeMap;
use std::path::Path;

use millstream_core::metadata::rows::Table as CoreTable;
use millstream_core::metadata::{Image, Levels};
use millstream_core::replication::{Ballot, decode_ballot};
use millstream_protocol::ids::{Offset, PartitionIndex, TopicId, TopicPartition};
use millstream_storage::disk::AnyDisk;
use millstream_storage::metadata::{Change, Identity, Store, Table};

use super::error::StartError;
use super::own::Own;

/// What the store holds.
pub(crate) struct Stored {
    pub(super) store: Store,
    pub(crate) identity: Identity,
    pub(crate) image: Image,
    pub(crate) ballots: BTreeMap<TopicPartition, Ballot>,
    pub(super) positions: BTreeMap<Vec<u8>, Offset>,
    pub(crate) own: Own,
}

impl Stored {
    /// Reads the store; one that is not there yet begins as `fresh`.
    pub(crate) fn load(disk: &AnyDisk, file: &Path, fresh: Identity) -> Result<Self, StartError> {
        let store = Store::open(disk, file, fresh)?;
        let loaded = store.load()?;
        let unusable = |error: &dyn std::fmt::Display| StartError::Image(error.to_string());
        let tables: BTreeMap<_, _> = loaded.tables.iter().map(|(t, rows)| (*t, rows)).collect();
        let rows = TABLES.iter().flat_map(|(core, table)| {
            tables[table].iter().map(|(key, value)| (*core, key.as_slice(), value.as_slice()))
        });
        let image = Image::from_rows(loaded.applied, rows).map_err(|e| unusable(&e))?;
        let level = image.features().level();
        if !Levels::OURS.support(level) {
            let Levels { oldest, newest } = Levels::OURS;
            let text = format!(
                "the cluster works at feature level {level}, and this version supports {oldest} to \
                 {newest}: install a newer one"
            );
            return Err(StartError::Image(text));
        }
        let (mut ballots, mut own) = (BTreeMap::new(), Own::default());
        for (key, value) in tables[&Table::Votes] {
            if own.read(key, value).map_err(|e| unusable(&e))? {
                continue;
            }
            let ballot = decode_ballot(value).map_err(|e| unusable(&e))?;
            let id = partition_of(key).ok_or_else(|| unusable(&"a vote for no partition"))?;
            ballots.insert(id, ballot);
        }
        let mut positions = BTreeMap::new();
        for (key, value) in tables[&Table::Positions] {
            let position = postcard::from_bytes(value).map_err(|e| unusable(&e))?;
            positions.insert(key.clone(), position);
        }
        Ok(Self { identity: store.identity(), store, image, ballots, positions, own })
    }

    /// Makes rows of this broker's own durable.
    pub(crate) fn keep(&mut self, rows: &[Change]) -> Result<(), StartError> {
        Ok(self.store.write_rows(rows)?)
    }
}

fn partition_of(key: &[u8]) -> Option<TopicPartition> {
    let (topic, partition) = key.split_at_checked(4)?;
    let topic = TopicId(u32::from_be_bytes(topic.try_into().ok()?));
    let partition = PartitionIndex(u32::from_be_bytes(partition.try_into().ok()?));
    Some(TopicPartition { topic, partition })
}

/// The two crates' names of the tables that make the image.
const TABLES: [(CoreTable, Table); 7] = [
    (CoreTable::Topics, Table::Topics),
    (CoreTable::Configs, Table::Configs),
    (CoreTable::Modules, Table::Modules),
    (CoreTable::Jobs, Table::Jobs),
    (CoreTable::Brokers, Table::Brokers),
    (CoreTable::Allocations, Table::Allocations),
    (CoreTable::Features, Table::Features),
];

/// Numbers that name a cluster and a disk: random, from the system.
pub(super) fn random() -> u128 {
    use std::hash::{BuildHasher as _, RandomState};
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    half() << 64 | half()
}
