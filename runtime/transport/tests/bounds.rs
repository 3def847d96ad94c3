//! What a hostile or broken peer can do: cost a bounded amount, get a clear error, disturb no one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use bytes::Bytes;
use common::{Broker, LIMITS, Random, RawClient, greeting, hello, resident_mib, round_trip};
use millstream_protocol::frame::{self, FrameError, FrameLimits};
use millstream_transport::{
    CloseCode, Connection, ConnectionError, FrameReader, StreamError, TransportSettings,
};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// A broker and both ends of one connection to it.
async fn pair(settings: TransportSettings) -> (Broker, Connection, Connection) {
    let broker = Broker::new(settings);
    let serve =
        async { broker.listener.accept().await.unwrap().handshake(&greeting()).await.unwrap() };
    let (client, served) = tokio::join!(broker.dial(), serve);
    (broker, client.unwrap(), served)
}

/// A raw QUIC client's greeted connection and the broker's end of it.
async fn raw_pair() -> (Broker, RawClient, Connection) {
    let broker = Broker::new(TransportSettings::default());
    let serve =
        async { broker.listener.accept().await.unwrap().handshake(&greeting()).await.unwrap() };
    let (client, served) = tokio::join!(RawClient::greeted(&broker), serve);
    (broker, client, served)
}

#[tokio::test]
async fn a_client_that_opens_ten_thousand_streams_gets_as_many_as_allowed() {
    let broker = Broker::new(TransportSettings::default());
    let mut accepted = broker.echo();
    let greedy = broker.dial().await.unwrap();
    let modest = broker.dial().await.unwrap();
    let _served = (accepted.recv().await, accepted.recv().await);
    let before = resident_mib();
    let mut open = Vec::new();
    while open.len() < 10_000 {
        let Ok(streams) = timeout(Duration::from_millis(500), greedy.open()).await else {
            break;
        };
        let (mut writer, reader) = streams.unwrap();
        writer.send(&1_u64, []).await.unwrap();
        open.push((writer, reader));
    }
    // The stream of the greeting has been one of them; room is given back several at a time.
    assert!((1_000..=1_024).contains(&open.len()), "{} streams", open.len());
    assert!(resident_mib() - before < 128, "{} MiB more", resident_mib() - before);
    timeout(SOON, round_trip(&modest, 1, &Bytes::from_static(b"fine"))).await.unwrap();
    drop(open);
    timeout(SOON, round_trip(&greedy, 2, &Bytes::from_static(b"room again"))).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_never_reads_stops_its_writer_and_no_one_else() {
    let (_broker, client, served) = pair(TransportSettings::default()).await;
    let (mut writer, _reader) = client.open().await.unwrap();
    writer.send(&0_u64, []).await.unwrap();
    let unread = served.accept().await.unwrap();
    let body = Bytes::from(vec![7; 256 << 10]);
    let mut sent = 0;
    while timeout(Duration::from_millis(500), writer.send(&1_u64, [body.clone()])).await.is_ok() {
        sent += body.len();
        assert!(sent < 64 << 20, "the writer is never stopped");
    }
    let windows = TransportSettings::default().local;
    let most = windows.stream_receive_window + windows.send_window + (1 << 20);
    assert!(sent <= most as usize, "{sent} bytes lie unread, at most {most} should");
    // The same connection still carries other streams.
    let echo = async {
        let (mut writer, mut reader) = served.accept().await.unwrap();
        let frame = reader.recv::<u64>(LIMITS).await.unwrap().unwrap();
        writer.send(&frame.message, [body.clone()]).await.unwrap();
    };
    let both = async { tokio::join!(round_trip(&client, 5, &body), echo) };
    timeout(SOON, both).await.unwrap();
    drop(unread);
}

#[tokio::test]
async fn random_bytes_on_the_port_disturb_nobody() {
    let broker = Broker::new(TransportSettings::default());
    let _accepted = broker.echo();
    let client = broker.dial().await.unwrap();
    let before = resident_mib();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut random = Random(7);
    for round in 0..20_000_u32 {
        let mut bytes = vec![0; random.below(1_500)];
        random.fill(&mut bytes);
        if let [first, rest @ ..] = bytes.as_mut_slice() {
            // Every second one looks like the first packet of a QUIC version 1 connection.
            *first |= if round % 2 == 0 { 0xc0 } else { 0x40 };
            if round % 2 == 0 && rest.len() > 5 {
                rest[..5].copy_from_slice(&[0, 0, 0, 1, 8]);
            }
        }
        let _ = socket.send_to(&bytes, broker.listener.local_addr());
        if round % 1_000 == 0 {
            round_trip(&client, round.into(), &Bytes::from_static(b"still here")).await;
        }
    }
    timeout(SOON, broker.dial()).await.unwrap().unwrap();
    assert!(resident_mib() - before < 128, "{} MiB more", resident_mib() - before);
    assert_eq!(broker.listener.admission().handshakes(), 0);
}

#[tokio::test]
async fn garbage_instead_of_a_hello_closes_that_connection_with_a_reason() {
    let broker = Broker::new(TransportSettings::default());
    let mut accepted = broker.echo();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[5, 0, 0, 0, 0, 0, 0, 0, 1, 1], b""]
    {
        let client = RawClient::connect(&broker).await.unwrap();
        let (mut send, _receive) = client.connection.open_bi().await.unwrap();
        send.write_all(garbage).await.unwrap();
        send.finish().unwrap();
        let error = timeout(SOON, accepted.recv()).await.unwrap().unwrap().unwrap_err();
        assert!(matches!(error, ConnectionError::Failed { .. }), "{error:?}");
        let quinn::ConnectionError::ApplicationClosed(close) = client.connection.closed().await
        else {
            panic!("closed otherwise");
        };
        assert_eq!(close.error_code, CloseCode::ProtocolViolation.into());
        assert!(!close.reason.is_empty());
    }
    round_trip(&broker.dial().await.unwrap(), 1, &Bytes::from_static(b"fine")).await;
}

#[tokio::test]
async fn a_client_of_another_protocol_is_turned_away_in_the_handshake() {
    let broker = Broker::new(TransportSettings::default());
    let mut accepted = broker.echo();
    let error = RawClient::with_alpn(&broker, b"h3").await.unwrap_err();
    assert!(error.to_string().contains("known protocol"), "{error}");
    let error = accepted.recv().await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::NotMillstream { .. }), "{error:?}");
}

#[tokio::test]
async fn a_client_that_never_says_hello_is_dropped_in_time() {
    let settings = TransportSettings {
        handshake_timeout: Duration::from_millis(300),
        ..TransportSettings::default()
    };
    let broker = Broker::new(settings);
    let mut accepted = broker.echo();
    let mute = RawClient::connect(&broker).await.unwrap();
    assert_eq!(broker.listener.admission().handshakes(), 1);
    let error = accepted.recv().await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::TimedOut { .. }), "{error:?}");
    timeout(SOON, mute.connection.closed()).await.unwrap();
    assert_eq!(broker.listener.admission().handshakes(), 0);
}

/// Sends `bytes` on a new stream as they are and ends it.
async fn raw_stream(client: &RawClient, served: &Connection, bytes: &[u8]) -> FrameReader {
    let (mut send, _receive) = client.connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    send.finish().unwrap();
    served.accept().await.unwrap().1
}

fn header(message_len: u32, body_len: u32) -> Vec<u8> {
    [message_len.to_le_bytes(), body_len.to_le_bytes()].concat()
}

#[tokio::test]
async fn lengths_over_the_limits_are_refused_before_they_cost_anything() {
    let (_broker, client, served) = raw_pair().await;
    let limits = FrameLimits { message: 100, body: 1_000 };
    let mut reader = raw_stream(&client, &served, &header(u32::MAX, 0)).await;
    let error = reader.recv::<u64>(limits).await.unwrap_err();
    assert_eq!(error, FrameError::MessageTooLarge { len: u32::MAX, max: 100 }.into());
    let mut reader = raw_stream(&client, &served, &header(1, 1_001)).await;
    let error = reader.recv::<u64>(limits).await.unwrap_err();
    assert_eq!(error, FrameError::BodyTooLarge { len: 1_001, max: 1_000 }.into());
}

#[tokio::test]
async fn memory_is_taken_for_what_has_come_and_not_for_what_was_announced() {
    let (_broker, client, served) = raw_pair().await;
    let limits = FrameLimits { message: 100, body: 1 << 30 };
    let before = resident_mib();
    let mut readers = Vec::new();
    for _ in 0..64 {
        let mut announced = header(1, 1 << 30);
        announced.extend_from_slice(&[7, 1, 2, 3]);
        readers.push(raw_stream(&client, &served, &announced).await);
    }
    for reader in &mut readers {
        let mut frame = reader.recv::<u64>(limits).await.unwrap().unwrap();
        let error = frame.body.read().await.unwrap_err();
        assert_eq!(error, StreamError::Truncated { missing: (1 << 30) - 3 });
    }
    assert!(resident_mib() - before < 128, "{} MiB more", resident_mib() - before);
}

#[tokio::test]
async fn a_frame_cut_short_anywhere_is_reported_as_such() {
    let (_broker, client, served) = raw_pair().await;
    let mut whole = frame::encode(&300_u64, 3);
    whole.extend_from_slice(b"abc");
    for cut in 0..=whole.len() {
        let mut reader = raw_stream(&client, &served, &whole[..cut]).await;
        let read = async {
            let Some(mut frame) = reader.recv::<u64>(LIMITS).await? else {
                return Ok(None);
            };
            frame.body.read().await.map(Some)
        };
        match read.await {
            Ok(None) => assert_eq!(cut, 0),
            Ok(Some(body)) => assert_eq!((cut, &body[..]), (whole.len(), &b"abc"[..])),
            Err(error) => {
                assert!(matches!(error, StreamError::Truncated { .. }), "at {cut}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn garbage_on_a_stream_ends_that_stream_and_no_other() {
    let (_broker, client, served) = raw_pair().await;
    let mut random = Random(7);
    for _ in 0..200 {
        let mut bytes = header((random.next() % 64) as u32, (random.next() % 64) as u32);
        bytes.resize(8 + random.below(100), 0);
        random.fill(&mut bytes[8..]);
        let mut reader = raw_stream(&client, &served, &bytes).await;
        // Whatever it is taken for, it ends, and it does not panic.
        while let Ok(Some(mut frame)) = reader.recv::<(u8, String)>(LIMITS).await {
            if frame.body.read().await.is_err() {
                break;
            }
        }
    }
    let mut reader = raw_stream(&client, &served, &frame::encode(&7_u64, 0)).await;
    assert_eq!(reader.recv::<u64>(LIMITS).await.unwrap().unwrap().message, 7);
}

#[tokio::test]
async fn connections_over_the_bound_are_refused_until_there_is_room() {
    let settings = TransportSettings { max_connections: 2, ..TransportSettings::default() };
    let broker = Broker::new(settings);
    let mut accepted = broker.echo();
    let first = broker.dial().await.unwrap();
    let _second = broker.dial().await.unwrap();
    let served = accepted.recv().await.unwrap().unwrap();
    let error = broker.dial().await.unwrap_err();
    assert!(matches!(error, ConnectionError::Refused { .. }), "{error:?}");
    first.close_and_wait(CloseCode::Done, "").await;
    served.closed().await;
    drop(served);
    // The echo task of that connection lets go of it too, a moment later.
    let again = async {
        while broker.dial().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, again).await.unwrap();
}

#[tokio::test]
async fn a_client_that_has_to_prove_its_address_does_so_unnoticed() {
    let settings = TransportSettings { max_unproven_per_ip: 0, ..TransportSettings::default() };
    let broker = Broker::new(settings);
    let _accepted = broker.echo();
    let client = timeout(SOON, broker.dial()).await.unwrap().unwrap();
    round_trip(&client, 1, &Bytes::from_static(b"proven")).await;
}

#[tokio::test]
async fn an_idle_connection_stays_and_a_dead_one_ends() {
    let settings = TransportSettings {
        idle_timeout: Duration::from_millis(400),
        keep_alive: Duration::from_millis(100),
        ..TransportSettings::default()
    };
    let broker = Broker::new(settings.clone());
    let mut accepted = broker.echo();
    let client = broker.dial_with(&settings, hello()).await.unwrap();
    let served = accepted.recv().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    round_trip(&client, 1, &Bytes::from_static(b"alive")).await;
    let mute = TransportSettings { keep_alive: Duration::from_secs(60), ..settings };
    let dead = broker.dial_with(&mute, hello()).await.unwrap();
    let error = timeout(SOON, accepted.recv().await.unwrap().unwrap().closed()).await.unwrap();
    assert!(matches!(error, ConnectionError::TimedOut { .. }), "{error:?}");
    assert!(dead.close_reason().is_none_or(|e| matches!(e, ConnectionError::TimedOut { .. })));
    assert_eq!(served.close_reason(), None);
}
