//! Copies: every broker keeps the bytes of every module version, fetched from one that has them.
//!
//! Invariant: what is kept has the hash that was decided; a broker that has a copy needs nobody else to run it.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::metadata::Image;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::peer::ReadModule;
use millstream_storage::blobs::BlobId;
use tokio_util::sync::CancellationToken;

use super::{Modules, blocking, internal};
use crate::drivers::metadata::Metadata;

/// How long another broker may take to give a part.
const PART: Duration = Duration::from_secs(5);
/// Before what could not be fetched is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Fetches what is missing here, whenever a version is decided. Runs until the broker stops.
pub(crate) async fn follow(modules: Arc<Modules>, metadata: Metadata, stop: CancellationToken) {
    let mut images = metadata.watch();
    let mut told = String::new();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let lacks = modules.fetch_missing(&image).await.err().map(|error| error.to_string());
        if let Some(error) = lacks.as_ref().filter(|error| **error != told) {
            tracing::warn!(%error, "a module is not here yet");
            told.clone_from(error);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if lacks.is_some() => {}
        }
    }
}

impl Modules {
    async fn fetch_missing(self: &Arc<Self>, image: &Image) -> Result<(), WireError> {
        let mut fetched = Ok(());
        for module in image.modules().values() {
            let id: BlobId = module.sha256.parse().map_err(internal)?;
            if !self.has(id).await? {
                fetched = fetched.and(self.fetch(id, module.size).await);
            }
        }
        fetched
    }

    pub(super) async fn has(self: &Arc<Self>, id: BlobId) -> Result<bool, WireError> {
        let this = Arc::clone(self);
        blocking(move || Ok(this.blobs.contains(&id))).await
    }

    /// Fetches a module of so many bytes from whichever broker has it.
    pub(super) async fn fetch(self: &Arc<Self>, id: BlobId, size: u64) -> Result<(), WireError> {
        let text = format!("no other broker that can be reached has module {id}");
        let mut failed = WireError::new(ErrorCode::UnknownModule, text);
        for node in self.peers.nodes() {
            match self.fetch_from(node, id, size).await {
                Ok(()) => {
                    tracing::info!(module = %id, %node, "copied");
                    return Ok(());
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn fetch_from(
        self: &Arc<Self>,
        node: NodeId,
        id: BlobId,
        size: u64,
    ) -> Result<(), WireError> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            let request = ReadModule { sha256: id.to_string(), offset: bytes.len() as u64 };
            let part = self.peers.call(node, request, PART).await?;
            if part.is_empty() {
                break;
            }
            bytes.extend_from_slice(&part);
        }
        if BlobId::of(&bytes) != id {
            let text = format!("broker {node} has another module {id} than was uploaded");
            return Err(WireError::new(ErrorCode::InvalidModule, text));
        }
        let this = Arc::clone(self);
        blocking(move || this.blobs.put(&bytes).map(drop).map_err(internal)).await
    }
}
