//! Modules: immutable versions, named by the hash of their bytes.
//!
//! Invariant: a version is never another's number, not even a deleted one's; the same bytes under the
//! same name are one version; what a job or a topic uses is not deleted.

use millstream_protocol::ids::{ModuleName, ModuleRef};
use millstream_protocol::limits::MAX_MODULE_BYTES;

use super::super::image::{Image, MAX_MODULES, Module};
use super::{Outcome, Rejection, Response, Touched};

/// The most module names that are ever used; each is remembered for its version numbers.
const MAX_NAMES: usize = 100_000;
/// The most imports or exports that are kept of a module, and the most bytes of one's name.
const MAX_LISTED: usize = 1_000;

pub(super) fn add(image: &mut Image, name: &ModuleName, module: Module) -> Outcome {
    check(name, &module)?;
    let mut versions = image.modules.iter().filter(|(id, _)| id.name == *name);
    if let Some((same, _)) = versions.find(|(_, known)| known.sha256 == module.sha256) {
        return Ok((Response::Module(same.clone()), vec![]));
    }
    if MAX_MODULES <= image.modules.len() {
        return Err(Rejection::Full { what: "module versions", limit: MAX_MODULES });
    }
    let given = &mut image.allocations.versions;
    if !given.contains_key(name.as_str()) && MAX_NAMES <= given.len() {
        return Err(Rejection::Full { what: "module names", limit: MAX_NAMES });
    }

    let version = given.entry(name.as_str().to_owned()).or_default();
    *version = version.checked_add(1).expect("fewer than 2^32 versions are ever made");
    let id = ModuleRef { name: name.clone(), version: *version };
    image.modules.insert(id.clone(), module);
    Ok((Response::Module(id.clone()), vec![Touched::Module(id), Touched::Allocations]))
}

pub(super) fn delete(image: &mut Image, module: &ModuleRef) -> Outcome {
    if !image.modules.contains_key(module) {
        return Err(Rejection::UnknownModule(module.clone()));
    }
    let users = image.users_of_module(module);
    if !users.is_empty() {
        return Err(Rejection::InUse { what: format!("module {module}"), users });
    }
    image.modules.remove(module);
    Ok((Response::Done, vec![Touched::Module(module.clone())]))
}

fn check(name: &ModuleName, module: &Module) -> Result<(), Rejection> {
    let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    let listed = module.imports.iter().chain(&module.exports);
    let problem = if module.sha256.len() != 64 || !module.sha256.chars().all(is_hex) {
        "its hash is not 64 digits of lowercase hex".to_owned()
    } else if module.size == 0 || (MAX_MODULE_BYTES as u64) < module.size {
        format!("it has {} bytes: a module has 1 to {MAX_MODULE_BYTES}", module.size)
    } else if MAX_LISTED < module.imports.len() + module.exports.len()
        || listed.into_iter().any(|name| MAX_LISTED < name.len())
    {
        format!("it imports and exports more than {MAX_LISTED} names, or longer ones")
    } else {
        return Ok(());
    };
    Err(Rejection::InvalidModule { name: name.to_string(), problem })
}
