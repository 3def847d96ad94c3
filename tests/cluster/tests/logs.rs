//! Log lines: whatever a broker says on standard error can be read by a machine, or by a person.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use millstream_client::protocol::message::produce::ProduceBatch;
use millstream_tests_cluster::{Broker, raw};
use serde_json::Value;

const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

/// Everything a broker says from its start to its end, a broken stream and a refused start included.
async fn said(format: &str) -> String {
    let config = [("LOG_FORMAT", format), ("LOG_LEVEL", "info,millstream_broker=debug")];
    let mut broker = Broker::start_with(&config).await;
    let client = broker.client().await;
    client.admin().create_topic("t", 2).await.unwrap();
    let connection = raw::dial(&broker).await;
    let (mut writer, mut reader) = connection.open().await.unwrap();
    writer.send(&vec![0xff_u8; 100], [Bytes::from_static(b"a \"body\"\n")]).await.unwrap();
    assert!(reader.recv::<ProduceBatch>(raw::LIMITS).await.is_err(), "it is given up");
    client.admin().delete_topic("t").await.unwrap();
    broker.stop().await;
    broker.said()
}

/// RFC 3339 in UTC, as `2013-01-01T10:00:00.123456Z`.
fn is_timestamp(text: &str) -> bool {
    let pattern = "dddd-dd-ddTdd:dd:dd.";
    let mut front = text.bytes().zip(pattern.bytes());
    let fits =
        |(byte, like): (u8, u8)| if like == b'd' { byte.is_ascii_digit() } else { byte == like };
    pattern.len() < text.len() && front.all(fits) && text.ends_with('Z')
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_a_json_log_is_an_object_with_time_level_target_and_message() {
    let said = said("json").await;
    let mut levels = std::collections::BTreeSet::new();
    for line in said.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let text = |key: &str| object[key].as_str().unwrap_or_else(|| panic!("{key}: {line}"));
        assert!(is_timestamp(text("timestamp")), "{line}");
        assert!(LEVELS.contains(&text("level")), "{line}");
        assert!(text("target").starts_with("millstream"), "{line}");
        assert!(!text("message").is_empty(), "{line}");
        levels.insert(text("level").to_owned());
    }
    for level in ["DEBUG", "INFO", "WARN"] {
        assert!(levels.contains(level), "no {level} in: {said}");
    }
    let broken: Vec<_> = said.lines().filter(|line| line.contains("streams given up")).collect();
    let [broken] = broken[..] else { panic!("{broken:?}") };
    let broken: Value = serde_json::from_str(broken).unwrap();
    assert!(broken["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{broken}");
    assert_eq!(broken["streams"], 1, "{broken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_a_text_log_begins_with_time_level_and_target() {
    let said = said("text").await;
    assert!(said.contains("streams given up"), "{said}");
    for line in said.lines() {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_default();
        assert!(is_timestamp(word()), "{line}");
        assert!(LEVELS.contains(&word()), "{line}");
        let target = word();
        assert!(target.starts_with("millstream") && target.ends_with(':'), "{line}");
        assert!(!word().is_empty(), "a message: {line}");
    }
    assert!(!said.contains('\u{1b}'), "no colours where there is no terminal: {said}");
}
