//! `millstream consume --group`: records that the members of a group share, printed and then committed.
//!
//! Invariant: what is committed was printed, and the system has it: a record is printed at least once by some member,
//! and twice only when a member ends between the two.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_client::{Client, CommitError, CommitMode, GroupConfig, GroupConsumer};
use millstream_protocol::ids::{Offset, PartitionIndex, TopicName};

use super::{Args, Printer, start_at};
use crate::failure::{Failure, Result};
use crate::signals::Stop;

/// When nothing has come for so long, what was printed is flushed and committed.
const PAUSE: Duration = Duration::from_millis(50);

/// Prints records as a member of the group until the limit or a signal.
pub(super) async fn run(
    args: &Args,
    group: &str,
    client: &Client,
    printer: &mut Printer,
    stop: &mut Stop,
) -> Result {
    let config = GroupConfig {
        start: start_at(args.from),
        instance: args.instance.as_ref().map(ToString::to_string),
        consumer: super::config(args)?,
        // Not all that is handed out is printed when there is a limit.
        commit: CommitMode::Manual,
        ..GroupConfig::new(group, [args.topic.as_str()])
    };
    let consumer = client.group_consumer(config)?;
    let mut printed = Printed::default();
    let ended = tokio::select! {
        ended = print_all(&consumer, printer, &mut printed) => ended,
        _ = stop.requested() => Ok(()),
    };
    let printed = match ended {
        Ok(()) => commit_printed(&consumer, printer, printed).await,
        failed => failed,
    };
    let left = consumer.close().await.map_err(uncommitted);
    printed.and(left)
}

/// Up to where each partition was printed since the last flush: with a limit, not all that was handed out is.
type Printed = BTreeMap<(TopicName, PartitionIndex), Offset>;

async fn print_all(
    consumer: &GroupConsumer,
    printer: &mut Printer,
    printed: &mut Printed,
) -> Result {
    while printer.left > 0 {
        let fetched = match tokio::time::timeout(PAUSE, consumer.next()).await {
            Ok(fetched) => fetched?,
            Err(_) => {
                flush(consumer, printer).await?;
                printed.clear();
                consumer.next().await?
            }
        };
        let upto = printer.print(&fetched, None)?;
        printed.insert((fetched.topic().clone(), fetched.partition()), upto);
        if printer.left > 0 && printer.stdout.is_full() {
            flush(consumer, printer).await?;
            printed.clear();
        }
    }
    Ok(())
}

/// Commits what was printed, and nothing of what was handed out beyond it.
async fn commit_printed(
    consumer: &GroupConsumer,
    printer: &mut Printer,
    printed: Printed,
) -> Result {
    printer.stdout.written().await?;
    for ((topic, partition), upto) in printed {
        let committed = consumer.commit_up_to(topic.as_str(), partition, upto).await;
        again_elsewhere(committed)?;
    }
    Ok(())
}

async fn flush(consumer: &GroupConsumer, printer: &mut Printer) -> Result {
    printer.stdout.written().await?;
    again_elsewhere(consumer.commit().await)
}

fn again_elsewhere(committed: std::result::Result<(), CommitError>) -> Result {
    match committed {
        // Others print it again: that is at least once.
        Err(CommitError::Fenced(error)) => {
            tracing::warn!(%error, "what was printed last may be printed by another member again");
            Ok(())
        }
        Err(CommitError::NotOwned { .. }) => Ok(()),
        Err(CommitError::Refused { error, .. }) => {
            tracing::warn!(%error, "what was printed last may be printed by another member again");
            Ok(())
        }
        committed => committed.map_err(uncommitted),
    }
}

fn uncommitted(error: CommitError) -> Failure {
    match error {
        CommitError::Client(error) => error.into(),
        error => Failure::new(error),
    }
}
