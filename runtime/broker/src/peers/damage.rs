//! Damage: where it is reported that a log, as it was opened, cannot be read.
//!
//! Invariant: a report names the opening it is about, so that none is taken for one about the log that was put in
//! its place.

use millstream_protocol::ids::TopicPartition;
use tokio::sync::mpsc;

/// Reports that wait to be heard: there are as many readers.
const WAITING: usize = 256;

/// A log as it was opened once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) partition: TopicPartition,
    /// Another one each time in this life.
    pub(crate) number: u64,
}

/// Who hears of damage; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct Reports(mpsc::Sender<Opening>);

impl Reports {
    /// Reports, and who hears them.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Opening>) {
        let (report, reports) = mpsc::channel(WAITING);
        (Self(report), reports)
    }

    /// Reports about one log.
    pub(crate) fn of(&self, log: Opening) -> Damaged {
        Damaged { log, reports: self.clone() }
    }
}

/// How who reads a log reports that it is damaged.
#[derive(Clone, Debug)]
pub(crate) struct Damaged {
    log: Opening,
    reports: Reports,
}

impl Damaged {
    /// Which log it is about.
    pub(crate) fn log(&self) -> Opening {
        self.log
    }

    /// The log is damaged. Said again by whoever reads it again, should it be missed.
    pub(crate) fn report(&self) {
        let _ = self.reports.0.try_send(self.log);
    }
}
