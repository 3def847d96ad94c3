//! List the modules, by name and version.

use millstream_protocol::message::module::ModuleDescription;

use super::description;
use crate::broker::Broker;

pub(crate) fn serve(broker: &Broker) -> Vec<ModuleDescription> {
    let image = broker.image();
    image.modules().iter().map(|(version, module)| description(&image, version, module)).collect()
}
