//! The transport as the broker uses it: greeting, frames, bodies.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::hello::{Hello, NEWEST_VERSION, OLDEST_VERSION};
use millstream_transport::{
    CloseCode, Connection, FrameReader, FrameWriter, Greeting, Identity, Listener, Target,
    TransportSettings, Trust, connect,
};

use crate::BODY;
use crate::cost::{Cost, peak_rss};

const LIMITS: FrameLimits = FrameLimits { message: 1 << 10, body: 1 << 20 };
/// What the first frame of a stream asks the server to do with the others.
const SINK: u64 = 0;
const ECHO: u64 = 1;
const SMALL_FRAMES: u64 = 3_000_000;

pub(crate) async fn serve() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::open(dir.path(), NodeId(1), &[]).unwrap();
    let addr = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(addr, &identity, TransportSettings::default()).unwrap();
    println!("{} {}", listener.local_addr(), dir.path().join("ca.pem").display());
    let greeting = Greeting {
        features: vec![],
        cluster_id: String::new(),
        node: NodeId(1),
        software: String::new(),
    };
    let done = Arc::new(tokio::sync::Notify::new());
    let accept = async {
        while let Some(incoming) = listener.accept().await {
            let connection = incoming.handshake(&greeting).await.unwrap();
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                while let Ok((writer, reader)) = connection.accept().await {
                    tokio::spawn(stream(writer, reader, Arc::clone(&done)));
                }
            });
        }
    };
    tokio::select! { () = accept => {}, () = done.notified() => {} }
    listener.wait_idle().await;
}

async fn stream(writer: FrameWriter, mut reader: FrameReader, done: Arc<tokio::sync::Notify>) {
    let Some(first) = reader.recv::<u64>(LIMITS).await.unwrap() else {
        return;
    };
    if first.message == SINK {
        sink(writer, reader).await;
        done.notify_one();
    } else {
        echo(writer, reader).await;
    }
}

async fn sink(mut writer: FrameWriter, mut reader: FrameReader) {
    let cost = Cost::start();
    let (mut bytes, mut frames) = (0, 0_u64);
    while let Some(mut frame) = reader.recv::<u64>(LIMITS).await.unwrap() {
        frames += 1;
        while let Some(chunk) = frame.body.next_chunk().await.unwrap() {
            bytes += chunk.len();
        }
    }
    writer.send(&frames, []).await.unwrap();
    writer.finish().unwrap();
    let gb = bytes as f64 / 1e9;
    println!("server {:.2} CPU s/GB, peak {} MiB", cost.cpu() / gb, peak_rss());
}

/// Answers as many frames at a time as have arrived, as a broker acknowledges.
async fn echo(mut writer: FrameWriter, mut reader: FrameReader) {
    while let Ok(Some(mut frame)) = reader.recv::<u64>(LIMITS).await {
        let message = frame.message;
        let body = frame.body.read().await.unwrap();
        writer.feed(&message, [body]);
        if (!reader.has_frame() || writer.fed() > 64 << 10) && writer.flush().await.is_err() {
            return;
        }
    }
}

async fn dial(hello: &str) -> Connection {
    let (addr, ca) = hello.split_once(' ').unwrap();
    let trust = Trust::from_pem_file(Path::new(ca)).unwrap();
    let hello = Hello {
        oldest: OLDEST_VERSION,
        newest: NEWEST_VERSION,
        features: vec![],
        client_id: "throughput".to_owned(),
        software: String::new(),
    };
    let target = Target::at(addr.parse().unwrap());
    connect(&target, &trust, &TransportSettings::default(), hello).await.unwrap()
}

pub(crate) async fn bulk(hello: &str, gigabytes: u64) {
    let connection = dial(hello).await;
    let (mut writer, mut reader) = connection.open().await.unwrap();
    writer.send(&SINK, []).await.unwrap();
    let body = Bytes::from(vec![7; BODY]);
    let frames = gigabytes * 1_000_000_000 / BODY as u64;
    let cost = Cost::start();
    for frame in 0..frames {
        writer.send(&frame, [body.clone()]).await.unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(reader.recv::<u64>(LIMITS).await.unwrap().unwrap().message, frames);
    let gb = gigabytes as f64;
    println!(
        "frames, bulk:      {:.0} MB/s, client {:.2} CPU s/GB, {} lost, packets of {}",
        gb * 1e3 / cost.seconds(),
        cost.cpu() / gb,
        connection.stats().lost_packets,
        connection.stats().packet_size,
    );
    connection.close_and_wait(CloseCode::Done, "").await;
}

pub(crate) async fn small(hello: &str, batch: u64, flush: &str) {
    let connection = dial(hello).await;
    let (mut writer, mut reader) = connection.open().await.unwrap();
    writer.send(&SINK, []).await.unwrap();
    let body = Bytes::from(vec![7; 100]);
    let cost = Cost::start();
    for frame in 0..SMALL_FRAMES {
        writer.feed(&frame, [body.clone()]);
        if frame % batch == batch - 1 {
            writer.flush().await.unwrap();
        }
    }
    writer.flush().await.unwrap();
    writer.finish().unwrap();
    assert_eq!(reader.recv::<u64>(LIMITS).await.unwrap().unwrap().message, SMALL_FRAMES);
    let millions = SMALL_FRAMES as f64 / 1e6;
    println!(
        "frames of 100 B, {flush}: {:.2} M/s, client {:.2} CPU µs each",
        millions / cost.seconds(),
        cost.cpu() / millions,
    );
    connection.close_and_wait(CloseCode::Done, "").await;
}

/// Round trips of 128 bytes on one stream, `in_flight` at a time.
pub(crate) async fn round_trips(hello: &str, in_flight: usize) {
    let connection = dial(hello).await;
    let (mut writer, mut reader) = connection.open().await.unwrap();
    writer.send(&ECHO, []).await.unwrap();
    let body = Bytes::from(vec![7; 128]);
    let total = if in_flight == 1 { 50_000 } else { 1_000_000 };
    let cost = Cost::start();
    let (mut sent, mut received) = (0, 0);
    while received < total {
        while sent < total && sent - received < in_flight {
            writer.feed(&(sent as u64), [body.clone()]);
            sent += 1;
        }
        writer.flush().await.unwrap();
        loop {
            let mut frame = reader.recv::<u64>(LIMITS).await.unwrap().unwrap();
            assert_eq!(frame.message, received as u64);
            frame.body.read().await.unwrap();
            received += 1;
            if !reader.has_frame() {
                break;
            }
        }
    }
    println!(
        "round trips, one stream, {in_flight} in flight: {:.0} k/s",
        total as f64 / cost.seconds() / 1e3,
    );
    connection.close_and_wait(CloseCode::Done, "").await;
}

/// The same with a new stream for every round trip.
pub(crate) async fn calls(hello: &str, in_flight: usize) {
    let connection = dial(hello).await;
    let total = if in_flight == 1 { 30_000 } else { 200_000 };
    let body = Bytes::from(vec![7; 128]);
    let cost = Cost::start();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (connection, body) = (connection.clone(), body.clone());
        workers.spawn(async move {
            for call in 0..(total / in_flight) as u64 {
                let (mut writer, mut reader) = connection.open().await.unwrap();
                writer.feed(&ECHO, []);
                writer.feed(&call, [body.clone()]);
                writer.flush().await.unwrap();
                writer.finish().unwrap();
                let frame = reader.recv::<u64>(LIMITS).await.unwrap().unwrap();
                assert_eq!(frame.message, call);
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    println!(
        "round trips, a stream each, {in_flight} in flight: {:.0} k/s",
        total as f64 / cost.seconds() / 1e3,
    );
    connection.close_and_wait(CloseCode::Done, "").await;
}
