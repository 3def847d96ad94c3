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
    thread: JoinHandle<io::Result<()>>,
}

impl Stdout {
    /// Starts the thread.
    pub(crate) fn new() -> Self {
        Self::over(io::stdout())
    }

    fn over(mut out: impl Write + Send + 'static) -> Self {
        let (pieces, mut filled) = mpsc::channel::<Vec<u8>>(AHEAD);
        let (give_back, spent) = mpsc::channel(AHEAD + 1);
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
        Self { piece: Vec::with_capacity(PIECE_BYTES * 2), pieces, spent, thread }
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
        let next = self.spent.try_recv().unwrap_or_default();
        let piece = std::mem::replace(&mut self.piece, next);
        match self.pieces.send(piece).await {
            Ok(()) => Ok(()),
            // The thread has ended, so it has failed; what it says is told by `finish`.
            Err(_) => Err(Failure::ReaderGone),
        }
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
