//! The checkpoint of a log: its start, up to where it is known to be synced, and a truncation under way.
//!
//! ```text
//! slot 0 | slot 1 | hint          512 bytes each, with a checksum each
//! ```
//! The two slots are written in turn, each synced before the other is touched: one of them is always whole. The hint is
//! written after every sync of the log and never synced itself: it always says something true, reaches a restart after
//! `kill -9`, and may be lost with the power. It counts only beside the slot it was written under.
//!
//! Invariant: the recovery point in here is never beyond what was synced. The start and a truncation under way are in
//! both slots before anything is done about them, so that no single damaged slot takes either back.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::ids::Offset;

use crate::disk::{self, Disk, DiskFile};

const FILE: &str = "checkpoint";
const MAGIC: &[u8; 8] = b"MSCHECK1";
const SLOT_BYTES: usize = 512;
const USED_BYTES: usize = 60;
const HINT: usize = 2;
const SLOTS: usize = 3;
const NO_TRUNCATION: u64 = u64::MAX;

/// A place in a log: an offset, and where its batch is or will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: Offset,
    /// The base offset of its segment.
    pub(super) segment: Offset,
    /// Bytes from the start of the segment.
    pub(super) position: u64,
}

/// What the checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The first offset of the log that may be read.
    pub(super) start: Offset,
    /// Everything before this is synced and was checked.
    pub(super) recovery: Place,
    /// Everything from here on was to be cut away, and perhaps was not yet.
    pub(super) truncate_to: Option<Offset>,
}

/// What was found on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Missing,
    Damaged,
    Whole {
        checkpoint: Checkpoint,
        /// The other slot holds something that was not written by us, or not wholly.
        other_damaged: bool,
        /// A write of start or truncation was cut short: what it said may not be durable, nor the file's name.
        unsettled: bool,
    },
}

/// The file, opened for writing when there is first something to write.
#[derive(Debug)]
pub(super) struct CheckpointFile<D: Disk> {
    disk: D,
    dir: PathBuf,
    file: Option<D::File>,
    name_synced: bool,
    sequence: u64,
    current: Checkpoint,
}

impl<D: Disk> CheckpointFile<D> {
    /// Reads the file, if there is one. `empty` is what counts where there is none.
    pub(super) fn open(disk: &D, dir: &Path, empty: Checkpoint) -> io::Result<(Self, Found)> {
        let path = dir.join(FILE);
        let mut this = CheckpointFile {
            disk: disk.clone(),
            dir: dir.to_owned(),
            file: None,
            name_synced: false,
            sequence: 0,
            current: empty,
        };
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((this, Found::Missing));
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::with_capacity(SLOTS * SLOT_BYTES);
        disk::read_fully(&file, &mut bytes, SLOTS * SLOT_BYTES, 0)?;
        this.file = Some(file);
        let slot = |n: usize| bytes.get(n * SLOT_BYTES..).and_then(decode);
        let (Some((sequence, written)), other) = newer(slot(0), slot(1)) else {
            return Ok((this, Found::Damaged));
        };
        let mut checkpoint = written;
        if let Some((under, hint)) = slot(HINT)
            && under == sequence
            && checkpoint.recovery.offset < hint.recovery.offset
        {
            checkpoint.recovery = hint.recovery;
        }
        this.sequence = sequence;
        this.current = written;
        let other_damaged = other.is_none() && sequence > 1;
        // A hint may have written the first slot; the second is written only after the name was synced.
        this.name_synced = sequence > 1;
        let matters = written.start > Offset::ZERO || written.truncate_to.is_some();
        let differ = other.is_some_and(|(_, other)| {
            (other.start, other.truncate_to) != (written.start, written.truncate_to)
        });
        let unsettled = differ || matters && !this.name_synced;
        Ok((this, Found::Whole { checkpoint, other_damaged, unsettled }))
    }

    /// What was last written durably, without what a hint says beyond it.
    pub(super) fn current(&self) -> &Checkpoint {
        &self.current
    }

    /// Writes what is true now, durably.
    pub(super) fn write(&mut self, checkpoint: Checkpoint) -> io::Result<()> {
        // Until it has succeeded the number is not used up: a write that is tried again must not go to the whole slot.
        let sequence = self.sequence + 1;
        self.file()?;
        if !self.name_synced {
            self.disk.sync_dir(&self.dir)?;
            self.name_synced = true;
        }
        self.write_slot(slot_of(sequence), sequence, &checkpoint)?;
        self.file()?.sync_data()?;
        self.sequence = sequence;
        self.current = checkpoint;
        Ok(())
    }

    /// Writes what is true now into both slots, durably: for what must not be taken back by one damaged slot.
    pub(super) fn write_twice(&mut self, checkpoint: Checkpoint) -> io::Result<()> {
        self.write(checkpoint)?;
        self.write(checkpoint)
    }

    /// Notes how far the log is synced, without syncing the note.
    pub(super) fn hint(&mut self, recovery: Place) -> io::Result<()> {
        let hint = Checkpoint { recovery, ..self.current };
        if self.sequence == 0 {
            // There is no slot yet for the hint to stand beside.
            self.write_slot(slot_of(1), 1, &self.current.clone())?;
            self.sequence = 1;
        }
        self.write_slot(HINT, self.sequence, &hint)
    }

    fn write_slot(&mut self, slot: usize, sequence: u64, says: &Checkpoint) -> io::Result<()> {
        let bytes = encode(sequence, says);
        let position = (slot * SLOT_BYTES) as u64;
        disk::write_all_vectored(self.file()?, &mut [IoSlice::new(&bytes)], position)
    }

    fn file(&mut self) -> io::Result<&D::File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.disk.create(&self.dir.join(FILE))?,
        };
        Ok(self.file.insert(file))
    }
}

fn slot_of(sequence: u64) -> usize {
    usize::from(sequence % 2 == 1)
}

type Slot = Option<(u64, Checkpoint)>;

fn newer(a: Slot, b: Slot) -> (Slot, Slot) {
    let sequence = |slot: Slot| slot.map(|(sequence, _)| sequence);
    if sequence(a) >= sequence(b) { (a, b) } else { (b, a) }
}

fn encode(sequence: u64, checkpoint: &Checkpoint) -> [u8; SLOT_BYTES] {
    let Checkpoint { start, recovery, truncate_to } = checkpoint;
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(MAGIC);
    let numbers = [
        sequence,
        start.get(),
        recovery.offset.get(),
        recovery.segment.get(),
        recovery.position,
        truncate_to.map_or(NO_TRUNCATION, Offset::get),
    ];
    for (field, number) in slot[8..56].chunks_exact_mut(8).zip(numbers) {
        field.copy_from_slice(&number.to_be_bytes());
    }
    let crc = crc32c(&slot[..56]);
    slot[56..USED_BYTES].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn decode(bytes: &[u8]) -> Slot {
    let bytes: &[u8; USED_BYTES] = bytes.first_chunk()?;
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c(covered) != u32::from_be_bytes(*crc) {
        return None;
    }
    let body = covered.strip_prefix(MAGIC)?;
    let number = |n: usize| body[n * 8..].first_chunk().copied().map(u64::from_be_bytes);
    let recovery =
        Place { offset: Offset(number(2)?), segment: Offset(number(3)?), position: number(4)? };
    let truncate_to = number(5).filter(|&to| to != NO_TRUNCATION).map(Offset);
    Some((number(0)?, Checkpoint { start: Offset(number(1)?), recovery, truncate_to }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemDisk;

    const DIR: &str = "/log";

    fn place(offset: u64) -> Place {
        Place { offset: Offset(offset), segment: Offset::ZERO, position: offset * 100 }
    }

    fn at(start: u64, recovery: u64) -> Checkpoint {
        Checkpoint { start: Offset(start), recovery: place(recovery), truncate_to: None }
    }

    fn open(disk: &MemDisk) -> (CheckpointFile<MemDisk>, Found) {
        disk.create_dir_all(DIR.as_ref()).unwrap();
        CheckpointFile::open(disk, DIR.as_ref(), at(0, 0)).unwrap()
    }

    fn found(disk: &MemDisk) -> Option<Checkpoint> {
        match open(disk).1 {
            Found::Whole { checkpoint, .. } => Some(checkpoint),
            _ => None,
        }
    }

    #[test]
    fn what_was_written_survives_every_crash_and_a_hint_is_true_or_absent() {
        for seed in 0..300 {
            let disk = MemDisk::new();
            let (mut file, missing) = open(&disk);
            assert_eq!(missing, Found::Missing);
            file.hint(place(1)).unwrap();
            file.write(at(0, 2)).unwrap();
            file.write_twice(at(3, 4)).unwrap();
            file.hint(place(5)).unwrap();
            file.hint(place(6)).unwrap();
            disk.crash(seed);
            let found = found(&disk).unwrap();
            assert_eq!(found.start, Offset(3));
            assert!([4, 5, 6].map(place).contains(&found.recovery), "{found:?}");
        }
    }

    #[test]
    fn a_hint_reaches_a_restart_after_a_kill_and_is_void_after_the_next_write() {
        let disk = MemDisk::new();
        let (mut file, _) = open(&disk);
        file.write(at(0, 10)).unwrap();
        file.hint(place(20)).unwrap();
        disk.kill();
        assert_eq!(found(&disk).unwrap().recovery, place(20));
        let (mut file, _) = open(&disk);
        file.write(at(0, 5)).unwrap();
        disk.kill();
        assert_eq!(found(&disk).unwrap().recovery, place(5));
    }

    #[test]
    fn no_flipped_byte_moves_the_start_back() {
        for position in 0..(SLOTS * SLOT_BYTES) as u64 {
            let disk = MemDisk::new();
            let (mut file, _) = open(&disk);
            file.write(at(0, 0)).unwrap();
            file.write_twice(at(7, 9)).unwrap();
            file.hint(place(12)).unwrap();
            disk.flip(&Path::new(DIR).join(FILE), position, 1).unwrap_or_default();
            assert_eq!(found(&disk).unwrap().start, Offset(7), "byte {position}");
        }
    }

    #[test]
    fn a_file_that_is_not_one_is_damaged_and_not_missing() {
        let disk = MemDisk::new();
        drop(open(&disk));
        disk.create(&Path::new(DIR).join(FILE)).unwrap();
        assert_eq!(open(&disk).1, Found::Damaged);
    }
}
