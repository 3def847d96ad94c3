//! How a client finds, trusts and talks to a cluster.
//!
//! Invariant: there is no setting that skips the verification of a broker's certificate.

use std::path::PathBuf;
use std::time::Duration;

use millstream_transport::{TransportSettings, Trust};

use crate::backoff::BackoffConfig;
use crate::error::ClientError;

/// Less would call every broker silent.
const MIN_SILENCE: Duration = Duration::from_millis(10);

/// Where the certificate of the cluster's authority is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ca {
    /// In this file: the broker keeps it as `ca.pem` in its data directory.
    File(PathBuf),
    /// In memory, as PEM text.
    Pem(Vec<u8>),
}

/// How to reach a cluster.
///
/// ```
/// use millstream_client::ClientConfig;
///
/// let config = ClientConfig::new(["127.0.0.1:9440"]).ca_file("millstream-data/ca.pem");
/// assert_eq!(config.brokers, ["127.0.0.1:9440"]);
/// ```
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Some of the cluster's brokers, each as `host:port`. Any one that is up will do: it knows the
    /// others. Those that are down, or hang, delay the first call by a moment each.
    pub brokers: Vec<String>,
    /// Whose signature a broker's certificate must bear.
    pub ca: Ca,
    /// A name for the broker's logs and metrics.
    pub client_id: String,
    /// For one control call, retries at other brokers included; also for opening a stream.
    pub request_timeout: Duration,
    /// How long a broker may owe an answer before others are asked: whether it still leads, or the call
    /// itself if it changes nothing.
    pub silence: Duration,
    /// Pauses between attempts.
    pub backoff: BackoffConfig,
    /// Windows, packet sizes, timeouts of QUIC.
    pub transport: TransportSettings,
}

impl ClientConfig {
    /// The address `millstream serve` listens on by default.
    pub const DEFAULT_BROKER: &'static str = "127.0.0.1:9440";

    /// These brokers, everything else by default: the authority in `millstream-data/ca.pem`.
    pub fn new<B: Into<String>>(brokers: impl IntoIterator<Item = B>) -> Self {
        Self {
            brokers: brokers.into_iter().map(Into::into).collect(),
            ca: Ca::File(PathBuf::from("millstream-data/ca.pem")),
            client_id: "millstream-client".to_owned(),
            request_timeout: Duration::from_secs(30),
            silence: Duration::from_secs(1),
            backoff: BackoffConfig::default(),
            transport: TransportSettings::default(),
        }
    }

    /// With the authority in a file.
    #[must_use]
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        Self { ca: Ca::File(path.into()), ..self }
    }

    /// With the authority's certificate itself, as PEM text.
    #[must_use]
    pub fn ca_pem(self, pem: impl Into<Vec<u8>>) -> Self {
        Self { ca: Ca::Pem(pem.into()), ..self }
    }

    /// With a name for the broker's logs.
    #[must_use]
    pub fn client_id(self, client_id: impl Into<String>) -> Self {
        Self { client_id: client_id.into(), ..self }
    }

    /// Refuses what cannot work, and reads the authority.
    pub(crate) fn trust(&self) -> Result<Trust, ClientError> {
        if self.brokers.is_empty() {
            return Err(ClientError::NoBrokers);
        }
        for broker in &self.brokers {
            split(broker)?;
        }
        if self.silence < MIN_SILENCE {
            let value = format!("{:?}", self.silence);
            return Err(ClientError::InvalidConfig {
                name: "silence",
                value,
                rule: "at least 10 ms: every answer takes some time",
            });
        }
        let invalid = |e: millstream_transport::settings::SettingsError| {
            ClientError::InvalidConfig { name: e.name, value: e.value, rule: e.rule }
        };
        self.transport.validate().map_err(invalid)?;
        match &self.ca {
            Ca::File(path) => Trust::from_pem_file(path).map_err(|e| e.to_string()),
            Ca::Pem(pem) => Trust::from_pem(pem),
        }
        .map_err(|reason| ClientError::Trust { reason })
    }
}

/// Host and port of `host:port` or `[v6]:port`; the host is without brackets.
pub(crate) fn split(broker: &str) -> Result<(&str, u16), ClientError> {
    let invalid = || ClientError::InvalidConfig {
        name: "brokers",
        value: format!("{broker:?}"),
        rule: "each is HOST:PORT, such as 127.0.0.1:9440",
    };
    let (host, port) = broker.rsplit_once(':').ok_or_else(invalid)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare.unwrap_or(host) {
        "" => Err(invalid()),
        host if bare.is_none() && host.contains(':') => Err(invalid()),
        host => Ok((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(split("localhost:9440"), Ok(("localhost", 9440)));
        assert_eq!(split("[::1]:9440"), Ok(("::1", 9440)));
        for bad in ["localhost", "localhost:", ":9440", "::1:9440", "a:0", "a:70000", "[]:1"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_broker_must_be_given_some_time_to_answer() {
        let config = ClientConfig { silence: Duration::ZERO, ..ClientConfig::new(["localhost:1"]) };
        let error = config.trust().expect_err("too short");
        assert!(matches!(error, ClientError::InvalidConfig { name: "silence", .. }), "{error}");
    }

    #[test]
    fn a_client_without_brokers_or_without_an_authority_says_what_to_give() {
        let none: [&str; 0] = [];
        let error = ClientConfig::new(none).trust().expect_err("no broker");
        assert!(error.to_string().contains("HOST:PORT"), "{error}");
        let config = ClientConfig::new(["localhost:1"]).ca_file("/nowhere/ca.pem");
        let error = config.trust().expect_err("no such file").to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
        assert!(error.contains("--ca"), "{error}");
    }
}
