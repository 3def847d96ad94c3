//! The data directory: who holds it, which version wrote it, and where everything lies in it.
//!
//! Invariant: while a [`DataDir`] lives no other process has the directory, and a directory that a newer version wrote
//! is not touched, not even its lock file's owner line.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use millstream_protocol::ids::{PartitionIndex, TopicId, TopicPartition};

use crate::disk::{self, Disk, RealDisk, SyncMode};

/// The layout this version writes and reads.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT_FILE: &str = "format";
const FORMAT_NAME: &str = "millstream-data";
const LOCK_FILE: &str = "lock";
const METADATA_FILE: &str = "metadata.redb";
const PARTITIONS_DIR: &str = "partitions";
const MODULES_DIR: &str = "modules";
const CACHE_DIR: &str = "cache";
const TLS_DIR: &str = "tls";
/// Entries that a file system makes by itself and that do not make a directory someone else's.
const FOREIGN_AND_FINE: [&str; 2] = ["lost+found", ".snapshot"];
/// What a broker that joins a cluster is given before its first start.
const GIVEN: [&str; 3] = ["ca.pem", "broker.pem", "broker.key"];

/// A data directory, held exclusively until dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    /// Held for its lock, which the system releases with the process, however that ends.
    _lock: File,
}

/// Why a data directory was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another process holds it.
    #[error(
        "data directory {} is in use by another process{owner}: stop that one, or choose another directory with \
         --data-dir", path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// ` (pid N)`, or nothing where that is not known.
        owner: String,
    },
    /// A newer version wrote it.
    #[error(
        "data directory {} has format {found} and this version reads formats up to {supported}: start it with the \
         version that wrote it, or a newer one", path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The format it has.
        found: u32,
        /// The newest format this version reads.
        supported: u32,
    },
    /// It holds something that is not a data directory, or one whose format file is gone.
    #[error(
        "{} is not a millstream data directory: it holds {entry:?} and no readable {FORMAT_FILE:?} file; choose an \
         empty or new directory, or restore that file (one line, \"{FORMAT_NAME} {FORMAT_VERSION}\")", path.display()
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What was found in it.
        entry: String,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DataDir {
    /// Opens the directory at `root`, creating it if it is not there, and holds it until dropped.
    ///
    /// # Errors
    /// [`DataDirError`]: in use, written by a newer version, something else's directory, or refused by the system.
    pub fn open(root: &Path) -> Result<DataDir, DataDirError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { action, path, source }
        };
        RealDisk.create_dir_all(root).map_err(failed("create", root))?;
        let version = read_version(root)?;
        if let Some(found) = version.filter(|&found| found > FORMAT_VERSION) {
            let path = root.to_owned();
            return Err(DataDirError::Newer { path, found, supported: FORMAT_VERSION });
        }
        let lock = acquire(root)?;
        if version.is_none() {
            let line = format!("{FORMAT_NAME} {FORMAT_VERSION}\n");
            disk::replace_file(&RealDisk, root, FORMAT_FILE, line.as_bytes(), SyncMode::Durable)
                .map_err(failed("write", &root.join(FORMAT_FILE)))?;
        }
        for name in [PARTITIONS_DIR, MODULES_DIR, CACHE_DIR, TLS_DIR] {
            let dir = root.join(name);
            RealDisk.create_dir_all(&dir).map_err(failed("create", &dir))?;
        }
        Ok(DataDir { root: root.to_owned(), _lock: lock })
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The metadata store's file.
    #[must_use]
    pub fn metadata_file(&self) -> PathBuf {
        self.root.join(METADATA_FILE)
    }

    /// The directory above all partitions' logs.
    #[must_use]
    pub fn partitions_dir(&self) -> PathBuf {
        self.root.join(PARTITIONS_DIR)
    }

    /// One partition's log: `partitions/<topic id>-<partition>`. Ids, not names: a topic created again under an old
    /// name never meets the old one's files.
    #[must_use]
    pub fn partition_dir(&self, partition: TopicPartition) -> PathBuf {
        self.partitions_dir().join(format!("{}-{}", partition.topic, partition.partition))
    }

    /// The partition whose log lies in a directory of this name, if it is the name of one.
    #[must_use]
    pub fn partition_of(name: &str) -> Option<TopicPartition> {
        let (topic, partition) = name.split_once('-')?;
        let partition = TopicPartition {
            topic: TopicId(topic.parse().ok()?),
            partition: PartitionIndex(partition.parse().ok()?),
        };
        (format!("{}-{}", partition.topic, partition.partition) == name).then_some(partition)
    }

    /// Uploaded modules, by digest.
    #[must_use]
    pub fn modules_dir(&self) -> PathBuf {
        self.root.join(MODULES_DIR)
    }

    /// What can be made again, compiled modules for one: may be emptied while the broker is stopped.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.root.join(CACHE_DIR)
    }

    /// The cluster's certificate authority and the broker's certificate with its key.
    #[must_use]
    pub fn tls_dir(&self) -> PathBuf {
        self.root.join(TLS_DIR)
    }
}

/// The version in the format file, or none in a directory that is still empty.
fn read_version(root: &Path) -> Result<Option<u32>, DataDirError> {
    let path = root.join(FORMAT_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => match parse_version(&text) {
            Some(version) => Ok(Some(version)),
            None => Err(DataDirError::NotOurs { path: root.to_owned(), entry: FORMAT_FILE.into() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            refuse_foreign(root).map(|()| None)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(DataDirError::NotOurs { path: root.to_owned(), entry: FORMAT_FILE.into() })
        }
        Err(source) => Err(DataDirError::Io { action: "read", path, source }),
    }
}

fn parse_version(text: &str) -> Option<u32> {
    text.trim_end().strip_prefix(FORMAT_NAME)?.strip_prefix(' ')?.parse().ok()
}

/// A directory without a format file must be empty but for an identity: a first start cut short leaves at most its own
/// lock and temporary.
fn refuse_foreign(root: &Path) -> Result<(), DataDirError> {
    let failed = |source| DataDirError::Io { action: "list", path: root.to_owned(), source };
    let temporary = format!("{FORMAT_FILE}{}", disk::TEMPORARY_SUFFIX);
    for entry in fs::read_dir(root).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let known = FOREIGN_AND_FINE.contains(&&*name) || GIVEN.contains(&&*name);
        let fine = known || name == LOCK_FILE || name == temporary;
        if !fine {
            return Err(DataDirError::NotOurs { path: root.to_owned(), entry: name });
        }
    }
    Ok(())
}

/// Takes the lock and writes who holds it, for the message that the next one to try is given.
fn acquire(root: &Path) -> Result<File, DataDirError> {
    let path = root.join(LOCK_FILE);
    let failed = |action| {
        let path = path.clone();
        move |source| DataDirError::Io { action, path, source }
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(DataDirError::InUse { path: root.to_owned(), owner: owner_of(&mut file) });
        }
        Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed("write"))?;
    Ok(file)
}

fn owner_of(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text) {
        Ok(_) => text.trim().parse::<u32>().map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_refused_and_its_owner_named() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        let error = DataDir::open(dir.path()).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }));
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        drop(held);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_of_a_newer_version_is_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("format"), "millstream-data 2\n").unwrap();
        let error = DataDir::open(dir.path()).unwrap_err();
        assert!(matches!(error, DataDirError::Newer { found: 2, supported: 1, .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_with_someone_elses_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        let error = DataDir::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("thesis.tex"), "{error}");
    }

    #[test]
    fn a_directory_with_nothing_but_an_identity_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ca.pem", "broker.pem", "broker.key"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        DataDir::open(dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("broker.key")).unwrap(), b"x");
    }

    #[test]
    fn a_lost_or_unreadable_format_file_does_not_mean_an_empty_directory() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path()).unwrap());
        for damage in [&b"millstream-data one"[..], b"", b"\xff\xfe", b"millstream-data1"] {
            fs::write(dir.path().join("format"), damage).unwrap();
            assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::NotOurs { .. })));
        }
        fs::remove_file(dir.path().join("format")).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::NotOurs { .. })));
    }

    #[test]
    fn a_path_that_is_a_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }

    #[test]
    fn nested_directories_are_created_and_partitions_named_by_id() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("a/b/c")).unwrap();
        let partition = TopicPartition { topic: TopicId(7), partition: PartitionIndex(3) };
        assert!(data.partition_dir(partition).ends_with("partitions/7-3"));
        assert_eq!(DataDir::partition_of("7-3"), Some(partition));
        for name in ["7", "7-", "-3", "7-3-1", "+7-3", "07-3", "lost+found", "99999999999-0"] {
            assert_eq!(DataDir::partition_of(name), None, "{name}");
        }
        assert!(data.modules_dir().is_dir());
    }
}
