//! Streams: the age of produce streams, and which of them may no longer write for a producer.
//!
//! A client that is told of a gap numbers its batches anew and sends them on another stream: it
//! knows that what it sent before is not in the log. That must stay true. A stream that it gave up
//! may still carry the missing batches, slow on their way, and would write them after all: then
//! the same records are there twice. So a gap that was told on one stream bars the older ones.
//!
//! Invariant: once a producer was told of a gap, nothing of it is taken from a stream that was opened
//! before the one it was told on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_protocol::ids::ProducerId;
use parking_lot::Mutex;

/// Producers that are barred from older streams at the most. Bars that no older stream is left for
/// make room.
const BARS: usize = 1_024;

/// The open streams of a partition, by age.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    open: BTreeSet<u64>,
}

/// One produce stream: its age. It is open until the last clone is dropped, so that each of its
/// batches keeps it open.
#[derive(Clone, Debug)]
pub(crate) struct Stream(Arc<Ticket>);

#[derive(Debug)]
struct Ticket {
    number: u64,
    streams: Streams,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.streams.0.lock().open.remove(&self.number);
    }
}

impl Streams {
    /// A stream that is newer than all others.
    pub(crate) fn open(&self) -> Stream {
        let mut open = self.0.lock();
        let number = open.next;
        open.next += 1;
        open.open.insert(number);
        drop(open);
        Stream(Arc::new(Ticket { number, streams: self.clone() }))
    }

    fn oldest(&self) -> Option<u64> {
        self.0.lock().open.first().copied()
    }
}

/// Who may write on which streams.
#[derive(Debug, Default)]
pub(crate) struct Bars {
    /// The oldest stream on which a producer may still write.
    from: BTreeMap<ProducerId, u64>,
}

/// There is no room for one more bar, so nobody may be told of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Bars {
    /// Whether this producer may write on this stream.
    pub(crate) fn let_pass(&self, producer: ProducerId, stream: &Stream) -> bool {
        self.from.is_empty() || self.from.get(&producer).is_none_or(|from| *from <= stream.0.number)
    }

    /// The producer is to be told of a gap on this stream: the older ones are barred from now on.
    pub(crate) fn raise(&mut self, producer: ProducerId, stream: &Stream) -> Result<(), Full> {
        let Ticket { number, streams } = &*stream.0;
        if let Some(from) = self.from.get_mut(&producer) {
            *from = (*from).max(*number);
            return Ok(());
        }
        let oldest = streams.oldest().unwrap_or(*number);
        if *number <= oldest {
            // There is no older one that could write.
            return Ok(());
        }
        if BARS <= self.from.len() {
            self.from.retain(|_, from| oldest < *from);
        }
        if BARS <= self.from.len() {
            return Err(Full);
        }
        self.from.insert(producer, *number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProducerId = ProducerId(7);

    #[test]
    fn a_gap_bars_older_streams_of_that_producer_and_no_others() {
        let (streams, mut bars) = (Streams::default(), Bars::default());
        let (old, new) = (streams.open(), streams.open());
        assert!(bars.let_pass(P, &old));
        assert_eq!(bars.raise(P, &new), Ok(()));
        assert!(!bars.let_pass(P, &old) && bars.let_pass(P, &new));
        assert!(bars.let_pass(P, &streams.open()), "what comes later passes");
        assert!(bars.let_pass(ProducerId(8), &old), "another producer");
        assert_eq!(bars.raise(P, &old), Ok(()));
        assert!(!bars.let_pass(P, &old), "a bar never falls back");
    }

    #[test]
    fn bars_are_bounded_and_make_room_when_no_older_stream_is_left() {
        let (streams, mut bars) = (Streams::default(), Bars::default());
        let (old, new) = (streams.open(), streams.open());
        for producer in 0..1_024 {
            assert_eq!(bars.raise(ProducerId(producer), &new), Ok(()));
        }
        assert_eq!(bars.raise(ProducerId(5_000), &new), Err(Full));
        let held_by_a_batch = old.clone();
        drop(old);
        assert_eq!(bars.raise(ProducerId(5_000), &new), Err(Full));
        drop(held_by_a_batch);
        let newest = streams.open();
        assert_eq!(bars.raise(ProducerId(5_000), &newest), Ok(()));
        assert_eq!(bars.from.len(), 1);
    }

    #[test]
    fn a_gap_on_the_only_stream_bars_nothing() {
        let (streams, mut bars) = (Streams::default(), Bars::default());
        assert_eq!(bars.raise(P, &streams.open()), Ok(()));
        assert!(bars.from.is_empty());
    }
}
