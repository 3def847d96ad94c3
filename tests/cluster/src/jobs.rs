//! Jobs: deploy one with few words, and wait until it has done its work.

use std::time::Duration;

use millstream_client::Client;
use millstream_client::protocol::ids::{JobName, ModuleRef, TopicName};
use millstream_client::protocol::message::job::{
    ErrorPolicy, JobDescription, JobLimits, JobSpec, LastResort, StartPosition,
};

use crate::binary::guest;
use crate::wait::until;

/// Uploads a guest under its own name.
///
/// # Panics
/// If the broker refuses it.
pub async fn upload(client: &Client, name: &str) -> ModuleRef {
    let uploaded = client.admin().upload_module(name, guest(name)).await;
    uploaded.unwrap_or_else(|error| panic!("{name}: {error}")).module
}

/// A job that retries nothing and puts what its module refuses among the dead letters.
///
/// # Panics
/// If a name is none.
#[must_use]
pub fn spec(
    name: &str,
    module: &ModuleRef,
    (inputs, outputs): (&[&str], &[&str]),
    params: &[(&str, &str)],
) -> JobSpec {
    let topics = |names: &[&str]| {
        names.iter().map(|name| TopicName::new(name).expect("a topic's name")).collect()
    };
    let params = params.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    JobSpec {
        name: JobName::new(name).expect("a job's name"),
        module: module.clone(),
        inputs: topics(inputs),
        outputs: topics(outputs),
        params: params.collect(),
        limits: JobLimits::default(),
        on_error: ErrorPolicy { retries: 0, backoff_ms: 10, then: LastResort::DeadLetter },
        start: StartPosition::Earliest,
    }
}

/// Waits until a job has read everything that its inputs hold, and says how it stands.
///
/// # Panics
/// If it has not within a minute.
pub async fn caught_up(client: &Client, job: &str) -> JobDescription {
    until("the end of a job's input", Duration::from_secs(60), async || {
        let job = client.admin().describe_job(job).await.map_err(|error| error.to_string())?;
        let done = job.partitions.iter().all(|partition| partition.lag == 0);
        if done { Ok(job) } else { Err(format!("{:?}", job.partitions)) }
    })
    .await
}
