//! The five marks on a log: start, high watermark, synced, appended, end.
//!
//! Invariant: `start <= high watermark <= appended <= end` and `synced <= appended`; the start and the
//! high watermark only move forward; a cut never goes below the high watermark.

use millstream_protocol::ids::Offset;
use thiserror::Error;

/// Where a log begins, what of it is committed, and how far each stage of writing has come.
///
/// Every mark is exclusive: the offset after the last record it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    start: Offset,
    high_watermark: Offset,
    synced: Offset,
    appended: Offset,
    end: Offset,
}

/// A read asked for an offset that the log does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "offset {wanted} is outside of the log, which has {start} to {end}: \
     seek to an offset in this range, or to earliest or latest"
)]
pub struct OutOfRange {
    /// The offset that was asked for.
    pub wanted: Offset,
    /// The first offset that can be read.
    pub start: Offset,
    /// The offset after the last one that can be read.
    pub end: Offset,
}

impl Offsets {
    /// The marks of a log that recovery found on disk: nothing is known to be committed but what
    /// retention has already deleted.
    ///
    /// # Panics
    /// Unless `start <= synced <= end`: recovery must not report a log that ends before it starts.
    #[must_use]
    pub fn recovered(start: Offset, synced: Offset, end: Offset) -> Self {
        assert!(start <= end, "a log of {start} to {end} ends before it starts");
        assert!(synced <= end, "synced to {synced}, past the end {end}");
        Self { start, high_watermark: start, synced, appended: end, end }
    }

    /// The first offset of the log.
    #[must_use]
    pub const fn start(&self) -> Offset {
        self.start
    }

    /// The offset after the last committed record: what readers see.
    #[must_use]
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The offset after the last record known to be durable here.
    #[must_use]
    pub const fn synced(&self) -> Offset {
        self.synced
    }

    /// The offset after the last record known to be written here.
    #[must_use]
    pub const fn appended(&self) -> Offset {
        self.appended
    }

    /// The offset that the next record gets.
    #[must_use]
    pub const fn end(&self) -> Offset {
        self.end
    }

    /// Gives out the next `count` offsets and returns the first of them.
    pub fn assign(&mut self, count: u64) -> Offset {
        let base = self.end;
        assert!(0 < count, "no offsets to assign at {base}");
        assert!(count <= Offset::MAX - base, "offset {base} + {count} leaves 63 bits");
        self.end = base + count;
        base
    }

    /// The disk has taken everything before `end`.
    pub fn appended_to(&mut self, end: Offset) {
        assert!(self.appended <= end, "appended goes back from {} to {end}", self.appended);
        assert!(end <= self.end, "appended to {end}, but only {} was assigned", self.end);
        self.appended = end;
    }

    /// Everything before `end` is durable, and therefore appended.
    pub fn synced_to(&mut self, end: Offset) {
        assert!(self.synced <= end, "synced goes back from {} to {end}", self.synced);
        assert!(end <= self.end, "synced to {end}, but only {} was assigned", self.end);
        self.synced = end;
        self.appended = self.appended.max(end);
    }

    /// Everything before `to` is committed.
    pub fn commit(&mut self, to: Offset) {
        assert!(self.high_watermark <= to, "commits go back from {} to {to}", self.high_watermark);
        assert!(to <= self.appended, "commit of {to}, but only {} is appended", self.appended);
        self.high_watermark = to;
    }

    /// Takes back what lies at or after `from`: it was never committed.
    pub fn cut(&mut self, from: Offset) {
        assert!(self.high_watermark <= from, "a cut at {from} is below what is committed");
        assert!(from <= self.end, "a cut at {from} is past the end {}", self.end);
        self.end = from;
        self.appended = self.appended.min(from);
        self.synced = self.synced.min(from);
    }

    /// Retention deleted what lies before `to`; an older start is ignored.
    pub fn advance_start(&mut self, to: Offset) {
        assert!(to <= self.high_watermark, "retention up to {to} passes what is committed");
        self.start = self.start.max(to);
    }

    /// Whether a consumer may read from `wanted`; the high watermark itself is a place to wait at.
    ///
    /// # Errors
    /// [`OutOfRange`] names what there is.
    pub fn check_read(&self, wanted: Offset) -> Result<(), OutOfRange> {
        let (start, end) = (self.start, self.high_watermark);
        if start <= wanted && wanted <= end {
            return Ok(());
        }
        Err(OutOfRange { wanted, start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Offsets {
        Offsets::recovered(Offset(10), Offset(15), Offset(20))
    }

    #[test]
    fn an_offset_goes_through_the_stages_in_order() {
        let mut log = log();
        assert_eq!(log.assign(5), Offset(20));
        log.appended_to(Offset(22));
        log.synced_to(Offset(25));
        assert_eq!(log.appended(), Offset(25), "what is synced is appended");
        log.commit(Offset(25));
        log.advance_start(Offset(12));
        log.advance_start(Offset(11));
        assert_eq!(log.start(), Offset(12), "the start only moves forward");
    }

    #[test]
    fn a_reader_may_wait_at_the_high_watermark_and_not_beyond() {
        let mut log = log();
        log.commit(Offset(18));
        assert!(log.check_read(Offset(10)).is_ok());
        assert!(log.check_read(Offset(18)).is_ok());
        assert_eq!(
            log.check_read(Offset(19)).unwrap_err().to_string(),
            "offset 19 is outside of the log, which has 10 to 18: \
             seek to an offset in this range, or to earliest or latest"
        );
        assert!(log.check_read(Offset(9)).is_err());
    }

    #[test]
    fn a_cut_takes_back_every_later_mark() {
        let mut log = log();
        log.assign(5);
        log.cut(Offset(12));
        assert_eq!((log.end(), log.appended(), log.synced()), (Offset(12), Offset(12), Offset(12)));
    }

    #[test]
    #[should_panic(expected = "a cut at 17 is below what is committed")]
    fn what_is_committed_is_never_cut() {
        let mut log = log();
        log.commit(Offset(18));
        log.cut(Offset(17));
    }

    #[test]
    #[should_panic(expected = "retention up to 11 passes what is committed")]
    fn retention_never_passes_what_is_committed() {
        log().advance_start(Offset(11));
    }
}
