//! Everything that is not records: topics, offsets, groups, transactions, modules, jobs, the cluster.
//!
//! Every method is one [`Client::call`]; what has no method here can be called directly.

mod groups;
mod jobs;
mod modules;
mod topics;
mod transactions;

use millstream_protocol::message::cluster::{ClusterDescription, ClusterStatus};

use crate::client::Client;
use crate::error::ClientError;

pub use topics::TopicChange;

/// Administration of a cluster; see [`Client::admin`].
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(crate) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// How the cluster stands.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn cluster_status(&self) -> Result<ClusterDescription, ClientError> {
        self.client.call(ClusterStatus {}).await
    }
}
