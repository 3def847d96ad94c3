//! What a broker keeps for itself among its rows: who founded the metadata log, its lives, and how the last one ended.
//!
//! Invariant: a life's number is durable before anything is done in it.

use std::collections::BTreeMap;

use millstream_core::replication::VoterSet;
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::replica::LogEnd;
use millstream_storage::machine::boot_id;
use millstream_storage::metadata::{Change, Table};
use serde::{Deserialize, Serialize};

const FOUNDERS: &[u8] = b"self/founders";
const LIVES: &[u8] = b"self/lives";
const BROKERS: &[u8] = b"self/brokers";
const ENDED: &[u8] = b"self/ended";
const ASIDE: &[u8] = b"self/metadata-log-damaged";

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    /// Who voted on metadata when this broker came to the cluster, and where in the log that stands.
    pub(crate) founders: Option<(LogEnd, VoterSet)>,
    /// Where the brokers were then.
    pub(super) brokers: BTreeMap<NodeId, String>,
    /// How often the broker was started.
    pub(super) lives: u64,
    ended: Option<Ended>,
    /// The metadata log is to be set aside before it is opened.
    pub(super) log_damaged: bool,
}

/// How the last life ended, or that it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ended {
    /// Which run of the machine it was.
    boot: String,
    cleanly: bool,
}

impl Own {
    /// Takes a row in, if it is one of these.
    pub(super) fn read(&mut self, key: &[u8], value: &[u8]) -> Result<bool, postcard::Error> {
        match key {
            FOUNDERS => self.founders = Some(postcard::from_bytes(value)?),
            BROKERS => self.brokers = postcard::from_bytes(value)?,
            LIVES => self.lives = postcard::from_bytes(value)?,
            ENDED => self.ended = Some(postcard::from_bytes(value)?),
            ASIDE => self.log_damaged = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Begins a life. Returns what is to be made durable, and whether the machine lost what it had in memory since the
    /// broker last wrote.
    pub(super) fn begin(&mut self) -> (Vec<Change>, bool) {
        let boot = boot();
        let lost = self.ended.as_ref().is_some_and(|ended| !ended.cleanly && ended.boot != boot);
        self.lives += 1;
        let mut rows = vec![row(LIVES, &self.lives), row(ENDED, &Ended { boot, cleanly: false })];
        if let Some(founders) = &self.founders {
            rows.push(row(FOUNDERS, founders));
            rows.push(row(BROKERS, &self.brokers));
        }
        (rows, lost)
    }
}

/// Says that everything was closed.
pub(super) fn ended_cleanly() -> Vec<Change> {
    vec![row(ENDED, &Ended { boot: boot(), cleanly: true })]
}

/// Has the metadata log set aside at the next start.
pub(crate) fn metadata_log_damaged() -> Vec<Change> {
    vec![row(ASIDE, &())]
}

/// It is set aside.
pub(super) fn metadata_log_set_aside() -> Vec<Change> {
    vec![Change { table: Table::Votes, key: ASIDE.to_vec(), value: None }]
}

fn row(key: &[u8], value: &impl Serialize) -> Change {
    let value = postcard::to_stdvec(value).expect("memory takes it");
    Change { table: Table::Votes, key: key.to_vec(), value: Some(value) }
}

/// Names this run of the machine; where the system does not say, every run is another one.
fn boot() -> String {
    boot_id().unwrap_or_else(|| format!("{:032x}", super::stored::random()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(rows: &[Change]) -> Own {
        let mut own = Own::default();
        for row in rows {
            assert!(own.read(&row.key, row.value.as_deref().unwrap()).unwrap());
        }
        own
    }

    #[test]
    fn each_life_has_another_number_and_knows_how_the_last_one_ended() {
        let (rows, lost) = Own::default().begin();
        assert!(!lost, "there was nothing to lose");
        let mut second = read_back(&rows);
        let (rows, lost) = second.begin();
        assert_eq!((second.lives, lost), (2, false), "the machine ran on");

        let mut after = read_back(&rows);
        after.ended = Some(Ended { boot: "another".to_owned(), cleanly: false });
        assert!(after.clone().begin().1, "it was started anew under a running broker");
        after.ended = Some(Ended { boot: "another".to_owned(), cleanly: true });
        assert!(!after.begin().1);
        assert!(!Own::default().read(&[0; 8], &[]).unwrap(), "a partition's row");
    }
}
