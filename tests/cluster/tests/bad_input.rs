//! Bad input: each gets a clear error, and whoever else is served notices nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use millstream_client::protocol::batch::{BatchBuilder, ProducerStamp};
use millstream_client::protocol::error::{ErrorCode, WireError};
use millstream_client::protocol::ids::{ModuleName, Timestamp, TopicName};
use millstream_client::protocol::message::Open;
use millstream_client::protocol::message::module::{ModuleDescription, UploadModule};
use millstream_client::protocol::message::produce::{ProduceAnswers, ProduceBatch};
use millstream_client::protocol::message::topic::{CreateTopic, TopicDescription};
use millstream_client::{Client, ClientError, Compression, ProducerConfig, ProducerRecord};
use millstream_tests_cluster::binary::{self, guest};
use millstream_tests_cluster::load::{Plan, unacknowledged};
use millstream_tests_cluster::oracle::check;
use millstream_tests_cluster::reading::count;
use millstream_tests_cluster::{Broker, Load, Random, raw, read_all};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

/// Bytes where a message should be.
struct Noise(Vec<u8>);

impl Serialize for Noise {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut tuple = to.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

/// Any answer will do.
impl<'de> Deserialize<'de> for Noise {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::new()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_on_the_port_and_inside_streams_disturb_nobody() {
    let (mut random, broker) = (Random::new(), Broker::start().await);
    let client = broker.client().await;
    let bystander = bystander(&client).await;
    client.admin().create_topic("t", 1).await.unwrap();
    let resident = broker.resident_bytes();

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(broker.address()).unwrap();
    for _ in 0..5_000 {
        let mut datagram = random.bytes(1);
        let length = usize::try_from(1 + random.below(1_400)).unwrap();
        datagram.extend(random.bytes(length));
        // A refusal by the system loses one of five thousand.
        drop(socket.send(&datagram));
    }
    let connection = raw::dial(&broker).await;
    for round in 0..300 {
        let length = usize::try_from(random.below(2_000)).unwrap();
        let noise = Noise(random.bytes(length));
        let length = usize::try_from(random.below(5_000)).unwrap();
        let body = Bytes::from(random.bytes(length));
        let (mut writer, mut reader) = match round % 3 {
            0 => connection.open().await.unwrap(),
            1 => raw::produce(&connection, "t").await,
            _ => raw::fetch(&connection, "t", (1 << 20, 1 << 16)).await,
        };
        drop(writer.send(&noise, [body]).await);
        drop(writer.finish());
        // Whatever the answer is, there is one, or the end of the stream.
        drop(timeout(SOON, reader.recv::<Noise>(raw::LIMITS)).await.expect("an answer"));
    }
    // A stream that is dropped in the middle of a frame.
    let (mut writer, _reader) = raw::produce(&connection, "t").await;
    writer.feed(&ProduceBatch {}, [Bytes::from(vec![0; 8 << 20])]);
    drop(timeout(Duration::from_millis(1), writer.flush()).await);
    drop(writer);

    check_undisturbed(&broker, &client, bystander).await;
    let grown = broker.resident_bytes().saturating_sub(resident);
    assert!(grown < 128 << 20, "{} MiB for noise", grown >> 20);
    assert_eq!(count(&client, "t").await, 0, "noise is no record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_breaks_streams_without_end_is_worth_a_line_and_counted() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let bystander = bystander(&client).await;
    let connection = raw::dial(&broker).await;
    for _ in 0..500 {
        let (mut writer, mut reader) = connection.open().await.unwrap();
        drop(writer.send(&Noise(vec![0xff; 100]), []).await);
        drop(writer.finish());
        let ended = timeout(SOON, reader.recv::<Noise>(raw::LIMITS)).await.expect("an end");
        assert!(ended.is_err(), "the broker gives it up");
    }
    assert_eq!(broker.metric("millstream_streams_broken_total"), Some(500.0));
    let said = broker.said();
    let lines: Vec<_> = said.lines().filter(|line| line.contains("streams given up")).collect();
    // One for each ten seconds of the flood.
    assert!((1..=3).contains(&lines.len()), "{} lines: {lines:#?}", lines.len());
    check_undisturbed(&broker, &client, bystander).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_not_sound_is_refused_by_name_and_its_stream_goes_on() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let bystander = bystander(&client).await;
    client.admin().create_topic("t", 1).await.unwrap();
    let resident = broker.resident_bytes();
    let connection = raw::dial(&broker).await;
    let (mut writer, mut reader) = raw::produce(&connection, "t").await;

    let edit = |at: usize, to: &[u8], resealed: bool| {
        let mut batch = batch(5, Compression::None).to_vec();
        batch[at..at + to.len()].copy_from_slice(to);
        if resealed { reseal(batch) } else { batch }
    };
    let bad = [
        ("a wrong CRC", edit(17, &[1, 2, 3, 4], false), ErrorCode::CorruptBatch),
        ("a flipped byte", edit(80, &[0xff], false), ErrorCode::CorruptBatch),
        ("a count too high", edit(57, &6_i32.to_be_bytes(), true), ErrorCode::CorruptBatch),
        ("a count too low", edit(57, &4_i32.to_be_bytes(), true), ErrorCode::CorruptBatch),
        ("a huge count", edit(57, &i32::MAX.to_be_bytes(), true), ErrorCode::CorruptBatch),
        ("a negative count", edit(57, &(-1_i32).to_be_bytes(), true), ErrorCode::CorruptBatch),
        ("a wrong last delta", edit(23, &9_i32.to_be_bytes(), true), ErrorCode::CorruptBatch),
        ("a length too high", edit(8, &9_999_i32.to_be_bytes(), false), ErrorCode::CorruptBatch),
        ("a length too low", edit(8, &60_i32.to_be_bytes(), false), ErrorCode::CorruptBatch),
        ("another magic", edit(16, &[1], false), ErrorCode::CorruptBatch),
        ("gzip", edit(21, &[0, 1], true), ErrorCode::CorruptBatch),
        ("a bomb", bomb(), ErrorCode::TooLarge),
        ("nothing", Vec::new(), ErrorCode::CorruptBatch),
        ("half a header", vec![0; 30], ErrorCode::CorruptBatch),
        ("noise", vec![0xA5; 5_000], ErrorCode::CorruptBatch),
    ];
    for (what, bytes, code) in bad {
        writer.send(&ProduceBatch {}, [Bytes::from(bytes)]).await.unwrap();
        let error = answer(&mut reader).await.expect_err(what);
        let refused = [code, ErrorCode::InvalidRequest, ErrorCode::TooLarge];
        assert!(refused.contains(&error.code), "{what}: {error}");
        assert!(10 < error.message.len(), "{what}: {error}");
        writer.send(&ProduceBatch {}, [batch(1, Compression::Zstd)]).await.unwrap();
        answer(&mut reader).await.unwrap_or_else(|error| panic!("after {what}: {error}"));
    }
    assert_eq!(count(&client, "t").await, 15, "one sound batch behind each of the others");
    let grown = broker.resident_bytes().saturating_sub(resident);
    assert!(grown < 192 << 20, "{} MiB for bad batches", grown >> 20);
    check_undisturbed(&broker, &client, bystander).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_over_the_limit_is_refused_by_client_and_broker() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let bystander = bystander(&client).await;
    let configs = [("max.message.bytes".to_owned(), "10000".to_owned())].into();
    let name = TopicName::new("small").unwrap();
    let topic = CreateTopic { name, partitions: 1, replication_factor: 1, configs };
    client.admin().create_topic_with(topic).await.unwrap();

    let producer = client.producer(ProducerConfig::default()).unwrap();
    let value = vec![0; 20_000];
    let refused = producer.send(ProducerRecord::new("small").value(&value)).await;
    let refused = refused.expect_err("too large");
    assert!(refused.to_string().contains("20000") && !refused.maybe_written(), "{refused}");

    let connection = raw::dial(&broker).await;
    let (mut writer, mut reader) = raw::produce(&connection, "small").await;
    let mut large = BatchBuilder::new(30_000);
    large.push(Timestamp(0), None, Some(&value), &[]).unwrap();
    let large = large.finish(Compression::None, ProducerStamp::NONE).unwrap();
    writer.send(&ProduceBatch {}, [large]).await.unwrap();
    let error = answer(&mut reader).await.expect_err("too large");
    assert_eq!(error.code, ErrorCode::TooLarge);
    assert!(error.message.contains("max.message.bytes"), "{error}");
    check_undisturbed(&broker, &client, bystander).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_a_path_never_reaches_the_disk() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    for name in ["../evil", "a/b", "..", ".", "", "a b", "ü", "a\0b"] {
        let refused = client.admin().create_topic(name, 1).await.expect_err(name);
        assert!(matches!(refused, ClientError::InvalidName(_)), "{refused}");
    }
    // A client that does not look at names itself.
    let connection = raw::dial(&broker).await;
    for name in ["../evil", "/tmp/ev", "..\\evil", "a/../bc", "\0\0\0\0\0\0\0"] {
        let honest = CreateTopic {
            name: TopicName::new("honests").unwrap(),
            partitions: 1,
            replication_factor: 1,
            configs: Default::default(),
        };
        let mut bytes = postcard::to_stdvec(&Open::Call(honest.into())).unwrap();
        let at = bytes.windows(7).position(|window| window == b"honests").unwrap();
        bytes[at..at + 7].copy_from_slice(name.as_bytes());
        let (mut writer, mut reader) = connection.open().await.unwrap();
        writer.send(&Noise(bytes), []).await.unwrap();
        let answer = reader.recv::<Result<TopicDescription, WireError>>(raw::LIMITS).await;
        if let Ok(Some(frame)) = answer {
            assert!(frame.message.is_err(), "{name:?} became a topic");
        }
    }
    assert_eq!(client.admin().list_topics().await.unwrap(), []);
    assert!(!broker.data_dir().join("../evil").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_is_none_is_refused_at_upload_with_the_reason() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let bystander = bystander(&client).await;
    let resident = broker.resident_bytes();
    let upload = async |bytes: Vec<u8>| {
        let refused = client.admin().upload_module("bad", bytes).await.expect_err("refused");
        (refused.code(), refused.to_string())
    };
    let module = guest("keep-late");
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let cut = module[..module.len() / 2].to_vec();
    for bytes in [b"#!/bin/sh\n".to_vec(), Vec::new(), core_module, cut] {
        let (code, text) = upload(bytes).await;
        assert_eq!(code, Some(ErrorCode::InvalidModule), "{text}");
    }
    let (code, text) = upload(guest("wants-files")).await;
    assert_eq!(code, Some(ErrorCode::InvalidModule), "{text}");
    assert!(text.contains("wasi:filesystem"), "the import is named: {text}");
    let (code, text) = upload(vec![0; 40 << 20]).await;
    assert_eq!(code, Some(ErrorCode::TooLarge), "{text}");
    assert!(text.contains("modules.max_bytes"), "{text}");
    let (code, text) = upload(vec![0; 100 << 20]).await;
    assert_eq!(code, Some(ErrorCode::TooLarge), "{text}");

    // 100 MiB from a client that does not look itself: refused before they are read.
    let connection = raw::dial(&broker).await;
    let (mut writer, mut reader) = connection.open().await.unwrap();
    let (name, sha256) = (ModuleName::new("bad").unwrap(), "0".repeat(64));
    let open = Open::Call(UploadModule { name, sha256, size: 100 << 20 }.into());
    let send = async { drop(writer.send(&open, [Bytes::from(vec![0; 100 << 20])]).await) };
    let receive = reader.recv::<Result<ModuleDescription, WireError>>(raw::LIMITS);
    let refused = tokio::select! {
        biased;
        refused = receive => refused.unwrap().unwrap().message.unwrap_err(),
        () = async { send.await; std::future::pending().await } => unreachable!(),
        () = tokio::time::sleep(SOON) => panic!("no answer to 100 MiB"),
    };
    assert_eq!(refused.code, ErrorCode::TooLarge, "{refused}");
    assert_eq!(client.admin().list_modules().await.unwrap(), []);
    let grown = broker.resident_bytes().saturating_sub(resident);
    assert!(grown < 256 << 20, "{} MiB for what is no module", grown >> 20);
    check_undisturbed(&broker, &client, bystander).await;
}

#[test]
fn a_configuration_with_a_typo_is_refused_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("millstream.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let done = binary::run(&["serve", "--check", "--config", &file.to_string_lossy()]);
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    assert_eq!(check("[server]\nnode_id = 2\n").0, Some(0));
    for (text, clues) in [
        ("[server]\nnod_id = 2\n", ["nod_id", "line 2"]),
        ("[sever]\n", ["sever", "line 1"]),
        ("[storage]\nio_threads = 0\n", ["storage.io_threads", "1 to 256"]),
        ("[server]\nlisten = \"nowhere\"\n", ["socket address", "line 2"]),
        ("[server\n", ["line 1", "TOML"]),
    ] {
        let (code, said) = check(text);
        assert_eq!(code, Some(1), "{said}");
        assert!(clues.iter().all(|clue| said.contains(clue)), "{text:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_of_a_newer_version_or_in_use_or_of_somebody_else_is_left_alone() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    let data = broker.data_dir().to_owned();
    let refused = async |data: PathBuf| {
        let logs = tempfile::tempdir().unwrap();
        let mut second = Broker::stopped(data, logs.path().join("stderr.log"), &[]);
        second.spawn();
        let status = second.end(SOON).await;
        (status.code(), second.said())
    };
    let (code, said) = refused(data.clone()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("in use by another process (pid "), "{said}");
    assert!(client.admin().describe_topic("t").await.is_ok(), "the first one goes on");

    broker.stop().await;
    let format = data.join("format");
    let ours = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, "millstream-data 99\n").unwrap();
    let (code, said) = refused(data.clone()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("format 99") && said.contains("newer"), "{said}");
    std::fs::write(&format, ours).unwrap();

    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("thesis.tex"), "mine").unwrap();
    let (code, said) = refused(other.path().to_owned()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("thesis.tex"), "{said}");
    broker.restart().await;
    assert!(client.admin().describe_topic("t").await.is_ok(), "nothing was touched");
}

/// Somebody who only wants to be served.
async fn bystander(client: &Client) -> Load {
    client.admin().create_topic("bystander", 2).await.unwrap();
    Load::start(client, &Plan::new("bystander", 2))
}

async fn check_undisturbed(broker: &Broker, client: &Client, bystander: Load) {
    bystander.acknowledges(200).await;
    let history = bystander.finish().await;
    assert_eq!(unacknowledged(&history), Vec::<&_>::new());
    check(&history, &read_all(client, "bystander").await);
    assert_eq!(broker.panics(), Vec::<String>::new());
}

async fn answer(reader: &mut millstream_transport::FrameReader) -> Result<(), WireError> {
    let frame = timeout(SOON, reader.recv::<ProduceAnswers>(raw::LIMITS)).await;
    let mut answers = frame.expect("an answer in time").unwrap().unwrap().message.answers;
    assert_eq!(answers.len(), 1);
    answers.remove(0).map(drop)
}

fn batch(records: u32, compression: Compression) -> Bytes {
    let mut batch = BatchBuilder::new(1 << 10);
    for number in 0..records {
        let value = number.to_be_bytes();
        batch.push(Timestamp(0), Some(b"key"), Some(&value), &[("h", None)]).unwrap();
    }
    batch.finish(compression, ProducerStamp::NONE).unwrap()
}

/// 300 MiB of zeros in a few kilobytes, in a batch whose checksum is right.
fn bomb() -> Vec<u8> {
    let mut batch = batch(1, Compression::Zstd)[..61].to_vec();
    batch.extend(zstd::encode_all(std::io::repeat(0).take(300 << 20), 3).unwrap());
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    reseal(batch)
}

/// Puts the right checksum on whatever is there.
fn reseal(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// CRC-32C bit by bit, of nobody's library: RFC 3720, appendix B.4.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[test]
fn the_checksum_of_these_tests_is_the_standards() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
