//! Upload a module.
//!
//! Invariant: a version exists once its bytes are checked, compiled and stored by a majority of brokers, not before;
//! they count as its connection's share until they are stored here.

use millstream_core::metadata::{Command, Response};
use millstream_modules::ModuleKind as GuestKind;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::message::module::{ModuleDescription, ModuleKind, UploadModule};

use super::describe;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::serve::connection::Arrived;

pub(crate) async fn serve(
    broker: &Broker,
    request: &UploadModule,
    body: Arrived,
) -> Result<ModuleDescription, WireError> {
    let (announced, bytes) = (request.size, body.bytes.clone());
    if announced != bytes.len() as u64 {
        let text = format!("{} bytes came where {announced} were announced", bytes.len());
        return Err(WireError::new(ErrorCode::InvalidRequest, text));
    }
    let most = broker.modules.max_bytes();
    if bytes.len() > most {
        let text =
            format!("the module has {announced} bytes: the most is {most} (modules.max_bytes)");
        return Err(WireError::new(ErrorCode::TooLarge, text));
    }
    let mut upload = broker.modules.upload(bytes, &request.sha256).await?;
    // Its memory is for others now.
    drop(body);
    let info = upload.info.clone();
    let sha256 = info.sha256_hex();
    let command = Command::AddModule {
        name: request.name.clone(),
        kind: match info.kind {
            GuestKind::Filter => ModuleKind::Filter,
        },
        sha256: sha256.clone(),
        size: announced,
        uploaded: Clock::wall(),
        imports: info.imports,
        exports: info.exports,
    };
    let brokers = broker.image().brokers().len();
    broker.modules.spread(&sha256, announced, brokers).await?;
    upload.propose();
    let answer = broker.metadata.propose(command).await;
    // The image has the version now, or never will.
    upload.decided(answer.as_ref().err());
    let Response::Module(version) = answer? else {
        unreachable!("an upload answers with a version");
    };
    describe::serve(broker, &version)
}
