//! Describe a version of a module, and say who uses it.

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::ModuleRef;
use millstream_protocol::message::module::ModuleDescription;

use super::description;
use crate::broker::Broker;

pub(crate) fn serve(broker: &Broker, version: &ModuleRef) -> Result<ModuleDescription, WireError> {
    let image = broker.image();
    let module = image.modules().get(version).ok_or_else(|| {
        let text = format!("there is no module {version}: `millstream module list` shows all");
        WireError::new(ErrorCode::UnknownModule, text)
    })?;
    Ok(description(&image, version, module))
}
