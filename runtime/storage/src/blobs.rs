//! Files named by what is in them: uploaded modules.
//!
//! Invariant: a blob that can be read is whole and is what its name says: it is checked against its SHA-256 on every
//! read, and it gets its name only after its bytes are synced.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;
use millstream_protocol::limits::MAX_MODULE_BYTES;
use sha2::{Digest, Sha256};

use crate::disk::{self, Disk, SyncMode};

/// The SHA-256 of a blob's bytes, printed as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub [u8; 32]);

/// A directory of blobs.
#[derive(Debug, Clone)]
pub struct Blobs<D> {
    disk: D,
    dir: PathBuf,
}

/// Why a blob was not stored, found or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// There is none of that name.
    #[error("blob {0} is not stored here")]
    NotFound(BlobId),
    /// Its bytes are not what its name says.
    #[error(
        "blob {id} in {} is damaged: its bytes have SHA-256 {found}; upload it again", path.display()
    )]
    Corrupt {
        /// The blob asked for.
        id: BlobId,
        /// What its bytes add up to.
        found: BlobId,
        /// Its file.
        path: PathBuf,
    },
    /// It is larger than a blob may be.
    #[error("blob of {found} bytes is larger than the {limit} allowed")]
    TooLarge {
        /// Bytes it has.
        found: usize,
        /// Bytes it may have.
        limit: usize,
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

impl<D: Disk> Blobs<D> {
    /// Opens the directory, creating it if it is not there, and clears away what an interrupted [`Blobs::put`] left.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the file system refuses.
    pub fn open(disk: D, dir: PathBuf) -> Result<Blobs<D>, BlobError> {
        let blobs = Blobs { disk, dir };
        blobs.disk.create_dir_all(&blobs.dir).map_err(blobs.failed("create"))?;
        for name in blobs.disk.list(&blobs.dir).map_err(blobs.failed("list"))? {
            if name.ends_with(disk::TEMPORARY_SUFFIX) {
                disk::remove_if_present(&blobs.disk, &blobs.dir.join(name))
                    .map_err(blobs.failed("clear"))?;
            }
        }
        Ok(blobs)
    }

    /// Stores `bytes` durably and returns their name. Storing what is there already is cheap, and mends it if damaged.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`], or [`BlobError::Io`] when the file system refuses.
    pub fn put(&self, bytes: &[u8]) -> Result<BlobId, BlobError> {
        if bytes.len() > MAX_MODULE_BYTES {
            return Err(BlobError::TooLarge { found: bytes.len(), limit: MAX_MODULE_BYTES });
        }
        let id = BlobId::of(bytes);
        if self.get(&id).is_err() {
            disk::replace_file(&self.disk, &self.dir, &id.to_string(), bytes, SyncMode::Durable)
                .map_err(self.failed("write to"))?;
        }
        Ok(id)
    }

    /// Reads a blob and checks it.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Corrupt`], or [`BlobError::Io`] when the file system refuses.
    pub fn get(&self, id: &BlobId) -> Result<Bytes, BlobError> {
        let path = self.dir.join(id.to_string());
        let bytes = match disk::read_file(&self.disk, &path, MAX_MODULE_BYTES as u64) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BlobError::NotFound(*id));
            }
            Err(source) => {
                return Err(BlobError::Io { action: "read", path, source });
            }
        };
        let found = BlobId::of(&bytes);
        if found != *id {
            return Err(BlobError::Corrupt { id: *id, found, path });
        }
        Ok(bytes.into())
    }

    /// Whether a blob of that name is there; whether it is whole, only [`Blobs::get`] says.
    #[must_use]
    pub fn contains(&self, id: &BlobId) -> bool {
        self.disk.len(&self.dir.join(id.to_string())).is_ok()
    }

    /// Removes a blob durably; one that is not there is fine.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the file system refuses.
    pub fn remove(&self, id: &BlobId) -> Result<(), BlobError> {
        disk::remove_if_present(&self.disk, &self.dir.join(id.to_string()))
            .and_then(|()| self.disk.sync_dir(&self.dir))
            .map_err(self.failed("remove from"))
    }

    /// The names of all blobs, in order.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the file system refuses.
    pub fn list(&self) -> Result<Vec<BlobId>, BlobError> {
        let names = self.disk.list(&self.dir).map_err(self.failed("list"))?;
        let mut ids: Vec<BlobId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> BlobError {
        let path = self.dir.clone();
        move |source| BlobError::Io { action, path: path.clone(), source }
    }
}

impl BlobId {
    /// The name of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> BlobId {
        BlobId(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a SHA-256: 64 lower-case hexadecimal digits")]
pub struct InvalidBlobId(String);

impl FromStr for BlobId {
    type Err = InvalidBlobId;

    fn from_str(text: &str) -> Result<BlobId, InvalidBlobId> {
        let invalid = || InvalidBlobId(text.chars().take(80).collect());
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(invalid());
        }
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (digit(pair[0]), digit(pair[1]));
            *byte = high.zip(low).map(|(high, low)| high << 4 | low).ok_or_else(invalid)?;
        }
        Ok(BlobId(id))
    }
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fault, MemDisk, Operation};

    fn blobs(disk: &MemDisk) -> Blobs<MemDisk> {
        Blobs::open(disk.clone(), "/modules".into()).unwrap()
    }

    #[test]
    fn a_stored_blob_survives_a_crash_and_an_interrupted_one_leaves_nothing() {
        for seed in 0..50 {
            let disk = MemDisk::new();
            let stored = blobs(&disk).put(b"wasm").unwrap();
            disk.inject(Fault::eio(Operation::Rename));
            blobs(&disk).put(b"other").unwrap_err();
            disk.crash(seed);
            let after = blobs(&disk);
            assert_eq!(&after.get(&stored).unwrap()[..], b"wasm");
            assert_eq!(after.list().unwrap(), [stored]);
            assert_eq!(disk.list("/modules".as_ref()).unwrap().len(), 1);
        }
    }

    #[test]
    fn a_flipped_byte_is_found_and_mended_by_storing_again() {
        let disk = MemDisk::new();
        let blobs = blobs(&disk);
        let id = blobs.put(b"wasm").unwrap();
        disk.flip(&blobs.dir.join(id.to_string()), 2, 1).unwrap();
        assert!(matches!(blobs.get(&id), Err(BlobError::Corrupt { .. })));
        assert_eq!(blobs.put(b"wasm").unwrap(), id);
        assert_eq!(&blobs.get(&id).unwrap()[..], b"wasm");
        blobs.remove(&id).unwrap();
        assert!(matches!(blobs.get(&id), Err(BlobError::NotFound(_))));
    }

    #[test]
    fn a_name_is_parsed_as_printed_and_nothing_else() {
        let id = BlobId::of(b"");
        assert_eq!(
            id.to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(id.to_string().parse::<BlobId>().unwrap(), id);
        for text in ["", "e3", &id.to_string().to_uppercase(), &"é".repeat(32)] {
            assert!(text.parse::<BlobId>().is_err());
        }
    }
}
