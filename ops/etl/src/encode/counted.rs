//! A writer that knows how much went through it, and the checksum of it.

use std::io::{self, Write};

use crc_fast::{CrcAlgorithm, Digest};

/// See the module.
pub(crate) struct Counted<W> {
    out: W,
    bytes: u64,
    digest: Digest,
}

impl<W: Write> Counted<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, bytes: 0, digest: Digest::new(CrcAlgorithm::Crc32Iscsi) }
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// CRC-32C of everything.
    pub(crate) fn crc32c(&self) -> u32 {
        u32::try_from(self.digest.finalize()).expect("a CRC-32 has 32 bits")
    }

    pub(crate) fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
