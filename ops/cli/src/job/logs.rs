//! `millstream job logs`: what a job's guests wrote.
//!
//! Invariant: a line is printed once and in order; lines that the broker no longer had are said to be missing.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use millstream_client::Client;
use millstream_protocol::ids::JobName;
use millstream_protocol::message::job::{JobLogLine, JobLogPage, JobLogs};
use serde::Serialize;

use crate::connection::call;
use crate::failure::Result;
use crate::format;
use crate::output::{JsonArray, Output, say};
use crate::signals::Stop;

const PAGE_LINES: u32 = 1_000;
const POLL: Duration = Duration::from_millis(500);

/// Show what a job's guests logged: their log calls, stdout and stderr.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The job.
    name: JobName,
    /// Wait for more lines until interrupted. With --output json, one document a line.
    #[arg(long, short)]
    follow: bool,
    /// Start with the last N lines instead of all that are kept.
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
}

#[derive(Serialize)]
struct Line {
    number: u64,
    time_ms: i64,
    topic: String,
    partition: u32,
    level: String,
    text: String,
}

impl From<JobLogLine> for Line {
    fn from(line: JobLogLine) -> Self {
        Self {
            number: line.number,
            time_ms: line.time.get(),
            topic: line.topic.to_string(),
            partition: line.partition.get(),
            level: line.level,
            text: line.text,
        }
    }
}

impl Line {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let time = format::timestamp(millstream_protocol::ids::Timestamp(self.time_ms));
        let (topic, partition, level) = (&self.topic, self.partition, &self.level);
        writeln!(out, "{time} {level:<6} {topic}/{partition} {}", self.text)
    }
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let mut reader = Reader { client, name: args.name, after: 0 };
    let lines = reader.kept(args.tail).await?;
    let mut out = io::stdout().lock();
    if output == Output::Json && !args.follow {
        let mut array = JsonArray::new(out);
        lines.iter().try_for_each(|line| array.push(line))?;
        return array.finish();
    }
    write(&mut out, lines.iter(), output)?;
    if args.follow { follow(&mut reader, &mut out, output).await } else { Ok(()) }
}

/// Prints what comes until a signal comes.
async fn follow(reader: &mut Reader<'_>, out: &mut impl Write, output: Output) -> Result {
    let mut stop = Stop::listen()?;
    loop {
        let page = tokio::select! {
            _ = stop.requested() => return Ok(()),
            page = reader.next() => page?,
        };
        if page.is_empty() {
            tokio::select! {
                _ = stop.requested() => return Ok(()),
                () = tokio::time::sleep(POLL) => {}
            }
        }
        write(out, page.iter(), output)?;
    }
}

fn write<'a>(
    out: &mut impl Write,
    lines: impl Iterator<Item = &'a Line>,
    output: Output,
) -> Result {
    for line in lines {
        match output {
            Output::Table => line.print(out)?,
            Output::Json => {
                serde_json::to_writer(&mut *out, line).map_err(io::Error::from)?;
                out.write_all(b"\n")?;
            }
        }
    }
    Ok(out.flush()?)
}

/// Where we are in a job's log.
struct Reader<'a> {
    client: &'a Client,
    name: JobName,
    after: u64,
}

impl Reader<'_> {
    /// Everything that is kept, or the last lines of it.
    async fn kept(&mut self, tail: Option<usize>) -> Result<VecDeque<Line>> {
        let mut lines = VecDeque::new();
        loop {
            let page = self.next().await?;
            // A short page is the last: a job that logs faster than we read must not keep us here.
            let last = page.len() < PAGE_LINES as usize;
            lines.extend(page);
            while tail.is_some_and(|tail| lines.len() > tail) {
                lines.pop_front();
            }
            if last {
                return Ok(lines);
            }
        }
    }

    /// The lines after those that were read, if there are any by now.
    async fn next(&mut self) -> Result<Vec<Line>> {
        let request = JobLogs { name: self.name.clone(), after: self.after, limit: PAGE_LINES };
        let JobLogPage { lines, dropped } = call(self.client, request).await?;
        if dropped > 0 {
            say(format_args!("{} no longer kept", format::count(dropped, "older line")));
        }
        self.after = lines.last().map_or(self.after, |line| line.number);
        Ok(lines.into_iter().map(Line::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::{PartitionIndex, Timestamp, TopicName};

    use super::*;

    #[test]
    fn a_line_for_people_and_for_programs() {
        let line = |number, level: &str, text: &str| {
            Line::from(JobLogLine {
                number,
                time: Timestamp(1_388_534_400_000),
                topic: TopicName::new("raw").expect("a name"),
                partition: PartitionIndex(2),
                level: level.to_owned(),
                text: text.to_owned(),
            })
        };
        let lines = [line(7, "warn", "no field \"ssn\""), line(8, "stdout", "hello")];
        let mut out = Vec::new();
        write(&mut out, lines.iter(), Output::Table).expect("a vector takes all");
        write(&mut out, lines.iter(), Output::Json).expect("a vector takes all");
        insta::assert_snapshot!(String::from_utf8(out).expect("text"));
    }
}
