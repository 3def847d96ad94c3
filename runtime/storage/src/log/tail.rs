//! Scanning the end of a log after a crash, and judging what is wrong there.
//!
//! A frame that is not whole may be what a crash tore, or damage to what was synced. Which, the
//! frames behind it say: each carries how many offsets before it were not known to be durable when
//! it was written. If a later frame knew the bad place to be durable it is damage, else it is a
//! torn tail. What was synced last has no later frame to speak for it; for that there is the
//! recovery point in the checkpoint, noted after every sync.
//!
//! Invariant: scanning changes nothing on the disk.

use std::io;
use std::path::Path;

use millstream_protocol::batch::{FrameHeader, UNSYNCED_UNKNOWN};
use millstream_protocol::ids::{LeaderEpoch, Offset};

use super::checkpoint::Place;
use super::error::Damage;
use super::files::segment_name;
use super::index::Index;
use super::walk::{Depth, Walk, WalkError};
use crate::disk::{Disk, DiskFile};

/// What a scan found.
#[derive(Debug)]
pub(super) struct Scan {
    /// The segments scanned, from the recovery point's on, each with its good part.
    pub(super) segments: Vec<Scanned>,
    pub(super) verdict: Verdict,
    /// Epochs of the batches scanned, and where they begin.
    pub(super) epochs: Vec<(LeaderEpoch, Offset)>,
    /// Bytes checked.
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) base: Offset,
    /// Bytes of whole, good frames from the segment's beginning.
    pub(super) len: u64,
    pub(super) end: Offset,
    pub(super) index: Index,
}

#[derive(Debug)]
pub(super) enum Verdict {
    Clean,
    /// What follows the good part was never known to be synced.
    Torn(Damage),
    /// What follows the good part was synced once.
    Damaged(Damage),
}

/// Scans the segments that begin at `bases` from `from` on, which is in the first of them. `index` knows that one up to
/// there.
pub(super) fn scan<D: Disk>(
    disk: &D,
    dir: &Path,
    bases: &[Offset],
    from: Place,
    index: Index,
    interval: u32,
) -> io::Result<Scan> {
    assert_eq!(bases.first(), Some(&from.segment), "a scan begins in its first segment");
    let mut scan =
        Scan { segments: Vec::new(), verdict: Verdict::Clean, epochs: Vec::new(), bytes: 0 };
    let mut expected = from.offset;
    let mut first = Some((from.position, index));
    for (n, &base) in bases.iter().enumerate() {
        let path = dir.join(segment_name(base));
        let (position, index) = first.take().unwrap_or_else(|| (0, Index::new(base)));
        if position == 0 && base != expected {
            let what =
                format!("offset {expected} should be next, and the next segment begins at {base}");
            let place = Damage { file: path, position: 0, offset: expected, what };
            // Two segments that overlap are nothing that a crash leaves.
            scan.verdict = if base < expected {
                Verdict::Damaged(place)
            } else {
                judge(disk, dir, &bases[n..], place, Skip::Nothing)?
            };
            return Ok(scan);
        }
        let file = disk.open(&path)?;
        let mut walk = Walk::new(&file, position, file.len()?, Depth::Full);
        let mut scanned = Scanned { base, len: position, end: expected, index };
        let bad = scan_segment(&mut walk, &mut scanned, &mut scan.epochs, interval)?;
        scan.bytes += scanned.len - position;
        expected = scanned.end;
        let position = scanned.len;
        scan.segments.push(scanned);
        if let Some((what, skip)) = bad {
            let place = Damage { file: path, position, offset: expected, what };
            scan.verdict = judge(disk, dir, &bases[n..], place, skip)?;
            return Ok(scan);
        }
    }
    Ok(scan)
}

/// What to step over before looking for frames behind a bad place.
enum Skip {
    /// What is there is a good frame, only of another offset than it should be.
    Nothing,
    /// The bad frame, which says how long it is.
    Frame(FrameHeader),
    /// As many bytes as it takes.
    Bytes,
}

/// Takes in frame after frame, up to the end or the first bad one.
fn scan_segment<F: DiskFile>(
    walk: &mut Walk<'_, F>,
    scanned: &mut Scanned,
    epochs: &mut Vec<(LeaderEpoch, Offset)>,
    interval: u32,
) -> io::Result<Option<(String, Skip)>> {
    loop {
        let frame = match walk.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(None),
            Err(WalkError::Io(error)) => return Err(error),
            Err(WalkError::Bad { fault, header }) => {
                let skip = header.map_or(Skip::Bytes, Skip::Frame);
                return Ok(Some((fault.to_string(), skip)));
            }
        };
        let header = &frame.header;
        if header.base_offset != scanned.end {
            let what = format!(
                "a batch of offset {} is where {} should be",
                header.base_offset, scanned.end
            );
            return Ok(Some((what, Skip::Nothing)));
        }
        if epochs.last().is_none_or(|(last, _)| *last < header.leader_epoch) {
            epochs.push((header.leader_epoch, header.base_offset));
        }
        scanned.index.note(header, frame.position, interval);
        scanned.len = frame.end();
        scanned.end = header.next_offset();
    }
}

/// Looks through everything behind a bad place for a frame that knew it to be durable.
fn judge<D: Disk>(
    disk: &D,
    dir: &Path,
    bases: &[Offset],
    place: Damage,
    skip: Skip,
) -> io::Result<Verdict> {
    let mut first = Some((place.position, skip));
    for &base in bases {
        let file = disk.open(&dir.join(segment_name(base)))?;
        let (position, skip) = first.take().unwrap_or((0, Skip::Nothing));
        let mut walk = Walk::new(&file, position, file.len()?, Depth::Headers);
        match skip {
            Skip::Nothing => {}
            Skip::Frame(header) => {
                walk.resync(Some(header), place.offset)?;
            }
            Skip::Bytes => {
                walk.resync(None, place.offset)?;
            }
        }
        if any_knew(&mut walk, place.offset)? {
            return Ok(Verdict::Damaged(place));
        }
    }
    Ok(Verdict::Torn(place))
}

fn any_knew<F: DiskFile>(walk: &mut Walk<'_, F>, offset: Offset) -> io::Result<bool> {
    loop {
        match walk.next() {
            Ok(None) => return Ok(false),
            Ok(Some(frame)) => {
                let known = frame.header.base_offset.checked_sub(u64::from(frame.unsynced));
                let speaks = frame.unsynced != UNSYNCED_UNKNOWN;
                if speaks && known.is_some_and(|durable| offset < durable) {
                    return Ok(true);
                }
            }
            Err(WalkError::Io(error)) => return Err(error),
            Err(WalkError::Bad { header, .. }) => {
                if !walk.resync(header, offset)? {
                    return Ok(false);
                }
            }
        }
    }
}
