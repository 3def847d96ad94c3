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

use super::crash::{ByteChange, Chance, Dir, NameChange, Node};
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
            *dir = dir.crashed(&mut chance);
        }
    }

    /// What a power loss at this moment would leave, as a disk of its own: whoever works on this one goes on. Faults
    /// stay behind, the limit goes with it.
    #[must_use]
    pub fn after_crash(&self, seed: u64) -> MemDisk {
        let mut chance = Chance::new(seed);
        let state = self.shared.state.lock();
        let dirs = state.dirs.iter();
        let dirs = dirs.map(|(path, dir)| (path.clone(), dir.crashed(&mut chance))).collect();
        let left = State { dirs, faults: Faults::default(), capacity: state.capacity };
        MemDisk { shared: Arc::new(Shared { state: Mutex::new(left), ..Shared::default() }) }
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
            Some(Effect::Panic) => panic!("{operation:?} was told to panic"),
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

    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.shared.state.lock();
        state.dir(dir)?;
        let inside = state.dirs.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
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
            Some(Effect::Panic) => panic!("{operation:?} was told to panic"),
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

#[cfg(test)]
mod tests;
