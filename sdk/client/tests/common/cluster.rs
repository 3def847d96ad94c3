//! Several brokers in miniature that are one cluster: leaders can be moved, brokers stopped and started.

use std::sync::Arc;

use millstream_client::protocol::ids::{NodeId, TopicName};
use millstream_client::{Client, ClientConfig};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::{Authority, FakeBroker, Log, Node, World};

/// Brokers with the numbers 1, 2 and so on; every partition is led by the first until it is moved.
pub(crate) struct FakeCluster {
    pub(crate) world: Arc<Mutex<World>>,
    brokers: Vec<FakeBroker>,
}

impl FakeCluster {
    /// So many brokers that run, with one topic.
    pub(crate) fn with_topic(brokers: u32, name: &str, partitions: usize) -> Self {
        let (world, authority) = (Arc::<Mutex<World>>::default(), Authority::new());
        world.lock().make_topic(name, partitions);
        let start =
            |node| FakeBroker::started(NodeId(node), Arc::clone(&world), Arc::clone(&authority));
        let brokers = (1..=brokers).map(start).collect();
        Self { world, brokers }
    }

    pub(crate) fn broker(&mut self, node: u32) -> &mut FakeBroker {
        &mut self.brokers[node as usize - 1]
    }

    pub(crate) fn address(&self, node: u32) -> String {
        self.brokers[node as usize - 1].addr.to_string()
    }

    /// To be given these brokers, in this order.
    pub(crate) fn config(&self, brokers: &[u32]) -> ClientConfig {
        let brokers = brokers.iter().map(|node| self.address(*node)).collect();
        ClientConfig { brokers, ..self.brokers[0].config() }
    }

    /// Given these brokers, and connected to the first of them that runs.
    pub(crate) async fn client(&self, brokers: &[u32]) -> Client {
        Client::connect(self.config(brokers)).await.unwrap()
    }

    pub(crate) fn node(&self, node: u32) -> MappedMutexGuard<'_, Node> {
        MutexGuard::map(self.world.lock(), |world| world.node(node))
    }

    pub(crate) fn log(&self, topic: &str, partition: usize) -> MappedMutexGuard<'_, Log> {
        MutexGuard::map(self.world.lock(), |world| world.log(topic, partition))
    }

    /// Makes a broker the leader of a partition, in a new epoch.
    pub(crate) fn lead(&self, topic: &str, partition: usize, node: u32) {
        self.log(topic, partition).elect(Some(NodeId(node)));
    }

    /// What a broker says of a topic's leaders now, it says for ever.
    pub(crate) fn freeze_routes(&self, node: u32, topic: &str) {
        let mut world = self.world.lock();
        let name = TopicName::new(topic).unwrap();
        let now = world.routes(NodeId(node), &name).unwrap();
        world.node(node).stale.insert(topic.to_owned(), now);
    }

    /// Puts records into a partition, so many in each batch.
    pub(crate) fn fill(&self, topic: &str, partition: usize, records: usize, batch: usize) {
        self.log(topic, partition).fill(records, batch);
    }

    pub(crate) fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        self.log(topic, partition).values()
    }
}
