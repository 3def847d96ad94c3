//! redb's storage on the disk seam, so that the metadata store meets the same crashes as the logs.
//!
//! Invariant: the data directory's lock keeps other processes away; this backend adds none of its own.

use std::fmt;
use std::io::{self, IoSlice};

use redb::StorageBackend;

use crate::disk::{self, DiskFile};

/// One file of any disk as a redb backend.
pub(super) struct Backend<F>(pub(super) F);

impl<F> fmt::Debug for Backend<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl<F: DiskFile> StorageBackend for Backend<F> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(out.len());
        let read = disk::read_fully(&self.0, &mut bytes, out.len(), offset)?;
        if read < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        disk::write_all_vectored(&self.0, &mut [IoSlice::new(data)], offset)
    }
}
