//! Dead letters: the original record, with headers that say why it could not be handled.

use millstream_protocol::batch::{BatchBuilder, BatchError, Record};
use millstream_protocol::ids::{Offset, Timestamp};
use millstream_protocol::message::job::JobSpec;

use super::Place;

/// Why a record is a dead letter.
pub(super) struct Cause<'a> {
    pub(super) spec: &'a JobSpec,
    pub(super) place: &'a Place,
    pub(super) offset: Offset,
    pub(super) kind: &'static str,
    pub(super) error: String,
}

/// Adds a record to the dead letters: key, value, timestamp and headers as they were, and behind them
/// `millstream.job`, `.module`, `.topic`, `.partition`, `.offset`, `.error.kind` and `.error`.
pub(super) fn dead_letter(
    to: &mut BatchBuilder,
    record: &Record<'_>,
    time: Timestamp,
    cause: &Cause<'_>,
) -> Result<(), BatchError> {
    let texts = [
        ("millstream.job", cause.spec.name.to_string()),
        ("millstream.module", cause.spec.module.to_string()),
        ("millstream.topic", cause.place.topic.to_string()),
        ("millstream.partition", cause.place.partition.to_string()),
        ("millstream.offset", cause.offset.to_string()),
        ("millstream.error.kind", cause.kind.to_owned()),
        ("millstream.error", cause.error.clone()),
    ];
    let mut headers = Vec::with_capacity(record.headers.len() + texts.len());
    for header in record.headers {
        let header = header.map_err(|fault| BatchError::Record { index: 0, fault })?;
        headers.push((header.key, header.value));
    }
    headers.extend(texts.iter().map(|(key, text)| (*key, Some(text.as_bytes()))));
    to.push(time, record.key, record.value, &headers)
}
