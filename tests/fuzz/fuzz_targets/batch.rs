//! Record batches: any bytes are read or refused; the inspector's verdict does not depend on how they were cut,
//! and what it accepts, the lazy reader reads to its end.
//!
//! The first byte chooses the cut and the rules, the rest is a batch. Its length, checksum and seal are put
//! right, since no fuzzer would guess them and everything behind them would stay in the dark.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::batch::{
    BatchError, BatchHeader, Compression, DecodeLimits, Inspector, Origin, Rules, SealedBatches,
    seal,
};

const MAX_UNPACKED: u32 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    read_as_it_is(data);
    let mut batch = data.to_vec();
    if batch.len() < BatchHeader::SIZE || !mend(&mut batch) {
        return;
    }
    let origin = if choice & 1 == 0 {
        Origin::Producer
    } else {
        Origin::Log
    };
    let rules = Rules {
        max_decompressed_bytes: MAX_UNPACKED,
        ..Rules::of(origin)
    };
    let whole = inspect(&batch, batch.len(), rules);
    let cut = usize::from(choice >> 1) + 1;
    assert_eq!(inspect(&batch, cut, rules), whole, "in pieces of {cut}");
    let read = read_back(&batch);
    if let Ok(header) = whole {
        assert_eq!(read, Ok(header.record_count as usize));
    }
});

/// Bytes as they come, where everything must be refused or read, and nothing else.
fn read_as_it_is(data: &[u8]) {
    for sealed in SealedBatches::new(Bytes::copy_from_slice(data)) {
        let _ = sealed.map(|sealed| sealed.batch.verify_crc());
    }
    for codec in Compression::ALL {
        if let Ok(out) = codec.decompress(data, MAX_UNPACKED as usize) {
            assert!(out.len() <= MAX_UNPACKED as usize);
        }
    }
}

fn mend(batch: &mut [u8]) -> bool {
    let Ok(length) = u32::try_from(batch.len() - 12) else {
        return false;
    };
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    true
}

fn inspect(batch: &[u8], cut: usize, rules: Rules) -> Result<BatchHeader, BatchError> {
    let mut inspector = Inspector::new(rules);
    for piece in batch.chunks(cut) {
        inspector.feed(piece)?;
    }
    inspector.finish()
}

/// Reads a batch as a consumer does, and counts its records.
fn read_back(batch: &[u8]) -> Result<usize, BatchError> {
    let mut stored = seal(batch, 0).to_vec();
    stored.extend_from_slice(batch);
    let sealed = SealedBatches::new(Bytes::from(stored))
        .next()
        .expect("there are bytes")?;
    sealed
        .batch
        .verify_crc()
        .expect("the checksum was put right");
    let limits = DecodeLimits {
        max_decompressed_bytes: MAX_UNPACKED as usize,
    };
    let records = sealed.batch.records(&limits)?;
    let mut count = 0;
    for record in &records {
        let record = record?;
        let _ = (records.offset_of(&record), records.timestamp_of(&record));
        record.headers.for_each(drop);
        count += 1;
    }
    Ok(count)
}
