//! How a verb reaches a broker: its address, and the certificate authority that vouches for it.
//!
//! Invariant: a broker is never talked to without its certificate being checked.

use std::path::PathBuf;
use std::time::Duration;

use millstream_client::{Client, ClientConfig, ClientError, ConsumeError, ProduceError};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::message::Call;

use crate::failure::{Failure, Result};
use crate::logging;

/// The variable that names the data directory, for brokers and clients alike.
pub(crate) const DATA_DIR_VARIABLE: &str = "MILLSTREAM_DATA_DIR";
/// Where a broker leaves its cluster's certificate authority.
const CA_FILE: &str = "ca.pem";
/// How long saying goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Which broker, and how to trust it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Any broker of the cluster; better several, with commas between: one of them may be away.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        env = "MILLSTREAM_BROKER",
        hide_env_values = true,
        default_value = "127.0.0.1:9440"
    )]
    broker: Vec<String>,
    /// The cluster's certificate authority [default: ca.pem in the data directory].
    #[arg(long, global = true, value_name = "FILE", env = "MILLSTREAM_CA", hide_env_values = true)]
    ca: Option<PathBuf>,
    /// The data directory of a broker on this machine, for its ca.pem.
    #[arg(
        long, global = true, value_name = "DIR", env = DATA_DIR_VARIABLE, hide_env_values = true,
        default_value = "./millstream-data"
    )]
    data_dir: PathBuf,
}

impl Connection {
    /// Runs `work` with a connection, on this thread.
    pub(crate) fn session(&self, work: impl AsyncFnOnce(&Client) -> Result) -> Result {
        logging::start_for_client()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = self.open().await?;
            let done = work(&client).await;
            // So that the broker does not have to find out; a broker that has gone is not waited for.
            let _ = tokio::time::timeout(FAREWELL, client.close()).await;
            done
        })
    }

    async fn open(&self) -> Result<Client> {
        let config = ClientConfig::new(&self.broker).ca_file(self.authority()?);
        Ok(Client::connect(config.client_id("millstream-cli")).await?)
    }

    /// The certificate authority to trust: the one that was named, or a local broker's.
    fn authority(&self) -> Result<PathBuf> {
        if let Some(ca) = &self.ca {
            return Ok(ca.clone());
        }
        let local = self.data_dir.join(CA_FILE);
        if local.exists() {
            return Ok(local);
        }
        Err(Failure::new(format!("no certificate authority to trust: {} is not there", local.display())).or_hint(
            "--ca FILE with a copy of the broker's ca.pem, or --data-dir DIR with the data directory of a broker here",
        ))
    }
}

/// Asks the broker for one thing.
pub(crate) async fn call<C: Call>(client: &Client, request: C) -> Result<C::Response> {
    Ok(client.call(request).await?)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) => refusal.into(),
            ClientError::Unreachable { broker, reason } => Self::new(format!(
                "cannot reach a broker at {broker}: {reason}"
            ))
            .or_hint("`millstream serve` starts a broker here, --broker HOST:PORT names another"),
            ClientError::ConnectionLost { .. } | ClientError::TimedOut { .. } => {
                Self::new(&error).or_hint("the same command again in a moment")
            }
            ClientError::UnknownPartition { .. } => Self::new(&error)
                .or_hint("`millstream topic alter NAME --partitions N` adds partitions"),
            error => Self::new(error),
        }
    }
}

impl From<ProduceError> for Failure {
    fn from(error: ProduceError) -> Self {
        match error {
            ProduceError::Client(error) => error.into(),
            ProduceError::Refused { error: WireError { code, .. }, .. } => {
                Self::new(&error).advised(code)
            }
            error => Self::new(error),
        }
    }
}

impl From<ConsumeError> for Failure {
    fn from(error: ConsumeError) -> Self {
        match error {
            ConsumeError::Client(error) => error.into(),
            ConsumeError::Refused { error: WireError { code, .. }, .. } => {
                Self::new(&error).advised(code)
            }
            ConsumeError::OutOfRange { reason, .. } => {
                Self::new(reason).advised(ErrorCode::OffsetOutOfRange)
            }
            ConsumeError::Corrupt { .. } => Self::new(&error)
                .or_hint("`millstream log dump SEGMENT` on the broker's machine finds the damage"),
            error => Self::new(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn connection(ca: Option<&str>, data_dir: &Path) -> Connection {
        let broker = vec!["127.0.0.1:9440".to_owned()];
        Connection { broker, ca: ca.map(PathBuf::from), data_dir: data_dir.to_owned() }
    }

    #[test]
    fn the_authority_is_the_one_named_or_that_of_the_data_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let named = connection(Some("mine.pem"), dir.path()).authority().expect("named");
        assert_eq!(named, Path::new("mine.pem"));
        let none = connection(None, dir.path()).authority().expect_err("none there").to_string();
        assert!(none.contains("ca.pem is not there") && none.contains("--ca FILE"), "{none}");
        std::fs::write(dir.path().join(CA_FILE), "").expect("written");
        let local = connection(None, dir.path()).authority().expect("there");
        assert_eq!(local, dir.path().join(CA_FILE));
    }
}
