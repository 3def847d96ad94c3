//! Control calls: one request, one answer, the stream ends.
//!
//! Invariant: every request of the table is answered, and measured under its name.

use std::sync::Arc;
use std::time::Instant;

use millstream_protocol::error::WireError;
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::{Call, Request};
use millstream_transport::{FrameWriter, StreamError};

use super::connection::Arrived;
use super::{
    allocate_producer, cluster, find_epoch_end, groups, jobs, list_offsets, modules, topics,
    transactions,
};
use crate::broker::Broker;
use crate::transactions::hanging::holds;

/// Answers one request.
pub(crate) async fn serve(
    broker: &Arc<Broker>,
    peer: Option<NodeId>,
    request: Request,
    body: Arrived,
    writer: &mut FrameWriter,
) -> Result<(), StreamError> {
    let mut answer = Answer { broker, writer, start: Instant::now() };
    match request {
        Request::CreateTopic(r) => answer.send(&r, topics::create::serve(broker, &r).await).await,
        Request::ListTopics(r) => answer.send(&r, Ok(topics::list::serve(broker))).await,
        Request::DescribeTopic(r) => {
            answer.send(&r, topics::describe::serve(broker, &r.name).await).await
        }
        Request::AlterTopic(r) => answer.send(&r, topics::alter::serve(broker, &r).await).await,
        Request::DeleteTopic(r) => answer.send(&r, topics::delete::serve(broker, &r).await).await,
        Request::FindTopic(r) => answer.send(&r, topics::find::serve(broker, &r)).await,
        Request::AllocateProducer(r) => {
            answer.send(&r, allocate_producer::serve(broker).await).await
        }
        Request::ListOffsets(r) => {
            answer.send(&r, list_offsets::serve(broker, peer, &r).await).await
        }
        Request::UploadModule(r) => {
            answer.send(&r, modules::upload::serve(broker, &r, body).await).await
        }
        Request::ListModules(r) => answer.send(&r, Ok(modules::list::serve(broker))).await,
        Request::DescribeModule(r) => {
            answer.send(&r, modules::describe::serve(broker, &r.module)).await
        }
        Request::DeleteModule(r) => answer.send(&r, modules::delete::serve(broker, &r).await).await,
        Request::DeployJob(r) => answer.send(&r, jobs::deploy::serve(broker, &r).await).await,
        Request::ListJobs(r) => answer.send(&r, Ok(jobs::list::serve(broker))).await,
        Request::DescribeJob(r) => answer.send(&r, jobs::describe::serve(broker, &r.name)).await,
        Request::SetJobState(r) => answer.send(&r, jobs::set_state::serve(broker, &r).await).await,
        Request::UpdateJob(r) => answer.send(&r, jobs::update::serve(broker, &r).await).await,
        Request::DeleteJob(r) => answer.send(&r, jobs::delete::serve(broker, &r).await).await,
        Request::JobLogs(r) => answer.send(&r, jobs::logs::serve(broker, &r)).await,
        Request::FindEpochEnd(r) => answer.send(&r, find_epoch_end::serve(broker, &r).await).await,
        Request::ClusterStatus(r) => answer.send(&r, Ok(cluster::status::serve(broker))).await,
        Request::MovePartition(r) => {
            answer.send(&r, cluster::r#move::serve(broker, &r).await).await
        }
        Request::DrainBroker(r) => answer.send(&r, cluster::drain::serve(broker, &r).await).await,
        Request::RemoveBroker(r) => answer.send(&r, cluster::remove::serve(broker, &r).await).await,
        Request::BalanceCluster(r) => {
            answer.send(&r, cluster::balance::serve(broker, &r).await).await
        }
        Request::UpgradeCluster(r) => {
            answer.send(&r, cluster::upgrade::serve(broker, r).await).await
        }
        Request::FindCoordinator(r) => answer.send(&r, groups::find::serve(broker, &r).await).await,
        Request::CommitOffsets(r) => {
            let committed = groups::offsets::commit(broker, r.clone()).await;
            answer.send(&r, committed).await
        }
        Request::FetchOffsets(r) => answer.send(&r, groups::offsets::fetch(broker, &r).await).await,
        Request::ResetOffsets(r) => answer.send(&r, groups::offsets::reset(broker, &r).await).await,
        Request::ListGroups(r) => answer.send(&r, groups::list::serve(broker, &r).await).await,
        Request::DescribeGroup(r) => {
            answer.send(&r, groups::describe::serve(broker, &r).await).await
        }
        Request::DeleteGroup(r) => answer.send(&r, groups::delete::serve(broker, &r).await).await,
        Request::FindTransactionCoordinator(r) => {
            answer.send(&r, transactions::find::serve(broker, &r).await).await
        }
        Request::InitTransactions(r) => {
            answer.send(&r, transactions::init::serve(broker, &r).await).await
        }
        Request::AddToTransaction(r) => {
            answer.send(&r, transactions::add::serve(broker, &r).await).await
        }
        Request::EndTransaction(r) => {
            answer.send(&r, transactions::end::serve(broker, &r).await).await
        }
        Request::CommitOffsetsInTransaction(r) => {
            answer.send(&r, groups::offsets::commit_in_transaction(broker, &r).await).await
        }
        Request::ListTransactions(r) => {
            answer.send(&r, transactions::list::serve(broker, &r).await).await
        }
        Request::DescribeTransaction(r) => {
            answer.send(&r, transactions::describe::serve(broker, &r).await).await
        }
        Request::AbortTransaction(r) => {
            answer.send(&r, transactions::abort::serve(broker, &r).await).await
        }
        Request::WriteMarkers(_)
        | Request::CleanedTo(_)
        | Request::HoldsTransaction(_)
        | Request::Propose(_)
        | Request::JoinCluster(_)
        | Request::PartitionStatus(_)
        | Request::ReadModule(_)
        | Request::CopyModule(_)
        | Request::ReadSnapshot(_)
        | Request::HandOver(_) => among_brokers(&mut answer, peer, request, body).await,
    }
}

/// Answers what only brokers ask.
async fn among_brokers(
    answer: &mut Answer<'_>,
    peer: Option<NodeId>,
    request: Request,
    body: Arrived,
) -> Result<(), StreamError> {
    let broker = answer.broker;
    let peer = match cluster::only_brokers(peer) {
        Ok(peer) => peer,
        Err(error) => {
            answer.writer.send(&Err::<(), _>(error), []).await?;
            return answer.writer.finish();
        }
    };
    match request {
        Request::WriteMarkers(r) => {
            answer.send(&r, transactions::write_markers::serve(broker, &r).await).await
        }
        Request::HoldsTransaction(r) => answer.send(&r, holds(broker, &r).await).await,
        Request::CleanedTo(r) => answer.send(&r, Ok(cluster::cleaned_to::serve(broker, &r))).await,
        Request::Propose(r) => {
            answer.send(&r, broker.metadata.take(body.bytes.clone()).await).await
        }
        Request::JoinCluster(r) => {
            answer.send(&r, cluster::join::serve(broker, peer, &r).await).await
        }
        Request::PartitionStatus(r) => {
            answer.send(&r, cluster::partition_status::serve(broker, &r)).await
        }
        Request::ReadModule(r) => {
            answer.send(&r, cluster::read_module::serve(broker, &r).await).await
        }
        Request::CopyModule(r) => {
            answer.send(&r, cluster::copy_module::serve(broker, peer, &r).await).await
        }
        Request::ReadSnapshot(r) => answer.send(&r, cluster::read_snapshot::serve(broker, r)).await,
        Request::HandOver(r) => answer.send(&r, cluster::hand_over::serve(broker, &r).await).await,
        _ => unreachable!("clients ask it"),
    }
}

struct Answer<'a> {
    broker: &'a Broker,
    writer: &'a mut FrameWriter,
    start: Instant,
}

impl Answer<'_> {
    async fn send<C: Call>(
        &mut self,
        _request: &C,
        result: Result<C::Response, WireError>,
    ) -> Result<(), StreamError> {
        self.broker.metrics.called(C::NAME, self.start.elapsed(), result.as_ref().err());
        self.writer.send(&result, []).await?;
        self.writer.finish()
    }
}
