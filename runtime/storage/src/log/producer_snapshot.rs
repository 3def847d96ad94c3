//! Snapshots of the producer table, `<offset, 20 digits>.producers`: what was known of producers before that offset.
//!
//! ```text
//! MSPRODS1 | offset u64 | length u32 | bytes | crc u32        all big endian; the bytes are their writer's
//! ```
//!
//! Invariant: a snapshot that is read is whole and was taken at or before the log's end; without one the table is made
//! again from the log, so losing one loses time only.

use std::io;
use std::path::Path;

use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::ids::Offset;

use crate::disk::{self, Disk, SyncMode};

const MAGIC: &[u8; 8] = b"MSPRODS1";
const SUFFIX: &str = ".producers";
const HEAD_BYTES: usize = 20;
const MAX_FILE_BYTES: u64 = 256 << 20;
/// One to use, and one in case that is damaged.
const KEPT: usize = 2;

/// Writes a snapshot durably and removes all but the newest few.
pub(super) fn store<D: Disk>(disk: &D, dir: &Path, at: Offset, table: &[u8]) -> io::Result<()> {
    let len = u32::try_from(table.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + table.len() + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&at.get().to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(table);
    bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
    disk::replace_file(disk, dir, &name(at), &bytes, SyncMode::Durable)?;
    for old in offsets(disk, dir)?.into_iter().rev().skip(KEPT) {
        disk::remove_if_present(disk, &dir.join(name(old)))?;
    }
    Ok(())
}

/// The newest whole snapshot taken at `end` or before.
pub(super) fn load<D: Disk>(
    disk: &D,
    dir: &Path,
    end: Offset,
) -> io::Result<Option<(Offset, Vec<u8>)>> {
    for at in offsets(disk, dir)?.into_iter().rev().filter(|at| *at <= end) {
        match disk::read_file(disk, &dir.join(name(at)), MAX_FILE_BYTES) {
            Ok(bytes) => match decode(at, &bytes) {
                Some(table) => return Ok(Some((at, table.to_vec()))),
                None => tracing::warn!(dir = %dir.display(), %at, "producer snapshot is damaged"),
            },
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Removes the snapshots taken after `end`, which speak of batches that are no more. The caller syncs the directory.
pub(super) fn truncate<D: Disk>(disk: &D, dir: &Path, end: Offset) -> io::Result<()> {
    for at in offsets(disk, dir)?.into_iter().filter(|at| end < *at) {
        disk::remove_if_present(disk, &dir.join(name(at)))?;
    }
    Ok(())
}

fn name(at: Offset) -> String {
    format!("{:020}{SUFFIX}", at.get())
}

fn offsets<D: Disk>(disk: &D, dir: &Path) -> io::Result<Vec<Offset>> {
    let names = disk.list(dir)?;
    let offsets = names.iter().filter_map(|name| super::files::offset_in(name, SUFFIX));
    let mut offsets: Vec<Offset> = offsets.collect();
    offsets.sort_unstable();
    Ok(offsets)
}

fn decode(at: Offset, bytes: &[u8]) -> Option<&[u8]> {
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    let (offset, body) = covered.strip_prefix(MAGIC)?.split_first_chunk()?;
    let (len, table) = body.split_first_chunk()?;
    let whole = crc32c(covered) == u32::from_be_bytes(*crc)
        && u64::from_be_bytes(*offset) == at.get()
        && u32::from_be_bytes(*len) as usize == table.len();
    whole.then_some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemDisk;

    fn disk() -> MemDisk {
        let disk = MemDisk::new();
        disk.create_dir_all("/log".as_ref()).unwrap();
        disk
    }

    #[test]
    fn the_newest_within_the_log_is_read_and_old_ones_go() {
        let (disk, dir) = (disk(), Path::new("/log"));
        for at in [10, 20, 30] {
            store(&disk, dir, Offset(at), format!("at {at}").as_bytes()).unwrap();
        }
        assert_eq!(disk.list(dir).unwrap().len(), KEPT);
        assert_eq!(load(&disk, dir, Offset(99)).unwrap().unwrap().0, Offset(30));
        assert_eq!(load(&disk, dir, Offset(29)).unwrap(), Some((Offset(20), b"at 20".to_vec())));
        truncate(&disk, dir, Offset(25)).unwrap();
        assert_eq!(load(&disk, dir, Offset(99)).unwrap().unwrap().0, Offset(20));
    }

    #[test]
    fn a_damaged_snapshot_gives_way_to_the_one_before() {
        let (disk, dir) = (disk(), Path::new("/log"));
        store(&disk, dir, Offset(10), b"ten").unwrap();
        store(&disk, dir, Offset(20), b"twenty").unwrap();
        let path = dir.join(name(Offset(20)));
        for position in 0..disk.len(&path).unwrap() {
            disk.flip(&path, position, 4).unwrap();
            assert_eq!(load(&disk, dir, Offset(99)).unwrap().unwrap().1, b"ten");
            disk.flip(&path, position, 4).unwrap();
        }
        assert_eq!(load(&disk, dir, Offset(99)).unwrap().unwrap().1, b"twenty");
    }
}
