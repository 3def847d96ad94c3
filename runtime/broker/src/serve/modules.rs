//! Modules: upload, list, describe, delete.

use bytes::Bytes;
use millstream_core::metadata::{Command, Image, Module, Response, plan};
use millstream_modules::ModuleKind as GuestKind;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::ModuleRef;
use millstream_protocol::message::module::{
    DeleteModule, ModuleDescription, ModuleKind, UploadModule,
};

use crate::broker::Broker;
use crate::clock::Clock;

pub(super) async fn upload(
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
    let info = broker.modules.upload(bytes).await?;
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
    describe(broker, &version)
}

pub(super) fn list(broker: &Broker) -> Vec<ModuleDescription> {
    let image = broker.image();
    image.modules().iter().map(|(version, module)| description(&image, version, module)).collect()
}

pub(super) fn describe(
    broker: &Broker,
    version: &ModuleRef,
) -> Result<ModuleDescription, WireError> {
    let image = broker.image();
    let module = image.modules().get(version).ok_or_else(|| {
        let text = format!("there is no module {version}: `millstream module list` shows all");
        WireError::new(ErrorCode::UnknownModule, text)
    })?;
    Ok(description(&image, version, module))
}

fn description(image: &Image, version: &ModuleRef, module: &Module) -> ModuleDescription {
    ModuleDescription {
        module: version.clone(),
        kind: module.kind,
        sha256: module.sha256.clone(),
        size: module.size,
        uploaded: module.uploaded,
        imports: module.imports.clone(),
        exports: module.exports.clone(),
        used_by: image.users_of_module(version),
    }
}

pub(super) async fn delete(broker: &Broker, request: &DeleteModule) -> Result<(), WireError> {
    broker.metadata.propose(plan::delete_module(request)).await?;
    broker.settle().await
}
