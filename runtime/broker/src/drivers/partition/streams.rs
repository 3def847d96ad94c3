//! Streams: the age of produce streams, and which of them may no longer write for a producer.
//!
//! A client that is told of a gap numbers its batches anew and sends them on another stream: it
//! knows that what it sent before is not in the log. That must stay true. A stream that it gave up
//! may still carry the missing batches, slow on their way, and would write them after all: then
//! the same records are there twice. So a gap that was told on one stream bars the older ones.
//!
//! Bars are few. When there is no room for one more, a floor takes the place of all: streams that are
//! older than it carry nothing more for any producer, and who is on one opens another and sends again.
//!
//! Invariant: once a producer was told of a gap, nothing of it is taken from a stream that was opened
//! before the one it was told on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::ProducerId;
use parking_lot::Mutex;

/// Producers that are barred from older streams at the most. Bars that no older stream is left for
/// make room, and if there are none, the floor does.
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
    /// The oldest stream on which any producer may still write.
    floor: u64,
    /// The oldest stream on which a producer may still write, where that is a newer one.
    from: BTreeMap<ProducerId, u64>,
}

/// Why a producer may not write on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// It was told of a gap on a newer one.
    ByGap,
    /// The stream is too old for everybody. On another one the same batch may be taken.
    ByAge,
}

impl Barred {
    /// What the producer is told of it.
    pub(crate) fn told(self, producer: ProducerId) -> WireError {
        match self {
            Self::ByGap => {
                let text = format!(
                    "producer {producer} was told of a gap on a newer stream: what an older one still \
                     carries is not taken"
                );
                WireError::new(ErrorCode::ProducerFenced, text)
            }
            Self::ByAge => {
                let text = "too many producers lost batches while this stream was open: open another \
                            and send again";
                WireError::new(ErrorCode::Overloaded, text)
            }
        }
    }
}

impl Bars {
    /// Whether this producer may write on this stream. Without sequences there are no gaps to be told of.
    pub(crate) fn let_pass(&self, producer: ProducerId, stream: &Stream) -> Result<(), Barred> {
        let number = stream.0.number;
        if !self.from.is_empty() && self.from.get(&producer).is_some_and(|from| number < *from) {
            return Err(Barred::ByGap);
        }
        if number < self.floor && producer.is_some() {
            return Err(Barred::ByAge);
        }
        Ok(())
    }

    /// The producer is to be told of a gap on this stream: the older ones are barred from now on.
    pub(crate) fn raise(&mut self, producer: ProducerId, stream: &Stream) {
        let Ticket { number, streams } = &*stream.0;
        if let Some(from) = self.from.get_mut(&producer) {
            *from = (*from).max(*number);
            return;
        }
        let oldest = streams.oldest().unwrap_or(*number).max(self.floor);
        if *number <= oldest {
            // There is no older one that could write.
            return;
        }
        if BARS <= self.from.len() {
            self.from.retain(|_, from| oldest < *from);
        }
        if BARS <= self.from.len() {
            let highest = self.from.values().copied().max().unwrap_or_default();
            self.floor = highest.max(*number);
            self.from.clear();
            return;
        }
        self.from.insert(producer, *number);
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
        assert_eq!(bars.let_pass(P, &old), Ok(()));
        bars.raise(P, &new);
        assert_eq!(bars.let_pass(P, &old), Err(Barred::ByGap));
        assert_eq!(bars.let_pass(P, &new), Ok(()));
        assert_eq!(bars.let_pass(P, &streams.open()), Ok(()), "what comes later passes");
        assert_eq!(bars.let_pass(ProducerId(8), &old), Ok(()), "another producer");
        bars.raise(P, &old);
        assert_eq!(bars.let_pass(P, &old), Err(Barred::ByGap), "a bar never falls back");
    }

    #[test]
    fn bars_are_bounded_and_make_room_when_no_older_stream_is_left() {
        let (streams, mut bars) = (Streams::default(), Bars::default());
        let (old, new) = (streams.open(), streams.open());
        for producer in 0..1_024 {
            bars.raise(ProducerId(producer), &new);
        }
        assert_eq!((bars.from.len(), bars.floor), (1_024, 0));
        drop(old);
        let newest = streams.open();
        bars.raise(ProducerId(5_000), &newest);
        assert_eq!((bars.from.len(), bars.floor), (1, 0));
    }

    #[test]
    fn a_floor_takes_the_place_of_bars_without_number_and_everybody_goes_on_above_it() {
        let (streams, mut bars) = (Streams::default(), Bars::default());
        let (old, new, newer) = (streams.open(), streams.open(), streams.open());
        let (honest, unnumbered) = (ProducerId(1 << 40), ProducerId::NONE);
        bars.raise(ProducerId(0), &newer);
        for producer in 1..5_000 {
            bars.raise(ProducerId(producer), &new);
            assert!(bars.from.len() <= 1_024);
            assert!(bars.let_pass(ProducerId(producer), &old).is_err(), "{producer} was told");
        }
        assert!(bars.let_pass(ProducerId(0), &new).is_err(), "what it was told stays true");
        assert_eq!(bars.let_pass(honest, &old), Err(Barred::ByAge));
        assert!(Barred::ByAge.told(honest).is_retriable(), "its client opens another stream");
        assert_eq!(bars.let_pass(unnumbered, &old), Ok(()), "it has no gaps");
        let again = streams.open();
        assert_eq!(bars.let_pass(honest, &again), Ok(()));
        bars.raise(honest, &again);
        assert_eq!(bars.let_pass(honest, &again), Ok(()), "and is told of its own gaps");
        assert!(bars.let_pass(honest, &newer).is_err());
    }

    #[test]
    fn a_gap_on_the_only_stream_bars_nothing() {
        let (streams, mut bars) = (Streams::default(), Bars::default());
        bars.raise(P, &streams.open());
        assert!(bars.from.is_empty());
    }
}
