//! How many bytes a partition's stream may still send: so many as fit into what is not consumed yet.
//!
//! Invariant: what lies here unconsumed and what may still come together never exceed the window,
//! but for the one batch that is larger than what was left.

/// The account of one partition. The broker keeps the other side of it: bytes granted less bytes
/// sent, which goes below zero when a body is larger than what was left.
#[derive(Debug)]
pub(crate) struct CreditBook {
    window: i64,
    /// Granted and not yet arrived; negative after a body that was larger than what was left.
    outstanding: i64,
    /// Arrived and not yet consumed.
    buffered: i64,
}

impl CreditBook {
    pub(crate) fn new(window: u64) -> Self {
        Self { window: signed(window), outstanding: 0, buffered: 0 }
    }

    /// A new stream begins: what it is granted with its first message.
    pub(crate) fn open(&mut self, paused: bool) -> u64 {
        self.outstanding = 0;
        if paused { 0 } else { self.grant_all() }
    }

    /// A body arrived.
    pub(crate) fn arrived(&mut self, bytes: u64) {
        self.outstanding -= signed(bytes);
        self.buffered += signed(bytes);
    }

    /// A body that had arrived was handed to the program.
    pub(crate) fn consumed(&mut self, bytes: u64) {
        self.buffered -= signed(bytes);
        assert!(self.buffered >= 0, "more was consumed than had arrived");
    }

    /// Everything that had arrived was thrown away.
    pub(crate) fn discarded(&mut self) {
        self.buffered = 0;
    }

    /// What to grant now: a quarter of the window at least, so that grants are few.
    pub(crate) fn grant(&mut self, paused: bool) -> Option<u64> {
        let worthwhile = (self.window / 4).max(1) <= self.free();
        (!paused && worthwhile).then(|| self.grant_all())
    }

    fn grant_all(&mut self) -> u64 {
        let free = self.free().max(0);
        self.outstanding += free;
        free.unsigned_abs()
    }

    const fn free(&self) -> i64 {
        self.window - self.buffered - self.outstanding
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_comes_back_as_the_program_consumes_and_not_before() {
        let mut book = CreditBook::new(100);
        assert_eq!(book.open(false), 100);
        book.arrived(60);
        book.arrived(40);
        assert_eq!(book.grant(false), None);
        book.consumed(20);
        assert_eq!(book.grant(false), None, "less than a quarter");
        book.consumed(40);
        assert_eq!(book.grant(true), None, "paused");
        assert_eq!(book.grant(false), Some(60));
        assert_eq!(book.grant(false), None);
    }

    #[test]
    fn a_body_larger_than_what_was_left_is_made_up_for() {
        let mut book = CreditBook::new(100);
        book.open(false);
        book.arrived(90);
        book.consumed(90);
        assert_eq!(book.grant(false), Some(90));
        book.arrived(99);
        book.arrived(50);
        book.consumed(99);
        book.consumed(50);
        assert_eq!(book.grant(false), Some(149), "so that the broker's account is back at 100");
    }

    #[test]
    fn a_new_stream_is_granted_what_is_not_taken_by_what_lies_here() {
        let mut book = CreditBook::new(100);
        book.open(false);
        book.arrived(70);
        assert_eq!(book.open(true), 0);
        assert_eq!(book.open(false), 30);
        book.discarded();
        assert_eq!(book.open(false), 100);
    }
}
