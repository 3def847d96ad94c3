//! From older schemas to this one: one step a version, all in one transaction.
//!
//! Invariant: a store is at the old schema or at the new one, never between, and a newer one is never touched.

use std::path::Path;

use redb::{ReadableTable, WriteTransaction};

use super::error::MetadataError;
use super::schema::{META, META_SCHEMA};

/// Rewrites what version `n` stored as version `n + 1` stores it.
pub(super) type Step = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// The step at index `i` leads from schema `i + 1` to `i + 2`. Schema 1 is the first, so there is none yet.
pub(super) const STEPS: &[Step] = &[];

/// Brings an existing store to the schema after the last of `steps`; returns the schema it had.
pub(super) fn migrate(
    path: &Path,
    transaction: &WriteTransaction,
    steps: &[Step],
) -> Result<u32, MetadataError> {
    let supported = u32::try_from(steps.len()).expect("few steps") + 1;
    let found = read_version(path, transaction)?;
    if found > supported {
        return Err(MetadataError::Newer { path: path.to_owned(), found, supported });
    }
    if found == supported {
        return Ok(found);
    }
    for step in &steps[found as usize - 1..] {
        step(transaction).map_err(|error| MetadataError::redb("migrate", path, error))?;
    }
    write_version(transaction, supported)
        .map_err(|error| MetadataError::redb("migrate", path, error))?;
    tracing::info!(path = %path.display(), from = found, to = supported, "metadata store migrated");
    Ok(found)
}

/// Notes the schema a store has.
pub(super) fn write_version(
    transaction: &WriteTransaction,
    version: u32,
) -> Result<(), redb::Error> {
    let mut meta = transaction.open_table(META)?;
    meta.insert(META_SCHEMA, version.to_be_bytes().as_slice())?;
    Ok(())
}

fn read_version(path: &Path, transaction: &WriteTransaction) -> Result<u32, MetadataError> {
    let failed = |error: redb::Error| MetadataError::redb("read", path, error);
    let meta = transaction.open_table(META).map_err(|error| failed(error.into()))?;
    let stored = meta.get(META_SCHEMA).map_err(|error| failed(error.into()))?;
    let version = stored.and_then(|stored| stored.value().try_into().ok().map(u32::from_be_bytes));
    match version {
        Some(version) if version > 0 => Ok(version),
        _ => Err(MetadataError::Incomplete {
            path: path.to_owned(),
            what: "it has no schema version".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use redb::Database;

    use super::*;
    use crate::metadata::schema::Table;

    fn old_store() -> Database {
        let database = Database::builder()
            .create_with_backend(redb::backends::InMemoryBackend::new())
            .unwrap();
        let transaction = database.begin_write().unwrap();
        write_version(&transaction, 1).unwrap();
        {
            let mut topics = transaction.open_table(Table::Topics.definition()).unwrap();
            topics.insert(b"a".as_slice(), b"old".as_slice()).unwrap();
        }
        transaction.commit().unwrap();
        database
    }

    fn rename_value(transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut topics = transaction.open_table(Table::Topics.definition())?;
        topics.insert(b"a".as_slice(), b"new".as_slice())?;
        Ok(())
    }

    fn value(database: &Database) -> Vec<u8> {
        let transaction = database.begin_write().unwrap();
        let topics = transaction.open_table(Table::Topics.definition()).unwrap();
        topics.get(b"a".as_slice()).unwrap().unwrap().value().to_vec()
    }

    #[test]
    fn an_older_store_is_brought_forward_in_one_transaction_and_only_once() {
        let (database, path) = (old_store(), PathBuf::from("m"));
        let steps: &[Step] = &[rename_value, |_| Ok(())];
        let transaction = database.begin_write().unwrap();
        assert_eq!(migrate(&path, &transaction, steps).unwrap(), 1);
        transaction.commit().unwrap();
        assert_eq!(value(&database), b"new");
        let transaction = database.begin_write().unwrap();
        assert_eq!(migrate(&path, &transaction, steps).unwrap(), 3);
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_store() {
        let (database, path) = (old_store(), PathBuf::from("m"));
        let broken: Step = |_| Err(redb::Error::Corrupted("on purpose".into()));
        let transaction = database.begin_write().unwrap();
        assert!(migrate(&path, &transaction, &[rename_value, broken]).is_err());
        drop(transaction);
        assert_eq!(value(&database), b"old");
        let transaction = database.begin_write().unwrap();
        assert_eq!(migrate(&path, &transaction, &[]).unwrap(), 1);
    }

    #[test]
    fn a_newer_store_is_refused_by_number() {
        let (database, path) = (old_store(), PathBuf::from("m"));
        let transaction = database.begin_write().unwrap();
        write_version(&transaction, 9).unwrap();
        let error = migrate(&path, &transaction, &[]).unwrap_err();
        assert!(matches!(error, MetadataError::Newer { found: 9, supported: 1, .. }), "{error}");
    }
}
