//! The greeting: which protocol version and features a connection speaks.
//!
//! Invariant: both sides speak the highest version that both know, or the connection ends with a
//! reason that names the versions.

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;

/// The oldest protocol version this build speaks.
pub const OLDEST_VERSION: u16 = 1;
/// The newest protocol version this build speaks.
pub const NEWEST_VERSION: u16 = 1;
/// The ALPN name of the protocol's first generation.
pub const ALPN: &[u8] = b"millstream/1";

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest version the client speaks.
    pub oldest: u16,
    /// The newest version the client speaks.
    pub newest: u16,
    /// Optional features the client would use, by name.
    pub features: Vec<String>,
    /// A name for logs and metrics.
    pub client_id: String,
    /// Name and version of the client's software.
    pub software: String,
}

/// What the broker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version both will speak.
    pub version: u16,
    /// The features that both know.
    pub features: Vec<String>,
    /// The cluster's identity.
    pub cluster_id: String,
    /// The broker's identity.
    pub node: NodeId,
    /// Name and version of the broker's software.
    pub software: String,
}

/// Picks the version two sides speak, if they have one in common.
#[must_use]
pub fn negotiate(hello: &Hello) -> Option<u16> {
    let newest = hello.newest.min(NEWEST_VERSION);
    (newest >= hello.oldest.max(OLDEST_VERSION)).then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(oldest: u16, newest: u16) -> Hello {
        Hello {
            oldest,
            newest,
            features: vec![],
            client_id: String::new(),
            software: String::new(),
        }
    }

    #[test]
    fn the_highest_common_version_is_chosen_or_none() {
        assert_eq!(negotiate(&hello(1, 1)), Some(1));
        assert_eq!(negotiate(&hello(1, 9)), Some(NEWEST_VERSION));
        assert_eq!(negotiate(&hello(NEWEST_VERSION + 1, 9)), None);
        assert_eq!(negotiate(&hello(0, 0)), None);
    }
}
