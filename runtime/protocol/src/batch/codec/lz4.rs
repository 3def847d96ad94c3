//! LZ4 frames (<https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>, version 1.6).
//!
//! What is written is what Kafka's own clients write: independent blocks, no checksums but the header's
//! (the batch has its own). What is read is any single frame without a dictionary. Frames are taken apart
//! here, and not by the library's reader, because that one reserves whole blocks on the word of a header
//! and takes a frame that stops between two blocks for a whole one.
//!
//! Invariant: a block is given no more room than its compressed bytes could fill.

use std::io::Write;

use lz4_flex::block::{DecompressError, decompress_into_with_dict};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use super::{BatchError, Compression};

const MAGIC: u32 = 0x184D_2204;
/// One byte of input makes at most so many of output: a run length is continued by bytes worth 255 each.
const MAX_RATIO: usize = 255;
/// How far back a linked block may refer.
const WINDOW: usize = 64 << 10;

pub(super) fn compress(section: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max256KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    let written = encoder.write_all(section);
    if written.is_err() || encoder.finish().is_err() {
        return Err(Compression::Lz4.damaged("the frame could not be written"));
    }
    Ok(())
}

pub(super) fn decompress(packed: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut input = packed;
    let frame = Frame::read(&mut input)?;
    let foretold = match frame.content_size {
        Some(size) => saturating_usize(size),
        None => packed.len().saturating_mul(2),
    };
    if frame.content_size.is_some() && limit < foretold {
        return Err(Compression::Lz4.bomb(limit));
    }
    let justified = packed.len().saturating_mul(MAX_RATIO);
    let mut out = Vec::with_capacity(foretold.min(limit).min(justified));
    while let Some(block) = frame.next_block(&mut input)? {
        frame.unpack(&block, &mut out, limit)?;
    }
    frame.check_end(&mut input, &out)?;
    Ok(out)
}

struct Frame {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    max_block: usize,
}

struct Block<'a> {
    packed: bool,
    bytes: &'a [u8],
}

impl Frame {
    fn read(input: &mut &[u8]) -> Result<Self, BatchError> {
        if take_u32(input)? != MAGIC {
            return Err(damaged("it does not begin as an lz4 frame"));
        }
        let descriptor = *input;
        let [flags, size] = take::<2>(input)?;
        if flags >> 6 != 1 || flags & 0b10 != 0 || size & 0x8f != 0 {
            return Err(damaged("the frame header is of another version"));
        }
        if flags & 0b1 != 0 {
            return Err(damaged("dictionaries are not supported"));
        }
        let content_size =
            if flags & 0b1000 == 0 { None } else { Some(u64::from_le_bytes(take(input)?)) };
        let described = &descriptor[..descriptor.len() - input.len()];
        let [checksum] = take(input)?;
        if XxHash32::oneshot(0, described).to_le_bytes()[1] != checksum {
            return Err(damaged("the frame header does not match its checksum"));
        }
        let max_block = match size >> 4 {
            class @ 4..=7 => 1 << (8 + 2 * class),
            _ => return Err(damaged("the frame header names no block size")),
        };
        Ok(Self {
            linked: flags & 0b10_0000 == 0,
            block_checksums: flags & 0b1_0000 != 0,
            content_checksum: flags & 0b100 != 0,
            content_size,
            max_block,
        })
    }

    fn next_block<'a>(&self, input: &mut &'a [u8]) -> Result<Option<Block<'a>>, BatchError> {
        let word = take_u32(input)?;
        if word == 0 {
            return Ok(None);
        }
        let length = (word & 0x7fff_ffff) as usize;
        if self.max_block < length {
            return Err(damaged("a block is longer than the frame allows"));
        }
        let Some((bytes, after)) = input.split_at_checked(length) else {
            return Err(damaged("the frame ends inside a block"));
        };
        *input = after;
        if self.block_checksums && take_u32(input)? != XxHash32::oneshot(0, bytes) {
            return Err(damaged("a block does not match its checksum"));
        }
        Ok(Some(Block { packed: word >> 31 == 0, bytes }))
    }

    fn unpack(&self, block: &Block<'_>, out: &mut Vec<u8>, limit: usize) -> Result<(), BatchError> {
        let room = limit - out.len();
        if !block.packed {
            if room < block.bytes.len() {
                return Err(Compression::Lz4.bomb(limit));
            }
            out.extend_from_slice(block.bytes);
            return Ok(());
        }
        let most = self.max_block.min(block.bytes.len() * MAX_RATIO);
        let start = out.len();
        out.resize(start + most.min(room), 0);
        let (before, target) = out.split_at_mut(start);
        let window = if self.linked { &before[start.saturating_sub(WINDOW)..] } else { &[] };
        match decompress_into_with_dict(block.bytes, target, window) {
            Ok(written) => {
                out.truncate(start + written);
                Ok(())
            }
            Err(DecompressError::OutputTooSmall { .. }) if room < most => {
                Err(Compression::Lz4.bomb(limit))
            }
            Err(_) => Err(damaged("a block could not be unpacked")),
        }
    }

    fn check_end(&self, input: &mut &[u8], out: &[u8]) -> Result<(), BatchError> {
        if self.content_checksum && take_u32(input)? != XxHash32::oneshot(0, out) {
            return Err(damaged("the content does not match its checksum"));
        }
        if self.content_size.is_some_and(|size| size != out.len() as u64) {
            return Err(damaged("the content is not as long as the frame header says"));
        }
        if !input.is_empty() {
            return Err(damaged("bytes follow the frame"));
        }
        Ok(())
    }
}

const fn damaged(reason: &'static str) -> BatchError {
    Compression::Lz4.damaged(reason)
}

fn saturating_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], BatchError> {
    let Some((taken, after)) = input.split_first_chunk() else {
        return Err(damaged("the frame is cut short"));
    };
    *input = after;
    Ok(*taken)
}

fn take_u32(input: &mut &[u8]) -> Result<u32, BatchError> {
    take(input).map(u32::from_le_bytes)
}
