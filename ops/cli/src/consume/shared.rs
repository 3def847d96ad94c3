//! `millstream consume --group`: records that the members of a group share, printed and then committed.
//!
//! Invariant: what is committed was printed, and the system has it: a record is printed at least once by some member,
//! and twice only when a member ends between the two.

use std::time::Duration;

use millstream_client::{Client, CommitError, GroupConfig, GroupConsumer};

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
        ..GroupConfig::new(group, [args.topic.as_str()])
    };
    let consumer = client.group_consumer(config)?;
    let ended = tokio::select! {
        ended = print_all(&consumer, printer) => ended,
        _ = stop.requested() => Ok(()),
    };
    let printed = match ended {
        Ok(()) => flush(&consumer, printer).await,
        failed => failed,
    };
    let left = consumer.close().await.map_err(uncommitted);
    printed.and(left)
}

async fn print_all(consumer: &GroupConsumer, printer: &mut Printer) -> Result {
    while printer.left > 0 {
        let fetched = match tokio::time::timeout(PAUSE, consumer.next()).await {
            Ok(fetched) => fetched?,
            Err(_) => {
                flush(consumer, printer).await?;
                consumer.next().await?
            }
        };
        let upto = printer.print(&fetched, None)?;
        if upto < fetched.next_offset() {
            // The limit was reached within: the rest comes again.
            printer.stdout.written().await?;
            let partition = fetched.partition();
            let committed = consumer.commit_up_to(fetched.topic().as_str(), partition, upto).await;
            return committed.map_err(uncommitted);
        }
        if printer.stdout.is_full() {
            flush(consumer, printer).await?;
        }
    }
    Ok(())
}

async fn flush(consumer: &GroupConsumer, printer: &mut Printer) -> Result {
    printer.stdout.written().await?;
    match consumer.commit().await {
        // Others print it again: that is at least once.
        Err(CommitError::Fenced(error)) => {
            tracing::warn!(%error, "what was printed last may be printed by another member again");
            Ok(())
        }
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
