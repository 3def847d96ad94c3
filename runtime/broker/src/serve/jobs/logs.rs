//! What a job's guests said, from a line on.

use millstream_core::metadata::Job;
use millstream_protocol::error::WireError;
use millstream_protocol::ids::TopicName;
use millstream_protocol::message::job::{JobLogLine, JobLogPage, JobLogs};

use super::find;
use crate::broker::Broker;

/// Log lines in one answer at the most.
const MAX_LINES: usize = 1_000;

pub(crate) fn serve(broker: &Broker, request: &JobLogs) -> Result<JobLogPage, WireError> {
    let image = broker.image();
    let (id, job) = find(&image, &request.name)?;
    let scope = broker.jobs.scope(id, &job.spec.limits);
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
            time: millstream_protocol::ids::Timestamp(line.at_millis),
            topic: input_topic(job),
            partition: millstream_protocol::ids::PartitionIndex(line.partition.unwrap_or(0)),
            level: format!("{:?}", line.level).to_lowercase(),
            text: line.message,
        })
        .collect();
    let first = lines.first().map_or(after, |line| line.number - 1);
    let dropped = first.saturating_sub(after) + scope.log().dropped_ever();
    Ok(JobLogPage { lines, dropped })
}

fn input_topic(job: &Job) -> TopicName {
    job.spec.inputs.first().cloned().expect("a job has at least one input")
}
