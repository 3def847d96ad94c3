//! `millstream produce`: lines in, records out.
//!
//! Invariant: whatever ends it, what was sent before is flushed and the number of acknowledged records is said.

mod lines;
mod record;
mod sender;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use indicatif::ProgressBar;
use millstream_client::{Client, ProducerConfig};
use millstream_protocol::batch::Compression;
use millstream_protocol::ids::{PartitionIndex, TopicName};
use millstream_protocol::message::produce::Acks;

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::output::{self, Output, json};
use crate::parse::Pair;
use crate::progress;
use crate::signals::Stop;
use record::Keys;
use sender::{Sender, Target};

/// Write records to a topic, one for each line of a file or of stdin.
///
/// A line is taken as it is, without its newline. A line that lacks the key that was asked for ends
/// the command with an error, after what was sent before it was flushed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The topic.
    topic: TopicName,
    /// Where the lines are; stdin when not given, or when it is -.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Split each line at the first S: the key before it, the value after it.
    #[arg(
        long,
        value_name = "S",
        value_parser = clap::builder::NonEmptyStringValueParser::new(),
        conflicts_with = "key_json",
    )]
    key_separator: Option<String>,
    /// Take the key from this field of each line, a JSON object; the value is the whole line.
    #[arg(long, value_name = "FIELD")]
    key_json: Option<String>,
    /// The partition for all records, instead of one by key or in turn.
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// When a record counts as written: 0 never, 1 once appended, all once committed.
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// A header for every record; may be repeated.
    #[arg(long, value_name = "K=V")]
    header: Vec<Pair>,
    /// Leave out the first N lines, such as the heading of a CSV file.
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip_lines: u64,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum AcksArg {
    #[value(name = "0")]
    Zero,
    #[value(name = "1")]
    One,
    All,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Codec {
    None,
    Lz4,
    Zstd,
}

impl From<AcksArg> for Acks {
    fn from(acks: AcksArg) -> Self {
        match acks {
            AcksArg::Zero => Self::Zero,
            AcksArg::One => Self::One,
            AcksArg::All => Self::All,
        }
    }
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// Sends all lines and says how many records came of it.
pub(crate) fn run(args: Args, output: Output) -> Result {
    let (input, bar) = open(args.file.as_ref())?;
    let connection = args.connection.clone();
    connection.session(async |client| produce(args, client, input, bar, output).await)
}

type Input = Box<dyn Read + Send>;

fn open(file: Option<&PathBuf>) -> Result<(Input, ProgressBar)> {
    let Some(path) = file.filter(|path| path.as_os_str() != "-") else {
        return Ok((Box::new(std::io::stdin()), progress::none()));
    };
    let unreadable = |error| Failure::new(error).context(format!("cannot read {}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if about.is_dir() {
        return Err(Failure::new(format!("cannot read {}: it is a directory", path.display())));
    }
    let bar = progress::bytes("producing", about.is_file().then_some(about.len()));
    Ok((Box::new(file), bar))
}

async fn produce(
    args: Args,
    client: &Client,
    input: Input,
    bar: ProgressBar,
    output: Output,
) -> Result {
    let mut stop = Stop::listen()?;
    let config = ProducerConfig {
        acks: args.acks.into(),
        compression: args.compression.into(),
        ..ProducerConfig::default()
    };
    let keys = match (args.key_separator, args.key_json) {
        (Some(separator), _) => Keys::Separator(separator),
        (None, Some(field)) => Keys::Field(field),
        (None, None) => Keys::None,
    };
    let target = Target {
        topic: args.topic,
        partition: args.partition.map(PartitionIndex),
        headers: args.header,
        keys,
        skip_lines: args.skip_lines,
    };
    let mut sender = Sender::new(client.producer(config)?, target, bar.clone());
    let ended = tokio::select! {
        ended = sender.send_all(lines::read(input)) => ended,
        signal = stop.requested() => Err(Failure::new(format!("stopped by {signal}"))),
    };
    let summary = tokio::select! {
        summary = sender.finish(ended) => summary,
        signal = stop.requested() => {
            Err(Failure::new(format!("stopped by {signal} before all records were acknowledged")))
        }
    };
    bar.finish_and_clear();
    let summary = summary?;
    match output {
        Output::Table => {
            output::say(summary);
            Ok(())
        }
        Output::Json => output::text(&json(&summary)),
    }
}
