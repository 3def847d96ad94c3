//! A fetch stream: sealed batches out as far as the consumer's credit goes; at the end, it waits.
//!
//! Invariant: no byte is sent beyond what the consumer granted, except to finish a batch; no record
//! at or above the high watermark is sent; what was read for one connection and not taken by it is
//! bounded by its share, and a stream that waits for data or credit has none of it.

mod position;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::Offset;
use millstream_protocol::limits::{MAX_FETCH_BODY_BYTES, MAX_FETCH_CREDIT_BYTES};
use millstream_protocol::message::fetch::{Credit, FetchData, FetchReady, OpenFetch};
use millstream_protocol::message::transaction::{Aborted, Isolation};
use millstream_storage::log::Cursor;
use millstream_transport::{FrameReader, FrameWriter, StreamError};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

use crate::broker::{Broker, Shares};
use crate::drivers::partition::View;
use crate::filter::FetchFilter;
use crate::metrics::Fetched;
use crate::partitions::{Partition, not_leader, unread};

const CREDIT: FrameLimits = FrameLimits { message: 64, body: 0 };
const MAX_CREDIT: i64 = MAX_FETCH_CREDIT_BYTES.cast_signed();
/// The least that is read at a time: a consumer's small wish does not make a small read of the disk.
const MIN_READ: usize = 64 << 10;

/// Serves one stream until the client ends it.
pub(crate) async fn serve(
    broker: &Arc<Broker>,
    shares: &Shares,
    open: OpenFetch,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let mut outlet = match Outlet::open(broker, open).await {
        Ok(outlet) => outlet,
        Err(error) => {
            writer.send(&Err::<FetchReady, _>(error), []).await?;
            return writer.finish();
        }
    };
    writer.send(&Ok::<_, WireError>(outlet.ready()), []).await?;
    let purse = Arc::clone(&outlet.purse);
    tokio::select! {
        ended = outlet.run(shares, writer) => ended,
        ended = earn(&purse, reader) => ended,
    }
}

/// What the consumer has granted, less what was sent. Below zero after a batch that was larger than
/// what was left: the consumer counts the same, so both always agree.
#[derive(Debug, Default)]
struct Purse {
    credit: AtomicI64,
    earned: Notify,
}

impl Purse {
    fn earn(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let add = |credit: i64| Some(credit.saturating_add(bytes).min(MAX_CREDIT));
        // The closure never refuses.
        let _ = self.credit.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        self.earned.notify_one();
    }

    fn spend(&self, bytes: usize) {
        self.credit.fetch_sub(i64::try_from(bytes).expect("a body is small"), Ordering::AcqRel);
    }

    /// Waits until there is credit, and says how much.
    async fn some(&self) -> usize {
        loop {
            match usize::try_from(self.credit.load(Ordering::Acquire)) {
                Ok(credit @ 1..) => return credit,
                _ => self.earned.notified().await,
            }
        }
    }
}

async fn earn(purse: &Purse, reader: &mut FrameReader) -> Result<(), StreamError> {
    while let Some(frame) = reader.recv::<Credit>(CREDIT).await? {
        purse.earn(frame.message.bytes);
    }
    Ok(())
}

/// The sending half of a stream.
struct Outlet {
    partition: Partition,
    view: watch::Receiver<View>,
    cursor: Cursor,
    /// Everything before it was sent, or filtered out.
    next: Offset,
    max_body: usize,
    purse: Arc<Purse>,
    filter: Option<FetchFilter>,
    isolation: Isolation,
}

impl Outlet {
    async fn open(broker: &Broker, open: OpenFetch) -> Result<Self, WireError> {
        let partition = broker.partitions.find(&open.topic, open.id, open.partition)?;
        let filter = match &open.filter {
            Some(filter) => Some(broker.fetch_filter(&partition, filter).await?),
            None => None,
        };
        let view = partition.watch();
        position::check(&partition, &open).await?;
        let cursor = partition.reader().cursor_at(open.offset);
        let cursor = cursor.map_err(|error| unread(&partition, &error))?;
        let purse = Purse::default();
        purse.earn(open.credit);
        let max_body = (open.max_body_bytes as usize).clamp(MIN_READ, MAX_FETCH_BODY_BYTES);
        let (next, purse, isolation) = (open.offset, Arc::new(purse), open.isolation);
        partition.metrics().fetch_opened();
        Ok(Self { partition, view, cursor, next, max_body, purse, filter, isolation })
    }

    fn ready(&self) -> FetchReady {
        let view = self.view.borrow();
        FetchReady {
            id: self.partition.id().topic,
            leader_epoch: view.epoch,
            log_start: view.log_start,
            high_watermark: view.high_watermark,
        }
    }

    /// Sends body after body; while one is on its way, the next is read and filtered.
    async fn run(&mut self, shares: &Shares, writer: &mut FrameWriter) -> Result<(), StreamError> {
        let mut next = self.body(shares).await;
        loop {
            let Portion { data, body, share } = match next {
                Ok(portion) => portion,
                Err(error) => return fail(writer, error).await,
            };
            let message = Ok::<_, WireError>(data);
            let sending = async {
                let sent = writer.send(&message, body).await;
                // Not kept while the next body waits, for data or for the room that this takes.
                drop(share);
                sent
            };
            if self.filter.is_none() {
                // Nothing is gained by reading ahead: the disk's pages wait as well as our memory.
                sending.await?;
                next = self.body(shares).await;
            } else {
                let following = async { Ok(self.body(shares).await) };
                ((), next) = tokio::try_join!(sending, following)?;
            }
        }
    }

    /// Waits for credit and data, and makes the next body of it.
    async fn body(&mut self, shares: &Shares) -> Result<Portion, WireError> {
        // A single batch may be larger than what a consumer wants at a time.
        let mut batch = 0;
        loop {
            let credit = self.purse.some().await;
            let view = self.wait_for_data().await?;
            let wanted = credit.clamp(MIN_READ, self.max_body);
            let share = wanted.max(std::mem::take(&mut batch));
            // What is read lies here until the consumer takes it.
            let held = shares.outgoing.take(share).await;
            let (up_to, before) = (self.readable(&view), self.cursor.clone());
            let begun = Instant::now();
            let read = self.partition.reader().read(&mut self.cursor, up_to, wanted);
            match read.map_err(|e| unread(&self.partition, &e))? {
                Some(sealed) if share < sealed.len() => {
                    (batch, self.cursor) = (sealed.len(), before);
                }
                Some(sealed) => {
                    let from = std::mem::replace(&mut self.next, self.cursor.offset());
                    return self.portion(&view, sealed, (from, begun), held).await;
                }
                None => self.next = self.next.max(up_to),
            }
        }
    }

    /// What this consumer may see ends here.
    fn readable(&self, view: &View) -> Offset {
        match self.isolation {
            Isolation::ReadCommitted => view.last_stable,
            Isolation::ReadUncommitted => view.high_watermark,
        }
    }

    /// The aborted transactions with records in what was read.
    fn aborted(&self, view: &View, from: Offset) -> Vec<Aborted> {
        if self.isolation == Isolation::ReadUncommitted {
            return Vec::new();
        }
        let ended = view.aborted.partition_point(|one| one.marker < from);
        let touches = |one: &&Aborted| one.first.is_none_or(|first| first < self.next);
        view.aborted[ended..].iter().filter(touches).copied().collect()
    }

    /// Waits until something beyond `next` is committed.
    async fn wait_for_data(&mut self) -> Result<View, WireError> {
        loop {
            let view = self.view.borrow_and_update().clone();
            if !view.serves() {
                return Err(not_leader(&self.partition));
            }
            if self.next < self.readable(&view) {
                return Ok(view);
            }
            if self.view.changed().await.is_err() {
                let text = "the partition is being closed: ask again where it is";
                return Err(WireError::new(ErrorCode::NotLeader, text));
            }
        }
    }

    async fn portion(
        &mut self,
        view: &View,
        sealed: Bytes,
        (from, begun): (Offset, Instant),
        share: OwnedSemaphorePermit,
    ) -> Result<Portion, WireError> {
        let (read, records) = (sealed.len(), self.next - from);
        let mut aborted = self.aborted(view, from);
        let (body, examined) = match &mut self.filter {
            None => (vec![sealed], 0),
            Some(filter) => {
                let filtered = filter.apply(sealed, &std::mem::take(&mut aborted)).await?;
                (filtered.bodies, filtered.examined)
            }
        };
        let sent: usize = body.iter().map(Bytes::len).sum();
        self.purse.spend(sent);
        let took = begun.elapsed();
        self.partition.metrics().fetched(Fetched { took, records, read, sent });
        let data = FetchData {
            high_watermark: view.high_watermark,
            log_start: view.log_start,
            next_offset: self.next,
            examined,
            aborted,
        };
        Ok(Portion { data, body, share })
    }
}

/// One body, ready to be sent.
struct Portion {
    data: FetchData,
    body: Vec<Bytes>,
    /// Its part of what its connection may hold, until it is sent.
    share: OwnedSemaphorePermit,
}

async fn fail(writer: &mut FrameWriter, error: WireError) -> Result<(), StreamError> {
    writer.send(&Err::<FetchData, _>(error), []).await?;
    writer.finish()
}
