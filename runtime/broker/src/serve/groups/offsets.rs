//! Commit, fetch and reset a group's offsets.

use millstream_core::groups::{Ask, Response};
use millstream_protocol::error::WireError;
use millstream_protocol::message::group::{
    CommitOffsets, FetchOffsets, GroupOffsets, OffsetsCommitted, ResetOffsets,
};
use millstream_protocol::message::transaction::CommitOffsetsInTransaction;

use crate::broker::Broker;

pub(crate) async fn commit(
    broker: &Broker,
    request: CommitOffsets,
) -> Result<OffsetsCommitted, WireError> {
    let group = request.group.clone();
    match broker.groups.ask(&group, Ask::Commit(request)).await? {
        Response::Committed(refused) => Ok(OffsetsCommitted { refused }),
        other => unreachable!("a commit is not answered with {other:?}"),
    }
}

pub(crate) async fn commit_in_transaction(
    broker: &Broker,
    request: &CommitOffsetsInTransaction,
) -> Result<OffsetsCommitted, WireError> {
    let ask = Ask::CommitInTransaction(request.clone());
    match broker.groups.ask(&request.commit.group, ask).await? {
        Response::Committed(refused) => Ok(OffsetsCommitted { refused }),
        other => unreachable!("a commit is not answered with {other:?}"),
    }
}

pub(crate) async fn fetch(
    broker: &Broker,
    FetchOffsets { group, partitions }: &FetchOffsets,
) -> Result<GroupOffsets, WireError> {
    let ask = Ask::Fetch { group: group.clone(), partitions: partitions.clone() };
    match broker.groups.ask(group, ask).await? {
        Response::Offsets(offsets) => Ok(GroupOffsets { offsets }),
        other => unreachable!("offsets are not answered with {other:?}"),
    }
}

pub(crate) async fn reset(broker: &Broker, request: &ResetOffsets) -> Result<(), WireError> {
    broker.groups.ask(&request.group, Ask::Reset(request.clone())).await.map(drop)
}
