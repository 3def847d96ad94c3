//! `millstream consume`: records out, lines on stdout.
//!
//! Invariant: with `--until-end` exactly the records that were committed when it started are printed, and none twice.

mod render;
mod shared;
mod until;

use std::io::IsTerminal;

use millstream_client::{Client, Consumer, ConsumerConfig, Fetched, Isolation, StartAt};
use millstream_protocol::ids::{
    GroupName, InstanceName, ModuleRef, Offset, PartitionIndex, TopicName,
};
use millstream_protocol::message::fetch::FetchFilter;

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::parse::{Pair, Place, collect};
use crate::signals::Stop;
use crate::stdout::Stdout;
use render::{Format, From};
use until::Until;

/// Print a topic's records, one a line, from all its partitions.
///
/// Waits for more at the end, until interrupted. Records of one partition come in their order.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The topic.
    topic: TopicName,
    /// Where to start: earliest, latest, an offset, a time such as 2014-01-31T12:00:00Z, or
    /// milliseconds since 1970 such as @1391169600000.
    #[arg(long, value_name = "PLACE", default_value = "earliest")]
    from: Place,
    /// Share the records with all others that name this group; where it has been before, it goes on.
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["partition", "until_end"])]
    group: Option<GroupName>,
    /// A name that this member of the group keeps from one life to the next: its partitions wait for it.
    #[arg(long, value_name = "NAME", requires = "group")]
    instance: Option<InstanceName>,
    /// One partition instead of all.
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    max_records: Option<u64>,
    /// Stop at the end, as it is now.
    #[arg(long)]
    until_end: bool,
    /// A module that decides on the broker what is printed, such as late@2.
    #[arg(long, value_name = "NAME@V")]
    filter: Option<ModuleRef>,
    /// A parameter for the filter; may be repeated.
    #[arg(long, value_name = "K=V", requires = "filter")]
    filter_param: Vec<Pair>,
    /// Show records as soon as they are replicated, also of transactions that are open or aborted.
    #[arg(long)]
    read_uncommitted: bool,
    /// How a record is printed [default: value, or json with --output json].
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    connection: Connection,
}

/// Prints records until the end, the limit, or a signal.
pub(crate) fn run(args: Args, output: Output) -> Result {
    let connection = args.connection.clone();
    connection.session(async |client| consume(args, client, output).await)
}

async fn consume(args: Args, client: &Client, output: Output) -> Result {
    let mut stop = Stop::listen()?;
    let mut printer = Printer {
        topic: args.topic.clone(),
        format: args.format.unwrap_or(match output {
            Output::Table => Format::Value,
            Output::Json => Format::Json,
        }),
        left: args.max_records.unwrap_or(u64::MAX),
        stdout: Stdout::new(),
    };
    if let Some(group) = &args.group {
        let ended = shared::run(&args, group.as_str(), client, &mut printer, &mut stop).await;
        return ended.and(printer.stdout.finish().await);
    }
    let consumer = client.consumer(config(&args)?)?;
    let partition = args.partition.map(PartitionIndex);
    let mut until = if args.until_end {
        Until::end_of(client, &args.topic, partition).await?
    } else {
        Until::stopped()
    };
    assign(&consumer, &args.topic, partition, args.from).await?;
    until.begin(&consumer, &args.topic, args.from)?;
    let ended = tokio::select! {
        ended = printer.print_all(&consumer, &mut until) => ended,
        _ = stop.requested() => Ok(()),
    };
    until.finish();
    // What was read before an error is printed before the error is told.
    let printed = printer.stdout.finish().await;
    consumer.close().await;
    ended.and(printed)
}

async fn assign(
    consumer: &Consumer,
    topic: &TopicName,
    partition: Option<PartitionIndex>,
    from: Place,
) -> Result {
    let at = start_at(from);
    match partition {
        Some(partition) => consumer.assign(topic.as_str(), partition, at).await?,
        None => drop(consumer.assign_all(topic.as_str(), at).await?),
    }
    Ok(())
}

fn config(args: &Args) -> Result<ConsumerConfig> {
    let params = collect(args.filter_param.clone(), "--filter-param")?;
    let filter = args.filter.clone().map(|module| FetchFilter { module, params });
    let isolation = match args.read_uncommitted {
        true => Isolation::ReadUncommitted,
        false => Isolation::ReadCommitted,
    };
    Ok(ConsumerConfig { filter, isolation, ..ConsumerConfig::default() })
}

const fn start_at(from: Place) -> StartAt {
    match from {
        Place::Earliest => StartAt::Earliest,
        Place::Latest => StartAt::Latest,
        Place::Offset(offset) => StartAt::Offset(offset),
        Place::Time(time) => StartAt::Timestamp(time),
    }
}

struct Printer {
    topic: TopicName,
    format: Format,
    /// Records that may still be printed.
    left: u64,
    stdout: Stdout,
}

impl Printer {
    async fn print_all(&mut self, consumer: &Consumer, until: &mut Until) -> Result {
        while !until.is_reached() && self.left > 0 {
            let fetched = match consumer.try_next()? {
                Some(fetched) => fetched,
                None => {
                    // Nothing has arrived: whoever reads should not wait for a full piece.
                    self.stdout.flush().await?;
                    consumer.next().await?
                }
            };
            self.print(&fetched, until.end(fetched.partition()))?;
            until.advance(consumer, &fetched)?;
            if self.stdout.is_full() {
                self.stdout.flush().await?;
            }
        }
        Ok(())
    }

    /// Prints what is wanted of a batch. Returns the first offset that is not.
    fn print(&mut self, fetched: &Fetched, end: Option<Offset>) -> Result<Offset> {
        for record in fetched {
            let record = record?;
            if self.left == 0 || end.is_some_and(|end| end <= record.offset) {
                return Ok(record.offset);
            }
            let from = From { topic: self.topic.as_str(), partition: fetched.partition() };
            let written = self.format.write(self.stdout.buffer(), from, &record);
            written.map_err(|fault| {
                let (offset, partition) = (record.offset, fetched.partition());
                Failure::new(format!("record {offset} of partition {partition}: {fault}"))
                    .or_hint("--format value prints it without its headers")
            })?;
            self.left -= 1;
        }
        Ok(fetched.next_offset())
    }
}

/// Whether a bar would not stand among the records.
fn may_draw() -> bool {
    !std::io::stdout().is_terminal()
}
