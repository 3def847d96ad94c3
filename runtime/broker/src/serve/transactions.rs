//! Requests about transactions, a file each.

pub(super) mod abort;
pub(super) mod add;
pub(super) mod describe;
pub(super) mod end;
pub(super) mod find;
pub(super) mod init;
pub(super) mod list;
pub(super) mod write_markers;

use millstream_core::transactions::Response;
use millstream_protocol::error::WireError;
use millstream_protocol::message::produce::ProducerIdentity;

fn identity(answer: Result<Response, WireError>) -> Result<ProducerIdentity, WireError> {
    answer.map(|response| match response {
        Response::Identity(identity) => identity,
        Response::Done => unreachable!("it is answered with an identity"),
    })
}
