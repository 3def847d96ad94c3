//! Members: who is part of the cluster, and where, for the connections to them.
//!
//! Invariant: what the image says counts; before it says anything, what the broker was told when it came.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::metadata::Image;
use millstream_protocol::ids::NodeId;
use millstream_storage::data_dir::DataDir;
use millstream_storage::disk::AnyDisk;
use millstream_storage::members;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cores::Cores;
use crate::modules::blocking;
use crate::peers::Peers;

/// What it takes to follow them.
pub(crate) struct Members {
    pub(crate) peers: Peers,
    pub(crate) cores: Arc<Cores>,
    pub(crate) images: watch::Receiver<Arc<Image>>,
    pub(crate) data: Arc<DataDir>,
    pub(crate) disk: AnyDisk,
    /// Where the brokers were when this one came to the cluster.
    pub(crate) bootstrap: BTreeMap<NodeId, String>,
    /// Cancelled when everything else has ended.
    pub(crate) stop: CancellationToken,
}

impl Members {
    /// Runs until the broker has ended.
    pub(crate) async fn run(mut self) {
        let mut known = BTreeMap::new();
        loop {
            let image = Arc::clone(&self.images.borrow_and_update());
            let known_to_all = addresses(&image);
            let found = if known_to_all.is_empty() { self.bootstrap.clone() } else { known_to_all };
            if found != known {
                self.peers.set(&found, &self.cores, &self.stop).await;
                self.note(&found).await;
                known = found;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = self.images.changed() => if changed.is_err() { return },
            }
        }
    }

    /// So that the others are found even without the metadata.
    async fn note(&self, found: &BTreeMap<NodeId, String>) {
        let me = self.peers.me().node;
        let others = found.iter().filter(|(node, _)| **node != me);
        let others: Vec<_> = others.map(|(_, address)| address.clone()).collect();
        if others.is_empty() {
            return;
        }
        let (disk, data) = (self.disk.clone(), Arc::clone(&self.data));
        let noted = blocking(move || {
            let internal = |error| {
                let code = millstream_protocol::error::ErrorCode::Internal;
                millstream_protocol::error::WireError::new(code, error)
            };
            members::write(&disk, data.root(), &others).map_err(internal)
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "where the other brokers are is not noted down");
        }
    }
}

fn addresses(image: &Image) -> BTreeMap<NodeId, String> {
    let brokers = image.brokers().iter();
    brokers.map(|(node, broker)| (*node, broker.address.clone())).collect()
}
