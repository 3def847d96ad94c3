//! One partition of the brokers in miniature: batches, who has written which sequence, and who leads.
//! It is the same on all brokers, as if replication took no time; but it can lose its end.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use millstream_client::protocol::batch::{
    Batch, BatchBuilder, BatchHeader, Compression, DecodeLimits, ProducerStamp, UNSYNCED_UNKNOWN,
    seal, stamp,
};
use millstream_client::protocol::error::{ErrorCode, WireError};
use millstream_client::protocol::ids::{LeaderEpoch, NodeId, Offset, Timestamp};
use millstream_client::protocol::message::offsets::EpochEnd;
use millstream_client::protocol::message::produce::ProduceAck;

pub(crate) struct Log {
    pub(crate) batches: Vec<Batch>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Who leads it, and in which epoch.
    pub(crate) leader: Option<NodeId>,
    pub(crate) epoch: LeaderEpoch,
    /// The leader knows only of less that is committed, and calls what lies behind it out of range.
    pub(crate) behind: Option<u64>,
    /// By producer: epoch, next sequence, where each first sequence went.
    producers: BTreeMap<i64, (i16, i32, BTreeMap<i32, u64>)>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
            start: 0,
            end: 0,
            leader: Some(NodeId(1)),
            epoch: LeaderEpoch(1),
            behind: None,
            producers: BTreeMap::new(),
        }
    }
}

impl Log {
    /// An empty one that a broker leads.
    pub(crate) fn led_by(node: u32) -> Self {
        Self { leader: Some(NodeId(node)), ..Self::default() }
    }

    /// Another leads from now on, or nobody.
    pub(crate) fn elect(&mut self, leader: Option<NodeId>) {
        (self.leader, self.epoch) = (leader, self.epoch.next());
    }

    /// Everything before it is committed, as far as the leader knows.
    pub(crate) fn high_watermark(&self) -> u64 {
        self.behind.unwrap_or(self.end)
    }

    /// Where what was written up to an epoch ends.
    pub(crate) fn end_of(&self, epoch: LeaderEpoch) -> EpochEnd {
        let older = self.batches.iter().take_while(|batch| batch.header.leader_epoch <= epoch);
        let nothing = EpochEnd { epoch: LeaderEpoch(0), end: Offset(self.start) };
        older.last().map_or(nothing, |last| EpochEnd {
            epoch: last.header.leader_epoch,
            end: last.header.next_offset(),
        })
    }

    /// Whether the record before the offset is not the one of this epoch.
    pub(crate) fn is_parted(&self, offset: u64, epoch: LeaderEpoch) -> bool {
        let found = self.end_of(epoch);
        self.start < offset && (found.epoch < epoch || found.end.get() < offset)
    }

    /// Takes a batch by the rules of KIP-98.
    pub(crate) fn produce(&mut self, batch: Batch) -> Result<ProduceAck, WireError> {
        batch.verify_crc().unwrap();
        let header = batch.header;
        let refuse = |code: ErrorCode| Err(WireError::new(code, "by the fake"));
        let at = Offset(self.end);
        if header.producer_id.is_some() {
            let (epoch, first) = (header.producer_epoch.0, header.base_sequence.0);
            let known = self.producers.contains_key(&header.producer_id.0);
            if !known && first != 0 {
                return refuse(ErrorCode::UnknownProducer);
            }
            let entry = self.producers.entry(header.producer_id.0).or_default();
            if epoch < entry.0 {
                return refuse(ErrorCode::ProducerFenced);
            }
            if entry.0 < epoch && first == 0 {
                *entry = (epoch, 0, BTreeMap::new());
            }
            if let Some(at) = entry.2.get(&first).filter(|_| epoch == entry.0) {
                return Ok(ProduceAck { base_offset: Offset(*at), duplicate: true });
            }
            if first != entry.1 || epoch != entry.0 {
                return refuse(ErrorCode::OutOfOrderSequence);
            }
            entry.1 = header.base_sequence.plus(header.record_count).0;
            entry.2.insert(first, at.get());
        }
        self.append(batch);
        Ok(ProduceAck { base_offset: at, duplicate: false })
    }

    /// Loses the end of the log, and what the producers wrote there: a power failure.
    pub(crate) fn lose(&mut self, batches: usize) {
        let keep = self.batches.len().saturating_sub(batches);
        for batch in self.batches.drain(keep..) {
            self.end = self.end.min(batch.header.base_offset.get());
            if let Some(entry) = self.producers.get_mut(&batch.header.producer_id.0) {
                entry.2.remove(&batch.header.base_sequence.0);
                entry.1 = entry.1.min(batch.header.base_sequence.0);
            }
        }
    }

    pub(crate) fn fill(&mut self, records: usize, batch: usize) {
        let mut written = 0;
        while written < records {
            let mut builder = BatchBuilder::new(1_024);
            for _ in 0..batch.min(records - written) {
                let value = written.to_string();
                builder.push(Timestamp(7), None, Some(value.as_bytes()), &[]).unwrap();
                written += 1;
            }
            let bytes = builder.finish(Compression::None, ProducerStamp::NONE).unwrap();
            self.append(Batch::parse(bytes).unwrap());
        }
    }

    fn append(&mut self, batch: Batch) {
        let mut bytes = BytesMut::from(&batch.bytes[..]);
        stamp(&mut bytes, Offset(self.end), self.epoch);
        let batch = Batch::parse(bytes.freeze()).unwrap();
        self.end = batch.header.next_offset().get();
        self.batches.push(batch);
    }

    /// Sealed batches from the one that holds `offset`, at least one, and where they end.
    pub(crate) fn read(&self, offset: u64, max: usize, batches: usize) -> Option<(Bytes, Offset)> {
        let first = self.batches.partition_point(|b| b.header.next_offset().get() <= offset);
        let (mut body, mut next) = (BytesMut::new(), None);
        let committed = |batch: &&Batch| batch.header.next_offset().get() <= self.high_watermark();
        for batch in self.batches.iter().skip(first).take(batches).take_while(committed) {
            if next.is_some() && max < body.len() + batch.bytes.len() {
                break;
            }
            body.extend_from_slice(&seal(&batch.bytes[..BatchHeader::SIZE], UNSYNCED_UNKNOWN));
            body.extend_from_slice(&batch.bytes);
            next = Some(batch.header.next_offset());
        }
        next.map(|next| (body.freeze(), next))
    }

    pub(crate) fn values(&self) -> Vec<String> {
        let mut values = Vec::new();
        for batch in &self.batches {
            for record in &batch.records(&DecodeLimits::default()).unwrap() {
                let value = record.unwrap().value.unwrap();
                values.push(String::from_utf8(value.to_vec()).unwrap());
            }
        }
        values
    }
}
