//! The epoch table of a log: which leader epoch began at which offset (KIP-101), in the file `epochs`.
//!
//! ```text
//! MSEPOCHS | count u32 | count × ( epoch u32 | first offset u64 ) | crc u32        all big endian
//! ```
//!
//! Invariant: epochs and offsets both rise from entry to entry, and every batch below the recovery point belongs to an
//! epoch in the file: the table can be made again from the log, and is never ahead of it.

use std::io;
use std::path::Path;

use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::ids::{LeaderEpoch, Offset};

use crate::disk::{self, Disk, SyncMode};

const FILE: &str = "epochs";
const MAGIC: &[u8; 8] = b"MSEPOCHS";
const ENTRY: usize = 12;
/// Far more leader changes than a log sees; bounds what a damaged file makes us read.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    entries: Vec<(LeaderEpoch, Offset)>,
    /// Changed since it was last written.
    dirty: bool,
    /// The last attempt to write it found no room.
    unstored: bool,
}

impl Epochs {
    pub(super) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    pub(super) fn last(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// Takes note that a batch of `epoch` begins at `offset`.
    pub(super) fn note(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if self.last().is_none_or(|last| last < epoch) {
            self.entries.push((epoch, offset));
            self.dirty = true;
        }
    }

    /// Forgets what began at `end` or later.
    pub(super) fn truncate(&mut self, end: Offset) {
        let before = self.entries.len();
        self.entries.retain(|(_, first)| *first < end);
        self.dirty |= self.entries.len() < before;
    }

    /// Forgets epochs that ended before `start`. That of the batch right before it stays: it is the
    /// last epoch of a log that is cut back to its start.
    pub(super) fn advance(&mut self, start: Offset) {
        let after = self.entries.partition_point(|(_, first)| *first < start);
        let gone = after.saturating_sub(1);
        self.entries.drain(..gone);
        self.dirty |= gone > 0;
    }

    /// The bytes to write if the table changed since it was last asked.
    pub(super) fn take_changes(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.dirty).then(|| self.encode())
    }

    /// What was taken to be written is, or found no room and is to be written another time. Says
    /// whether that is news.
    pub(super) fn stored(&mut self, stored: bool) -> bool {
        self.dirty |= !stored;
        std::mem::replace(&mut self.unstored, !stored) == stored
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + 8 + self.entries.len() * ENTRY);
        bytes.extend_from_slice(MAGIC);
        let count = u32::try_from(self.entries.len()).expect("fewer epochs than there are numbers");
        bytes.extend_from_slice(&count.to_be_bytes());
        for (epoch, first) in &self.entries {
            bytes.extend_from_slice(&epoch.get().to_be_bytes());
            bytes.extend_from_slice(&first.get().to_be_bytes());
        }
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Epochs> {
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        let body = covered.strip_prefix(MAGIC)?;
        let (count, body) = body.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
        let whole = crc32c(covered) == u32::from_be_bytes(*crc)
            && count.checked_mul(ENTRY) == Some(body.len());
        if !whole {
            return None;
        }
        let mut entries = Vec::with_capacity(count);
        for entry in body.chunks_exact(ENTRY) {
            let epoch = LeaderEpoch(u32::from_be_bytes(*entry.first_chunk()?));
            let first = Offset(u64::from_be_bytes(*entry.last_chunk()?));
            entries.push((epoch, first));
        }
        let rises = entries.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        rises.then_some(Epochs { entries, ..Epochs::default() })
    }
}

/// Reads the table; none where it is missing or damaged, which [`super::recovery`] answers by making it again.
pub(super) fn load<D: Disk>(disk: &D, dir: &Path) -> io::Result<Option<Epochs>> {
    match disk::read_file(disk, &dir.join(FILE), MAX_FILE_BYTES) {
        Ok(bytes) => Ok(Epochs::decode(&bytes)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => Ok(None),
            _ => Err(error),
        },
    }
}

/// Replaces the file, durably.
pub(super) fn store<D: Disk>(disk: &D, dir: &Path, bytes: &[u8]) -> io::Result<()> {
    disk::replace_file(disk, dir, FILE, bytes, SyncMode::Durable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(u32, u64)]) -> Epochs {
        let mut epochs = Epochs::default();
        for &(epoch, first) in entries {
            epochs.note(LeaderEpoch(epoch), Offset(first));
        }
        epochs
    }

    #[test]
    fn only_a_new_epoch_makes_an_entry() {
        let epochs = table(&[(1, 0), (1, 5), (4, 9), (4, 12)]);
        assert_eq!(epochs.entries(), [(LeaderEpoch(1), Offset(0)), (LeaderEpoch(4), Offset(9))]);
    }

    #[test]
    fn cutting_either_end_keeps_the_epoch_that_reaches_over_it() {
        let mut epochs = table(&[(1, 0), (2, 10), (3, 20)]);
        epochs.advance(Offset(15));
        epochs.truncate(Offset(20));
        assert_eq!(epochs.entries(), [(LeaderEpoch(2), Offset(10))]);
        epochs.advance(Offset(10));
        assert_eq!(epochs.entries().len(), 1);
        let mut epochs = table(&[(1, 0), (2, 10)]);
        epochs.advance(Offset(10));
        epochs.truncate(Offset(10));
        assert_eq!(epochs.last(), Some(LeaderEpoch(1)));
    }

    #[test]
    fn every_flipped_byte_of_the_file_is_found() {
        let bytes = table(&[(1, 0), (2, 10)]).take_changes().unwrap();
        assert!(Epochs::decode(&bytes).is_some());
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x10;
            assert_eq!(Epochs::decode(&damaged), None, "byte {position}");
            assert_eq!(Epochs::decode(&bytes[..position]), None);
        }
    }
}
