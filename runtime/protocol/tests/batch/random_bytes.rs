//! Whatever the bytes, nothing panics: an error or an answer, always.

use std::io::Write;

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use millstream_protocol::batch::{
    Batch, BatchError, BatchHeader, Compression, DecodeLimits, FRAME_HEADER_SIZE, FrameHeader,
    Inspector, Origin, Records, Rules, SEAL_SIZE, SealedBatches, seal,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::samples;

fn read_everything(bytes: &[u8]) {
    let limits = DecodeLimits { max_decompressed_bytes: 1 << 16 };
    for sealed in SealedBatches::new(Bytes::copy_from_slice(bytes)) {
        let Ok(sealed) = sealed else { break };
        let _ = sealed.batch.verify_crc();
        walk(sealed.batch.records(&limits));
    }
    if let Ok(batch) = Batch::parse(Bytes::copy_from_slice(bytes)) {
        let _ = (batch.verify_crc(), batch.header.timestamp_of(i64::MIN));
        walk(batch.records(&limits));
    }
    if let Some(front) = bytes.first_chunk::<FRAME_HEADER_SIZE>() {
        let _ = FrameHeader::parse(front);
    }
    for origin in [Origin::Producer, Origin::Log] {
        let rules = Rules { max_decompressed_bytes: 1 << 16, ..Rules::of(origin) };
        let mut inspector = Inspector::new(rules);
        for piece in bytes.chunks(7) {
            let _ = inspector.feed(piece);
        }
        let _ = inspector.finish();
    }
}

fn walk(records: Result<Records, BatchError>) {
    let Ok(records) = records else { return };
    let mut errors = 0;
    for record in &records {
        match record {
            Ok(record) => {
                let _ = (records.offset_of(&record), records.timestamp_of(&record));
                record.headers.for_each(drop);
            }
            Err(_) => errors += 1,
        }
    }
    assert!(errors <= 1, "a walk ends with its first error");
}

fn noise(len: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![3 => 0u8..16, 3 => any::<u8>(), 1 => Just(0xff)], 0..len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in noise(300)) {
        read_everything(&bytes);
        let _ = BatchHeader::parse(&bytes);
    }

    #[test]
    fn any_section_under_a_sound_header_is_read_or_refused(
        section in noise(200), codec in prop_oneof![Just(0u16), Just(3), Just(4), any::<u16>()],
        count in prop_oneof![0u32..6, 0..=i32::MAX as u32], last in prop_oneof![0u32..6, 0..=i32::MAX as u32],
    ) {
        let batch = samples::wrap(&section, codec, count, last);
        read_everything(&batch);
        let mut sealed = seal(&batch, 0).to_vec();
        sealed.extend_from_slice(&batch);
        assert_eq!(sealed.len(), SEAL_SIZE + batch.len());
        read_everything(&sealed);
    }

    #[test]
    fn any_bytes_are_unpacked_or_refused_within_the_limit(
        noise in noise(120), limit in 0usize..4_000, packs: bool, cut in any::<prop::sample::Index>(),
        codec in samples::codec(), places in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = noise.repeat(5);
        if packs {
            let mut packed = Vec::new();
            codec.compress(&bytes, &mut packed).unwrap();
            let intact = codec.decompress(&packed, bytes.len());
            prop_assert_eq!(intact.as_ref(), Ok(&bytes));
            bytes = packed;
        }
        for (place, byte) in places {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
        }
        for piece in [&bytes[..], &bytes[..cut.index(bytes.len() + 1)]] {
            if let Ok(out) = codec.decompress(piece, limit) {
                prop_assert!(out.len() <= limit);
            }
        }
    }

}

proptest! {
    #[test]
    fn lz4_frames_of_every_shape_are_unpacked(
        words in vec(0u16..40, 0..20_000), linked: bool, block_checksums: bool, checksum: bool,
        sized: bool, small: bool,
    ) {
        let content: Vec<u8> = words.iter().flat_map(|word| (word * word).to_be_bytes()).collect();
        let content = content.repeat(6);
        let info = FrameInfo::new()
            .block_mode(if linked { BlockMode::Linked } else { BlockMode::Independent })
            .block_size(if small { BlockSize::Max64KB } else { BlockSize::Max1MB })
            .block_checksums(block_checksums)
            .content_checksum(checksum)
            .content_size(sized.then_some(content.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&content).unwrap();
        let mut frame = encoder.finish().unwrap();
        let unpacked = Compression::Lz4.decompress(&frame, content.len());
        prop_assert!(unpacked.as_ref() == Ok(&content), "{:?}", unpacked.map(|out| out.len()));
        if !content.is_empty() {
            let bomb = Compression::Lz4.decompress(&frame, content.len() - 1);
            let stopped = matches!(bomb, Err(BatchError::DecompressionBomb { .. }));
            prop_assert!(stopped);
        }
        if checksum {
            *frame.last_mut().unwrap() ^= 1;
            prop_assert!(Compression::Lz4.decompress(&frame, content.len()).is_err());
        }
    }

    #[test]
    fn lz4_frames_of_any_shape_are_read_or_refused(
        flags in 0u8..64, size in 4u8..8, body in noise(100), limit in 0usize..100_000,
    ) {
        // A sound frame header of any kind, so that what follows is reached.
        let descriptor = [0x40 | flags & !0b1011, size << 4];
        let mut frame = 0x184D_2204u32.to_le_bytes().to_vec();
        frame.extend_from_slice(&descriptor);
        frame.push(twox_hash::XxHash32::oneshot(0, &descriptor).to_le_bytes()[1]);
        frame.extend_from_slice(&body);
        if let Ok(out) = Compression::Lz4.decompress(&frame, limit) {
            prop_assert!(out.len() <= limit);
        }
    }
}
