//! What is open to another broker: three streams, and what waits for each.
//!
//! - control: heartbeats, who leads what, messages without a body; never behind a batch.
//! - data: batches for replicas that keep up.
//! - bulk: batches for replicas that are far behind, no faster than the broker is told to.
//!
//! Invariant: what waits is bounded; what finds no room is dropped, but for who leads what, which is kept as it is now.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_protocol::batch::cut_at;
use millstream_protocol::ids::{Offset, TopicPartition};
use millstream_protocol::message::Open;
use millstream_protocol::message::peer::{Leadership, OpenPeer, PeerFrame, PeerStream};
use millstream_protocol::message::replica::{Content, Envelope};
use millstream_storage::disk::AnyDisk;
use millstream_storage::log::{Cursor, LogReader, ReadError};
use millstream_transport::{Connection, FrameWriter, StreamError};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::{Damaged, Peers};

/// Messages that wait for one stream.
const WAITING: usize = 4_096;
/// Messages that share a frame, and partitions that share a word on who leads them.
const TOGETHER: usize = 256;
/// Bytes of one body for a replica that keeps up; at least one batch.
const BODY_BYTES: usize = 1 << 20;
/// Who is so many bytes behind is served apart from those who keep up.
const FAR_BYTES: u64 = 16 << 20;
/// Bytes in line for a stream before they are handed to QUIC.
const FLUSH_BYTES: usize = 256 << 10;

/// The near ends.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) connection: Connection,
    beats: mpsc::Sender<bool>,
    small: mpsc::Sender<Envelope>,
    data: mpsc::Sender<Load>,
    bulk: mpsc::Sender<Load>,
    leads: Mutex<BTreeMap<TopicPartition, Leadership>>,
    led: Notify,
}

/// The far ends, to be run.
pub(super) struct Ends {
    pub(super) control: Control,
    pub(super) data: Loads,
    pub(super) bulk: Loads,
}

/// A message and what goes with it.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) envelope: Envelope,
    pub(crate) cargo: Cargo,
}

/// What goes with a message.
#[derive(Debug)]
pub(crate) enum Cargo {
    /// Bytes as they are.
    Bytes(Bytes),
    /// Batches from the message's base on, read when their turn has come.
    Log(Batches),
}

/// Batches of a log.
#[derive(Debug)]
pub(crate) struct Batches {
    pub(crate) reader: LogReader<AnyDisk>,
    /// Of the log when they were promised: what is there after a truncation is not what was meant.
    pub(crate) generation: u64,
    pub(crate) up_to: Offset,
    pub(crate) damaged: Damaged,
}

/// Opens the queues; `leads` is what this broker leads.
pub(super) fn open(connection: Connection, leads: Vec<Leadership>) -> (Line, Ends) {
    let (beats, beat) = mpsc::channel(2);
    let (small, smalls) = mpsc::channel(WAITING);
    let (data, loads) = mpsc::channel(WAITING);
    let (bulk, bulks) = mpsc::channel(WAITING);
    let ends = Ends {
        control: Control { connection: connection.clone(), beats: beat, small: smalls },
        data: Loads { connection: connection.clone(), loads, cursors: BTreeMap::new() },
        bulk: Loads { connection: connection.clone(), loads: bulks, cursors: BTreeMap::new() },
    };
    let leads = Mutex::new(leads.into_iter().map(|lead| (lead.partition, lead)).collect());
    let led = Notify::new();
    led.notify_one();
    (Line { connection, beats, small, data, bulk, leads, led }, ends)
}

impl Line {
    pub(super) fn beat(&self, hears: bool) {
        // Two that wait are enough.
        let _ = self.beats.try_send(hears);
    }

    pub(super) fn leads(&self, lead: Leadership) {
        self.leads.lock().insert(lead.partition, lead);
        self.led.notify_one();
    }

    /// Whether there was room for it.
    pub(super) fn small(&self, envelope: Envelope) -> bool {
        self.small.try_send(envelope).is_ok()
    }

    /// Whether there was room for it.
    pub(super) fn load(&self, load: Load, bulk: bool) -> bool {
        let to = if bulk { &self.bulk } else { &self.data };
        to.try_send(load).is_ok()
    }
}

async fn begin(
    connection: &Connection,
    peers: &Peers,
    kind: PeerStream,
) -> Result<(FrameWriter, impl Send), StreamError> {
    let (mut writer, reader) = connection.open().await?;
    let open = OpenPeer { from: peers.me(), kind };
    writer.send(&Open::Peer(open), []).await?;
    // The other side says nothing on it; held, for it is stopped otherwise.
    Ok((writer, reader))
}

/// The control stream.
pub(super) struct Control {
    connection: Connection,
    beats: mpsc::Receiver<bool>,
    small: mpsc::Receiver<Envelope>,
}

impl Control {
    /// Runs until the stream breaks; says why.
    pub(super) async fn run(self, peers: &Peers, line: &Line, session: u64) -> StreamError {
        let ended = self.try_run(peers, line, session).await;
        ended.err().unwrap_or(StreamError::Ended)
    }

    async fn try_run(
        mut self,
        peers: &Peers,
        line: &Line,
        session: u64,
    ) -> Result<(), StreamError> {
        let (mut writer, _held) = begin(&self.connection, peers, PeerStream::Control).await?;
        writer.set_priority(1);
        let mut small = Vec::with_capacity(TOGETHER);
        loop {
            tokio::select! {
                biased;
                Some(hears) = self.beats.recv() => {
                    writer.feed(&PeerFrame::Beat { session, hears }, []);
                }
                () = line.led.notified() => {
                    let leads: Vec<_> = std::mem::take(&mut *line.leads.lock()).into_values().collect();
                    for leads in leads.chunks(TOGETHER) {
                        writer.feed(&PeerFrame::Leads(leads.to_vec()), []);
                    }
                }
                received = self.small.recv_many(&mut small, TOGETHER) => {
                    if received == 0 {
                        return Ok(());
                    }
                    let frame = PeerFrame::Replicas(std::mem::take(&mut small));
                    writer.feed(&frame, []);
                }
            }
            writer.flush().await?;
        }
    }
}

/// A stream of messages with bodies.
pub(super) struct Loads {
    connection: Connection,
    loads: mpsc::Receiver<Load>,
    /// Where those who keep up read on.
    cursors: BTreeMap<TopicPartition, Cursor>,
}

impl Loads {
    /// Runs until the stream breaks; says why.
    pub(super) async fn run(self, peers: &Peers, line: &Line, kind: PeerStream) -> StreamError {
        let ended = self.try_run(peers, line, kind).await;
        ended.err().unwrap_or(StreamError::Ended)
    }

    async fn try_run(
        mut self,
        peers: &Peers,
        line: &Line,
        kind: PeerStream,
    ) -> Result<(), StreamError> {
        let connection = self.connection.clone();
        let (mut writer, _held) = begin(&connection, peers, kind).await?;
        let mut next = self.loads.recv().await;
        while let Some(load) = next {
            if let Some((envelope, body)) = self.unload(load, line, kind) {
                if kind == PeerStream::Bulk {
                    peers.bulk_rate().take(body.len()).await;
                }
                writer.feed(&envelope, [body]);
            }
            // Several small ones cost little more than one.
            next = self.loads.try_recv().ok();
            if next.is_none() || FLUSH_BYTES <= writer.fed() {
                writer.flush().await?;
            }
            if next.is_none() {
                next = self.loads.recv().await;
            }
        }
        Ok(())
    }

    /// What is to be sent now. Nothing when it is not there any more: what was to be said is said again as it is
    /// then; and nothing when it goes another way.
    fn unload(&mut self, load: Load, line: &Line, kind: PeerStream) -> Option<(Envelope, Bytes)> {
        let Load { envelope, cargo } = load;
        let batches = match cargo {
            Cargo::Bytes(bytes) => return Some((envelope, bytes)),
            Cargo::Log(batches) => batches,
        };
        let Content::Batches { base, .. } = envelope.message.content else {
            unreachable!("the log goes with batches only");
        };
        let known = self.cursors.remove(&envelope.partition).filter(|known| known.offset() == base);
        let cursor = known.map_or_else(|| batches.reader.cursor_at(base), Ok);
        if kind == PeerStream::Data
            && let Ok(cursor) = &cursor
            && FAR_BYTES < batches.reader.bytes_after(cursor)
        {
            line.load(Load { envelope, cargo: Cargo::Log(batches) }, true);
            return None;
        }
        let body = batches.read(cursor).map_err(|error| {
            if matches!(error, ReadError::Corrupt(_)) {
                batches.damaged.report();
            }
            tracing::debug!(partition = %envelope.partition, %error, "not sent");
        });
        let (body, cursor) = body.ok()??;
        // Where compaction has made one of what were several batches, some of them may be there already.
        let body = cut_at(body, base).ok()?;
        if self.cursors.len() < WAITING {
            self.cursors.insert(envelope.partition, cursor);
        }
        Some((envelope, body))
    }
}

impl Batches {
    /// Whole batches from the cursor on, if the log was not cut since they were promised.
    fn read(
        &self,
        cursor: Result<Cursor, ReadError>,
    ) -> Result<Option<(Bytes, Cursor)>, ReadError> {
        let mut cursor = cursor?;
        let read = self.reader.read(&mut cursor, self.up_to, BODY_BYTES)?;
        let promised = self.generation == self.reader.generation();
        Ok(read.filter(|_| promised).map(|body| (body, cursor)))
    }
}
