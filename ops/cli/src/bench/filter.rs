//! `millstream bench filter`: what a module on the path costs, on a fetch and as a job.
//!
//! Invariant: what is compared is measured in turn in the same run: without the filter, with it, and again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use millstream_client::Client;
use millstream_protocol::ids::{JobName, ModuleName, ModuleRef, TopicName};
use millstream_protocol::message::fetch::FetchFilter;
use millstream_protocol::message::job::{
    DeleteJob, DeployJob, DescribeJob, ErrorPolicy, JobLimits, JobPartition, JobSpec, StartPosition,
};
use millstream_protocol::message::topic::DeleteTopic;
use serde::Serialize;

use super::arguments::Watched;
use super::consume::{Read, read_all};
use super::report::{Rows, Told, whole};
use super::spent::Meter;
use super::topic;
use crate::connection::call;
use crate::failure::{Failure, Result};
use crate::output::{Output, print};
use crate::parse::{Pair, collect};
use crate::{format, progress};

/// How often a job is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// Reads without and with the filter, in turn.
const TURNS: usize = 2;

/// Measure a filter over a topic that is filled already.
///
/// (a) Reads the topic without the filter and with it, twice in turn, and compares the records examined a second.
/// (b) Deploys the filter as a job to a new topic and measures records a second until nothing is left.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The topic.
    topic: TopicName,
    /// The filter, a .wasm file; it is uploaded.
    #[arg(long, value_name = "FILE")]
    module: PathBuf,
    /// A parameter for the filter; may be repeated.
    #[arg(long, value_name = "K=V")]
    param: Vec<Pair>,
    /// A configuration value for the job's output topic; may be repeated.
    #[arg(long, value_name = "K=V")]
    config: Vec<Pair>,
    /// Only one of the two.
    #[arg(long, value_enum)]
    only: Option<Part>,
    #[command(flatten)]
    watched: Watched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// On a fetch.
    Fetch,
    /// As a job.
    Job,
}

#[derive(Serialize)]
struct Document {
    topic: TopicName,
    module: ModuleRef,
    fetch: Option<Fetch>,
    job: Option<Job>,
}

/// Rates in records examined a second; the better of each kind's turns.
#[derive(Serialize)]
struct Fetch {
    plain_records_per_second: f64,
    filtered_records_per_second: f64,
    ratio: f64,
    examined: u64,
    kept: u64,
    broker_cpu_microseconds_per_record: Option<f64>,
    turns: Vec<Turn>,
}

#[derive(Serialize)]
struct Turn {
    filtered: bool,
    records_per_second: f64,
    #[serde(flatten)]
    read: Read,
}

#[derive(Serialize)]
struct Job {
    records_in: u64,
    records_out: u64,
    seconds: f64,
    records_in_per_second: f64,
    broker_cpu_seconds: Option<f64>,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let params = collect(args.param, "--param")?;
    let module = upload(client, &args.module).await?;
    let brokers = args.watched.broker_pid.as_slice();
    let mut document =
        Document { topic: args.topic.clone(), module: module.clone(), fetch: None, job: None };
    if args.only != Some(Part::Job) {
        let filter = FetchFilter { module: module.clone(), params: params.clone() };
        document.fetch = Some(on_fetch(client, &args.topic, &filter, brokers).await?);
    }
    if args.only != Some(Part::Fetch) {
        let name = format!("{}-kept", args.topic);
        let spec = JobSpec {
            name: JobName::new(&name).map_err(Failure::new)?,
            module,
            inputs: vec![args.topic],
            outputs: vec![TopicName::new(&name).map_err(Failure::new)?],
            params,
            limits: JobLimits::default(),
            on_error: ErrorPolicy::default(),
            start: StartPosition::Earliest,
        };
        let configs = collect(args.config, "--config")?;
        document.job = Some(as_job(client, spec, configs, brokers).await?);
    }
    print(&Told(document), output)
}

async fn upload(client: &Client, file: &Path) -> Result<ModuleRef> {
    let component = fs::read(file).map_err(|error| {
        Failure::new(error)
            .context(format!("cannot read {}", file.display()))
            .or_hint("`cargo xtask guests` builds the examples to target/guests/NAME.wasm")
    })?;
    let name = file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let name = ModuleName::new(&name).map_err(Failure::usage)?;
    Ok(client.admin().upload_module(name.as_str(), component).await?.module)
}

async fn on_fetch(
    client: &Client,
    topic: &TopicName,
    filter: &FetchFilter,
    brokers: &[u32],
) -> Result<Fetch> {
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        for filter in [None, Some(filter)] {
            let read = read_all(client, topic, filter.cloned(), brokers).await?;
            let records_per_second = read.examined as f64 / read.spent.seconds;
            turns.push(Turn { filtered: filter.is_some(), records_per_second, read });
        }
    }
    let best = |filtered| {
        let rates = turns.iter().filter(|turn| turn.filtered == filtered);
        rates.map(|turn| turn.records_per_second).fold(0.0, f64::max)
    };
    let (plain, filtered) = (best(false), best(true));
    let last = turns.last().expect("there was at least one turn").read;
    let micros = |cpu: f64| cpu * 1e6 / last.examined as f64;
    Ok(Fetch {
        plain_records_per_second: plain,
        filtered_records_per_second: filtered,
        ratio: filtered / plain,
        examined: last.examined,
        kept: last.records,
        broker_cpu_microseconds_per_record: last.spent.broker_cpu_seconds.map(micros),
        turns,
    })
}

async fn as_job(
    client: &Client,
    spec: JobSpec,
    configs: std::collections::BTreeMap<String, String>,
    brokers: &[u32],
) -> Result<Job> {
    let (name, output) = (spec.name.clone(), spec.outputs[0].clone());
    let input = topic::ends(client, &spec.inputs[0]).await?;
    let starts = topic::starts(client, &spec.inputs[0]).await?;
    let partitions = u32::try_from(input.len()).map_err(Failure::new)?;
    topic::create(client, &output, partitions, 1, configs).await?;

    let meter = Meter::start(brokers)?;
    call(client, DeployJob { spec }).await?;
    let bar = progress::records("running the job", topic::distance(&starts, &input));
    let done = until_done(client, &name, &bar).await;
    let spent = meter.stop()?;
    bar.finish_and_clear();

    call(client, DeleteJob { name }).await?;
    call(client, DeleteTopic { name: output }).await?;
    let (records_in, records_out) = done?;
    Ok(Job {
        records_in,
        records_out,
        seconds: spent.seconds,
        records_in_per_second: records_in as f64 / spent.seconds,
        broker_cpu_seconds: spent.broker_cpu_seconds,
    })
}

/// Waits until a job has nothing left to read; how many records it read and wrote.
async fn until_done(client: &Client, name: &JobName, bar: &ProgressBar) -> Result<(u64, u64)> {
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let job = call(client, DescribeJob { name: name.clone() }).await?;
        if let Some(error) =
            job.partitions.iter().find_map(|partition| partition.last_error.clone())
        {
            return Err(Failure::new(format!("the filter failed: {error}")));
        }
        let sum = |of: fn(&JobPartition) -> u64| job.partitions.iter().map(of).sum();
        let records_in = sum(|partition| partition.records_in);
        bar.set_position(records_in);
        if !job.partitions.is_empty() && job.partitions.iter().all(|partition| partition.lag == 0) {
            return Ok((records_in, sum(|partition| partition.records_out)));
        }
    }
}

impl Rows for Document {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("module", self.module.to_string())];
        if let Some(fetch) = &self.fetch {
            rows.push(("read records/s", whole(fetch.plain_records_per_second)));
            rows.push(("examined records/s", whole(fetch.filtered_records_per_second)));
            rows.push(("ratio", format!("{:.3}", fetch.ratio)));
            rows.push(("examined", format::thousands(fetch.examined)));
            rows.push(("kept", format::thousands(fetch.kept)));
        }
        if let Some(job) = &self.job {
            rows.push(("job records in", format::thousands(job.records_in)));
            rows.push(("job records out", format::thousands(job.records_out)));
            rows.push(("job seconds", format!("{:.3}", job.seconds)));
            rows.push(("job records in/s", whole(job.records_in_per_second)));
        }
        rows
    }
}
