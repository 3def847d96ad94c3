//! The transport alone: this process's half.
//!
//! Invariant: as with a producer, so many batches of each stream are on their way and not yet answered.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::ProgressBar;
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::message::hello::{Hello, NEWEST_VERSION, OLDEST_VERSION};
use millstream_protocol::message::produce::{ProduceAnswers, ProduceBatch};
use millstream_transport::dial::connect;
use millstream_transport::{CloseCode, Connection, StreamError, Target, TransportSettings, Trust};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Load;
use super::peer::Ask;
use crate::bench::report::Times;
use crate::bench::spent::{Meter, Spent};
use crate::failure::{Failure, Result};

/// As the producer has it by default.
pub(super) const IN_FLIGHT: usize = 5;
const LIMITS: FrameLimits = FrameLimits { message: 1 << 16, body: 16 << 20 };

/// One record goes there and back so often, and that for so long at most.
const ROUND_TRIPS: usize = 10_000;
const ROUND_TRIPS_TIME: Duration = Duration::from_secs(3);

/// How often the bar moves on.
pub(super) const STEPS: u64 = 3;

/// What was measured.
pub(super) struct Wire {
    /// Pushing everything into the other process.
    pub(super) pushed: Spent,
    /// Pulling as much out of it.
    pub(super) pulled: Spent,
    /// From handing one record over until it is answered, with nothing else to do.
    pub(super) round_trips: Times,
}

/// Measures the transport with `streams` streams, and with one record at a time.
pub(super) fn measure(load: &Load, lone: &Bytes, streams: u32, bar: &ProgressBar) -> Result<Wire> {
    let dir = tempfile::tempdir()?;
    let peer = Peer::start(dir.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connection = peer.connect(dir.path()).await?;
        let round_trips = round_trips(&connection, lone).await.map_err(Failure::new)?;
        bar.inc(1);
        let pushed = both(&peer, || push_all(&connection, load, streams)).await?;
        bar.inc(1);
        let pulled = both(&peer, || pull_all(&connection, load, streams)).await?;
        bar.inc(1);
        connection.close_and_wait(CloseCode::Done, "measured").await;
        Ok(Wire { pushed, pulled, round_trips })
    })
}

async fn both<F: Future<Output = Result>>(peer: &Peer, work: impl FnOnce() -> F) -> Result<Spent> {
    let meter = Meter::start(&[peer.process.id()])?;
    work().await?;
    meter.stop()
}

/// The other process; it does not outlive its owner.
struct Peer {
    process: Child,
    addr: SocketAddr,
}

impl Peer {
    fn start(dir: &std::path::Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "ceiling-peer"]).arg(dir).stdin(Stdio::null());
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let said = process.stdout.take().expect("its output is piped");
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        let addr = line.trim().parse();
        let addr = addr.map_err(|_| Failure::new("the other process did not start"))?;
        Ok(Self { process, addr })
    }

    async fn connect(&self, dir: &std::path::Path) -> Result<Connection> {
        let trust = Trust::from_pem_file(&dir.join("ca.pem")).map_err(Failure::new)?;
        let hello = Hello {
            oldest: OLDEST_VERSION,
            newest: NEWEST_VERSION,
            features: Vec::new(),
            client_id: "millstream-bench".to_owned(),
            software: concat!("millstream ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let settings = TransportSettings::default();
        let connected = connect(&Target::at(self.addr), &trust, &settings, hello).await;
        connected.map_err(Failure::new)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn round_trips(
    connection: &Connection,
    lone: &Bytes,
) -> std::result::Result<Times, StreamError> {
    let (mut writer, mut reader) = connection.open().await?;
    writer.send(&Ask::Sink, []).await?;
    let mut times = Times::new();
    let began = Instant::now();
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        writer.send(&ProduceBatch {}, [lone.clone()]).await?;
        reader.recv::<ProduceAnswers>(LIMITS).await?;
        times.record(started.elapsed());
        if began.elapsed() > ROUND_TRIPS_TIME {
            break;
        }
    }
    writer.finish()?;
    Ok(times)
}

async fn push_all(connection: &Connection, load: &Load, streams: u32) -> Result {
    let mut shares = vec![Vec::new(); streams as usize];
    for (number, batch) in load.batches().enumerate() {
        shares[number % streams as usize].push(batch.clone());
    }
    let mut tasks = JoinSet::new();
    for share in shares {
        tasks.spawn(push(connection.clone(), share));
    }
    all(tasks).await
}

async fn pull_all(connection: &Connection, load: &Load, streams: u32) -> Result {
    let bytes: usize = load.batches().map(Bytes::len).sum();
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        tasks.spawn(pull(connection.clone(), (bytes / streams as usize) as u64));
    }
    all(tasks).await
}

async fn all(mut tasks: JoinSet<std::result::Result<(), StreamError>>) -> Result {
    while let Some(done) = tasks.join_next().await {
        done.map_err(Failure::new)?.map_err(Failure::new)?;
    }
    Ok(())
}

async fn push(connection: Connection, batches: Vec<Bytes>) -> std::result::Result<(), StreamError> {
    let (mut writer, mut reader) = connection.open().await?;
    writer.send(&Ask::Sink, []).await?;
    let free = Semaphore::new(IN_FLIGHT);
    let write = async {
        for batch in batches {
            free.acquire().await.expect("it is never closed").forget();
            writer.send(&ProduceBatch {}, [batch]).await?;
        }
        writer.finish()
    };
    let read = async {
        while let Some(frame) = reader.recv::<ProduceAnswers>(LIMITS).await? {
            free.add_permits(frame.message.answers.len());
        }
        Ok(())
    };
    tokio::try_join!(write, read).map(drop)
}

async fn pull(connection: Connection, bytes: u64) -> std::result::Result<(), StreamError> {
    let (mut writer, mut reader) = connection.open().await?;
    writer.send(&Ask::Source { bytes }, []).await?;
    while let Some(mut frame) = reader.recv::<ProduceBatch>(LIMITS).await? {
        while frame.body.next_chunk().await?.is_some() {}
    }
    Ok(())
}
