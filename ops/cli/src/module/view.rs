//! A module version as it is printed.
//!
//! Invariant: the JSON of a module is the same whichever verb prints it.

use millstream_protocol::message::module::{ModuleDescription, ModuleKind};
use serde::Serialize;

use crate::format;
use crate::output::{Report, columns, pairs};

/// One version, whole.
#[derive(Serialize)]
pub(super) struct Module {
    module: String,
    name: String,
    version: u32,
    kind: &'static str,
    sha256: String,
    size_bytes: u64,
    uploaded_ms: i64,
    imports: Vec<String>,
    exports: Vec<String>,
    used_by: Vec<String>,
}

impl From<ModuleDescription> for Module {
    fn from(module: ModuleDescription) -> Self {
        Self {
            module: module.module.to_string(),
            name: module.module.name.to_string(),
            version: module.module.version,
            kind: match module.kind {
                ModuleKind::Filter => "filter",
            },
            sha256: module.sha256,
            size_bytes: module.size,
            uploaded_ms: module.uploaded.get(),
            imports: module.imports,
            exports: module.exports,
            used_by: module.used_by,
        }
    }
}

impl Module {
    fn uploaded(&self) -> String {
        format::timestamp(millstream_protocol::ids::Timestamp(self.uploaded_ms))
    }
}

impl Report for Module {
    fn table(&self) -> String {
        let list = |names: &[String]| match names {
            [] => "-".to_owned(),
            names => names.join(", "),
        };
        pairs([
            ("MODULE", self.module.clone()),
            ("KIND", self.kind.to_owned()),
            ("SIZE", format::bytes(self.size_bytes)),
            ("SHA-256", self.sha256.clone()),
            ("UPLOADED", self.uploaded()),
            ("IMPORTS", list(&self.imports)),
            ("EXPORTS", list(&self.exports)),
            ("USED BY", list(&self.used_by)),
        ])
    }
}

/// All versions, a line each.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Modules(Vec<Module>);

impl From<Vec<ModuleDescription>> for Modules {
    fn from(modules: Vec<ModuleDescription>) -> Self {
        Self(modules.into_iter().map(Module::from).collect())
    }
}

impl Report for Modules {
    fn table(&self) -> String {
        columns(
            &["MODULE", "KIND", "SIZE", "UPLOADED", "SHA-256", "USED BY"],
            &["SIZE"],
            self.0.iter().map(|module| {
                [
                    module.module.clone(),
                    module.kind.to_owned(),
                    format::bytes(module.size_bytes),
                    module.uploaded(),
                    module.sha256.chars().take(12).collect(),
                    if module.used_by.is_empty() {
                        "-".to_owned()
                    } else {
                        module.used_by.join(", ")
                    },
                ]
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::Timestamp;

    use super::*;
    use crate::output::json;

    fn redact(version: u32, used_by: &[&str]) -> ModuleDescription {
        ModuleDescription {
            module: format!("redact@{version}").parse().expect("a module version"),
            kind: ModuleKind::Filter,
            sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
            size: 91_750,
            uploaded: Timestamp(1_388_534_400_000),
            imports: vec!["millstream:module/log".to_owned(), "wasi:io/streams@0.2.6".to_owned()],
            exports: vec!["millstream:module/filter".to_owned()],
            used_by: used_by.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn a_module_as_a_table_and_as_json() {
        let module = Module::from(redact(3, &["job clean"]));
        insta::assert_snapshot!(format!("{}\n{}", module.table(), json(&module)));
    }

    #[test]
    fn modules_as_a_table() {
        let modules = Modules::from(vec![redact(2, &[]), redact(3, &["job clean", "topic raw"])]);
        insta::assert_snapshot!(modules.table());
    }
}
