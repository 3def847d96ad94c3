//! Copies: every broker keeps the bytes of every module version, fetched from one that has them.
//!
//! Invariant: what is kept has the hash that was decided; a broker that has a copy needs nobody else to run it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use millstream_core::metadata::Image;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::peer::{CopyModule, ReadModule};
use millstream_storage::blobs::BlobId;
use tokio_util::sync::CancellationToken;

use super::{Modules, blocking, internal};
use crate::drivers::metadata::Metadata;

/// How long another broker may take to give a part.
const PART: Duration = Duration::from_secs(5);
/// How long another broker may take to fetch an upload and make it durable.
const SPREADING: Duration = Duration::from_secs(15);
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

    /// Keeps a copy of what another broker has.
    pub(crate) async fn copy_from(
        self: &Arc<Self>,
        node: NodeId,
        sha256: &str,
        size: u64,
    ) -> Result<(), WireError> {
        let id: BlobId = sha256.parse().map_err(|error| {
            let text = format!("{sha256:?} names no module: {error}");
            WireError::new(ErrorCode::InvalidRequest, text)
        })?;
        if self.max_bytes() < usize::try_from(size).unwrap_or(usize::MAX) {
            let text = format!("the module has {size} bytes: the most is {}", self.max_bytes());
            return Err(WireError::new(ErrorCode::TooLarge, text));
        }
        if self.has(id).await? {
            return Ok(());
        }
        self.fetch_from(node, id, size).await
    }

    /// Has other brokers keep copies of what was uploaded here, until a majority of `brokers` has one.
    pub(crate) async fn spread(
        self: &Arc<Self>,
        sha256: &str,
        size: u64,
        brokers: usize,
    ) -> Result<(), WireError> {
        let wanted = brokers / 2;
        let ask = |node| {
            let request = CopyModule { sha256: sha256.to_owned(), size };
            async move { (node, self.peers.call(node, request, SPREADING).await) }
        };
        let mut asked: FuturesUnordered<_> = self.peers.nodes().into_iter().map(ask).collect();
        let (mut kept, mut failed) = (0, None);
        while kept < wanted {
            match asked.next().await {
                Some((_, Ok(()))) => kept += 1,
                Some((node, Err(error))) => failed = Some(format!("broker {node}: {error}")),
                None => {
                    let why = failed.unwrap_or_else(|| "none of them is known here".to_owned());
                    let text = format!(
                        "the module has to be kept by {} of {brokers} brokers, and is by {}: {why}",
                        wanted + 1,
                        kept + 1
                    );
                    return Err(WireError::new(ErrorCode::TimedOut, text));
                }
            }
        }
        // The others fetch it when they learn of the version.
        Ok(())
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
