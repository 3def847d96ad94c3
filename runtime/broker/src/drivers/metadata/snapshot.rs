//! Snapshots of what is decided: given to brokers that the log no longer tells everything, and taken from others.
//!
//! Invariant: a snapshot is installed whole, in one transaction, or not at all; what was there before serves until
//! then.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::metadata::Image;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{NodeId, Offset};
use millstream_protocol::limits::MAX_MESSAGE_BYTES;
use millstream_protocol::message::peer::{ReadSnapshot, SnapshotPart};
use parking_lot::Mutex;

use super::{Applier, commands, unstored};

/// Bytes that go in one answer.
const PART_BYTES: usize = MAX_MESSAGE_BYTES / 2;
/// How long another broker may take to give a part.
const PART: Duration = Duration::from_secs(5);

/// The snapshot that another broker is reading, until it has read it.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshots(Arc<Mutex<Option<(Offset, Bytes)>>>);

impl Snapshots {
    pub(super) fn read(
        &self,
        request: ReadSnapshot,
        newest: &Image,
    ) -> Result<SnapshotPart, WireError> {
        let mut kept = self.0.lock();
        if request.applied.is_none() {
            let known = kept.take().filter(|(applied, _)| *applied == newest.applied());
            *kept = known.or_else(|| Some((newest.applied(), newest.snapshot().into())));
        }
        let wanted = request.applied.unwrap_or_else(|| newest.applied());
        let found = kept.as_ref().filter(|(applied, _)| *applied == wanted).cloned();
        let (applied, bytes) = found.ok_or_else(|| {
            let text =
                format!("the snapshot as of {wanted} is not kept any more: ask for a new one");
            WireError::new(ErrorCode::InvalidRequest, text)
        })?;
        let from = usize::try_from(request.offset).unwrap_or(usize::MAX).min(bytes.len());
        let to = bytes.len().min(from.saturating_add(PART_BYTES));
        if to == bytes.len() {
            *kept = None;
        }
        Ok(SnapshotPart { applied, size: bytes.len() as u64, bytes: bytes[from..to].to_vec() })
    }
}

impl Applier {
    /// Takes over what is decided from a broker that knows everything before `start`.
    pub(super) async fn install_snapshot(&mut self, start: Offset) -> Result<(), WireError> {
        let next = self.find_snapshot(start).await?;
        let applied = next.applied();
        let rows = self.image.changes_to(&next);
        let changes = rows.into_iter().map(commands::change).collect();
        let stored = self.store.commit(applied, changes).await;
        stored.map_err(|error| unstored(&error))?;
        tracing::info!(%applied, "a snapshot of what is decided is installed");
        self.image = Arc::new(next);
        self.publish.send_replace(Arc::clone(&self.image));
        self.looked = start;
        // What this broker had proposed may be in it, or not.
        let text = "a snapshot was installed, which does not say what became of the request: look for its effect";
        self.waiting.fail(&WireError::new(ErrorCode::TimedOut, text));
        Ok(())
    }

    async fn find_snapshot(&self, start: Offset) -> Result<Image, WireError> {
        let leader = self.log.view().leader;
        let others = self.peers.nodes().into_iter().filter(|node| Some(*node) != leader);
        let text = "the log no longer has everything that is decided, and no other broker gives a snapshot";
        let mut failed = WireError::new(ErrorCode::NotLeader, text);
        for node in leader.into_iter().chain(others).filter(|node| *node != self.peers.me().node) {
            match self.fetch_snapshot(node).await {
                Ok(image) if start <= image.applied() => return Ok(image),
                Ok(image) => tracing::debug!(%node, applied = %image.applied(), "is behind too"),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn fetch_snapshot(&self, node: NodeId) -> Result<Image, WireError> {
        let (mut applied, mut all) = (None, Vec::new());
        loop {
            let request = ReadSnapshot { applied, offset: all.len() as u64 };
            let part = self.peers.call(node, request, PART).await?;
            all.extend_from_slice(&part.bytes);
            if part.size <= all.len() as u64 || part.bytes.is_empty() {
                let read = Image::from_snapshot(part.applied, &all);
                return read.map_err(|error| {
                    let text = format!("broker {node} gave a snapshot that does not read: {error}");
                    WireError::new(ErrorCode::Internal, text)
                });
            }
            applied = Some(part.applied);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_part_by_part_and_then_forgotten() {
        let (snapshots, image) = (Snapshots::default(), Image::default());
        let whole = image.snapshot();
        let part = snapshots.read(ReadSnapshot { applied: None, offset: 0 }, &image).expect("new");
        assert_eq!((part.size, &part.bytes), (whole.len() as u64, &whole));
        let on = ReadSnapshot { applied: Some(part.applied), offset: part.size };
        assert!(snapshots.read(on, &image).is_err(), "it was read to its end");
        let other = ReadSnapshot { applied: Some(Offset(7)), offset: 0 };
        assert!(snapshots.read(other, &image).is_err());
    }
}
