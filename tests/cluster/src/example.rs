//! What the examples in the client's documentation run against: a broker of their own.
//!
//! An example says what a program would say, `127.0.0.1:9440` and `ca.pem`; hidden lines of it bring in the
//! [`ClientConfig`] of this module, which means the example's broker by that.
//!
//! Invariant: an example that fails, or does not end, fails its test.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task_local;

use crate::process::Broker;

/// An example is short.
const PATIENCE: Duration = Duration::from_secs(60);

task_local! {
    static BROKER: millstream_client::ClientConfig;
}

/// Runs an example beside a broker of its own.
///
/// # Panics
/// If it fails or takes a minute.
pub fn run(example: impl Future<Output = Result<(), Box<dyn Error>>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let broker = Broker::start().await;
        let example = BROKER.scope(broker.client_config(), example);
        let ended = tokio::time::timeout(PATIENCE, example).await.expect("an example ends");
        ended.unwrap_or_else(|error| panic!("{error}"));
    });
}

/// Stands for the client's own.
#[derive(Debug)]
pub struct ClientConfig;

impl ClientConfig {
    /// The broker of the example, which calls it by its default address.
    ///
    /// # Panics
    /// If it calls it anything else.
    #[must_use]
    #[expect(clippy::new_ret_no_self, reason = "it stands for one that does")]
    pub fn new<const N: usize>(brokers: [&str; N]) -> Stand {
        assert_eq!(brokers.as_slice(), ["127.0.0.1:9440"], "the default address of a broker");
        Stand
    }
}

/// A configuration that wants its authority.
#[derive(Debug)]
pub struct Stand;

impl Stand {
    /// How the example's broker is reached.
    ///
    /// # Panics
    /// Outside [`run`].
    #[must_use]
    pub fn ca_file(self, file: impl Into<PathBuf>) -> millstream_client::ClientConfig {
        assert_eq!(file.into().file_name().expect("a file"), "ca.pem", "as a broker calls it");
        BROKER.with(Clone::clone)
    }
}
