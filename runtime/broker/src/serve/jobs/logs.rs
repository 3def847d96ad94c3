//! What a job's guests said, from a line on.

use std::sync::Arc;

use millstream_core::metadata::Job;
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{PartitionIndex, Timestamp, TopicName};
use millstream_protocol::message::job::{JobLogLine, JobLogPage, JobLogs};

use super::find;
use crate::broker::Broker;

/// Log lines in one answer at the most.
const MAX_LINES: usize = 1_000;

pub(crate) fn serve(broker: &Broker, request: &JobLogs) -> Result<JobLogPage, WireError> {
    let image = broker.image();
    let (id, job) = find(&image, &request.name)?;
    let Some(scope) = broker.jobs.scope(id) else {
        return Ok(JobLogPage { lines: vec![], dropped: 0 });
    };
    // Guests count their lines from 0, and clients ask for what comes after a line: from 1.
    let most = (request.limit as usize).min(MAX_LINES);
    // Numbers begin again with the broker: who is ahead of them has not seen these lines.
    let after = if scope.log().next_sequence() < request.after { 0 } else { request.after };
    let lines: Vec<_> = scope
        .log()
        .since(after, most)
        .into_iter()
        .map(|line| JobLogLine {
            number: line.sequence + 1,
            time: Timestamp(line.at_millis),
            topic: input_topic(job, line.place.as_ref()),
            partition: PartitionIndex(line.place.map_or(0, |(_, partition)| partition)),
            level: format!("{:?}", line.level).to_lowercase(),
            text: line.message,
        })
        .collect();
    let first = lines.first().map_or(after, |line| line.number - 1);
    let dropped = first.saturating_sub(after) + scope.log().dropped_ever();
    Ok(JobLogPage { lines, dropped })
}

/// The input that a line is about; every guest of a job is started for a partition of one.
fn input_topic(job: &Job, place: Option<&(Arc<str>, u32)>) -> TopicName {
    let mut inputs = job.spec.inputs.iter();
    let named = inputs.find(|input| place.is_some_and(|(topic, _)| **topic == *input.as_str()));
    named.or_else(|| job.spec.inputs.first()).cloned().expect("a job has at least one input")
}
