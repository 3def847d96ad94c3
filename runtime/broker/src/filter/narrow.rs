//! Narrow: what a filter leaves of a batch, with every offset and the producer's stamp as they were.
//!
//! A record stays in its partition, so its key, which decides the partition, stays too: whoever changes
//! it here would take apart what belongs together. A job puts records where their new keys belong.
//!
//! Gaps stay, as compaction leaves them: so the producer's sequence numbers and the consumers'
//! positions stay right.

use bytes::Bytes;
use millstream_modules::{Rewritten, Verdict};
use millstream_protocol::batch::{
    Batch, BatchBuilder, BatchHeader, Compression, ProducerStamp, Records, stamp,
};
use millstream_protocol::ids::Timestamp;

use super::FilterError;

/// What the verdict leaves of `batch`; the batch itself when that is all of it. It may be empty and
/// still stands for all the offsets it had.
pub(crate) fn narrowed(
    batch: &Batch,
    records: &Records,
    verdict: &Verdict,
) -> Result<Batch, FilterError> {
    let header = &batch.header;
    let capacity = records.bytes().len() + BatchHeader::SIZE;
    let mut builder = BatchBuilder::with_base_timestamp(capacity, header.base_timestamp);
    let codec = header.attributes.compression()?;
    if codec != Compression::None {
        builder = builder.to_be_packed();
    }
    match verdict {
        Verdict::All => return Ok(batch.clone()),
        Verdict::None => {}
        Verdict::Keep(bitmap) => builder.push_kept(records, |index| bitmap.keeps(index))?,
        Verdict::Rewritten(rewritten) => rewrite(&mut builder, records, rewritten)?,
    }
    builder.cover(header.last_offset_delta);
    let producer = ProducerStamp {
        id: header.producer_id,
        epoch: header.producer_epoch,
        sequence: header.base_sequence,
        transactional: header.attributes.is_transactional(),
    };
    let codec = if builder.is_empty() { Compression::None } else { codec };
    let mut bytes = Vec::from(builder.finish(codec, producer).map_err(FilterError::of_output)?);
    stamp(&mut bytes, header.base_offset, header.leader_epoch);
    Ok(Batch::parse(Bytes::from(bytes))?)
}

fn rewrite(
    builder: &mut BatchBuilder,
    records: &Records,
    rewritten: &Rewritten,
) -> Result<(), FilterError> {
    let mut sources = (0_u32..).zip(records);
    let mut last = None;
    for new in rewritten.iter() {
        assert_eq!(new.output, 0, "a filter in place is given one output, and was held to it");
        if last.replace(new.source) == Some(new.source) {
            return Err(FilterError::OnlyInJob { did: "made several records of one" });
        }
        let (_, source) =
            sources.find(|(index, _)| *index == new.source).expect("sources were checked");
        let source = source?;
        if new.key != source.key {
            return Err(FilterError::OnlyInJob {
                did: "changed a record's key, and with it the partition that it belongs to",
            });
        }
        let time = new.timestamp.map_or_else(|| records.timestamp_of(&source), Timestamp);
        let pushed = builder.push_body(source.offset_delta, time, new.body);
        pushed.map_err(FilterError::of_output)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use millstream_protocol::batch::DecodeLimits;
    use millstream_protocol::error::{ErrorCode, WireError};

    use super::*;

    /// Records of 1 MiB that compress well.
    fn batch(records: usize, codec: Compression) -> Batch {
        let mut builder = BatchBuilder::new(0).to_be_packed();
        for _ in 0..records {
            let value = vec![b'v'; 1 << 20];
            builder.push(Timestamp(1), Some(b"key"), Some(&value), &[]).expect("fits");
        }
        let bytes = builder.finish(codec, ProducerStamp::NONE).expect("finishes");
        Batch::parse(bytes).expect("a batch")
    }

    /// Makes of each record one with a longer value.
    fn longer(sources: impl Iterator<Item = u8>, key: &[u8], by: usize) -> Verdict {
        let mut bytes = Vec::new();
        let uvarint = |bytes: &mut Vec<u8>, mut n: usize| {
            while n > 127 {
                bytes.push(n.to_le_bytes()[0] | 128);
                n >>= 7;
            }
            bytes.push(n.to_le_bytes()[0]);
        };
        for source in sources {
            let mut body = vec![0, source, 0];
            uvarint(&mut body, key.len() * 2);
            body.extend(key);
            uvarint(&mut body, 2 * ((1 << 20) + by));
            body.resize(body.len() + (1 << 20) + by, b'v');
            body.push(0);
            uvarint(&mut bytes, body.len());
            bytes.extend(body);
        }
        Verdict::Rewritten(Rewritten::check(bytes.into(), 255, 1).expect("sound"))
    }

    fn records(batch: &Batch) -> Records {
        batch.records(&DecodeLimits::default()).expect("records")
    }

    #[test]
    fn a_packed_batch_may_unpack_to_more_than_a_batch_also_when_some_of_it_is_dropped() {
        let batch = batch(40, Compression::Zstd);
        let all_but_one = longer((0..40).filter(|source| *source != 8), b"key", 1);
        let left = narrowed(&batch, &records(&batch), &all_but_one);
        let left = left.expect("it fits as it did");
        assert_eq!(records(&left).iter().filter(Result::is_ok).count(), 39);
    }

    #[test]
    fn a_result_that_is_too_large_says_so() {
        let batch = batch(15, Compression::None);
        let grown = longer(0..15, b"key", 100 << 10);
        let refused = narrowed(&batch, &records(&batch), &grown).expect_err("over 16 MiB");
        let refused = WireError::from(refused);
        assert_eq!(refused.code, ErrorCode::TooLarge);
        assert!(refused.message.contains("smaller batches"), "{refused}");
    }

    #[test]
    fn a_filter_in_place_leaves_the_key() {
        let batch = batch(1, Compression::None);
        for (key, keeps) in [(&b"key"[..], true), (b"kez", false), (b"", false)] {
            let narrowed = narrowed(&batch, &records(&batch), &longer(0..1, key, 1));
            assert_eq!(narrowed.is_ok(), keeps, "{narrowed:?}");
        }
    }
}
