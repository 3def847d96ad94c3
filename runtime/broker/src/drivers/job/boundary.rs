//! Boundary: whether a job stands between two input batches, also as its outputs have it.
//!
//! A position may lag (after a kill, or when one output took an input batch and another did not), and what
//! lies behind it is then handled again. That finds its way into the same output batches only as long as
//! nothing changes that decides where they go and where they end.
//!
//! Invariant: a position at which this says yes has nothing behind it that an output has taken.

use millstream_core::log::producers::Stamp;
use millstream_core::log::transactions::Part;
use millstream_protocol::batch::{BatchHeader, SealedBatches};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::Offset;
use millstream_protocol::message::job::JobSpec;

use super::targets::Targets;
use super::{Place, Progress};
use crate::jobs::Tools;
use crate::partitions::{Partition, unreadable};

/// Makes sure that no output has anything that was made of what lies at the position or behind it.
///
/// # Errors
/// One has, or does not know.
pub(crate) async fn is_clean(
    tools: &Tools,
    spec: &JobSpec,
    place: &Place,
    (source, progress): (&Partition, &Progress),
) -> Result<(), WireError> {
    let position = progress.position();
    let Some(header) = batch_at(source, position)? else {
        return Ok(());
    };
    let of = place.stamp(header.leader_epoch, header.base_offset);
    let stamp =
        Stamp { producer: of.id, epoch: of.epoch, first: of.sequence, count: 1, part: Part::None };
    for target in Targets::find(tools, spec)?.all() {
        let (job, topic, index) = (&spec.name, &place.topic, place.partition);
        let (output, number) = (target.topic(), target.id().partition);
        let taken = target.has_taken(stamp).await.map_err(|error| {
            let text = format!("job {job}: its output {output}, partition {number}: {error}");
            WireError::new(error.code, text)
        })?;
        if taken {
            let (_, last_error) = progress.state();
            let error = last_error.map(|error| format!(" ({error})")).unwrap_or_default();
            let text = format!(
                "job {job} has to write again what it made of {topic}, partition {index}, from offset \
                 {position} on: {output}, partition {number}, has some of it already, and would get it \
                 twice after this change. Resume the job if it is paused, see to what hinders it{error}, \
                 and try again when its position has moved"
            );
            return Err(WireError::new(ErrorCode::InUse, text));
        }
    }
    Ok(())
}

/// The header of the batch at an offset, or of the first one there is behind it.
pub(super) fn batch_at(source: &Partition, at: Offset) -> Result<Option<BatchHeader>, WireError> {
    let corrupt = |error: &dyn std::fmt::Display| WireError::new(ErrorCode::CorruptLog, error);
    let (view, reader) = (source.view(), source.reader());
    // Where the log starts its reader knows before anybody else is told.
    let mut cursor = reader.cursor_at(at.max(reader.start())).map_err(|e| unreadable(&e))?;
    let read = reader.read(&mut cursor, view.high_watermark, 1).map_err(|e| unreadable(&e))?;
    let first = read.and_then(|sealed| SealedBatches::new(sealed).next()).transpose();
    Ok(first.map_err(|e| corrupt(&e))?.map(|sealed| sealed.batch.header))
}
