//! Positions: the rows that say how far each job has read.
//!
//! Invariant: rows are handed to the store in the order in which their positions were read, so a row never
//! goes back, and none comes after its end; and who waits until positions are saved waits for all that
//! are not, also for those that are on their way.

use std::sync::Arc;

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::Offset;
use millstream_storage::metadata::{Change, Table};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::drivers::job::Progress;
use crate::drivers::store::{StoreError, StoreHandle};

/// Where positions are saved.
#[derive(Debug)]
pub(crate) struct Positions {
    store: StoreHandle,
    /// Held from the moment when positions are read until they are handed over.
    order: Mutex<()>,
}

impl Positions {
    pub(super) fn new(store: StoreHandle) -> Self {
        Self { store, order: Mutex::default() }
    }

    /// Starts to save what is unsaved among these.
    pub(super) fn save<'p>(&self, of: impl IntoIterator<Item = (Vec<u8>, &'p Arc<Progress>)>) {
        // A position that is not saved is made up for by the producer identity of the outputs.
        self.write(of, |_| {});
    }

    /// Saves what is unsaved among these, and tells when all of them are durable.
    pub(super) fn save_now<'p>(
        &self,
        of: impl IntoIterator<Item = (Vec<u8>, &'p Arc<Progress>)>,
    ) -> Saving {
        let (saved, durable) = oneshot::channel();
        // Who waits may have been ended meanwhile.
        self.write(of, move |result| drop(saved.send(result)));
        Saving(durable)
    }

    /// Removes positions that nobody moves any more.
    pub(super) fn forget(&self, keys: impl IntoIterator<Item = Vec<u8>>) {
        let row = |key| Change { table: Table::Positions, key, value: None };
        let _order = self.order.lock();
        self.store.write(keys.into_iter().map(row).collect(), |_| {});
    }

    fn write<'p>(
        &self,
        of: impl IntoIterator<Item = (Vec<u8>, &'p Arc<Progress>)>,
        then: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let _order = self.order.lock();
        let (mut rows, mut written) = (Vec::new(), Vec::new());
        for (key, progress) in of {
            let Some(position) = progress.unsaved() else { continue };
            rows.push(row(key, position));
            written.push((Arc::clone(progress), position));
        }
        self.store.write(rows, move |result| {
            if result.is_ok() {
                written.iter().for_each(|(progress, position)| progress.saved(*position));
            }
            then(result);
        });
    }
}

/// Positions on their way.
pub(super) struct Saving(oneshot::Receiver<Result<(), StoreError>>);

impl Saving {
    /// Waits until they are durable.
    pub(super) async fn durable(self) -> Result<(), WireError> {
        self.0.await.map_err(|e| unsaved(&e))?.map_err(|e| unsaved(&e))
    }
}

fn row(key: Vec<u8>, position: Offset) -> Change {
    let value = postcard::to_stdvec(&position).expect("memory takes an offset");
    Change { table: Table::Positions, key, value: Some(value) }
}

fn unsaved(error: &dyn std::fmt::Display) -> WireError {
    let text = format!("the positions of jobs cannot be saved: {error}");
    WireError::new(ErrorCode::StorageStopped, text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;
    use std::time::Duration;

    use millstream_storage::disk::{Disk as _, Fault, MemDisk, Operation};
    use millstream_storage::metadata::{Identity, Store};

    use super::*;
    use crate::drivers::store::{self, StoreThread};

    const FILE: &str = "/data/metadata.redb";
    const KEY: &[u8] = b"a partition";

    fn open(disk: &MemDisk) -> Store {
        disk.create_dir_all(Path::new("/data")).expect("a directory");
        let fresh = Identity { cluster: 1, incarnation: 1 };
        Store::open(disk, Path::new(FILE), fresh).expect("a store")
    }

    fn positions(disk: &MemDisk) -> (Positions, StoreThread) {
        let (store, thread) = store::start(open(disk)).expect("a thread");
        (Positions::new(store), thread)
    }

    fn of(progress: &Arc<Progress>) -> [(Vec<u8>, &Arc<Progress>); 1] {
        [(KEY.to_vec(), progress)]
    }

    /// What the store has when everything that was handed over is done.
    fn stored(disk: &MemDisk, (positions, thread): (Positions, StoreThread)) -> Option<Offset> {
        drop(positions);
        thread.join();
        let value = open(disk).row(Table::Positions, KEY).expect("a row, or none")?;
        Some(postcard::from_bytes(&value).expect("an offset"))
    }

    /// Has the thread of the store wait, once it comes to this, for what is sent or dropped.
    fn gate(positions: &Positions) -> (mpsc::Receiver<()>, mpsc::SyncSender<()>) {
        let ((there, is_there), (open, opened)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
        positions.store.write(vec![], move |_| {
            there.send(()).expect("the test waits");
            let _ = opened.recv();
        });
        (is_there, open)
    }

    #[test]
    fn a_position_that_was_read_before_another_is_not_stored_after_it() {
        let disk = MemDisk::new();
        let (positions, thread) = positions(&disk);
        let progress = Arc::new(Progress::at(Offset(100), false));
        let other = Arc::new(Progress::at(Offset(1), true));
        let (done, is_done) = mpsc::sync_channel(1);
        let task = || {
            progress.advance(Offset(200));
            positions.save(of(&progress));
            done.send(()).expect("the test waits");
        };
        std::thread::scope(|threads| {
            // The round has read 100, and looks at another partition while the task goes on.
            let next = std::iter::once_with(|| {
                threads.spawn(task);
                // If it has to wait for the round, this does not wait for it.
                let _ = is_done.recv_timeout(Duration::from_millis(300));
                (b"another".to_vec(), &other)
            });
            positions.save(of(&progress).into_iter().chain(next));
        });
        assert_eq!(stored(&disk, (positions, thread)), Some(Offset(200)));
    }

    #[test]
    fn a_position_is_not_removed_before_it_is_written() {
        let disk = MemDisk::new();
        let (positions, thread) = positions(&disk);
        let progress = Arc::new(Progress::at(Offset(100), false));
        let other = Arc::new(Progress::at(Offset(1), true));
        let (done, is_done) = mpsc::sync_channel(1);
        let deletion = || {
            positions.forget([KEY.to_vec()]);
            done.send(()).expect("the test waits");
        };
        std::thread::scope(|threads| {
            let next = std::iter::once_with(|| {
                threads.spawn(deletion);
                let _ = is_done.recv_timeout(Duration::from_millis(300));
                (b"another".to_vec(), &other)
            });
            positions.save(of(&progress).into_iter().chain(next));
        });
        assert_eq!(stored(&disk, (positions, thread)), None);
    }

    #[tokio::test]
    async fn who_waits_for_positions_is_not_told_that_they_are_saved_while_they_are_not() {
        let disk = MemDisk::new();
        let (positions, thread) = positions(&disk);
        let progress = Arc::new(Progress::at(Offset(100), false));
        let (busy, go_on) = gate(&positions);
        busy.recv().expect("it comes to it");
        // The next transaction fails, and nobody is told of it yet.
        disk.inject(Fault::enospc(Operation::Write).on("metadata.redb"));
        let (failed, tell) = gate(&positions);
        positions.save(of(&progress));
        drop(go_on);
        failed.recv().expect("it comes to it");
        let saved = positions.save_now(of(&progress));
        drop(tell);
        saved.durable().await.expect("the disk has room again");
        assert_eq!(progress.unsaved(), None);
        // Nothing else wrote it.
        assert_eq!(stored(&disk, (positions, thread)), Some(Offset(100)));
    }
}
