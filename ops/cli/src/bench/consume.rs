//! `millstream bench consume`: a topic from its start to its end, with one consumer.
//!
//! Invariant: every record is decoded and every byte of its value is read, into a digest that `bench produce`
//! printed too.

use millstream_client::{Client, ConsumerConfig, StartAt};
use millstream_protocol::ids::{ModuleRef, TopicName};
use millstream_protocol::message::fetch::FetchFilter;
use serde::Serialize;

use super::arguments::Watched;
use super::payload::digest;
use super::report::{Rows, Throughput, Told};
use super::spent::{Meter, Spent};
use super::topic;
use crate::failure::{Failure, Result};
use crate::output::{Output, print};
use crate::parse::{Pair, collect};
use crate::{format, progress};

/// Read a topic from its start to its end, as fast as possible.
///
/// Every record is decoded and every byte of its value read. With --filter the rates count the records that the
/// filter looked at.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The topic.
    topic: TopicName,
    /// A module that decides on the broker what is read, such as late@2.
    #[arg(long, value_name = "NAME@V")]
    filter: Option<ModuleRef>,
    /// A parameter for the filter; may be repeated.
    #[arg(long, value_name = "K=V", requires = "filter")]
    filter_param: Vec<Pair>,
    #[command(flatten)]
    watched: Watched,
}

#[derive(Serialize)]
struct Document {
    topic: TopicName,
    #[serde(flatten)]
    throughput: Throughput,
    read: Read,
}

/// What came of reading a topic.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Read {
    /// Records that a filter looked at, or that were read when there was none.
    pub(super) examined: u64,
    /// Records that arrived here.
    pub(super) records: u64,
    /// Bytes of their values.
    pub(super) value_bytes: u64,
    #[serde(serialize_with = "hex")]
    digest: u64,
    /// What it took.
    #[serde(skip)]
    pub(super) spent: Spent,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn hex<S: serde::Serializer>(digest: &u64, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{digest:016x}"))
}

impl Read {
    /// The rates: of what was examined, and of the values that arrived.
    pub(super) fn throughput(&self) -> Throughput {
        let mut throughput = Throughput::new(self.records, self.value_bytes, self.spent);
        throughput.records_per_second = self.examined as f64 / self.spent.seconds;
        throughput
    }
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let params = collect(args.filter_param, "--filter-param")?;
    let filter = args.filter.map(|module| FetchFilter { module, params });
    let read = read_all(client, &args.topic, filter, &args.watched.broker_pid).await?;
    let document = Document { topic: args.topic, throughput: read.throughput(), read };
    print(&Told(document), output)
}

/// Reads everything that is committed now.
pub(super) async fn read_all(
    client: &Client,
    topic: &TopicName,
    filter: Option<FetchFilter>,
    brokers: &[u32],
) -> Result<Read> {
    let mut ends = topic::ends(client, topic).await?;
    let starts = topic::starts(client, topic).await?;
    let expected = topic::distance(&starts, &ends);
    ends.retain(|partition, end| starts.get(partition).is_none_or(|start| start < end));
    if ends.is_empty() {
        return Err(Failure::new(format!("{topic} is empty"))
            .or_hint(format!("`millstream bench produce {topic}` fills it")));
    }
    let filtered = filter.is_some();
    let consumer = client.consumer(ConsumerConfig { filter, ..ConsumerConfig::default() })?;
    let (mut examined, mut records, mut value_bytes, mut sum) = (0, 0, 0, 0_u64);

    let bar = progress::records("reading", expected);
    let meter = Meter::start(brokers)?;
    consumer.assign_all(topic.as_str(), StartAt::Earliest).await?;
    while !ends.is_empty() {
        let fetched = consumer.next().await?;
        examined += fetched.examined();
        for record in &fetched {
            let value = record?.value.unwrap_or_default();
            records += 1;
            value_bytes += value.len() as u64;
            sum = sum.wrapping_add(digest(value));
        }
        bar.set_position(examined.max(records));
        let partition = fetched.partition();
        if ends.get(&partition).is_some_and(|end| *end <= fetched.next_offset()) {
            ends.remove(&partition);
        }
    }
    let spent = meter.stop()?;
    bar.finish_and_clear();

    consumer.close().await;
    if !filtered {
        examined = records;
    }
    // What a new leader wrote is read by nobody.
    if examined + topic::epochs(client, topic).await? < expected {
        let text = format!("{topic} has {expected} records, but {examined} were read");
        return Err(Failure::new(text));
    }
    Ok(Read { examined, records, value_bytes, digest: sum, spent })
}

impl Rows for Document {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = self.throughput.rows();
        if self.read.examined != self.read.records {
            rows.insert(1, ("examined", format::thousands(self.read.examined)));
        }
        rows.push(("digest", format!("{:016x}", self.read.digest)));
        rows
    }
}
