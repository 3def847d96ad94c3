//! Zstandard frames (RFC 8878), by the reference library.
//!
//! Invariant: unpacking goes straight into its output, with no window buffer that a frame header could
//! make huge; the output's room grows by what the attempt before has filled.

use std::cell::RefCell;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_frame_content_size};

use super::{BatchError, Compression};

/// As fast as the library is meant to be used; Kafka's default of 3 costs twice the time for a few per cent.
const LEVEL: i32 = 1;
/// What a first attempt assumes that input unpacks to.
const USUAL_RATIO: usize = 4;
/// How far a frame's own word on its size is believed before anything was unpacked.
const BELIEVED_RATIO: usize = 64;
/// By how much the room grows when it was filled: repeated work stays below a third of the whole.
const GROWTH: usize = 4;
/// `ZSTD_error_dstSize_tooSmall`, as the library returns it.
const OUTPUT_TOO_SMALL: usize = 70_usize.wrapping_neg();

thread_local! {
    // A context is a few hundred kilobytes that cost more to make than a small batch to pack.
    static PACKER: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

pub(super) fn compress(section: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    PACKER.with_borrow_mut(|slot| {
        if slot.is_none() {
            let mut context = CCtx::try_create().ok_or_else(no_memory)?;
            context.set_parameter(CParameter::CompressionLevel(LEVEL)).map_err(failed)?;
            *slot = Some(context);
        }
        let context = slot.as_mut().ok_or_else(no_memory)?;
        let start = out.len();
        let mut packed = Vec::with_capacity(compress_bound(section.len()));
        context.compress2(&mut packed, section).map_err(failed)?;
        out.extend_from_slice(&packed);
        debug_assert!(start < out.len(), "a frame is never empty");
        Ok(())
    })
}

pub(super) fn decompress(packed: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let foretold = match get_frame_content_size(packed) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
        Ok(None) => packed.len().saturating_mul(USUAL_RATIO),
        Err(_) => return Err(Compression::Zstd.damaged("it does not begin as a zstd frame")),
    };
    let believed = packed.len().saturating_mul(BELIEVED_RATIO);
    let mut room = foretold.min(believed).min(limit);
    UNPACKER.with_borrow_mut(|slot| {
        let context = match slot {
            Some(context) => context,
            None => slot.insert(DCtx::try_create().ok_or_else(no_memory)?),
        };
        loop {
            let mut out = Vec::with_capacity(room);
            match context.decompress(&mut out, packed) {
                Ok(_) if out.len() <= limit => return Ok(out),
                Err(OUTPUT_TOO_SMALL) if room < limit => {
                    room = room.max(1024).saturating_mul(GROWTH).min(limit);
                }
                Ok(_) | Err(OUTPUT_TOO_SMALL) => return Err(Compression::Zstd.bomb(limit)),
                Err(code) => return Err(failed(code)),
            }
        }
    })
}

fn failed(code: usize) -> BatchError {
    Compression::Zstd.damaged(zstd::zstd_safe::get_error_name(code))
}

fn no_memory() -> BatchError {
    Compression::Zstd.damaged("there is no memory for it")
}
