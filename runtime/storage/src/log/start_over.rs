//! Starting over: a replica whose leader has deleted what it lacks drops its log and begins at the leader's start.
//!
//! ```text
//! start-over:  MSOVER01 | offset u64 | epoch u32 | length u32 | producers | crc u32        all big endian
//! ```
//! The file is the decision: while it is there, everything else in the directory is to go, however often that is
//! begun. The same takes place at run time and when an open finds the file.
//!
//! Invariant: what was there before stays whole until the decision is durable, and nothing of it is left when the
//! decision is gone.

use std::io;
use std::path::Path;
use std::sync::Arc;

use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::ids::{LeaderEpoch, Offset};

use super::PartitionLog;
use super::checkpoint::{Checkpoint, CheckpointFile, Place};
use super::epochs::{self, Epochs};
use super::error::MaintenanceError;
use super::maintenance::is_aside;
use super::producer_snapshot;
use super::segment::Segment;
use crate::disk::{self, Disk, SyncMode};

const FILE: &str = "start-over";
const MAGIC: &[u8; 8] = b"MSOVER01";
const HEAD_BYTES: usize = 24;
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Where an empty log is to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartOver {
    /// Its first offset.
    pub start: Offset,
    /// The epoch of the record before it.
    pub epoch_before: LeaderEpoch,
    /// What is known of producers there; what a producer snapshot holds.
    pub producers: Vec<u8>,
}

impl<D: Disk> PartitionLog<D> {
    /// Drops everything and begins anew, durably. For a replica that is so far behind its leader that what it
    /// lacks is deleted, and for one whose log is damaged; what was committed is the caller's to protect. Readers
    /// find the new log under their handles.
    ///
    /// # Errors
    /// [`MaintenanceError::DiskFull`]: the log is as it was. After any other error it is stopped, and the next open
    /// finishes what was begun.
    ///
    /// # Panics
    /// When a prepared sync was not completed.
    pub fn start_over(&mut self, to: &StartOver) -> Result<(), MaintenanceError> {
        self.running()?;
        assert!(!self.sync_pending, "a log does not start over under a sync");
        let (disk, dir) = (self.shared.disk.clone(), self.shared.dir.clone());
        let decided = disk::replace_file(&disk, &dir, FILE, &to.encode(), SyncMode::Durable);
        decided.map_err(|error| self.failed("start over", error))?;
        // Before a file goes: who reads by name shall not take its successor for damaged.
        self.shared.next_generation();
        let begun = to.carry_out(&disk, &dir);
        let (segment, checkpoint) = begun.map_err(|error| self.half_done(&error))?;
        self.begin(to, segment, checkpoint);
        Ok(())
    }

    fn begin(&mut self, to: &StartOver, segment: Segment<D>, checkpoint: CheckpointFile<D>) {
        let segment = Arc::new(segment);
        self.shared.next_generation();
        self.shared.change_segments(|segments| *segments = vec![segment.clone()]);
        self.shared.set_start(to.start);
        self.shared.set_cleaned_to(Offset::ZERO);
        self.shared.set_end(to.start);
        self.shared.set_durable_end(to.start);
        self.active = segment;
        self.dirty.clear();
        self.names_dirty = false;
        self.durable_place = beginning(to.start);
        self.epochs = to.epochs();
        self.checkpoint = checkpoint;
        self.active_since = None;
    }
}

impl StartOver {
    /// Finishes what an earlier process had decided, if it had.
    pub(super) fn finish<D: Disk>(disk: &D, dir: &Path) -> io::Result<Option<Offset>> {
        let bytes = match disk::read_file(disk, &dir.join(FILE), MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(decided) = Self::decode(&bytes) else {
            let what = "the file start-over is damaged: what it decided is not known";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        };
        // What was read may have been in the system's memory only.
        disk::replace_file(disk, dir, FILE, &bytes, SyncMode::Durable)?;
        decided.carry_out(disk, dir)?;
        Ok(Some(decided.start))
    }

    fn carry_out<D: Disk>(
        &self,
        disk: &D,
        dir: &Path,
    ) -> io::Result<(Segment<D>, CheckpointFile<D>)> {
        for name in disk.list(dir)? {
            if name != FILE && !is_aside(&name) {
                disk::remove_if_present(disk, &dir.join(name))?;
            }
        }
        disk.sync_dir(dir)?;
        if let Some(table) = self.epochs().take_changes() {
            epochs::store(disk, dir, &table)?;
        }
        producer_snapshot::store(disk, dir, self.start, &self.producers)?;
        let segment = Segment::create(disk, dir, self.start)?;
        disk.sync_dir(dir)?;
        let begins =
            Checkpoint { start: self.start, recovery: beginning(self.start), truncate_to: None };
        let (mut checkpoint, _) = CheckpointFile::open(disk, dir, begins)?;
        checkpoint.write_twice(begins)?;
        disk.remove(&dir.join(FILE))?;
        disk.sync_dir(dir)?;
        Ok((segment, checkpoint))
    }

    /// The epoch before the start is known; nothing else is.
    fn epochs(&self) -> Epochs {
        let mut epochs = Epochs::default();
        if let Some(before) = self.start.checked_sub(1) {
            epochs.note(self.epoch_before, before);
        }
        epochs
    }

    fn encode(&self) -> Vec<u8> {
        let len = u32::try_from(self.producers.len()).expect("a snapshot is under 4 GiB");
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.producers.len() + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.start.get().to_be_bytes());
        bytes.extend_from_slice(&self.epoch_before.get().to_be_bytes());
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&self.producers);
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<StartOver> {
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c(covered) != u32::from_be_bytes(*crc) {
            return None;
        }
        let rest = covered.strip_prefix(MAGIC)?;
        let (start, rest) = rest.split_first_chunk::<8>()?;
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let (len, producers) = rest.split_first_chunk::<4>()?;
        if usize::try_from(u32::from_be_bytes(*len)) != Ok(producers.len()) {
            return None;
        }
        Some(StartOver {
            start: Offset(u64::from_be_bytes(*start)),
            epoch_before: LeaderEpoch(u32::from_be_bytes(*epoch)),
            producers: producers.to_vec(),
        })
    }
}

fn beginning(at: Offset) -> Place {
    Place { offset: at, segment: at, position: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fault, MemDisk, Operation};
    use crate::log::LogConfig;
    use millstream_protocol::ids::Timestamp;

    const DIR: &str = "/log";

    fn to(start: u64) -> StartOver {
        let producers = b"known producers".to_vec();
        StartOver { start: Offset(start), epoch_before: LeaderEpoch(7), producers }
    }

    fn open(disk: &MemDisk) -> (PartitionLog<MemDisk>, super::super::Recovered) {
        PartitionLog::open(disk.clone(), DIR.as_ref(), LogConfig::default(), Timestamp(0)).unwrap()
    }

    #[test]
    fn a_log_that_started_over_is_found_as_it_began() {
        let disk = MemDisk::new();
        let (mut log, _) = open(&disk);
        log.start_over(&to(60)).unwrap();
        assert_eq!(
            (log.start(), log.end(), log.durable_end()),
            (Offset(60), Offset(60), Offset(60))
        );
        assert_eq!(log.epochs(), [(LeaderEpoch(7), Offset(59))]);
        drop(log);
        let (log, recovered) = open(&disk);
        assert_eq!((log.start(), log.end()), (Offset(60), Offset(60)));
        assert_eq!(log.epochs(), [(LeaderEpoch(7), Offset(59))]);
        assert_eq!(recovered.producer_snapshot, Some((Offset(60), b"known producers".to_vec())));
    }

    #[test]
    fn a_crash_at_any_moment_leaves_the_old_log_or_the_new_one() {
        let mut seen = [0; 2];
        for cut in 0..40 {
            for seed in 0..20 {
                let disk = MemDisk::new();
                let (log, _) = open(&disk);
                drop(log);
                let (mut log, _) = open(&disk);
                let operations =
                    [Operation::SyncDir, Operation::Remove, Operation::Sync, Operation::Write];
                let operation = operations[cut % 4];
                let skip = u32::try_from(cut / 4).unwrap();
                disk.inject(Fault::eio(operation).after(skip));
                let done = log.start_over(&to(60)).is_ok();
                disk.crash(seed);
                let (log, _) = open(&disk);
                let new = log.start() == Offset(60);
                assert!(new || log.start() == Offset::ZERO && !done, "{operation:?} {skip} {seed}");
                assert_eq!(log.end(), log.start());
                seen[usize::from(new)] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }

    #[test]
    fn a_decision_that_does_not_read_is_not_guessed_at() {
        let disk = MemDisk::new();
        drop(open(&disk));
        let file = disk.create(&Path::new(DIR).join(FILE)).unwrap();
        disk::write_all_vectored(&file, &mut [io::IoSlice::new(b"MSOVER01")], 0).unwrap();
        let opened = PartitionLog::open(disk, DIR.as_ref(), LogConfig::default(), Timestamp(0));
        assert!(opened.is_err());
        let whole = to(60).encode();
        assert_eq!(StartOver::decode(&whole), Some(to(60)));
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 4;
            assert_eq!(StartOver::decode(&damaged), None, "byte {position}");
        }
    }
}
