//! Stdout for millions of records: written in large pieces by a thread of its own.
//!
//! Invariant: pieces are written in order, at most [`AHEAD`] of them wait, and a failure is told at the next piece.

use std::io::{self, Write};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::failure::{Failure, Result};

/// A piece of so many bytes is handed to the thread.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that may wait for a slow reader.
const AHEAD: usize = 4;

/// Collects bytes and hands them to the thread that writes them.
pub(crate) struct Stdout {
    piece: Vec<u8>,
    pieces: mpsc::Sender<Vec<u8>>,
    /// Pieces that were written, to be filled again.
    spent: mpsc::Receiver<Vec<u8>>,
    /// Pieces that were handed over and are not known to be written.
    ahead: usize,
    thread: JoinHandle<io::Result<()>>,
}

impl Stdout {
    /// Starts the thread.
    pub(crate) fn new() -> Self {
        Self::over(io::stdout())
    }

    fn over(mut out: impl Write + Send + 'static) -> Self {
        let (pieces, mut filled) = mpsc::channel::<Vec<u8>>(AHEAD);
        // Those that wait, one that is being written, and one more: there is always room.
        let (give_back, spent) = mpsc::channel(AHEAD + 2);
        let thread = std::thread::spawn(move || {
            while let Some(mut piece) = filled.blocking_recv() {
                out.write_all(&piece)?;
                out.flush()?;
                piece.clear();
                // Nobody takes it back when nothing more comes.
                let _ = give_back.try_send(piece);
            }
            Ok(())
        });
        Self { piece: Vec::with_capacity(PIECE_BYTES * 2), pieces, spent, ahead: 0, thread }
    }

    /// Where to append what is to be written.
    pub(crate) const fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.piece
    }

    /// Whether enough has gathered to be handed over.
    pub(crate) const fn is_full(&self) -> bool {
        PIECE_BYTES <= self.piece.len()
    }

    /// Hands over what has gathered; waits while the reader is too far behind.
    pub(crate) async fn flush(&mut self) -> Result {
        if self.piece.is_empty() {
            return Ok(());
        }
        let mut next = Vec::new();
        while let Ok(spent) = self.spent.try_recv() {
            self.ahead -= 1;
            next = spent;
        }
        let piece = std::mem::replace(&mut self.piece, next);
        match self.pieces.send(piece).await {
            Ok(()) => self.ahead += 1,
            // The thread has ended, so it has failed; what it says is told by `finish`.
            Err(_) => return Err(Failure::ReaderGone),
        }
        Ok(())
    }

    /// Hands over what has gathered and waits until the system has all of it: it outlives this process.
    pub(crate) async fn written(&mut self) -> Result {
        self.flush().await?;
        while self.ahead != 0 {
            // As above.
            self.spent.recv().await.ok_or(Failure::ReaderGone)?;
            self.ahead -= 1;
        }
        Ok(())
    }

    /// Waits until everything is written, or tells why it was not.
    pub(crate) async fn finish(mut self) -> Result {
        let handed_over = self.flush().await;
        let Self { pieces, thread, .. } = self;
        drop(pieces);
        let joined = tokio::task::spawn_blocking(|| thread.join()).await;
        match joined.map_err(Failure::new)? {
            Ok(written) => {
                written.map_err(|error| match Failure::from(error) {
                    Failure::ReaderGone => Failure::ReaderGone,
                    failure => failure.context("cannot write to stdout"),
                })?;
                handed_over
            }
            Err(_) => Err(Failure::new("the thread that writes to stdout has ended unexpectedly")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn everything_is_written_in_order() {
        let written = Shared::default();
        let mut stdout = Stdout::over(written.clone());
        let mut expected = Vec::new();
        for number in 0..100_000_u32 {
            stdout.buffer().extend_from_slice(&number.to_be_bytes());
            expected.extend_from_slice(&number.to_be_bytes());
            if number % 1_000 == 0 {
                stdout.flush().await.expect("written");
            }
        }
        stdout.finish().await.expect("written");
        assert!(*written.0.lock().expect("no panic") == expected);
    }

    #[tokio::test]
    async fn what_is_said_to_be_written_is() {
        let written = Shared::default();
        let mut stdout = Stdout::over(written.clone());
        for number in 0..1_000_usize {
            stdout.buffer().push(b'x');
            if number % 3 == 0 {
                stdout.flush().await.expect("handed over");
            }
            stdout.written().await.expect("written");
            assert_eq!(written.0.lock().expect("no panic").len(), number + 1);
        }
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_ends_it_quietly() {
        let mut stdout = Stdout::over(Gone);
        let mut ended = Ok(());
        for _ in 0..100 {
            stdout.buffer().push(b'x');
            ended = stdout.flush().await;
            if ended.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(matches!(stdout.finish().await, Err(Failure::ReaderGone)), "{ended:?}");
    }
}
