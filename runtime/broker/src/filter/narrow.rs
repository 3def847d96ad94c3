//! Narrow: what a filter leaves of a batch, with every offset and the producer's stamp as they were.
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
    };
    let codec = header.attributes.compression()?;
    let codec = if builder.is_empty() { Compression::None } else { codec };
    let mut bytes = Vec::from(builder.finish(codec, producer)?);
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
        if new.output != 0 {
            return Err(FilterError::OnlyInJob { did: "chose another output than the first" });
        }
        if last.replace(new.source) == Some(new.source) {
            return Err(FilterError::OnlyInJob { did: "made several records of one" });
        }
        let (_, source) =
            sources.find(|(index, _)| *index == new.source).expect("sources were checked");
        let source = source?;
        let time = new.timestamp.map_or_else(|| records.timestamp_of(&source), Timestamp);
        builder.push_body(source.offset_delta, time, new.body)?;
    }
    Ok(())
}
