//! A position and a leader's log that do not meet: retention has passed the position, the leader is
//! behind, or the records before the position were replaced.
//!
//! Invariant: a leader that is behind is waited for and never taken for the log's end; where records
//! were replaced the program is told, with where, and its position stays.

use std::sync::Arc;

use millstream_protocol::error::WireError;
use millstream_protocol::ids::{LeaderEpoch, Offset};
use millstream_protocol::message::offsets::{FindEpochEnd, OffsetSpec};

use super::config::{OutOfRange, StartAt};
use super::driver::Trouble;
use super::history::{History, Met};
use super::shared::{Shared, Slot};
use crate::error::{ClientError, ConsumeError};
use crate::finder::is_unknown;

/// The leader does not have the position: moves to where the configuration says, or says why not.
pub(super) async fn out_of_range(
    shared: &Shared,
    slot: &Slot,
    error: WireError,
) -> Result<(), Trouble> {
    let (offset, known) = {
        let position = slot.position.lock();
        (position.fetch(), position.newest_epoch())
    };
    if let Some(known) = known {
        // Of a position that was once in the log a leader may only be behind.
        let earliest = shared.find(&slot.topic, slot.partition, OffsetSpec::Earliest).await?;
        if earliest.offset <= offset {
            wait_for_leader(shared, slot, known, earliest.leader_epoch).await?;
        }
    }
    as_configured(shared, slot, offset, error).await
}

/// The position lies behind what the leader knows to be committed.
async fn wait_for_leader(
    shared: &Shared,
    slot: &Slot,
    known: LeaderEpoch,
    leads_in: LeaderEpoch,
) -> Result<(), Trouble> {
    let read = slot.position.lock().epoch().is_some();
    // The leader has seen that epoch, and does not say that the record before the position was lost.
    if leads_in < known || read {
        return Err(Trouble::Lost(format!("the leader of epoch {leads_in} is behind")));
    }
    if known == leads_in {
        return Ok(());
    }
    match is_parted(shared, slot).await? {
        Some(parted) => Err(parted.into()),
        None => Err(Trouble::Lost(format!("the leader of epoch {leads_in} is still behind"))),
    }
}

async fn as_configured(
    shared: &Shared,
    slot: &Slot,
    offset: Offset,
    error: WireError,
) -> Result<(), Trouble> {
    let at = match shared.config.out_of_range {
        OutOfRange::Earliest => StartAt::Earliest,
        OutOfRange::Latest => StartAt::Latest,
        OutOfRange::Error => {
            let (topic, partition) = (slot.topic.clone(), slot.partition);
            let reason = error.message;
            let error = ConsumeError::OutOfRange { topic, partition, offset, reason };
            return Err(Trouble::Failed(error));
        }
    };
    let to = shared.resolve(&slot.topic, slot.partition, at).await?;
    tracing::warn!(
        topic = %slot.topic, partition = %slot.partition, from = %offset, to = %to.offset,
        reason = error.message, "position out of range: moved as configured"
    );
    slot.position.lock().skip(to);
    Ok(())
}

/// The leader has other records before the position. What lies here is fetched again first: perhaps
/// none of what was replaced was handed out.
pub(super) async fn truncated(shared: &Shared, slot: &Slot) -> Result<(), Trouble> {
    if slot.position.lock().rewind() {
        return Ok(());
    }
    match is_parted(shared, slot).await? {
        Some(parted) => Err(parted.into()),
        None => Err(Trouble::Lost("the leader of a newer epoch has the position".to_owned())),
    }
}

/// A leader goes on from a position of which only is known that the leader of an older epoch had it:
/// whether what was before it is still there.
pub(super) async fn is_unbroken(
    shared: &Shared,
    slot: &Arc<Slot>,
    leads_in: LeaderEpoch,
) -> Result<bool, Trouble> {
    let vouched = {
        let position = slot.position.lock();
        position.epoch().is_none().then(|| position.newest_epoch()).flatten()
    };
    if vouched.is_none_or(|vouched| leads_in <= vouched) {
        return Ok(true);
    }
    Ok(is_parted(shared, slot).await?.is_none())
}

/// Where the leader's log is another than the one that was read, if it is.
async fn is_parted(shared: &Shared, slot: &Slot) -> Result<Option<ConsumeError>, ClientError> {
    let Some((history, exact)) = slot.position.lock().lineage() else {
        return Ok(None);
    };
    let position = history.last().expect("a lineage has an end");
    let diverged_at = meet(shared, slot, &history).await?;
    let same = position.0 <= diverged_at.0 && (!exact || position.1 == diverged_at.1);
    let (topic, partition) = (slot.topic.clone(), slot.partition);
    let truncated = ConsumeError::Truncated { topic, partition, position, diverged_at };
    Ok((!same).then_some(truncated))
}

/// Asks about epoch after epoch, each older than the one before, until both logs have one.
async fn meet(
    shared: &Shared,
    slot: &Slot,
    history: &History,
) -> Result<(Offset, LeaderEpoch), ClientError> {
    let mut epoch = history.last().expect("a lineage has an end").1;
    loop {
        let (topic, partition) = (slot.topic.clone(), slot.partition);
        let found = shared.client.call(FindEpochEnd { topic, partition, epoch }).await?;
        match history.meet(found) {
            Met::At(offset, epoch) => return Ok((offset, epoch)),
            Met::Ask(older) if older < epoch => epoch = older,
            Met::Ask(_) => {
                let broker = shared.client.config().brokers.join(", ");
                let reason = format!("epoch {} ends before epoch {epoch}", found.epoch);
                return Err(ClientError::Protocol { broker, reason });
            }
        }
    }
}

impl From<ConsumeError> for Trouble {
    fn from(error: ConsumeError) -> Self {
        Self::Failed(error)
    }
}

impl From<ClientError> for Trouble {
    /// Of what passes the leader says more when it is back.
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::TopicGone(gone) => Self::Failed(gone.into()),
            ClientError::Closed => Self::Failed(ConsumeError::Closed),
            error if error.is_retriable() || is_unknown(&error) => Self::Lost(error.to_string()),
            error => Self::Failed(error.into()),
        }
    }
}
