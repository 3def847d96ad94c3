//! Control batches: what a leader writes to the log for the replicas, one record that no consumer is shown.
//!
//! The key is Kafka's: `version i16 | type i16`, big endian; the value is the writer's own. A transaction's marker
//! says in its header too whether it commits: [`Sequence::COMMIT`] or [`Sequence::ABORT`] in place of a sequence.
//!
//! Invariant: a control batch has one record and takes one offset; only a marker belongs to a producer.

use bytes::Bytes;

use super::checksum::crc32c;
use super::header::CRC_START;
use super::{
    Batch, BatchBuilder, BatchError, BatchHeader, Compression, DecodeLimits, ProducerStamp,
};
use crate::ids::{ProducerEpoch, ProducerId, Sequence, Timestamp};

const VERSION: i16 = 0;

/// What a control batch is about. The numbers are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// A transaction is aborted.
    Abort = 0,
    /// A transaction is committed.
    Commit = 1,
    /// A leader's epoch begins.
    LeaderChange = 2,
    /// The voters change.
    Voters = 6,
}

impl ControlType {
    const fn from_number(number: i16) -> Option<Self> {
        match number {
            0 => Some(Self::Abort),
            1 => Some(Self::Commit),
            2 => Some(Self::LeaderChange),
            6 => Some(Self::Voters),
            _ => None,
        }
    }
}

/// Builds a control batch.
///
/// # Errors
/// [`BatchError`] when the value is too large for a record.
pub fn build(kind: ControlType, value: &[u8], at: Timestamp) -> Result<Bytes, BatchError> {
    build_stamped(kind, value, at, ProducerStamp::NONE)
}

/// Builds the marker that ends a transaction. Its value is Kafka's: `version i16 | coordinator epoch i32`.
///
/// # Panics
/// Never: a marker is small.
#[must_use]
pub fn build_marker(
    (producer, epoch): (ProducerId, ProducerEpoch),
    commit: bool,
    at: Timestamp,
) -> Bytes {
    let (kind, sequence) = match commit {
        true => (ControlType::Commit, Sequence::COMMIT),
        false => (ControlType::Abort, Sequence::ABORT),
    };
    let stamp = ProducerStamp { id: producer, epoch, sequence, transactional: true };
    build_stamped(kind, &[0; 6], at, stamp).expect("a marker is small")
}

fn build_stamped(
    kind: ControlType,
    value: &[u8],
    at: Timestamp,
    stamp: ProducerStamp,
) -> Result<Bytes, BatchError> {
    let mut key = [0; 4];
    key[..2].copy_from_slice(&VERSION.to_be_bytes());
    key[2..].copy_from_slice(&(kind as i16).to_be_bytes());
    let mut builder = BatchBuilder::new(BatchHeader::SIZE + value.len() + 64);
    builder.push(at, Some(&key), Some(value), &[])?;
    let mut bytes = builder.finish(Compression::None, stamp)?.to_vec();
    let head: &mut [u8; BatchHeader::SIZE] =
        bytes.first_chunk_mut().expect("a finished batch has a header");
    let mut header = BatchHeader::parse(&*head)?;
    header.attributes = header.attributes.controlling();
    header.encode(head);
    header.crc = crc32c(&bytes[CRC_START..]);
    let head = bytes.first_chunk_mut().expect("a finished batch has a header");
    header.encode(head);
    Ok(Bytes::from(bytes))
}

/// What a control batch says: its type and value. `None` for a type of a newer version.
///
/// # Errors
/// [`BatchError`] when it is no control batch, or its one record does not read.
pub fn parse(batch: &Batch) -> Result<Option<(ControlType, Bytes)>, BatchError> {
    if !batch.header.attributes.is_control() {
        return Err(BatchError::Attributes(batch.header.attributes.0));
    }
    let records = batch.records(&DecodeLimits::default())?;
    let record = records.iter().next().ok_or(BatchError::Empty)??;
    let kind = record.key.and_then(|key| key.get(2..4)).and_then(|kind| kind.try_into().ok());
    let kind = kind.map(i16::from_be_bytes).and_then(ControlType::from_number);
    Ok(kind.map(|kind| (kind, Bytes::copy_from_slice(record.value.unwrap_or_default()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_batch_reads_as_it_was_built_and_is_whole() {
        for kind in [ControlType::LeaderChange, ControlType::Voters] {
            let bytes = build(kind, b"who", Timestamp(7)).expect("builds");
            let batch = Batch::parse(bytes).expect("parses");
            batch.verify_crc().expect("the checksum covers the attributes");
            assert_eq!((batch.header.record_count, batch.header.last_offset_delta), (1, 0));
            assert_eq!(parse(&batch), Ok(Some((kind, Bytes::from_static(b"who")))));
        }
    }

    #[test]
    fn a_marker_says_in_its_header_and_in_its_record_how_the_transaction_ended() {
        for (commit, kind) in [(true, ControlType::Commit), (false, ControlType::Abort)] {
            let bytes = build_marker((ProducerId(9), ProducerEpoch(4)), commit, Timestamp(7));
            let batch = Batch::parse(bytes).expect("parses");
            batch.verify_crc().expect("the checksum covers the attributes");
            let header = batch.header;
            assert!(header.attributes.is_control() && header.attributes.is_transactional());
            assert_eq!(
                (header.producer_id, header.producer_epoch),
                (ProducerId(9), ProducerEpoch(4))
            );
            assert_eq!(header.base_sequence == Sequence::COMMIT, commit);
            assert_eq!(parse(&batch).expect("reads").map(|(kind, _)| kind), Some(kind));
        }
    }

    #[test]
    fn a_batch_of_records_is_no_control_batch() {
        let mut builder = BatchBuilder::new(100);
        builder.push(Timestamp(7), None, Some(b"x"), &[]).expect("fits");
        let bytes = builder.finish(Compression::None, ProducerStamp::NONE).expect("builds");
        assert!(parse(&Batch::parse(bytes).expect("parses")).is_err());
    }
}
