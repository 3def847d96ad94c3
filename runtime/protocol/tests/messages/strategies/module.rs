//! Arbitrary requests and answers about modules.

use millstream_protocol::message::module::{
    DeleteModule, DescribeModule, ModuleDescription, ModuleKind, UploadModule,
};
use proptest::prelude::*;

use super::{large, module_name, module_ref, text, texts, timestamp};

pub(crate) fn upload_module() -> impl Strategy<Value = UploadModule> {
    (module_name(), text(), large()).prop_map(|(name, sha256, size)| UploadModule {
        name,
        sha256,
        size,
    })
}

pub(crate) fn describe_module() -> impl Strategy<Value = DescribeModule> {
    module_ref().prop_map(|module| DescribeModule { module })
}

pub(crate) fn delete_module() -> impl Strategy<Value = DeleteModule> {
    module_ref().prop_map(|module| DeleteModule { module })
}

pub(crate) fn module_description() -> impl Strategy<Value = ModuleDescription> {
    let lists = (texts(), texts(), texts());
    (module_ref(), "[0-9a-f]{64}", large(), timestamp(), lists).prop_map(
        |(module, sha256, size, uploaded, (imports, exports, used_by))| ModuleDescription {
            module,
            kind: ModuleKind::Filter,
            sha256,
            size,
            uploaded,
            imports,
            exports,
            used_by,
        },
    )
}
