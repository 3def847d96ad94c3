//! The input, cut into blocks of whole lines by a thread of its own.
//!
//! Invariant: the blocks put together are the input, byte for byte; one longer line than a record may be ends the
//! input with an error instead of taking memory.

use std::io::{ErrorKind, Read};

use millstream_protocol::limits::MAX_RECORD_BYTES;
use tokio::sync::mpsc;

use crate::failure::{Failure, Result};

const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that are read ahead.
const AHEAD: usize = 4;

/// Some whole lines of the input. Only the input's last line may lack its newline.
#[derive(Debug)]
pub(super) struct Block {
    /// The lines.
    bytes: Vec<u8>,
    /// The number of the first, from 1.
    first_line: u64,
}

impl Block {
    /// The lines, numbered, without their newlines.
    pub(super) fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = &self.bytes[..];
        let lines = std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..length];
            rest = rest.get(length + 1..).unwrap_or_default();
            Some(line)
        });
        (self.first_line..).zip(lines)
    }
}

/// Reads `input` to its end on a thread of its own.
pub(super) fn read(input: impl Read + Send + 'static) -> mpsc::Receiver<Result<Block>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let buffer = vec![0; BLOCK_BYTES].into_boxed_slice();
    let mut reader = Reader { input, buffer, carried: Vec::new(), next_line: 1 };
    std::thread::spawn(move || {
        // The thread ends with the input, with the first error, or when nobody wants more.
        while let Some(block) = reader.next().transpose() {
            let failed = block.is_err();
            if sender.blocking_send(block).is_err() || failed {
                break;
            }
        }
    });
    receiver
}

struct Reader<R> {
    input: R,
    buffer: Box<[u8]>,
    /// The beginning of a line whose end was not read yet.
    carried: Vec<u8>,
    next_line: u64,
}

impl<R: Read> Reader<R> {
    fn next(&mut self) -> Result<Option<Block>> {
        let mut bytes = std::mem::take(&mut self.carried);
        loop {
            let had = bytes.len();
            // What one read gives is passed on at once: behind a pipe somebody may be typing.
            let read = match self.input.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => {
                    read.map_err(|error| Failure::new(error).context("cannot read the input"))?
                }
            };
            if read == 0 {
                return Ok((!bytes.is_empty()).then(|| self.block(bytes)));
            }
            bytes.extend_from_slice(&self.buffer[..read]);
            if let Some(last) = memchr::memrchr(b'\n', &bytes[had..]) {
                self.carried = bytes.split_off(had + last + 1);
                return Ok(Some(self.block(bytes)));
            }
            if bytes.len() > MAX_RECORD_BYTES {
                let line = self.next_line;
                return Err(Failure::new(format!(
                    "line {line} is longer than a record may be ({MAX_RECORD_BYTES} bytes)"
                )));
            }
        }
    }

    fn block(&mut self, bytes: Vec<u8>) -> Block {
        let first_line = self.next_line;
        self.next_line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        Block { bytes, first_line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(input: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut blocks = read(std::io::Cursor::new(input.to_vec()));
        let mut lines = Vec::new();
        while let Some(block) = blocks.blocking_recv() {
            let block = block.expect("readable");
            lines.extend(block.lines().map(|(number, line)| (number, line.to_vec())));
        }
        lines
    }

    #[test]
    fn the_last_line_needs_no_newline_and_an_empty_line_is_a_line() {
        assert_eq!(lines_of(b""), []);
        let expected = [(1, b"a".to_vec()), (2, vec![]), (3, b"b\r".to_vec())];
        assert_eq!(lines_of(b"a\n\nb\r\n"), expected);
        assert_eq!(lines_of(b"a\n\nb\r"), expected);
    }

    #[test]
    fn lines_across_blocks_are_whole_and_numbered() {
        let given: Vec<_> = (1..=40_000_u16)
            .map(|n| (n.into(), format!("{n}:{}", "x".repeat(n as usize % 97)).into_bytes()))
            .collect();
        let mut input = Vec::new();
        for (_, line) in &given {
            input.extend_from_slice(line);
            input.push(b'\n');
        }
        assert!(input.len() > 2 * BLOCK_BYTES);
        assert_eq!(lines_of(&input), given);
    }

    #[test]
    fn a_line_longer_than_a_record_ends_the_input() {
        let mut input = b"short\n".to_vec();
        input.resize(MAX_RECORD_BYTES + 3 * BLOCK_BYTES, b'x');
        let mut blocks = read(std::io::Cursor::new(input));
        assert_eq!(&blocks.blocking_recv().expect("a block").expect("read").bytes[..], b"short\n");
        let refused = blocks.blocking_recv().expect("an answer").expect_err("too long");
        assert!(refused.to_string().contains("line 2"), "{refused}");
        assert!(blocks.blocking_recv().is_none());
    }
}
