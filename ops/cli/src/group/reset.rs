//! `millstream group reset`: the only thing that takes a group back, or past what it has not read.
//!
//! Invariant: nothing is set beyond what the log holds, and a dry run sets nothing.

use std::path::PathBuf;

use millstream_client::{Client, ClientError};
use millstream_protocol::error::ErrorCode;
use millstream_protocol::ids::{GroupName, Offset, PartitionIndex, TopicName, TopicPartition};
use millstream_protocol::message::offsets::OffsetSpec;
use millstream_protocol::message::topic::FindTopic;
use serde::Serialize;

use super::places::find;
use crate::connection::call;
use crate::failure::{Failure, Result};
use crate::names::Names;
use crate::output::{Output, Report, columns, print};
use crate::parse::Place;

/// Set where a group goes on, in every partition that it has read or in those that are named.
///
/// The group must have no members. Places beyond what a partition holds become its end or its beginning.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["to", "shift", "file"]))]
pub(super) struct Args {
    /// The group.
    name: GroupName,
    /// Where to go: earliest, latest, an offset, a time such as 2014-01-31T12:00:00Z, or milliseconds since 1970 such
    /// as @1391169600000.
    #[arg(long, value_name = "PLACE")]
    to: Option<Place>,
    /// By so many records from where it is, back if negative.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift: Option<i64>,
    /// Where a file says: lines of topic,partition,offset.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topic", "partition"])]
    file: Option<PathBuf>,
    /// A topic; may be repeated. Without, all that the group has read.
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<TopicName>,
    /// One partition of the topic instead of all.
    #[arg(long, value_name = "N", requires = "topic")]
    partition: Option<u32>,
    /// Say what would be set, and set nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let names = Names::of_topics(client).await?;
    let known = known(client, &args.name).await?;
    let mut moves = Vec::new();
    for (of, wanted) in wanted(&args, client, &names, &known).await? {
        let topic = names.get(of.topic).ok_or_else(|| gone(of))?;
        let from = known.iter().find(|(known, _)| *known == of).map(|(_, offset)| *offset);
        let to = place(client, (topic, of.partition), from, wanted).await?;
        moves.push(Move { of, topic: topic.clone(), from, to });
    }
    if moves.is_empty() {
        let text = format!("group {} has read nothing: name the topics", args.name);
        return Err(Failure::new(text).or_hint("--topic TOPIC"));
    }
    if !args.dry_run {
        let offsets = moves.iter().map(|m| (m.of, m.to)).collect();
        client.admin().reset_group(args.name.as_str(), offsets).await?;
    }
    let report = Moves { group: args.name.to_string(), dry_run: args.dry_run, moves };
    print(&report, output)
}

type Known = Vec<(TopicPartition, Offset)>;

/// What the group has committed; nothing if it is new.
async fn known(client: &Client, group: &GroupName) -> Result<Known> {
    match client.admin().group_offsets(group.as_str()).await {
        Ok(offsets) => Ok(offsets.into_iter().map(|o| (o.partition, o.committed.offset)).collect()),
        Err(ClientError::Refused(error)) if error.code == ErrorCode::UnknownGroup => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

#[derive(Clone, Copy)]
enum Wanted {
    Place(Place),
    Shift(i64),
}

async fn wanted(
    args: &Args,
    client: &Client,
    names: &Names,
    known: &Known,
) -> Result<Vec<(TopicPartition, Wanted)>> {
    if let Some(file) = &args.file {
        return from_file(file, names);
    }
    let wanted = match (args.to, args.shift) {
        (Some(place), _) => Wanted::Place(place),
        (None, Some(by)) => Wanted::Shift(by),
        (None, None) => return Err(Failure::usage("say --to, --shift or --file")),
    };
    if args.topic.is_empty() {
        return Ok(known.iter().map(|(of, _)| (*of, wanted)).collect());
    }
    let mut all = Vec::new();
    for name in &args.topic {
        let topic = call(client, FindTopic { name: name.clone() }).await?;
        let count = u32::try_from(topic.leaders.len()).unwrap_or(u32::MAX);
        let some = args.partition.map_or(0..count, |n| n..n.saturating_add(1));
        all.extend(
            some.map(|n| {
                (TopicPartition { topic: topic.id, partition: PartitionIndex(n) }, wanted)
            }),
        );
    }
    Ok(all)
}

fn from_file(file: &std::path::Path, names: &Names) -> Result<Vec<(TopicPartition, Wanted)>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let wrong = |what: &str| {
                let text = format!("{} line {number}: {what}", file.display());
                Failure::new(text).or_hint("lines of topic,partition,offset")
            };
            let mut fields = line.split(',').map(str::trim);
            let (Some(topic), Some(partition), Some(offset), None) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                return Err(wrong("not three fields"));
            };
            let name: TopicName = topic.parse().map_err(|_| wrong("no name of a topic"))?;
            let topic =
                names.id(&name).ok_or_else(|| wrong(&format!("there is no topic {name}")))?;
            let partition = partition.parse().map_err(|_| wrong("the partition is no number"))?;
            let offset = offset.parse().map_err(|_| wrong("the offset is no number"))?;
            let of = TopicPartition { topic, partition: PartitionIndex(partition) };
            Ok((of, Wanted::Place(Place::Offset(Offset(offset)))))
        })
        .collect()
}

/// The offset that is meant, within what the partition holds.
async fn place(
    client: &Client,
    (topic, partition): (&TopicName, PartitionIndex),
    from: Option<Offset>,
    wanted: Wanted,
) -> Result<Offset> {
    let at = async |spec| Ok::<_, Failure>(find(client, topic, partition, spec).await?.0);
    let (earliest, latest) = (at(OffsetSpec::Earliest).await?, at(OffsetSpec::Latest).await?);
    let wanted = match wanted {
        Wanted::Place(Place::Earliest) => earliest,
        Wanted::Place(Place::Latest) => latest,
        Wanted::Place(Place::Offset(offset)) => offset,
        Wanted::Place(Place::Time(time)) => at(OffsetSpec::Timestamp(time)).await?,
        Wanted::Shift(by) => {
            let from = from.ok_or_else(|| {
                let text =
                    format!("partition {partition} of {topic} was not read: nothing to shift from");
                Failure::new(text).or_hint("--to PLACE")
            })?;
            Offset(from.get().saturating_add_signed(by))
        }
    };
    Ok(wanted.clamp(earliest, latest))
}

fn gone(of: TopicPartition) -> Failure {
    Failure::new(format!("the topic of partition {of} was deleted"))
}

#[derive(Serialize)]
struct Moves {
    group: String,
    dry_run: bool,
    moves: Vec<Move>,
}

struct Move {
    of: TopicPartition,
    topic: TopicName,
    from: Option<Offset>,
    to: Offset,
}

impl Serialize for Move {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            topic: &'a str,
            partition: u32,
            from: Option<u64>,
            to: u64,
        }
        let shown = Shown {
            topic: self.topic.as_str(),
            partition: self.of.partition.get(),
            from: self.from.map(Offset::get),
            to: self.to.get(),
        };
        shown.serialize(serializer)
    }
}

impl Report for Moves {
    fn table(&self) -> String {
        let rows = columns(
            &["TOPIC", "PARTITION", "FROM", "TO"],
            &["PARTITION", "FROM", "TO"],
            self.moves.iter().map(|m| {
                let from = m.from.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
                [m.topic.to_string(), m.of.partition.to_string(), from, m.to.to_string()]
            }),
        );
        if self.dry_run { format!("{rows}dry run: nothing was set\n") } else { rows }
    }
}
