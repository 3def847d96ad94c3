//! Opening, loading and committing.
//!
//! Invariant: [`Store::commit`] returns only when its transaction is durable; an applied offset never goes back.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use millstream_protocol::ids::Offset;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::backend::Backend;
use super::error::{KeyText, MetadataError};
use super::migrate::{self, STEPS};
use super::schema::{
    self, META, META_APPLIED, META_CLUSTER, META_INCARNATION, SCHEMA_VERSION, Table,
};
use crate::disk::{Disk, DiskFile};

/// Memory that redb may keep pages in: metadata is small, and the broker holds it decoded anyway.
const CACHE_BYTES: usize = 8 << 20;

/// The metadata store. One owner; methods block on the disk.
pub struct Store {
    /// None only while it is being opened again.
    database: Option<Database>,
    /// Opens the file once more.
    open_again: Box<OpenAgain>,
    /// The last write found no room. redb takes nothing more after an error of its file, so that it
    /// has to be opened again; after any other error than this one it stays as it is.
    full: bool,
    path: PathBuf,
    applied: Offset,
    identity: Identity,
}

type OpenAgain = dyn Fn() -> Result<Database, MetadataError> + Send;

/// Which cluster this data belongs to, and which life of this disk it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Random, made with the cluster.
    pub cluster: u128,
    /// Random, made with the store: a wiped disk comes back with another, and cannot pass for the old replica.
    pub incarnation: u128,
}

/// One row: its key and its value, encoded by whoever owns the table.
pub type Row = (Vec<u8>, Vec<u8>);

/// A change to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub table: Table,
    /// Which row.
    pub key: Vec<u8>,
    /// Its new value, or none to remove it. Removing what is not there is fine.
    pub value: Option<Vec<u8>>,
}

/// Everything in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The offset that the rows were applied up to.
    pub applied: Offset,
    /// All rows of each table, in the order of their keys.
    pub tables: Vec<(Table, Vec<Row>)>,
}

impl Store {
    /// Opens the store in `path`, creating it with `fresh` as its identity if there is no such file.
    ///
    /// # Errors
    /// [`MetadataError`]: written by a newer version, damaged, not whole, or refused by the system.
    pub fn open<D: Disk>(disk: &D, path: &Path, fresh: Identity) -> Result<Store, MetadataError> {
        let failed = |action| {
            move |source: io::Error| MetadataError::Io {
                action,
                path: path.to_owned(),
                source: Box::new(source),
            }
        };
        if open_existing(disk, path).map_err(failed("open"))?.is_none() {
            Store::create(disk, path, fresh).map_err(failed("create"))??;
        }
        let (disk, path) = (disk.clone(), path.to_owned());
        let file = path.clone();
        Store::open_with(path, Box::new(move || open_database(&disk, &file)))
    }

    /// Makes room for another store where a damaged one is. That one stays, with `.damaged` behind its name.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_aside<D: Disk>(disk: &D, path: &Path) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".damaged");
        disk.rename(path, Path::new(&name))?;
        path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
    }

    /// Which cluster and which life of the disk this is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The offset that the rows were applied up to.
    #[must_use]
    pub fn applied(&self) -> Offset {
        self.applied
    }

    /// Applies the changes and notes `applied`, durably and in one transaction.
    ///
    /// # Errors
    /// [`MetadataError`]; what the store then holds is the state before or, if the system lied, after.
    pub fn commit(&mut self, applied: Offset, changes: &[Change]) -> Result<(), MetadataError> {
        assert!(self.applied <= applied, "applied offset {applied} is before {}", self.applied);
        self.write("commit to", |transaction| {
            write_changes(transaction, changes)?;
            write_applied(transaction, applied)
        })?;
        self.applied = applied;
        Ok(())
    }

    /// Writes rows that are this broker's own and no command's, votes and positions for instance, durably.
    ///
    /// # Errors
    /// [`MetadataError`], as [`Store::commit`].
    pub fn write_rows(&mut self, changes: &[Change]) -> Result<(), MetadataError> {
        self.write("write to", |transaction| write_changes(transaction, changes))
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`MetadataError::Corrupt`] when a row is not as it was stored: never a row less.
    pub fn load(&self) -> Result<Loaded, MetadataError> {
        let mut tables = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            tables.push((table, self.rows(table)?));
        }
        Ok(Loaded { applied: self.applied, tables })
    }

    /// Reads all rows of one table.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn rows(&self, table: Table) -> Result<Vec<Row>, MetadataError> {
        let failed = |error: redb::Error| MetadataError::redb("read", &self.path, error);
        let transaction = self.database().begin_read().map_err(|error| failed(error.into()))?;
        let mut found = Vec::new();
        let rows = match transaction.open_table(table.definition()) {
            Ok(rows) => rows,
            // Stores that were made before there was this table get it with their next transaction.
            Err(redb::TableError::TableDoesNotExist(_)) if table == Table::Features => {
                return Ok(found);
            }
            Err(error) => return Err(failed(error.into())),
        };
        for row in rows.iter().map_err(|error| failed(error.into()))? {
            let (key, stored) = row.map_err(|error| failed(error.into()))?;
            let (key, stored) = (key.value(), stored.value());
            let value = schema::open_value(table.name(), key, stored)
                .ok_or_else(|| self.damaged(table.name(), key))?;
            found.push((key.to_vec(), value.to_vec()));
        }
        let expected = rows.len().map_err(|error| failed(error.into()))?;
        if found.len() as u64 != expected {
            let what = format!("table {} has {} of its {expected} rows", table.name(), found.len());
            return Err(MetadataError::Corrupt { path: self.path.clone(), what });
        }
        Ok(found)
    }

    /// Reads one row, if it is there.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn row(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, MetadataError> {
        let failed = |error: redb::Error| MetadataError::redb("read", &self.path, error);
        let transaction = self.database().begin_read().map_err(|error| failed(error.into()))?;
        let rows =
            transaction.open_table(table.definition()).map_err(|error| failed(error.into()))?;
        let Some(stored) = rows.get(key).map_err(|error| failed(error.into()))? else {
            return Ok(None);
        };
        match schema::open_value(table.name(), key, stored.value()) {
            Some(value) => Ok(Some(value.to_vec())),
            None => Err(self.damaged(table.name(), key)),
        }
    }

    fn create<D: Disk>(
        disk: &D,
        path: &Path,
        fresh: Identity,
    ) -> io::Result<Result<(), MetadataError>> {
        // Under another name until it is whole, so that a first start cut short is one that never was.
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(crate::disk::TEMPORARY_SUFFIX);
        let unfinished = PathBuf::from(unfinished);
        crate::disk::remove_if_present(disk, &unfinished)?;
        let file = disk.create(&unfinished)?;
        if let Err(error) = initialise(file, fresh) {
            return Ok(Err(MetadataError::redb("create", path, error)));
        }
        disk.rename(&unfinished, path)?;
        if let Some(dir) = path.parent() {
            disk.sync_dir(dir)?;
        }
        Ok(Ok(()))
    }

    fn open_with(path: PathBuf, open_again: Box<OpenAgain>) -> Result<Store, MetadataError> {
        let mut store = Store {
            database: Some(open_again()?),
            open_again,
            full: false,
            path,
            applied: Offset::ZERO,
            identity: Identity { cluster: 0, incarnation: 0 },
        };
        store.migrate()?;
        store.identity = Identity {
            cluster: u128::from_be_bytes(store.meta(META_CLUSTER)?),
            incarnation: u128::from_be_bytes(store.meta(META_INCARNATION)?),
        };
        store.applied = Offset(u64::from_be_bytes(store.meta(META_APPLIED)?));
        Ok(store)
    }

    fn migrate(&mut self) -> Result<(), MetadataError> {
        let failed = |error: redb::Error| MetadataError::redb("open", &self.path, error);
        let transaction = self.database().begin_write().map_err(|error| failed(error.into()))?;
        let found = migrate::migrate(&self.path, &transaction, STEPS)?;
        if found == SCHEMA_VERSION {
            return transaction.abort().map_err(|error| failed(error.into()));
        }
        transaction.commit().map_err(|error| failed(error.into()))
    }

    fn write(
        &mut self,
        action: &'static str,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), MetadataError> {
        if self.full {
            self.open_again()?;
        }
        let written = self.try_write(action, change);
        self.full = matches!(&written, Err(error) if error.is_disk_full());
        written
    }

    fn try_write(
        &self,
        action: &'static str,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), MetadataError> {
        let failed = |error: redb::Error| MetadataError::redb(action, &self.path, error);
        let transaction = self.database().begin_write().map_err(|error| failed(error.into()))?;
        change(&transaction).map_err(failed)?;
        transaction.commit().map_err(|error| failed(error.into()))
    }

    /// After a write that found no room: the file as its last durable commit left it.
    fn open_again(&mut self) -> Result<(), MetadataError> {
        // Before the new one looks at the file, the old one is through with it.
        self.database = None;
        self.database = Some((self.open_again)()?);
        let applied = Offset(u64::from_be_bytes(self.meta(META_APPLIED)?));
        assert!(self.applied <= applied, "a durable commit is not undone by a full disk");
        self.applied = applied;
        self.full = false;
        Ok(())
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("whoever finds it closed opens it first")
    }

    fn meta<const N: usize>(&self, key: &str) -> Result<[u8; N], MetadataError> {
        let failed = |error: redb::Error| MetadataError::redb("read", &self.path, error);
        let transaction = self.database().begin_read().map_err(|error| failed(error.into()))?;
        let meta = transaction.open_table(META).map_err(|error| failed(error.into()))?;
        let stored = meta.get(key).map_err(|error| failed(error.into()))?;
        let Some(stored) = stored else {
            let what = format!("it has no {key}");
            return Err(MetadataError::Incomplete { path: self.path.clone(), what });
        };
        schema::open_value("meta", key.as_bytes(), stored.value())
            .and_then(|value| value.try_into().ok())
            .ok_or_else(|| self.damaged("meta", key.as_bytes()))
    }

    fn damaged(&self, table: &str, key: &[u8]) -> MetadataError {
        let what = format!("row {} of table {table} fails its checksum", KeyText(key));
        MetadataError::Corrupt { path: self.path.clone(), what }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).field("applied", &self.applied).finish()
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open_database<D: Disk>(disk: &D, path: &Path) -> Result<Database, MetadataError> {
    let opened = disk.open(path).map_err(|source| MetadataError::Io {
        action: "open",
        path: path.to_owned(),
        source: Box::new(source),
    });
    let backend = Backend(opened?);
    let database = builder().create_with_backend(backend);
    database.map_err(|error| MetadataError::redb("open", path, error))
}

fn open_existing<D: Disk>(disk: &D, path: &Path) -> io::Result<Option<D::File>> {
    match disk.open(path) {
        Ok(file) if file.is_empty()? => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is empty: restore it from a copy",
        )),
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn initialise<F: DiskFile>(file: F, fresh: Identity) -> Result<(), redb::Error> {
    let database = builder().create_with_backend(Backend(file))?;
    let transaction = database.begin_write()?;
    migrate::write_version(&transaction, SCHEMA_VERSION)?;
    write_meta(&transaction, META_CLUSTER, &fresh.cluster.to_be_bytes())?;
    write_meta(&transaction, META_INCARNATION, &fresh.incarnation.to_be_bytes())?;
    write_applied(&transaction, Offset::ZERO)?;
    write_changes(&transaction, &[])?;
    transaction.commit()?;
    Ok(())
}

fn write_meta(transaction: &WriteTransaction, key: &str, value: &[u8]) -> Result<(), redb::Error> {
    let mut meta = transaction.open_table(META)?;
    meta.insert(key, schema::seal_value("meta", key.as_bytes(), value).as_slice())?;
    Ok(())
}

fn write_applied(transaction: &WriteTransaction, applied: Offset) -> Result<(), redb::Error> {
    write_meta(transaction, META_APPLIED, &applied.get().to_be_bytes())
}

/// Opens every table, so that all of them exist from the first transaction on.
fn write_changes(transaction: &WriteTransaction, changes: &[Change]) -> Result<(), redb::Error> {
    for table in Table::ALL {
        let mut rows = transaction.open_table(table.definition())?;
        for change in changes.iter().filter(|change| change.table == table) {
            let key = change.key.as_slice();
            match &change.value {
                Some(value) => {
                    rows.insert(key, schema::seal_value(table.name(), key, value).as_slice())?;
                }
                None => {
                    rows.remove(key)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
