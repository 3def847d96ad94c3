//! Arbitrary requests and answers about jobs.

use millstream_protocol::ids::JobId;
use millstream_protocol::message::job::{
    DeleteJob, DeployJob, DescribeJob, ErrorPolicy, JobDescription, JobLimits, JobLogLine,
    JobLogPage, JobLogs, JobPartition, JobSpec, JobState, JobSummary, LastResort, SetJobState,
    StartPosition, UpdateJob,
};
use proptest::option;
use proptest::prelude::*;

use super::{
    job_name, large, list, map, module_ref, offset, partition, small, text, timestamp, topic_name,
};

pub(crate) fn deploy_job() -> impl Strategy<Value = DeployJob> {
    job_spec().prop_map(|spec| DeployJob { spec })
}

pub(crate) fn describe_job() -> impl Strategy<Value = DescribeJob> {
    job_name().prop_map(|name| DescribeJob { name })
}

pub(crate) fn delete_job() -> impl Strategy<Value = DeleteJob> {
    job_name().prop_map(|name| DeleteJob { name })
}

pub(crate) fn set_job_state() -> impl Strategy<Value = SetJobState> {
    (job_name(), state()).prop_map(|(name, state)| SetJobState { name, state })
}

pub(crate) fn update_job() -> impl Strategy<Value = UpdateJob> {
    (job_name(), option::of(module_ref()), option::of(limits()))
        .prop_map(|(name, module, limits)| UpdateJob { name, module, limits })
}

pub(crate) fn job_logs() -> impl Strategy<Value = JobLogs> {
    (job_name(), large(), small()).prop_map(|(name, after, limit)| JobLogs { name, after, limit })
}

fn state() -> impl Strategy<Value = JobState> {
    prop_oneof![Just(JobState::Running), Just(JobState::Paused)]
}

fn limits() -> impl Strategy<Value = JobLimits> {
    (small(), large(), small()).prop_map(|(batch_ms, memory_bytes, output_ratio)| JobLimits {
        batch_ms,
        memory_bytes,
        output_ratio,
    })
}

fn error_policy() -> impl Strategy<Value = ErrorPolicy> {
    let then =
        proptest::sample::select(&[LastResort::DeadLetter, LastResort::Skip, LastResort::Stop][..]);
    (small(), small(), then).prop_map(|(retries, backoff_ms, then)| ErrorPolicy {
        retries,
        backoff_ms,
        then,
    })
}

fn start() -> impl Strategy<Value = StartPosition> {
    prop_oneof![
        Just(StartPosition::Earliest),
        Just(StartPosition::Latest),
        timestamp().prop_map(StartPosition::Timestamp),
    ]
}

fn job_spec() -> impl Strategy<Value = JobSpec> {
    let topics = (list(topic_name()), list(topic_name()));
    (job_name(), module_ref(), topics, map(), limits(), error_policy(), start()).prop_map(
        |(name, module, (inputs, outputs), params, limits, on_error, start)| JobSpec {
            name,
            module,
            inputs,
            outputs,
            params,
            limits,
            on_error,
            start,
        },
    )
}

pub(crate) fn job_summary() -> impl Strategy<Value = JobSummary> {
    let topics = (list(topic_name()), list(topic_name()));
    (job_name(), module_ref(), topics, state(), large()).prop_map(
        |(name, module, (inputs, outputs), state, lag)| JobSummary {
            name,
            module,
            inputs,
            outputs,
            state,
            lag,
        },
    )
}

pub(crate) fn job_description() -> impl Strategy<Value = JobDescription> {
    (small(), job_spec(), state(), list(job_partition())).prop_map(
        |(id, spec, state, partitions)| JobDescription { id: JobId(id), spec, state, partitions },
    )
}

fn job_partition() -> impl Strategy<Value = JobPartition> {
    let counts = (large(), large(), large(), large());
    (topic_name(), partition(), offset(), counts, text(), option::of(text())).prop_map(
        |(topic, partition, position, counts, status, last_error)| {
            let (lag, records_in, records_out, errors) = counts;
            JobPartition {
                topic,
                partition,
                position,
                lag,
                records_in,
                records_out,
                errors,
                status,
                last_error,
            }
        },
    )
}

pub(crate) fn job_log_page() -> impl Strategy<Value = JobLogPage> {
    (list(job_log_line()), large()).prop_map(|(lines, dropped)| JobLogPage { lines, dropped })
}

fn job_log_line() -> impl Strategy<Value = JobLogLine> {
    (large(), timestamp(), topic_name(), partition(), text(), text()).prop_map(
        |(number, time, topic, partition, level, text)| JobLogLine {
            number,
            time,
            topic,
            partition,
            level,
            text,
        },
    )
}
