//! Inspect: what an uploaded file is, and why it is refused.
//!
//! Invariant: nothing is compiled before the file has been found to be a component that imports
//! only what a broker offers.

use sha2::{Digest, Sha256};
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use crate::{cache::hex, complexity::too_complex, host};

/// The interface that makes a component a filter, without its version.
const FILTER_EXPORT: &str = "millstream:module/transform";

/// What an uploaded file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleInfo {
    /// What it can do.
    pub kind: ModuleKind,
    /// SHA-256 of the file: its identity.
    pub sha256: [u8; 32],
    /// Bytes of the file.
    pub size: usize,
    /// Interfaces that it imports.
    pub imports: Vec<String>,
    /// Interfaces that it exports.
    pub exports: Vec<String>,
}

impl ModuleInfo {
    /// The identity in hexadecimal digits.
    pub fn sha256_hex(&self) -> String {
        hex(&self.sha256)
    }
}

/// What a module can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModuleKind {
    /// Transforms batches of records.
    Filter,
}

/// Why a file is refused as a module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// The file is too large.
    #[error(
        "the module has {size} bytes, at most {limit} are allowed: build it in release mode and stripped"
    )]
    TooLarge {
        /// Its size, in bytes.
        size: usize,
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// The file is something else.
    #[error("this is not a WebAssembly file")]
    NotWasm,
    /// The file is a core module.
    #[error(
        "this is a core WebAssembly module, not a component: build it with --target wasm32-wasip2"
    )]
    CoreModule,
    /// The file is damaged or uses what a broker does not support.
    #[error("the component is not valid: {message}")]
    Invalid {
        /// What is wrong, and where.
        message: String,
    },
    /// The component needs what a broker does not offer.
    #[error("the component imports what no broker offers: {}", imports.join(", "))]
    UnknownImports {
        /// Each import, with the reason if there is one to tell.
        imports: Vec<String>,
    },
    /// The component is not a module.
    #[error(
        "the component exports no {FILTER_EXPORT}, so it is not a filter: it exports {}",
        list(exports)
    )]
    NoKnownExport {
        /// What it exports.
        exports: Vec<String>,
    },
    /// A function that the component imports or exports has another type, or is missing.
    #[error("the component does not fit the contract: {message}")]
    Contract {
        /// Which function, and how it differs.
        message: String,
    },
    /// Compiling it could take very long.
    #[error(
        "the component is too complex: {message}; split what is generated, and build in release mode"
    )]
    TooComplex {
        /// What is too much of it, and where.
        message: String,
    },
    /// Compiling it did take very long.
    #[error("compiling the module took more than {limit:?}: make it smaller")]
    TooSlow {
        /// The time it had.
        limit: std::time::Duration,
    },
    /// Other uploads are being compiled.
    #[error("other modules have been compiled for more than {limit:?}: try again later")]
    Busy {
        /// The time it waited.
        limit: std::time::Duration,
    },
    /// The component could not be compiled.
    #[error("the component cannot be compiled: {message}")]
    Compile {
        /// The compiler's reason.
        message: String,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// What the file is, without compiling it.
pub(crate) fn inspect(bytes: &[u8], limit: usize) -> Result<ModuleInfo, UploadError> {
    if bytes.len() > limit {
        return Err(UploadError::TooLarge { size: bytes.len(), limit });
    }
    if Parser::is_core_wasm(bytes) {
        return Err(UploadError::CoreModule);
    }
    if !Parser::is_component(bytes) {
        return Err(UploadError::NotWasm);
    }
    Validator::new_with_features(features()).validate_all(bytes).map_err(invalid)?;
    if let Some(message) = too_complex(bytes).map_err(invalid)? {
        return Err(UploadError::TooComplex { message });
    }
    let (imports, exports) = interfaces(bytes).map_err(invalid)?;
    let unknown: Vec<String> = imports.iter().filter_map(|name| why_unknown(name)).collect();
    if !unknown.is_empty() {
        return Err(UploadError::UnknownImports { imports: unknown });
    }
    if !exports.iter().any(|name| base_name(name) == FILTER_EXPORT) {
        return Err(UploadError::NoKnownExport { exports });
    }
    let sha256 = Sha256::digest(bytes).into();
    Ok(ModuleInfo { kind: ModuleKind::Filter, sha256, size: bytes.len(), imports, exports })
}

/// What a module may use: standard WebAssembly 2 with components, no threads, no garbage collection.
fn features() -> WasmFeatures {
    let base = WasmFeatures::WASM2 | WasmFeatures::COMPONENT_MODEL;
    base | WasmFeatures::TAIL_CALL | WasmFeatures::EXTENDED_CONST
}

fn invalid(error: wasmparser::BinaryReaderError) -> UploadError {
    UploadError::Invalid { message: error.to_string() }
}

/// The outermost component's imports and exports.
fn interfaces(bytes: &[u8]) -> wasmparser::Result<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

fn base_name(name: &str) -> &str {
    name.split_once('@').map_or(name, |(base, _)| base)
}

/// Names an import that no broker offers, with the reason if it is one that people ask for.
fn why_unknown(name: &str) -> Option<String> {
    if host::OFFERED.contains(&base_name(name)) {
        return None;
    }
    Some(match base_name(name).split('/').next() {
        Some("wasi:sockets" | "wasi:http") => format!("{name} (modules have no network)"),
        Some("wasi:filesystem") => format!("{name} (modules have no files)"),
        _ => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    #[test]
    fn what_is_not_a_component_is_refused_by_name() {
        assert_eq!(inspect(b"#!/bin/sh", LIMIT), Err(UploadError::NotWasm));
        assert_eq!(inspect(b"", LIMIT), Err(UploadError::NotWasm));
        assert_eq!(inspect(b"\0asm\x01\0\0\0", LIMIT), Err(UploadError::CoreModule));
        let too_large = UploadError::TooLarge { size: LIMIT + 1, limit: LIMIT };
        assert_eq!(inspect(&vec![0; LIMIT + 1], LIMIT), Err(too_large));
    }

    #[test]
    fn an_empty_component_is_not_a_filter() {
        let error = inspect(b"\0asm\x0d\0\x01\0", LIMIT).expect_err("it exports nothing");
        assert_eq!(error, UploadError::NoKnownExport { exports: vec![] });
        assert!(error.to_string().contains("it exports nothing"), "{error}");
    }

    #[test]
    fn a_damaged_component_is_invalid() {
        let error = inspect(b"\0asm\x0d\0\x01\0\xff\xff\xff", LIMIT).expect_err("no such section");
        assert!(matches!(error, UploadError::Invalid { .. }), "{error}");
    }

    /// A component that holds one module with one function of these bytes.
    fn with_function(code: &[u8]) -> Vec<u8> {
        let leb = |mut value: usize| {
            let mut bytes = Vec::new();
            while 0x7f < value {
                bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
                value >>= 7;
            }
            bytes.push(u8::try_from(value).expect("seven bits"));
            bytes
        };
        let section = |id: u8, content: Vec<u8>| [vec![id], leb(content.len()), content].concat();
        let module = [
            b"\0asm\x01\0\0\0".to_vec(),
            section(1, vec![1, 0x60, 0, 0]),
            section(3, vec![1, 0]),
            section(10, [vec![1], leb(code.len()), code.to_vec()].concat()),
        ];
        [b"\0asm\x0d\0\x01\0".to_vec(), section(1, module.concat())].concat()
    }

    #[test]
    fn what_could_take_the_compiler_very_long_is_refused_before_it_begins() {
        let nops = |count: usize| [vec![0], vec![1; count], vec![0x0b]].concat();
        let error = inspect(&with_function(&nops(100)), LIMIT).expect_err("no filter");
        assert_eq!(error, UploadError::NoKnownExport { exports: vec![] });
        let error = inspect(&with_function(&nops(300_000)), LIMIT).expect_err("a long function");
        assert!(matches!(error, UploadError::TooComplex { .. }), "{error}");
        assert!(error.to_string().contains("has 300002 bytes"), "{error}");
        // One group of 20,000 variables.
        let error = inspect(&with_function(&[1, 0xa0, 0x9c, 0x01, 0x7f, 0x0b]), LIMIT);
        let error = error.expect_err("many variables");
        assert!(error.to_string().contains("has 20000 variables"), "{error}");
    }

    #[test]
    fn an_import_that_is_not_offered_is_named_with_its_reason() {
        let why = why_unknown("wasi:sockets/tcp@0.2.6");
        assert_eq!(why.as_deref(), Some("wasi:sockets/tcp@0.2.6 (modules have no network)"));
        assert_eq!(why_unknown("acme:thing/api"), Some("acme:thing/api".to_owned()));
        assert_eq!(why_unknown("wasi:io/streams@0.2.6"), None);
    }
}
