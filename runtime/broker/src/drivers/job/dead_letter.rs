//! Dead letters: the original record, with headers that say why it could not be handled.
//!
//! Invariant: every record makes one. What a letter has no room for is left out, and the letter says so;
//! the record's topic, partition and offset are in every one.

use millstream_protocol::batch::{BatchBuilder, BatchError, Record};
use millstream_protocol::ids::{Offset, Timestamp};
use millstream_protocol::message::job::JobSpec;

use super::Place;

/// Characters of the error in a letter that has room for little.
const SHORT_ERROR_CHARS: usize = 100;

/// Why a record is a dead letter.
pub(super) struct Cause<'a> {
    pub(super) spec: &'a JobSpec,
    pub(super) place: &'a Place,
    pub(super) offset: Offset,
    pub(super) kind: &'static str,
    pub(super) error: String,
}

/// How much of a record its letter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letter {
    Whole,
    WithoutHeaders,
    PlaceOnly,
}

impl Letter {
    /// From the best to the least: the first that fits is sent.
    pub(super) const ALL: [Self; 3] = [Self::Whole, Self::WithoutHeaders, Self::PlaceOnly];

    const fn omitted(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::WithoutHeaders => Some("headers"),
            Self::PlaceOnly => Some("headers, key, value"),
        }
    }
}

/// Adds a record to the dead letters: key, value, timestamp and headers as they were, and behind them
/// `millstream.job`, `.module`, `.topic`, `.partition`, `.offset`, `.error.kind` and `.error`; and
/// `.omitted` if the letter is without some of it.
pub(super) fn dead_letter(
    to: &mut BatchBuilder,
    letter: Letter,
    record: &Record<'_>,
    time: Timestamp,
    cause: &Cause<'_>,
) -> Result<(), BatchError> {
    let short = letter == Letter::PlaceOnly;
    let error = if short { shortened(&cause.error) } else { &cause.error };
    let (partition, offset) = (cause.place.partition.to_string(), cause.offset.to_string());
    let module = cause.spec.module.to_string();
    let texts = [
        ("millstream.job", Some(cause.spec.name.as_str())),
        ("millstream.module", Some(&*module)),
        ("millstream.topic", Some(cause.place.topic.as_str())),
        ("millstream.partition", Some(&*partition)),
        ("millstream.offset", Some(&*offset)),
        ("millstream.error.kind", Some(cause.kind)),
        ("millstream.error", Some(error)),
        ("millstream.omitted", letter.omitted()),
    ];
    let mut headers = Vec::with_capacity(record.headers.len() + texts.len());
    if letter == Letter::Whole {
        for header in record.headers {
            let header = header.map_err(|fault| BatchError::Record { index: 0, fault })?;
            headers.push((header.key, header.value));
        }
    }
    let said = texts.iter().filter_map(|(key, text)| text.map(|text| (*key, text)));
    headers.extend(said.map(|(key, text)| (key, Some(text.as_bytes()))));
    let (key, value) = if short { (None, None) } else { (record.key, record.value) };
    to.push(time, key, value, &headers)
}

fn shortened(error: &str) -> &str {
    error.char_indices().nth(SHORT_ERROR_CHARS).map_or(error, |(end, _)| &error[..end])
}
