//! The decision to put new segments in place, and up to where the log is clean: `compaction`, then `cleaned`.
//!
//! ```text
//! MSCOMPA1 | cleaned to u64 | pass u64 | goes u32 | comes u32 | goes × base u64 | comes × base u64 | crc u32
//! ```
//! All big endian. While the file is called `compaction`, the segments it names are to be removed and to be put in
//! place, however often that is begun: a segment that has its place is not found under its old name any more. With
//! another name the same file says how far the log is clean.
//!
//! Invariant: what the file says to be clean is so as soon as it is called `cleaned`; a damaged or missing `cleaned`
//! says that nothing is, which costs another pass. A decision that does not read is not guessed at.

use std::io;
use std::path::Path;

use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::ids::Offset;

use super::super::files::{compacted_name, is_compacted, segment_name};
use super::super::index;
use crate::disk::{self, Disk, SyncMode};

const UNDER_WAY: &str = "compaction";
const DONE: &str = "cleaned";
const MAGIC: &[u8; 8] = b"MSCOMPA1";
const HEAD_BYTES: usize = 32;
const MAX_FILE_BYTES: u64 = 64 << 20;

/// What is to go, what comes in its place, and what is true after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) cleaned_to: Offset,
    pub(super) pass: u64,
    /// Bases of the old segments.
    pub(super) goes: Vec<Offset>,
    /// Bases of the new ones.
    pub(super) comes: Vec<Offset>,
}

impl Decision {
    /// Makes the decision, durably. The new segments and their names must be durable already.
    pub(super) fn store<D: Disk>(&self, disk: &D, dir: &Path) -> io::Result<()> {
        disk::replace_file(disk, dir, UNDER_WAY, &self.encode(), SyncMode::Durable)
    }

    /// Whether a decision is under way.
    pub(super) fn is_made<D: Disk>(disk: &D, dir: &Path) -> bool {
        let opened = disk.open(&dir.join(UNDER_WAY));
        !matches!(opened, Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Does what was decided, durably. May be repeated if it was cut short. Takes no room on the disk.
    pub(super) fn carry_out<D: Disk>(&self, disk: &D, dir: &Path) -> io::Result<()> {
        for base in self.goes.iter().chain(&self.comes) {
            index::remove(disk, dir, *base)?;
        }
        for base in self.goes.iter().filter(|base| !self.comes.contains(base)) {
            disk::remove_if_present(disk, &dir.join(segment_name(*base)))?;
        }
        for base in &self.comes {
            let from = dir.join(compacted_name(*base, self.pass));
            match disk.rename(&from, &dir.join(segment_name(*base))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
        disk.sync_dir(dir)?;
        disk.rename(&dir.join(UNDER_WAY), &dir.join(DONE))?;
        disk.sync_dir(dir)
    }

    fn encode(&self) -> Vec<u8> {
        let count = |bases: &[Offset]| {
            u32::try_from(bases.len()).expect("fewer segments than there are numbers").to_be_bytes()
        };
        let bases = self.goes.len() + self.comes.len();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + 8 * bases + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.cleaned_to.get().to_be_bytes());
        bytes.extend_from_slice(&self.pass.to_be_bytes());
        bytes.extend_from_slice(&count(&self.goes));
        bytes.extend_from_slice(&count(&self.comes));
        for base in self.goes.iter().chain(&self.comes) {
            bytes.extend_from_slice(&base.get().to_be_bytes());
        }
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Decision> {
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c(covered) != u32::from_be_bytes(*crc) {
            return None;
        }
        let (cleaned_to, rest) = covered.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (pass, rest) = rest.split_first_chunk()?;
        let (goes, rest) = rest.split_first_chunk()?;
        let (comes, rest) = rest.split_first_chunk()?;
        let goes = usize::try_from(u32::from_be_bytes(*goes)).ok()?;
        let comes = usize::try_from(u32::from_be_bytes(*comes)).ok()?;
        let (bases, odd) = rest.as_chunks::<8>();
        if !odd.is_empty() || goes.checked_add(comes) != Some(bases.len()) {
            return None;
        }
        let offsets = |bases: &[[u8; 8]]| {
            bases.iter().map(|base| Offset(u64::from_be_bytes(*base))).collect::<Vec<_>>()
        };
        Some(Decision {
            cleaned_to: Offset(u64::from_be_bytes(*cleaned_to)),
            pass: u64::from_be_bytes(*pass),
            goes: offsets(&bases[..goes]),
            comes: offsets(&bases[goes..]),
        })
    }
}

/// Finishes a swap that an earlier process had decided, if it had, and removes what its passes have left. Says whether
/// there was one.
pub(in crate::log) fn recover<D: Disk>(disk: &D, dir: &Path) -> io::Result<bool> {
    let under_way = read(disk, dir, UNDER_WAY)?;
    if let Some(bytes) = &under_way {
        let Some(decided) = Decision::decode(bytes) else {
            let what = "the file compaction is damaged: which segments are to go is not known";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        };
        // What was read may have been in the system's memory only.
        decided.store(disk, dir)?;
        decided.carry_out(disk, dir)?;
    }
    for name in disk.list(dir)?.iter().filter(|name| is_compacted(name)) {
        disk::remove_if_present(disk, &dir.join(name))?;
    }
    Ok(under_way.is_some())
}

/// Up to where the log is clean.
pub(in crate::log) fn cleaned<D: Disk>(disk: &D, dir: &Path) -> io::Result<Offset> {
    let bytes = match read(disk, dir, DONE) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
        read => read?,
    };
    let known = bytes.and_then(|bytes| Decision::decode(&bytes));
    Ok(known.map_or(Offset::ZERO, |known| known.cleaned_to))
}

/// Says, durably, that no more than what is before `to` is clean.
pub(in crate::log) fn forget_cleaned<D: Disk>(disk: &D, dir: &Path, to: Offset) -> io::Result<()> {
    let only = Decision { cleaned_to: to, pass: 0, goes: Vec::new(), comes: Vec::new() };
    disk::replace_file(disk, dir, DONE, &only.encode(), SyncMode::Durable)
}

fn read<D: Disk>(disk: &D, dir: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    match disk::read_file(disk, &dir.join(name), MAX_FILE_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemDisk;

    const DIR: &str = "/log";

    fn decision() -> Decision {
        let goes = vec![Offset(0), Offset(10), Offset(30)];
        Decision { cleaned_to: Offset(40), pass: 7, goes, comes: vec![Offset(0)] }
    }

    fn disk_with(name: &str, bytes: &[u8]) -> MemDisk {
        let disk = MemDisk::new();
        disk.create_dir_all(DIR.as_ref()).unwrap();
        disk::replace_file(&disk, DIR.as_ref(), name, bytes, SyncMode::Durable).unwrap();
        disk
    }

    #[test]
    fn every_flipped_byte_of_a_decision_is_found_and_it_is_not_guessed_at() {
        let bytes = decision().encode();
        assert_eq!(Decision::decode(&bytes), Some(decision()));
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 4;
            assert_eq!(Decision::decode(&damaged), None, "byte {position}");
            assert_eq!(Decision::decode(&bytes[..position]), None);
            let disk = disk_with(UNDER_WAY, &damaged);
            assert!(recover(&disk, DIR.as_ref()).is_err());
        }
    }

    #[test]
    fn a_damaged_or_missing_note_says_that_nothing_is_clean() {
        let bytes = decision().encode();
        let whole = disk_with(DONE, &bytes);
        assert_eq!(cleaned(&whole, DIR.as_ref()).unwrap(), Offset(40));
        forget_cleaned(&whole, DIR.as_ref(), Offset(20)).unwrap();
        assert_eq!(cleaned(&whole, DIR.as_ref()).unwrap(), Offset(20));
        let damaged = disk_with(DONE, &bytes[..bytes.len() - 1]);
        assert_eq!(cleaned(&damaged, DIR.as_ref()).unwrap(), Offset::ZERO);
        let missing = disk_with("other", &bytes);
        assert_eq!(cleaned(&missing, DIR.as_ref()).unwrap(), Offset::ZERO);
    }
}
