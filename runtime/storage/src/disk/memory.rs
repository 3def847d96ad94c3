//! A disk in memory that loses what was not synced, as a real one may when the power goes.
//!
//! Invariant: a crash keeps everything that was synced, and of the rest any part in any order: whole writes, torn
//! writes, writes without the ones before them, names without their files' bytes. The same seed loses the same things.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::faults::{Effect, Fault, Faults, Operation};
use super::{Disk, DiskFile};

/// A disk in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemDisk {
    shared: Arc<Shared>,
}

/// A file of a [`MemDisk`]. After a crash, handles from before it fail.
#[derive(Debug)]
pub struct MemFile {
    shared: Arc<Shared>,
    node: Arc<Mutex<Node>>,
    path: PathBuf,
    life: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Counts crashes: a handle works only in the life it was opened in.
    life: AtomicU64,
    syncs: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    dirs: BTreeMap<PathBuf, Dir>,
    faults: Faults,
    capacity: Option<u64>,
}

#[derive(Debug, Default)]
struct Dir {
    live: BTreeMap<String, Arc<Mutex<Node>>>,
    durable: BTreeMap<String, Arc<Mutex<Node>>>,
    pending: Vec<NameChange>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(String, Arc<Mutex<Node>>),
    Unlink(String),
    /// One change, because renames are atomic even where they are not durable.
    Rename(String, String, Arc<Mutex<Node>>),
}

#[derive(Debug, Default)]
struct Node {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<ByteChange>,
}

#[derive(Debug, Clone)]
enum ByteChange {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl MemDisk {
    /// An empty disk without faults or limits.
    #[must_use]
    pub fn new() -> MemDisk {
        MemDisk::default()
    }

    /// Plans a failure.
    pub fn inject(&self, fault: Fault) {
        self.shared.state.lock().faults.add(fault);
    }

    /// Forgets the failures planned and not yet met.
    pub fn clear_faults(&self) {
        self.shared.state.lock().faults.clear();
    }

    /// Limits the bytes all files may hold together; beyond it, writes are short and then fail with ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state.lock().capacity = bytes;
    }

    /// The bytes all files hold together.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.state.lock().used()
    }

    /// How many times file bytes were synced so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    /// The process dies and the machine does not: nothing is lost, open handles stop working.
    pub fn kill(&self) {
        self.shared.life.fetch_add(1, Ordering::SeqCst);
        self.shared.state.lock().faults.clear();
    }

    /// The power goes: what was not synced is lost, torn or kept, as `seed` has it.
    pub fn crash(&self, seed: u64) {
        self.shared.life.fetch_add(1, Ordering::SeqCst);
        let mut chance = Chance::new(seed);
        let mut state = self.shared.state.lock();
        state.faults.clear();
        for dir in state.dirs.values_mut() {
            dir.crash(&mut chance);
        }
    }

    /// Flips the bits of `mask` in one byte of a file, behind everyone's back, as a failing medium does.
    ///
    /// # Errors
    /// When there is no such file or byte.
    pub fn flip(&self, path: &Path, position: u64, mask: u8) -> io::Result<()> {
        let node = self.shared.state.lock().node(path)?;
        let mut node = node.lock();
        let at = index(position)?;
        let byte = node.live.get_mut(at).ok_or(io::ErrorKind::UnexpectedEof)?;
        *byte ^= mask;
        if let Some(byte) = node.durable.get_mut(at) {
            *byte ^= mask;
        }
        Ok(())
    }

    /// A copy of a file's bytes as a reader would see them now.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let node = self.shared.state.lock().node(path)?;
        let bytes = node.lock().live.clone();
        Ok(bytes)
    }

    fn fail(&self, operation: Operation, path: &Path) -> io::Result<()> {
        match self.shared.state.lock().faults.hit(operation, path) {
            Some(Effect::Fail(error)) => Err(error),
            Some(Effect::ShortWrite(_)) | None => Ok(()),
        }
    }

    fn handle(&self, node: Arc<Mutex<Node>>, path: &Path) -> MemFile {
        let life = self.shared.life.load(Ordering::SeqCst);
        MemFile { shared: self.shared.clone(), node, path: path.to_owned(), life }
    }
}

impl Disk for MemDisk {
    type File = MemFile;

    fn open(&self, path: &Path) -> io::Result<MemFile> {
        self.fail(Operation::Open, path)?;
        let node = self.shared.state.lock().node(path)?;
        Ok(self.handle(node, path))
    }

    fn create(&self, path: &Path) -> io::Result<MemFile> {
        self.fail(Operation::Create, path)?;
        let (parent, name) = split(path)?;
        let mut state = self.shared.state.lock();
        let dir = state.dir(parent)?;
        if dir.live.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = Arc::new(Mutex::new(Node::default()));
        dir.change(NameChange::Link(name.to_owned(), node.clone()));
        drop(state);
        Ok(self.handle(node, path))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let node = self.shared.state.lock().node(path)?;
        let len = node.lock().live.len();
        Ok(len as u64)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Ok(self.shared.state.lock().dir(dir)?.live.keys().cloned().collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        for path in dir.ancestors() {
            state.dirs.entry(path.to_owned()).or_default();
        }
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        if !state.dir(dir)?.live.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.dirs.remove(dir);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fail(Operation::Rename, to)?;
        let ((dir, old), (target_dir, new)) = (split(from)?, split(to)?);
        if dir != target_dir {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let mut state = self.shared.state.lock();
        let node = state.node(from)?;
        state.dir(dir)?.change(NameChange::Rename(old.to_owned(), new.to_owned(), node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.fail(Operation::Remove, path)?;
        let (parent, name) = split(path)?;
        let mut state = self.shared.state.lock();
        state.node(path)?;
        state.dir(parent)?.change(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.fail(Operation::SyncDir, dir)?;
        let mut state = self.shared.state.lock();
        let dir = state.dir(dir)?;
        for change in std::mem::take(&mut dir.pending) {
            change.apply(&mut dir.durable);
        }
        Ok(())
    }
}

impl State {
    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn node(&mut self, path: &Path) -> io::Result<Arc<Mutex<Node>>> {
        let (parent, name) = split(path)?;
        let node = self.dir(parent)?.live.get(name).cloned();
        node.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> u64 {
        let nodes = self.dirs.values().flat_map(|dir| dir.live.values());
        nodes.map(|node| node.lock().live.len() as u64).sum()
    }
}

impl Dir {
    fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.live);
        self.pending.push(change);
    }

    /// Names come back as they were last synced, plus any subset of the changes since.
    fn crash(&mut self, chance: &mut Chance) {
        let keep = chance.probability();
        let mut names = std::mem::take(&mut self.durable);
        for change in std::mem::take(&mut self.pending) {
            if chance.happens(keep) {
                change.apply(&mut names);
            }
        }
        // A new node for each name: handles from before the crash must not see what is written after it.
        self.live = names
            .into_iter()
            .map(|(name, node)| (name, Arc::new(Mutex::new(node.lock().crashed(chance)))))
            .collect();
        self.durable = self.live.clone();
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, Arc<Mutex<Node>>>) {
        match self {
            NameChange::Link(name, node) => {
                names.insert(name, node);
            }
            NameChange::Unlink(name) => {
                names.remove(&name);
            }
            NameChange::Rename(old, new, node) => {
                names.remove(&old);
                names.insert(new, node);
            }
        }
    }
}

impl Node {
    fn crashed(&self, chance: &mut Chance) -> Node {
        let keep = chance.probability();
        let mut bytes = self.durable.clone();
        for change in &self.pending {
            if chance.happens(keep) {
                change.apply(&mut bytes);
            } else if chance.happens(0.5) {
                change.torn(chance).apply(&mut bytes);
            }
        }
        Node { live: bytes.clone(), durable: bytes, pending: Vec::new() }
    }
}

impl ByteChange {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            ByteChange::Write(position, data) => {
                let start = usize::try_from(*position).expect("a position in memory fits usize");
                let end = start + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
            }
            ByteChange::Truncate(len) => {
                bytes.resize(usize::try_from(*len).expect("a length in memory fits usize"), 0);
            }
        }
    }

    /// A write of which only one stretch arrived: its start, its end, or its middle.
    fn torn(&self, chance: &mut Chance) -> ByteChange {
        match self {
            ByteChange::Write(position, data) => {
                let a = chance.below(data.len() + 1);
                let b = chance.below(data.len() + 1);
                let from = if chance.happens(0.6) { 0 } else { a.min(b) };
                let part = data[from..a.max(b)].to_vec();
                ByteChange::Write(position + from as u64, part)
            }
            ByteChange::Truncate(len) => ByteChange::Truncate(*len),
        }
    }
}

impl MemFile {
    fn check(&self) -> io::Result<()> {
        if self.shared.life.load(Ordering::SeqCst) != self.life {
            return Err(io::Error::other("this handle was opened before the disk crashed"));
        }
        Ok(())
    }

    fn hit(&self, operation: Operation) -> io::Result<Option<usize>> {
        self.check()?;
        match self.shared.state.lock().faults.hit(operation, &self.path) {
            Some(Effect::Fail(error)) => Err(error),
            Some(Effect::ShortWrite(bytes)) => Ok(Some(bytes)),
            None => Ok(None),
        }
    }

    /// How many of `wanted` more bytes at `position` fit on the disk.
    fn room(&self, position: u64, wanted: usize) -> usize {
        let state = self.shared.state.lock();
        let Some(capacity) = state.capacity else {
            return wanted;
        };
        let free = capacity.saturating_sub(state.used());
        let inside = (self.node.lock().live.len() as u64).saturating_sub(position);
        usize::try_from(free + inside).unwrap_or(usize::MAX).min(wanted)
    }
}

impl DiskFile for MemFile {
    fn read_into(&self, buffer: &mut Vec<u8>, max: usize, position: u64) -> io::Result<usize> {
        self.hit(Operation::Read)?;
        let node = self.node.lock();
        let start = index(position)?.min(node.live.len());
        let end = node.live.len().min(start.saturating_add(max));
        buffer.extend_from_slice(&node.live[start..end]);
        Ok(end - start)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let limit = self.hit(Operation::Write)?.unwrap_or(usize::MAX);
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = self.room(position, wanted).min(limit);
        if room == 0 && wanted > 0 && limit > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if room == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut data = Vec::with_capacity(room);
        for slice in slices {
            data.extend_from_slice(&slice[..slice.len().min(room - data.len())]);
        }
        let written = data.len();
        let change = ByteChange::Write(position, data);
        let mut node = self.node.lock();
        change.apply(&mut node.live);
        node.pending.push(change);
        Ok(written)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        let failed = self.hit(Operation::Sync);
        let mut node = self.node.lock();
        let pending = std::mem::take(&mut node.pending);
        // As Linux does it: after a failed sync the pages count as clean, so that what they held is lost in a crash
        // although it can still be read, and a second sync that succeeds says nothing about them.
        failed?;
        for change in pending {
            change.apply(&mut node.durable);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.check()?;
        Ok(self.node.lock().live.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.hit(Operation::Truncate)?;
        let change = ByteChange::Truncate(len);
        let mut node = self.node.lock();
        change.apply(&mut node.live);
        node.pending.push(change);
        Ok(())
    }
}

fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    match (path.parent(), name) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn index(position: u64) -> io::Result<usize> {
    usize::try_from(position).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// A seeded generator (SplitMix64, Steele, Lea and Flood 2014): enough for choosing what a crash loses.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform over `0..bound`; 0 when the bound is.
    fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        usize::try_from(self.next().checked_rem(bound).unwrap_or(0)).expect("below a usize")
    }

    /// A probability: now and then none or all of it, else anything between.
    fn probability(&mut self) -> f64 {
        match self.below(4) {
            0 => 0.0,
            1 => 1.0,
            _ => self.below(1_000) as f64 / 1_000.0,
        }
    }

    fn happens(&mut self, probability: f64) -> bool {
        (self.below(1_000_000) as f64) < probability * 1_000_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &MemFile, bytes: &[u8], position: u64) {
        file.write_vectored_at(&[IoSlice::new(bytes)], position).unwrap();
    }

    fn disk_with(path: &str) -> (MemDisk, MemFile) {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.create(Path::new(path)).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        (disk, file)
    }

    #[test]
    fn what_was_synced_survives_every_crash() {
        for seed in 0..200 {
            let (disk, file) = disk_with("/d/f");
            write(&file, b"synced", 0);
            file.sync_data().unwrap();
            write(&file, b" and not", 6);
            disk.crash(seed);
            assert!(file.len().is_err());
            let bytes = disk.bytes(Path::new("/d/f")).unwrap();
            assert_eq!(&bytes[..6], b"synced");
        }
    }

    #[test]
    fn unsynced_bytes_are_sometimes_kept_sometimes_lost_and_sometimes_torn() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let (disk, file) = disk_with("/d/f");
            write(&file, b"0123456789", 0);
            disk.crash(seed);
            lengths.insert(disk.bytes(Path::new("/d/f")).unwrap().len());
        }
        assert!(lengths.contains(&0));
        assert!(lengths.contains(&10));
        assert!(lengths.len() > 3);
    }

    #[test]
    fn an_unsynced_name_may_be_lost_and_a_rename_is_never_half_done() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let (disk, file) = disk_with("/d/a");
            write(&file, b"x", 0);
            file.sync_data().unwrap();
            disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
            disk.crash(seed);
            seen.insert(disk.list(Path::new("/d")).unwrap());
        }
        let expected = [vec!["a".to_owned()], vec!["b".to_owned()]];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn bytes_of_a_failed_sync_can_be_read_and_are_not_saved_by_a_later_one() {
        let (disk, file) = disk_with("/d/f");
        write(&file, b"abc", 0);
        disk.inject(Fault::eio(Operation::Sync));
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(disk.bytes(Path::new("/d/f")).unwrap(), b"abc");
        disk.crash(1);
        assert_eq!(disk.bytes(Path::new("/d/f")).unwrap(), b"");
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_then_refuses() {
        let (disk, file) = disk_with("/d/f");
        disk.set_capacity(Some(4));
        assert_eq!(file.write_vectored_at(&[IoSlice::new(b"abcdef")], 0).unwrap(), 4);
        let error = file.write_vectored_at(&[IoSlice::new(b"ef")], 4).unwrap_err();
        assert!(super::super::is_disk_full(&error));
        disk.set_capacity(None);
        write(&file, b"ef", 4);
        assert_eq!(disk.bytes(Path::new("/d/f")).unwrap(), b"abcdef");
    }

    #[test]
    fn a_fault_fires_at_its_count_and_only_on_its_file() {
        let (disk, file) = disk_with("/d/f.log");
        disk.inject(Fault::eio(Operation::Write).after(1).on(".log"));
        let other = disk.create(Path::new("/d/g.index")).unwrap();
        write(&other, b"x", 0);
        write(&file, b"x", 0);
        assert!(file.write_vectored_at(&[IoSlice::new(b"y")], 1).is_err());
        write(&file, b"y", 1);
    }

    #[test]
    fn the_same_seed_loses_the_same_bytes() {
        let run = |seed| {
            let (disk, file) = disk_with("/d/f");
            for i in 0..20u8 {
                write(&file, &[i; 100], u64::from(i) * 100);
            }
            disk.crash(seed);
            disk.bytes(Path::new("/d/f")).unwrap()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
