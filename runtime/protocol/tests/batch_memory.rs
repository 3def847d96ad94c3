//! A decoder asks for no more memory than its input justifies, whatever the input claims.
//!
//! In a test of its own, since the peak of the whole process is measured. What the zstd library allocates for
//! its context by itself (a fixed amount) is not seen; what it unpacks into is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "sizes in tests are small")]

use bytes::Bytes;
use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::batch::{
    Batch, BatchBuilder, Compression, DecodeLimits, Inspector, Origin, ProducerStamp, Rules,
};
use millstream_protocol::ids::Timestamp;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes allocated at the most while `work` ran.
fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let result = work();
    (MEMORY.peak_usage() - before, result)
}

fn batch_around(section: &[u8], codec: Compression, count: u32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(0);
    builder.push(Timestamp(0), None, None, &[]).unwrap();
    let mut batch = builder.finish(Compression::None, ProducerStamp::NONE).unwrap()[..61].to_vec();
    batch.extend_from_slice(section);
    let length = batch.len() as u32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] = codec.id();
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[test]
fn memory_follows_the_input_and_not_its_claims() {
    a_declared_length_reserves_nothing();
    a_declared_count_reserves_nothing();
    a_record_in_pieces_is_not_gathered();
    a_declared_content_size_is_not_believed();
    a_bomb_costs_its_limit_and_no_more();
}

fn a_declared_length_reserves_nothing() {
    for codec in Compression::ALL {
        let mut batch = batch_around(b"", codec, 1);
        batch[8..12].copy_from_slice(&(16u32 << 19).to_be_bytes());
        let (peak, ()) = peak_of(|| {
            let mut inspector = Inspector::new(Rules::of(Origin::Producer));
            inspector.feed(&batch).unwrap();
            assert!(inspector.finish().is_err());
        });
        assert!(peak < 4_096, "{peak} bytes for a header that declares 8 MiB");
    }
}

fn a_declared_count_reserves_nothing() {
    let section = [14, 0, 0, 0, 1, 2, b'v', 0].repeat(3);
    let batch = Bytes::from(batch_around(&section, Compression::None, i32::MAX as u32));
    let (peak, read) = peak_of(|| {
        let records = Batch::parse(batch.clone()).unwrap().records(&DecodeLimits::default())?;
        records.iter().map(|record| record.map(|_| ())).collect::<Result<Vec<_>, _>>()
    });
    assert!(read.is_err());
    assert!(peak < 4_096, "{peak} bytes for a count of 2 billion");
    let batch = Bytes::from(batch_around(&section, Compression::None, 3));
    let (peak, read) = peak_of(|| {
        let records =
            Batch::parse(batch.clone()).unwrap().records(&DecodeLimits::default()).unwrap();
        records.iter().map(|record| record.map(|_| ())).collect::<Vec<_>>().len()
    });
    // Deltas repeat, so the second record is an error and the last item.
    assert_eq!(read, 2);
    assert!(peak < 4_096, "{peak} bytes to collect two items");
}

fn a_record_in_pieces_is_not_gathered() {
    let mut builder = BatchBuilder::new(0);
    builder.push(Timestamp(0), Some(&[1; 1 << 20]), Some(&vec![2; 4 << 20]), &[]).unwrap();
    let batch = builder.finish(Compression::None, ProducerStamp::NONE).unwrap();
    let (peak, ()) = peak_of(|| {
        let mut inspector = Inspector::new(Rules::of(Origin::Producer));
        batch.chunks(1_200).for_each(|piece| inspector.feed(piece).unwrap());
        inspector.finish().unwrap();
    });
    assert!(peak < 4_096, "{peak} bytes for a record of 5 MiB in pieces");
}

fn a_declared_content_size_is_not_believed() {
    let mut builder = BatchBuilder::new(0);
    builder.push(Timestamp(0), None, Some(&vec![2; 4 << 20]), &[]).unwrap();
    let section = builder.finish(Compression::None, ProducerStamp::NONE).unwrap().slice(61..);
    for codec in [Compression::Lz4, Compression::Zstd] {
        let mut packed = Vec::new();
        codec.compress(&section, &mut packed).unwrap();
        // The frame's header, with whatever size it declares, and then nothing.
        let (peak, unpacked) = peak_of(|| codec.decompress(&packed[..16], 64 << 20));
        assert!(unpacked.is_err());
        assert!(peak < 16 << 10, "{codec}: {peak} bytes for 16 bytes of a frame");
    }
    // 15 bytes of lz4 frame that declare 60 MB and blocks of 4 MB.
    let size = 60_000_000u64.to_le_bytes();
    let descriptor = [&[0x68, 0x70][..], &size].concat();
    let check = twox_hash::XxHash32::oneshot(0, &descriptor).to_le_bytes()[1];
    let frame =
        [&[0x04, 0x22, 0x4D, 0x18][..], &descriptor, &[check], &[1, 0, 0, 0, 0x0f]].concat();
    let (peak, unpacked) = peak_of(|| Compression::Lz4.decompress(&frame, 64 << 20));
    assert!(unpacked.is_err());
    assert!(peak < 16 << 10, "{peak} bytes for {} bytes of an lz4 frame", frame.len());
}

fn a_bomb_costs_its_limit_and_no_more() {
    let mut builder = BatchBuilder::new(0);
    builder.push(Timestamp(0), None, Some(&vec![0; 8_000_000]), &[]).unwrap();
    let section = builder.finish(Compression::None, ProducerStamp::NONE).unwrap().slice(61..);
    for codec in [Compression::Lz4, Compression::Zstd] {
        let mut packed = Vec::new();
        codec.compress(&section, &mut packed).unwrap();
        let batch = batch_around(&packed, codec, 1);
        let limit = 1 << 20;
        let rules = Rules { max_decompressed_bytes: limit, ..Rules::of(Origin::Producer) };
        let (peak, verdict) = peak_of(|| {
            let mut inspector = Inspector::new(rules);
            inspector.feed(&batch).unwrap();
            inspector.finish()
        });
        assert!(verdict.is_err());
        let most = 2 * limit as usize + 2 * batch.len();
        assert!(peak < most, "{codec}: {peak} bytes for a bomb with a limit of {limit}");
    }
}
