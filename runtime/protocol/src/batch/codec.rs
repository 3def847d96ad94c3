//! Compression of the record section: none, LZ4 frame (Kafka's id 3) or zstd (4).
//!
//! Invariant: unpacking stops at the limit it was given, and asks for no memory that neither its input
//! nor what it has already produced justifies.

mod lz4;
mod zstandard;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BatchError;

/// How a record section is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// LZ4 frame format: fast.
    Lz4,
    /// Zstandard: small.
    Zstd,
}

impl Compression {
    /// Every codec there is.
    pub const ALL: [Self; 3] = [Self::None, Self::Lz4, Self::Zstd];

    /// The codec with Kafka's id.
    ///
    /// # Errors
    /// [`BatchError::CodecRefused`] for gzip (1) and snappy (2), [`BatchError::CodecUnknown`] above 4.
    pub const fn from_id(id: u8) -> Result<Self, BatchError> {
        match id {
            0 => Ok(Self::None),
            1 => Err(BatchError::CodecRefused("gzip")),
            2 => Err(BatchError::CodecRefused("snappy")),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            id => Err(BatchError::CodecUnknown(id)),
        }
    }

    /// Kafka's id of the codec.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec's name, as it is written in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Appends `section`, packed, to `out`.
    ///
    /// # Errors
    /// [`BatchError::Codec`] when the library fails, which only a lack of memory makes it do.
    pub fn compress(self, section: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
        match self {
            Self::None => {
                out.extend_from_slice(section);
                Ok(())
            }
            Self::Lz4 => lz4::compress(section, out),
            Self::Zstd => zstandard::compress(section, out),
        }
    }

    /// Unpacks `packed`, which must be one whole section, to at most `limit` bytes.
    ///
    /// # Errors
    /// [`BatchError::Codec`] for damaged input, [`BatchError::DecompressionBomb`] at the limit.
    pub fn decompress(self, packed: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        match self {
            Self::None if packed.len() <= limit => Ok(packed.to_vec()),
            Self::None => Err(self.bomb(limit)),
            Self::Lz4 => lz4::decompress(packed, limit),
            Self::Zstd => zstandard::decompress(packed, limit),
        }
    }

    const fn bomb(self, limit: usize) -> BatchError {
        BatchError::DecompressionBomb { codec: self.name(), limit: limit as u64 }
    }

    const fn damaged(self, reason: &'static str) -> BatchError {
        BatchError::Codec { codec: self.name(), reason }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        let found = Self::ALL.into_iter().find(|codec| codec.name() == name);
        found.ok_or_else(|| UnknownCompression(name.chars().take(64).collect()))
    }
}

/// A word that names no codec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compression {0:?} is not supported: use none, lz4 or zstd")]
pub struct UnknownCompression(String);
