//! Control calls: one request, one answer, the stream ends.
//!
//! Invariant: every request of the table is answered, and measured under its name.

use std::sync::Arc;
use std::time::Instant;

use millstream_protocol::error::WireError;
use millstream_protocol::message::{Call, Request};
use millstream_transport::{FrameWriter, StreamError};

use super::connection::Arrived;
use super::{
    allocate_producer, cluster_status, find_epoch_end, jobs, list_offsets, modules, topics,
};
use crate::broker::Broker;

/// Answers one request.
pub(crate) async fn serve(
    broker: &Arc<Broker>,
    request: Request,
    body: Arrived,
    writer: &mut FrameWriter,
) -> Result<(), StreamError> {
    let mut answer = Answer { broker, writer, start: Instant::now() };
    match request {
        Request::CreateTopic(r) => answer.send(&r, topics::create::serve(broker, &r).await).await,
        Request::ListTopics(r) => answer.send(&r, Ok(topics::list::serve(broker))).await,
        Request::DescribeTopic(r) => {
            answer.send(&r, topics::describe::serve(broker, &r.name)).await
        }
        Request::AlterTopic(r) => answer.send(&r, topics::alter::serve(broker, &r).await).await,
        Request::DeleteTopic(r) => answer.send(&r, topics::delete::serve(broker, &r).await).await,
        Request::FindTopic(r) => answer.send(&r, topics::find::serve(broker, &r)).await,
        Request::AllocateProducer(r) => {
            answer.send(&r, allocate_producer::serve(broker).await).await
        }
        Request::ListOffsets(r) => answer.send(&r, list_offsets::serve(broker, &r)).await,
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
        Request::ClusterStatus(r) => answer.send(&r, Ok(cluster_status::serve(broker))).await,
        Request::FindEpochEnd(r) => answer.send(&r, find_epoch_end::serve(broker, &r).await).await,
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
