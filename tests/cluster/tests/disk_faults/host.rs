//! A broker in this process, on a disk in memory.
//!
//! Invariant: one broker at a time has the directory; what a power loss leaves is taken at a moment,
//! before the broker is stopped.

use std::path::PathBuf;
use std::time::Duration;

use millstream_broker::Running;
use millstream_broker::config::Config;
use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::message::topic::PartitionDescription;
use millstream_client::{
    BackoffConfig, Client, ClientConfig, ProduceError, ProducerConfig, ProducerRecord,
};
use millstream_storage::disk::{AnyDisk, MemDisk};
use millstream_tests_cluster::process::get;

/// A broker and its disk.
pub(crate) struct Host {
    running: Option<Running>,
    pub(crate) disk: MemDisk,
    /// Its lock and its certificates; everything else is on the disk in memory.
    dir: tempfile::TempDir,
    position_save: Duration,
}

impl Host {
    /// A fresh one.
    pub(crate) async fn start() -> Self {
        Self::saving(Duration::from_secs(1)).await
    }

    /// One that saves the positions of jobs so often.
    pub(crate) async fn saving(position_save: Duration) -> Self {
        let (disk, dir) = (MemDisk::new(), tempfile::tempdir().unwrap());
        let mut host = Self { running: None, disk, dir, position_save };
        host.run().await;
        host
    }

    pub(crate) async fn run(&mut self) {
        let started = self.try_run().await;
        started.unwrap_or_else(|error| panic!("the broker does not start: {error}"));
    }

    /// Starts it, or says why that cannot be.
    pub(crate) async fn try_run(&mut self) -> Result<(), String> {
        let mut config = Config::default();
        config.server.listen = ([127, 0, 0, 1], 0).into();
        config.admin.listen = ([127, 0, 0, 1], 0).into();
        config.server.data_dir = self.dir.path().to_owned();
        config.server.cores = 1;
        config.storage.position_save.0 = self.position_save;
        config.server.stop_timeout.0 = Duration::from_secs(5);
        let disk = AnyDisk::Memory(self.disk.clone());
        let running = millstream_broker::start_on(config, disk).await;
        self.running = Some(running.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Stops it gracefully.
    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    /// Stops it, has its power go, and starts it on what that leaves of the moment before the stop.
    pub(crate) async fn lose_power(&mut self, seed: u64) {
        let left = self.disk.after_crash(seed);
        self.stop().await;
        self.disk = left;
        self.run().await;
    }

    /// Stops it and starts it again on the same disk.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    /// A client of its own, which does not pause for long between attempts.
    pub(crate) async fn client(&self) -> Client {
        let (first, most) = (Duration::from_millis(5), Duration::from_millis(50));
        self.client_with(BackoffConfig { first, most }, Duration::from_secs(30)).await
    }

    /// One that tries everything once.
    pub(crate) async fn client_that_tries_once(&self) -> Client {
        let pause = Duration::from_secs(50);
        let backoff = BackoffConfig { first: pause, most: pause };
        self.client_with(backoff, Duration::from_secs(2)).await
    }

    async fn client_with(&self, backoff: BackoffConfig, request_timeout: Duration) -> Client {
        let address = self.running.as_ref().expect("it runs").address().to_string();
        let config = ClientConfig::new([address]).ca_file(self.dir.path().join("ca.pem"));
        Client::connect(ClientConfig { backoff, request_timeout, ..config })
            .await
            .expect("it can be reached")
    }

    /// A page of the admin port.
    pub(crate) async fn page(&self, path: &'static str) -> String {
        let from = self.running.as_ref().expect("it runs").admin_address();
        let page = tokio::task::spawn_blocking(move || get(from, path)).await.unwrap();
        page.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Where the first partition of a topic lies.
    pub(crate) async fn log_of(&self, client: &Client, topic: &str) -> PathBuf {
        let id = client.admin().describe_topic(topic).await.unwrap().id;
        self.logs().join(format!("{id}-0"))
    }

    /// Where all logs lie.
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.path().join("partitions")
    }

    /// The metadata log: partition 0 of the topic with the last of all ids.
    pub(crate) fn metadata_log(&self) -> PathBuf {
        self.logs().join(format!("{}-0", u32::MAX))
    }

    /// The metadata store.
    pub(crate) fn metadata(&self) -> PathBuf {
        self.dir.path().join("metadata.redb")
    }
}

/// The first partition of a topic, as `topic describe` has it.
pub(crate) async fn describe(client: &Client, topic: &str) -> PartitionDescription {
    client.admin().describe_topic(topic).await.unwrap().partitions.remove(0)
}

/// Sends one record with acks `all`; a broker that cannot take it has two seconds to come to be able to.
pub(crate) async fn send(client: &Client, topic: &str, value: &str) -> Result<(), ProduceError> {
    let config = ProducerConfig {
        linger: Duration::ZERO,
        delivery_timeout: Duration::from_secs(2),
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).unwrap();
    let record = ProducerRecord::new(topic).value(value.as_bytes());
    let sent = producer.send(record).await?;
    let told = tokio::time::timeout(Duration::from_secs(20), sent).await;
    told.unwrap_or_else(|_| panic!("{topic}: neither written nor refused")).map(drop)
}

/// The values of a topic, in order.
pub(crate) async fn values(client: &Client, topic: &str) -> Vec<String> {
    let whole = millstream_tests_cluster::reading::read_whole(client, topic).await;
    whole.iter().map(|record| record.text()).collect()
}

/// What the broker refused a record with.
pub(crate) fn refusal(error: &ProduceError) -> (ErrorCode, String) {
    match error {
        ProduceError::Refused { error, .. } => (error.code, error.message.clone()),
        other => panic!("{other}"),
    }
}
