//! What is in a segment file: every batch with its checks, and every stretch that is none.
//!
//! Invariant: dumping changes nothing, and goes on behind damage wherever a batch can be found there.

use std::io;
use std::path::Path;

use millstream_protocol::batch::BatchHeader;
use millstream_protocol::ids::Offset;

use crate::disk::{Disk, DiskFile};
use crate::log::files::{SEGMENT_SUFFIX, offset_in};
use crate::log::walk::{Depth, Walk, WalkError, frame_len};

/// One thing found in a segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DumpEntry {
    /// A batch whose seal is good.
    Batch {
        /// Where its seal begins, in bytes.
        position: u64,
        /// Bytes of seal and batch.
        len: u64,
        /// Offsets before it that were not known to be durable when it was written; `u32::MAX` where that is not known.
        unsynced: u32,
        /// Its header.
        header: BatchHeader,
        /// Whether its checksum is good, or what is wrong.
        crc: Result<(), String>,
        /// Its offset, where it does not follow on the batch before it: the offset that should be there.
        expected: Option<Offset>,
    },
    /// A stretch in which no batch can be found.
    Damage {
        /// Where it begins, in bytes.
        position: u64,
        /// How long it is.
        len: u64,
        /// What is wrong at its beginning.
        what: String,
    },
}

impl DumpEntry {
    /// Whether nothing is wrong here.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, DumpEntry::Batch { crc: Ok(()), expected: None, .. })
    }
}

/// Calls `visit` for everything in the segment file at `path`, in order; an error from it ends the dump. If the file is
/// named as a segment, the offset in the name is where it must begin.
///
/// # Errors
/// What the file system says, or `visit`.
pub fn dump_segment<D: Disk>(
    disk: &D,
    path: &Path,
    mut visit: impl FnMut(DumpEntry) -> io::Result<()>,
) -> io::Result<()> {
    let file = disk.open(path)?;
    let name = path.file_name().and_then(|name| name.to_str());
    let mut expected = name.and_then(|name| offset_in(name, SEGMENT_SUFFIX));
    let mut walk = Walk::new(&file, 0, file.len()?, Depth::Full);
    loop {
        let position = walk.position();
        let entry = match walk.next() {
            Ok(None) => return Ok(()),
            Ok(Some(frame)) => batch(position, frame.unsynced, frame.header, Ok(()), &mut expected),
            Err(WalkError::Io(error)) => return Err(error),
            Err(WalkError::Bad { fault, header: Some(bad) }) => {
                walk.resync(Some(bad), Offset::ZERO)?;
                batch(position, bad.unsynced, bad.header, Err(fault.to_string()), &mut expected)
            }
            Err(WalkError::Bad { fault, header: None }) => {
                walk.resync(None, Offset::ZERO)?;
                let len = walk.position() - position;
                DumpEntry::Damage { position, len, what: fault.to_string() }
            }
        };
        visit(entry)?;
    }
}

fn batch(
    position: u64,
    unsynced: u32,
    header: BatchHeader,
    crc: Result<(), String>,
    expected: &mut Option<Offset>,
) -> DumpEntry {
    let missed = expected.filter(|offset| *offset != header.base_offset);
    *expected = Some(header.next_offset());
    let len = frame_len(&header) as u64;
    DumpEntry::Batch { position, len, unsynced, header, crc, expected: missed }
}
