//! The range: asked for once, before a run begins.
//!
//! Invariant: what a run is to read is all there when it begins, and is named by offsets alone.

use std::collections::BTreeMap;

use millstream_client::Client;
use millstream_protocol::message::offsets::OffsetSpec;

use super::history::History;
use crate::error::EtlError;
use crate::journal::{Begin, PartitionRange};
use crate::spec::range::{Bound, RangeSpec};
use crate::spec::run::RunSpec;

/// What can be done when records are gone that were to be read.
pub(super) const AFTER_A_GAP: &str =
    "to go on without them, run into another directory with a range that begins later";

/// Offsets of partitions.
type Offsets = BTreeMap<u32, u64>;

/// Asks where the partitions begin and end now, and makes a range of it.
pub(super) async fn plan(
    client: &Client,
    spec: &RunSpec,
    history: &History,
    run: u64,
) -> Result<Begin, EtlError> {
    let topic = spec.topic.as_str();
    let topic_id = client.admin().describe_topic(topic).await?.id.to_string();
    let earliest = offsets(client, topic, OffsetSpec::Earliest).await?;
    let latest = offsets(client, topic, OffsetSpec::Latest).await?;
    let (from, to, epochs) = match &spec.range {
        RangeSpec::Between { from, to } => {
            let from = resolve(client, topic, from, &earliest, &latest).await?;
            (from, resolve(client, topic, to, &earliest, &latest).await?, BTreeMap::new())
        }
        RangeSpec::SinceLastRun => {
            if let Some(last) = history.last_done() {
                is_the_same_topic(&last.begin, topic, &topic_id)?;
            }
            let since = history.since();
            let from = earliest.iter().map(|(partition, earliest)| {
                (*partition, since.get(partition).map_or(*earliest, |(offset, _)| *offset))
            });
            let epochs = since.iter().filter_map(|(of, (_, epoch))| Some((*of, (*epoch)?)));
            (from.collect(), latest.clone(), epochs.collect())
        }
    };
    let wanted = spec.partitions.clone().unwrap_or_else(|| latest.keys().copied().collect());
    let mut ranges = Vec::with_capacity(wanted.len());
    for partition in wanted {
        let refuse = |problem: String| refusal(topic, partition, problem);
        let Some((&earliest, &latest)) = earliest.get(&partition).zip(latest.get(&partition))
        else {
            return Err(refuse("the topic does not have it".to_owned()));
        };
        // An offset for each partition was given, and none for this one.
        let (Some(&from), Some(&to)) = (from.get(&partition), to.get(&partition)) else {
            return Err(refuse("the range names other partitions, and not this one".to_owned()));
        };
        check_range(from, to, earliest, latest).map_err(refuse)?;
        ranges.push(PartitionRange { partition, from, to, epoch: epochs.get(&partition).copied() });
    }
    ranges.sort_by_key(|range| range.partition);
    ranges.dedup();
    let (at, spec) = (super::now(), spec.fingerprint());
    Ok(Begin { run, at, topic: topic.to_owned(), topic_id, spec, ranges })
}

/// Makes sure that what is left of a run that was begun earlier can still be read.
pub(super) async fn check(
    client: &Client,
    begin: &Begin,
    history: &History,
) -> Result<(), EtlError> {
    let topic_id = client.admin().describe_topic(&begin.topic).await?.id.to_string();
    is_the_same_topic(begin, &begin.topic, &topic_id)?;
    let earliest = offsets(client, &begin.topic, OffsetSpec::Earliest).await?;
    for place in history.places(begin) {
        let earliest = earliest.get(&place.partition).copied().unwrap_or_default();
        if place.from < earliest {
            let problem = gone(place.from, earliest);
            return Err(refusal(&begin.topic, place.partition, problem));
        }
    }
    Ok(())
}

/// Refuses a range that cannot be read whole, now.
fn check_range(from: u64, to: u64, earliest: u64, latest: u64) -> Result<(), String> {
    if to < from {
        return Err(format!("the range ends at offset {to}, before it begins, at {from}"));
    }
    if latest < to {
        return Err(format!(
            "the range ends at offset {to}, and {latest} is the end of what is committed: wait for \
             more, or write to = \"latest\""
        ));
    }
    if from < earliest && from < to {
        return Err(gone(from, earliest));
    }
    Ok(())
}

fn gone(from: u64, earliest: u64) -> String {
    format!(
        "records from offset {from} to {earliest} are deleted already, by retention; {AFTER_A_GAP}"
    )
}

fn refusal(topic: &str, partition: u32, problem: String) -> EtlError {
    EtlError::Range { topic: topic.to_owned(), partition, problem }
}

fn is_the_same_topic(begin: &Begin, topic: &str, topic_id: &str) -> Result<(), EtlError> {
    let Begin { run, topic: was, topic_id: was_id, .. } = begin;
    if (topic, topic_id) == (was.as_str(), was_id.as_str()) {
        return Ok(());
    }
    let problem = format!(
        "run {run} in the directory read topic {was} (id {was_id}), and this is another (id {topic_id}): \
         choose another directory"
    );
    Err(EtlError::Range { topic: topic.to_owned(), partition: 0, problem })
}

async fn resolve(
    client: &Client,
    topic: &str,
    bound: &Bound,
    earliest: &Offsets,
    latest: &Offsets,
) -> Result<Offsets, EtlError> {
    Ok(match bound {
        Bound::Earliest => earliest.clone(),
        Bound::Latest => latest.clone(),
        Bound::Time(time) => {
            let mut found = offsets(client, topic, OffsetSpec::Timestamp(*time)).await?;
            // The end that is meant is the one that was asked for first.
            for (partition, offset) in &mut found {
                *offset = (*offset).min(latest.get(partition).copied().unwrap_or(*offset));
            }
            found
        }
        Bound::Offset(offset) => latest.keys().map(|partition| (*partition, *offset)).collect(),
        Bound::Each(each) => each.clone(),
    })
}

async fn offsets(client: &Client, topic: &str, at: OffsetSpec) -> Result<Offsets, EtlError> {
    let all = client.admin().list_offsets(topic, None, at).await?;
    Ok(all.into_iter().map(|one| (one.partition.get(), one.offset.get())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_cannot_be_read_whole_is_refused() {
        assert_eq!(check_range(3, 9, 3, 9), Ok(()));
        assert_eq!(check_range(2, 2, 3, 9), Ok(()), "nothing of it is gone");
        assert!(check_range(2, 9, 3, 9).unwrap_err().contains("from offset 2 to 3 are deleted"));
        assert!(check_range(3, 10, 3, 9).unwrap_err().contains("9 is the end"));
        assert!(check_range(5, 4, 3, 9).unwrap_err().contains("before it begins"));
    }
}
