//! Golden bytes: a message is written and read as in the first release of its protocol version.
//!
//! The files are hex with comments after `#`. A message that no longer matches is a change of the
//! wire format, not of a file: it breaks every client that is out there.

mod calls;
mod samples;

use std::fmt::Debug;

use millstream_protocol::error::ErrorCode;
use millstream_protocol::frame::{HEADER_SIZE, decode, encode};
use millstream_protocol::message::Open;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Every code, by its number.
pub(crate) const ERROR_CODES: [ErrorCode; 37] = [
    ErrorCode::Internal,
    ErrorCode::InvalidRequest,
    ErrorCode::UnsupportedVersion,
    ErrorCode::UnknownTopic,
    ErrorCode::UnknownPartition,
    ErrorCode::TopicExists,
    ErrorCode::InvalidConfig,
    ErrorCode::NotLeader,
    ErrorCode::ShuttingDown,
    ErrorCode::CorruptBatch,
    ErrorCode::TooLarge,
    ErrorCode::OutOfOrderSequence,
    ErrorCode::ProducerFenced,
    ErrorCode::UnknownProducer,
    ErrorCode::Overloaded,
    ErrorCode::DiskFull,
    ErrorCode::StorageStopped,
    ErrorCode::CorruptLog,
    ErrorCode::OffsetOutOfRange,
    ErrorCode::InvalidModule,
    ErrorCode::UnknownModule,
    ErrorCode::InUse,
    ErrorCode::UnknownJob,
    ErrorCode::JobExists,
    ErrorCode::GuestFailed,
    ErrorCode::TimedOut,
    ErrorCode::LogTruncated,
    ErrorCode::UnknownGroup,
    ErrorCode::MemberFenced,
    ErrorCode::NotOwner,
    ErrorCode::GroupInUse,
    ErrorCode::InstanceInUse,
    ErrorCode::OffsetRegression,
    ErrorCode::InvalidTransaction,
    ErrorCode::ConcurrentTransactions,
    ErrorCode::UnknownTransaction,
    ErrorCode::OffsetsPending,
];

fn parse_hex(text: &str) -> Vec<u8> {
    let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let digits: String = code.flat_map(str::split_whitespace).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.as_bytes().chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
}

/// The frame of `message` with a body of `body` bytes is `golden`, and `golden` reads as `message`.
#[track_caller]
fn assert_golden<M>(name: &str, message: &M, body: usize, golden: &str)
where
    M: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let (ours, golden) = (encode(message, body), parse_hex(golden));
    assert!(ours == golden, "{name} written now:\n{}\ngolden:\n{}", hex(&ours), hex(&golden));
    assert_eq!(decode::<M>(&golden[HEADER_SIZE..]).as_ref(), Ok(message));
}

macro_rules! golden {
    ($($test:ident: $name:ident, $body:expr;)*) => {$(
        #[test]
        fn $test() {
            let golden = include_str!(concat!("../golden/messages/", stringify!($name), ".hex"));
            assert_golden(stringify!($name), &samples::$name(), $body, golden);
        }
    )*};
}

golden! {
    hello_is_written_as_ever: hello, 0;
    welcome_is_written_as_ever: welcome, 0;
    a_call_is_opened_as_ever: open_call, 0;
    a_produce_stream_is_opened_as_ever: open_produce, 0;
    a_fetch_stream_is_opened_as_ever: open_fetch, 0;
    produce_answers_are_written_as_ever: produce_answers, 0;
    fetched_data_is_written_as_ever: fetch_data, 70_000;
    a_refusal_is_written_as_ever: refusal, 0;
    a_topic_is_described_as_ever: topic_description, 0;
    a_module_is_described_as_ever: module_description, 0;
    a_job_is_described_as_ever: job_description, 0;
    a_page_of_logs_is_written_as_ever: job_log_page, 0;
    offsets_are_listed_as_ever: partition_offsets, 0;
    the_cluster_is_described_as_ever: cluster_description, 0;
    a_topic_is_found_as_ever: topic_routes, 0;
    the_end_of_an_epoch_is_written_as_ever: epoch_end, 0;
    a_member_s_stream_is_opened_as_ever: open_group, 0;
    a_beat_is_written_as_ever: member_frame, 0;
    a_standing_is_written_as_ever: standing, 0;
    a_group_is_described_as_ever: group_description, 0;
}

#[test]
fn every_call_keeps_its_number_in_the_table() {
    let mut ours = String::new();
    for (number, call) in calls::every_call().into_iter().enumerate() {
        ours.push_str(&format!("# {}\n", call.name()));
        let opening = encode(&Open::Call(call), 0).split_off(HEADER_SIZE);
        assert_eq!(opening[..2], [0, u8::try_from(number).unwrap()]);
        ours.push_str(&hex(&opening));
        ours.push('\n');
    }
    let (_title, golden) = include_str!("../golden/messages/calls.hex").split_once('\n').unwrap();
    assert!(ours == golden, "calls written now:\n{ours}");
}

#[test]
fn every_error_code_keeps_its_number() {
    for (number, code) in ERROR_CODES.into_iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        assert_eq!(encode(&code, 0)[HEADER_SIZE..], [number], "{code}");
    }
    let next = u8::try_from(ERROR_CODES.len()).unwrap();
    assert!(decode::<ErrorCode>(&[next]).is_err(), "a new code is missing in this list");
}
