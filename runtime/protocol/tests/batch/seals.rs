//! Seals and checksums: between them, no flipped bit goes unseen.

use bytes::Bytes;
use millstream_protocol::batch::{
    Batch, BatchError, Compression, FRAME_HEADER_SIZE, FrameHeader, Inspector, Origin, Rules,
    SEAL_SIZE, SealedBatches, UNSYNCED_UNKNOWN, seal, stamp,
};
use millstream_protocol::ids::{LeaderEpoch, Offset};
use proptest::prelude::*;

use crate::samples::{self, STAMP, build, three};

fn sealed(batch: &[u8], base: u64, unsynced: u32) -> Vec<u8> {
    let mut batch = batch.to_vec();
    stamp(&mut batch, Offset(base), LeaderEpoch(4));
    let mut bytes = seal(&batch, unsynced).to_vec();
    bytes.append(&mut batch);
    bytes
}

/// What a reader does with stored bytes.
fn read_back(bytes: Vec<u8>) -> Result<Vec<(u32, Batch)>, BatchError> {
    let read = |sealed: Result<millstream_protocol::batch::SealedBatch, BatchError>| {
        let sealed = sealed?;
        sealed.batch.verify_crc()?;
        Ok((sealed.unsynced, sealed.batch))
    };
    SealedBatches::new(Bytes::from(bytes)).map(read).collect()
}

#[test]
fn every_flipped_bit_of_a_sealed_batch_is_found() {
    for codec in Compression::ALL {
        let bytes = sealed(&build(&three(), codec, STAMP), 1_000, 17);
        assert!(read_back(bytes.clone()).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = read_back(damaged);
            assert!(read.is_err(), "bit {bit} of a {codec} batch");
            let by_seal = matches!(read, Err(BatchError::Seal { .. }));
            assert_eq!(
                by_seal,
                bit / 8 < SEAL_SIZE + 21,
                "bit {bit}: the seal covers what it says"
            );
        }
    }
}

#[test]
fn every_flipped_bit_that_a_producer_answers_for_is_found_by_the_inspector() {
    for codec in Compression::ALL {
        let bytes = build(&three(), codec, STAMP);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut inspector = Inspector::new(Rules::of(Origin::Producer));
            let refused = inspector.feed(&damaged).is_err() || inspector.finish().is_err();
            // The leader overwrites base offset and epoch; the sign of the offset is held to its range.
            let overwritten = matches!(bit / 8, 0..8 | 12..16) && bit != 7;
            assert_eq!(refused, !overwritten, "bit {bit} of a {codec} batch");
        }
    }
}

#[test]
fn every_cut_of_a_sealed_batch_is_found() {
    let bytes = sealed(&build(&three(), Compression::None, STAMP), 0, UNSYNCED_UNKNOWN);
    for len in 1..bytes.len() {
        let read = read_back(bytes[..len].to_vec());
        assert!(matches!(read, Err(BatchError::Truncated { .. })), "cut to {len}");
    }
}

#[test]
fn zeroes_are_no_sealed_batch() {
    assert!(matches!(read_back(vec![0; 4_096]), Err(BatchError::Seal { .. })));
}

#[test]
fn a_walk_ends_after_damage_and_gives_what_lies_before() {
    let mut bytes = sealed(&build(&three(), Compression::None, STAMP), 0, 0);
    bytes.extend(sealed(&build(&three(), Compression::Lz4, STAMP), 3, 3));
    let end = bytes.len();
    bytes.extend(sealed(&build(&three(), Compression::None, STAMP), 6, 6));
    bytes[end + SEAL_SIZE + 3] ^= 1;
    let mut walk = SealedBatches::new(Bytes::from(bytes));
    assert_eq!(walk.next().unwrap().unwrap().batch.header.base_offset, Offset(0));
    assert_eq!(walk.next().unwrap().unwrap().unsynced, 3);
    assert!(matches!(walk.next(), Some(Err(BatchError::Seal { .. }))));
    assert!(walk.next().is_none());
}

proptest! {
    #[test]
    fn sealed_batches_come_back_one_by_one(
        batches in proptest::collection::vec((samples::dense(), samples::codec(), any::<u32>()), 0..5),
    ) {
        let (mut bytes, mut base, mut expected) = (Vec::new(), 0, Vec::new());
        for (records, codec, unsynced) in &batches {
            let start = bytes.len();
            bytes.extend(sealed(&build(records, *codec, STAMP), base, *unsynced));
            let front: [u8; FRAME_HEADER_SIZE] =
                bytes[start..start + FRAME_HEADER_SIZE].try_into().unwrap();
            let frame = FrameHeader::parse(&front).unwrap();
            prop_assert_eq!(frame.total_len(), bytes.len() - start);
            let batch = Batch::parse(Bytes::copy_from_slice(&bytes[start + SEAL_SIZE..])).unwrap();
            base = batch.header.next_offset().get();
            expected.push((*unsynced, batch));
        }
        prop_assert_eq!(read_back(bytes), Ok(expected));
    }
}
