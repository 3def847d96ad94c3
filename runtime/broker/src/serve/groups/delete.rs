//! Delete a group and its offsets.

use millstream_core::groups::Ask;
use millstream_protocol::error::WireError;
use millstream_protocol::message::group::DeleteGroup;

use crate::broker::Broker;

pub(crate) async fn serve(
    broker: &Broker,
    DeleteGroup { group }: &DeleteGroup,
) -> Result<(), WireError> {
    broker.groups.ask(group, Ask::Delete(group.clone())).await.map(drop)
}
