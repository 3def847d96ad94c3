//! Modules: upload, list, describe, delete.
//!
//! Invariant: a version is immutable and named by the SHA-256 of its bytes.

use serde::{Deserialize, Serialize};

use crate::ids::{ModuleName, ModuleRef, Timestamp};

/// What a module is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleKind {
    /// Keeps, drops, rewrites, fans out.
    Filter,
}

/// Uploads a module as its name's next version; the same bytes again are the same version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadModule {
    /// Its name.
    pub name: ModuleName,
    /// SHA-256 of the body, in lowercase hex.
    pub sha256: String,
    /// Bytes of the body: a module that is too large is refused before it is sent.
    pub size: u64,
}

/// Lists all versions of all modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListModules {}

/// Describes one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeModule {
    /// The version.
    pub module: ModuleRef,
}

/// Deletes one version that nothing uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteModule {
    /// The version.
    pub module: ModuleRef,
}

/// One version of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleDescription {
    /// Name and version.
    pub module: ModuleRef,
    /// What it is made for.
    pub kind: ModuleKind,
    /// SHA-256 of its bytes, in lowercase hex.
    pub sha256: String,
    /// Bytes as uploaded.
    pub size: u64,
    /// When it was uploaded.
    pub uploaded: Timestamp,
    /// What it imports, by name.
    pub imports: Vec<String>,
    /// What it exports, by name.
    pub exports: Vec<String>,
    /// Jobs and topics that use it, by name.
    pub used_by: Vec<String>,
}
