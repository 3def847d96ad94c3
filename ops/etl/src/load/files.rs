//! The files of a load, as they are known again: by name, size and how they begin.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::position::Position;
use crate::error::EtlError;

/// Bytes at the beginning of a file that it is known by.
const KNOWN_BY: u64 = 64 << 10;
/// Digits of a hash that are kept.
const DIGITS: usize = 16;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownFile {
    pub(super) name: String,
    pub(super) size: u64,
    /// SHA-256 of how it begins, the first digits of it.
    pub(super) hash: String,
}

/// All of them, in their order.
#[derive(Debug)]
pub(super) struct FileSet(Vec<KnownFile>);

impl FileSet {
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, EtlError> {
        paths.iter().map(|path| KnownFile::read(path)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn files(&self) -> &[KnownFile] {
        &self.0
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|file| file.size).sum()
    }

    /// How many bytes of them are before a position.
    pub(super) fn bytes_before(&self, position: &Position) -> u64 {
        let before: u64 = self.0.iter().take(position.file).map(|file| file.size).sum();
        before + position.byte
    }

    /// The hash of everything that they are known by.
    pub(super) fn hash(&self) -> String {
        let text = serde_json::to_vec(&self.0).expect("every key is a text");
        digits(&text)
    }

    /// What differs from other files, if anything does.
    pub(super) fn difference(&self, others: &[KnownFile]) -> Option<String> {
        if self.0.len() != others.len() {
            return Some(format!("there are {} files, and were {}", self.0.len(), others.len()));
        }
        self.0.iter().zip(others).find_map(|(is, was)| {
            let name = &was.name;
            if is.name != was.name {
                Some(format!("{} is where {name} was", is.name))
            } else if is.size != was.size {
                Some(format!("{name} has {} bytes, and had {}", is.size, was.size))
            } else if is.hash != was.hash {
                Some(format!("{name} begins differently"))
            } else {
                None
            }
        })
    }
}

impl KnownFile {
    fn read(path: &Path) -> Result<Self, EtlError> {
        let mut file = File::open(path).map_err(EtlError::file("open", path))?;
        let about = file.metadata().map_err(EtlError::file("read", path))?;
        if !about.is_file() {
            let problem = "it is no file".to_owned();
            return Err(EtlError::Format { path: path.to_owned(), problem });
        }
        let mut begins = Vec::new();
        let read = file.by_ref().take(KNOWN_BY).read_to_end(&mut begins);
        read.map_err(EtlError::file("read", path))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, size: about.len(), hash: digits(&begins) })
    }
}

fn digits(bytes: &[u8]) -> String {
    let mut text: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(DIGITS);
    text
}
