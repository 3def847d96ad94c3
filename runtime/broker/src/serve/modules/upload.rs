//! Upload a module.
//!
//! Invariant: a version exists once its bytes are checked, compiled and stored, not before.

use bytes::Bytes;
use millstream_core::metadata::{Command, Response};
use millstream_modules::ModuleKind as GuestKind;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::message::module::{ModuleDescription, ModuleKind, UploadModule};

use super::describe;
use crate::broker::Broker;
use crate::clock::Clock;

pub(crate) async fn serve(
    broker: &Broker,
    request: &UploadModule,
    bytes: Bytes,
) -> Result<ModuleDescription, WireError> {
    let announced = request.size;
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
    let upload = broker.modules.upload(bytes).await?;
    let info = upload.info.clone();
    if info.sha256_hex() != request.sha256 {
        let text = "the module's SHA-256 is not the announced one: it was damaged on its way";
        return Err(WireError::new(ErrorCode::InvalidRequest, text));
    }
    let command = Command::AddModule {
        name: request.name.clone(),
        kind: match info.kind {
            GuestKind::Filter => ModuleKind::Filter,
        },
        sha256: info.sha256_hex(),
        size: announced,
        uploaded: Clock::wall(),
        imports: info.imports,
        exports: info.exports,
    };
    let Response::Module(version) = broker.metadata.propose(command).await? else {
        unreachable!("an upload answers with a version");
    };
    // The image has the version now.
    drop(upload);
    describe::serve(broker, &version)
}
