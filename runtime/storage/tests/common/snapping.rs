//! A disk in memory that keeps what a power loss would leave before each of its operations.
//!
//! Invariant: a moment is a change or a sync that is about to happen; what was kept of it is a disk of its own.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex};

use millstream_storage::disk::{Disk, DiskFile, MemDisk, MemFile};

#[derive(Debug, Clone)]
pub(crate) struct Snapping {
    pub(crate) inner: MemDisk,
    moments: Arc<Mutex<Moments>>,
}

#[derive(Debug, Default)]
struct Moments {
    /// How many crashes to try at each moment; none while it is 0.
    seeds: u64,
    count: u64,
    kept: Vec<(String, MemDisk)>,
}

#[derive(Debug)]
pub(crate) struct SnappingFile {
    file: MemFile,
    disk: Snapping,
}

impl Snapping {
    pub(crate) fn new(inner: MemDisk) -> Snapping {
        Snapping { inner, moments: Arc::default() }
    }

    /// From now on, keeps so many crashes of each moment.
    pub(crate) fn watch(&self, seeds: u64) {
        self.moments.lock().unwrap().seeds = seeds;
    }

    /// What was kept, with what was about to happen.
    pub(crate) fn kept(&self) -> Vec<(String, MemDisk)> {
        std::mem::take(&mut self.moments.lock().unwrap().kept)
    }

    fn moment(&self, what: &str) {
        let mut moments = self.moments.lock().unwrap();
        moments.count += 1;
        for n in 0..moments.seeds {
            let seed = moments.count * 1_000 + n;
            let name = format!("{what}, moment {}, seed {seed}", moments.count);
            moments.kept.push((name, self.inner.after_crash(seed)));
        }
    }

    fn file(&self, file: MemFile) -> SnappingFile {
        SnappingFile { file, disk: self.clone() }
    }
}

impl Disk for Snapping {
    type File = SnappingFile;

    fn open(&self, path: &Path) -> io::Result<SnappingFile> {
        self.inner.open(path).map(|file| self.file(file))
    }

    fn create(&self, path: &Path) -> io::Result<SnappingFile> {
        self.moment(&format!("create {}", path.display()));
        self.inner.create(path).map(|file| self.file(file))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.inner.len(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list_dirs(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.moment(&format!("rename {} to {}", from.display(), to.display()));
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.moment(&format!("remove {}", path.display()));
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.moment("sync names");
        self.inner.sync_dir(dir)
    }
}

impl DiskFile for SnappingFile {
    fn read_into(&self, buffer: &mut Vec<u8>, max: usize, position: u64) -> io::Result<usize> {
        self.file.read_into(buffer, max, position)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.disk.moment("write");
        self.file.write_vectored_at(slices, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.moment("sync");
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.moment("truncate");
        self.file.truncate(len)
    }
}
