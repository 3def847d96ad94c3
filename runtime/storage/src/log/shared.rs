//! What the writer of a log shares with its readers.
//!
//! Invariant: the list of segments is ordered and never empty; start and end are published after the segments they
//! speak of, so that an offset between them is found.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use millstream_protocol::ids::Offset;
use parking_lot::{Mutex, RwLock};

use super::segment::Segment;
use crate::disk::Disk;

/// Indexes of old segments kept in memory; a segment of 1 GiB has one of 256 KiB.
const LOADED_INDEXES: usize = 16;

#[derive(Debug)]
pub(super) struct Shared<D: Disk> {
    pub(super) disk: D,
    pub(super) dir: PathBuf,
    segments: RwLock<Vec<Arc<Segment<D>>>>,
    start: AtomicU64,
    end: AtomicU64,
    durable_end: AtomicU64,
    /// Counts truncations: a cursor from before one must be looked up again.
    generation: AtomicU64,
    /// Counts swaps of segments: a cursor from before one must be looked up again. Changes under the lock of the list.
    layout: AtomicU64,
    /// No key has two records before this offset, as far as compaction has been.
    cleaned: AtomicU64,
    loaded: Mutex<VecDeque<Weak<Segment<D>>>>,
}

impl<D: Disk> Shared<D> {
    pub(super) fn new(
        disk: D,
        dir: &Path,
        segments: Vec<Arc<Segment<D>>>,
        start: Offset,
        end: Offset,
    ) -> Shared<D> {
        assert!(!segments.is_empty(), "a log has a segment");
        Shared {
            disk,
            dir: dir.to_owned(),
            segments: RwLock::new(segments),
            start: AtomicU64::new(start.get()),
            end: AtomicU64::new(end.get()),
            durable_end: AtomicU64::new(end.get()),
            generation: AtomicU64::new(0),
            layout: AtomicU64::new(0),
            cleaned: AtomicU64::new(0),
            loaded: Mutex::default(),
        }
    }

    pub(super) fn start(&self) -> Offset {
        Offset(self.start.load(Ordering::Acquire))
    }

    pub(super) fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::Acquire))
    }

    pub(super) fn durable_end(&self) -> Offset {
        Offset(self.durable_end.load(Ordering::Acquire))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn set_start(&self, start: Offset) {
        self.start.store(start.get(), Ordering::Release);
    }

    pub(super) fn set_end(&self, end: Offset) {
        self.end.store(end.get(), Ordering::Release);
    }

    pub(super) fn set_durable_end(&self, end: Offset) {
        self.durable_end.store(end.get(), Ordering::Release);
    }

    pub(super) fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn layout(&self) -> u64 {
        self.layout.load(Ordering::Acquire)
    }

    /// What lies before the start is clean: it is not there.
    pub(super) fn cleaned_to(&self) -> Offset {
        Offset(self.cleaned.load(Ordering::Acquire)).max(self.start())
    }

    pub(super) fn set_cleaned_to(&self, to: Offset) {
        self.cleaned.store(to.get(), Ordering::Release);
    }

    /// Changes where batches lie, though not which there are: who finds a segment of the new list finds the new layout.
    pub(super) fn change_layout(&self, change: impl FnOnce(&mut Vec<Arc<Segment<D>>>)) {
        self.change_segments(|segments| {
            change(segments);
            self.layout.fetch_add(1, Ordering::AcqRel);
        });
    }

    pub(super) fn segments(&self) -> Vec<Arc<Segment<D>>> {
        self.segments.read().clone()
    }

    pub(super) fn change_segments<R>(
        &self,
        change: impl FnOnce(&mut Vec<Arc<Segment<D>>>) -> R,
    ) -> R {
        let mut segments = self.segments.write();
        let result = change(&mut segments);
        assert!(!segments.is_empty(), "a log has a segment");
        result
    }

    pub(super) fn last(&self) -> Arc<Segment<D>> {
        self.segments.read().last().expect("a log has a segment").clone()
    }

    /// The last segment that begins at `offset` or before.
    pub(super) fn segment_of(&self, offset: Offset) -> Option<Arc<Segment<D>>> {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.base() <= offset);
        segments.get(after.checked_sub(1)?).cloned()
    }

    /// The segment that begins at `base`.
    pub(super) fn segment_at(&self, base: Offset) -> Option<Arc<Segment<D>>> {
        self.segment_of(base).filter(|segment| segment.base() == base)
    }

    /// The first segment that begins after `base`.
    pub(super) fn segment_after(&self, base: Offset) -> Option<Arc<Segment<D>>> {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.base() <= base);
        segments.get(after).cloned()
    }

    /// Bounds how many indexes of old segments stay in memory, the one last used last to go.
    pub(super) fn note_loaded(&self, segment: &Arc<Segment<D>>) {
        let is_last = Arc::ptr_eq(segment, &self.last());
        if is_last {
            return;
        }
        let mut loaded = self.loaded.lock();
        let weak = Arc::downgrade(segment);
        loaded.retain(|other| !other.ptr_eq(&weak));
        loaded.push_back(weak);
        while loaded.len() > LOADED_INDEXES {
            let oldest = loaded.pop_front().and_then(|oldest| oldest.upgrade());
            // A truncation may have made it the one that is written to, whose index stays.
            if let Some(oldest) = oldest.filter(|oldest| !Arc::ptr_eq(oldest, &self.last())) {
                oldest.drop_index();
            }
        }
    }

    /// Keeps the index of this segment in memory from now on.
    pub(super) fn forget_loaded(&self, segment: &Arc<Segment<D>>) {
        let weak = Arc::downgrade(segment);
        self.loaded.lock().retain(|other| !other.ptr_eq(&weak));
    }
}
