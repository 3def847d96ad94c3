//! Requests about modules, a file each, and what several of them need.

pub(super) mod delete;
pub(super) mod describe;
pub(super) mod list;
pub(super) mod upload;

use millstream_core::metadata::{Image, Module};
use millstream_protocol::ids::ModuleRef;
use millstream_protocol::message::module::ModuleDescription;

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
