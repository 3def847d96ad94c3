//! What remembers: disks, partition logs, blobs and the metadata store.
//!
//! ```text
//!   broker ──append, sync──▶ PartitionLog ──┐                       ┌─ RealDisk
//!   fetch  ◀──sealed batches── LogReader ───┼──▶ Disk, DiskFile ──▶ ┤
//!   core's rows ───────────▶ Store (redb) ──┤                       └─ MemDisk: loses, tears, fails
//!   modules ───────────────▶ Blobs ─────────┘
//! ```
//!
//! Reading order:
//! - [`disk`]: the seam to the file system, with a real side and one that forgets what was not synced.
//! - [`log`]: one partition's log: append, group sync, read, recover, retain, compact.
//! - [`metadata`]: rows and the offset they were applied up to, in one transaction.
//! - [`blobs`]: files named by their digest.
//! - [`cache_dir`]: files that can be made again.
//! - [`data_dir`]: who holds the directory, and where everything is in it.
//! - [`members`]: where the other brokers are, for one that has lost everything else.
//! - [`machine`]: which run of the machine this is.
//! - [`dump`]: what is in a segment file, checked.
//!
//! This crate decides nothing about what is committed, knows no topics by name, starts no threads, and never reads a
//! clock. It never deletes what it cannot read.

#![forbid(unsafe_code)]

pub mod blobs;
pub mod cache_dir;
pub mod data_dir;
pub mod disk;
pub mod dump;
pub mod log;
pub mod machine;
pub mod members;
pub mod metadata;
