//! Cache: compiled modules beside the data, so that a module is compiled once.
//!
//! Invariant: what is loaded is byte for byte what this engine, in this version, once compiled;
//! anything else is recompiled.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

/// Starts every artefact; the last digits are the version of the layout.
const MAGIC: &[u8; 8] = b"MSCWASM1";
const HEADER: usize = MAGIC.len() + 32;

/// Where compiled modules are kept, by name. What is lost or damaged there is compiled again.
pub trait Artefacts: fmt::Debug + Send + Sync {
    /// The bytes of that name, if there are any.
    ///
    /// # Errors
    /// What the store says.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Keeps bytes under a name, whole or not at all.
    ///
    /// # Errors
    /// What the store says.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Forgets a name; one that is not there is fine.
    ///
    /// # Errors
    /// What the store says.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// All names.
    ///
    /// # Errors
    /// What the store says.
    fn names(&self) -> io::Result<Vec<String>>;
}

/// Compiled modules.
#[derive(Debug)]
pub(crate) struct Cache {
    artefacts: Arc<dyn Artefacts>,
    /// Says which engine and which settings an artefact is for.
    compatibility: u64,
}

impl Cache {
    pub(crate) fn new(artefacts: Arc<dyn Artefacts>, engine: &wasmtime::Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self { artefacts, compatibility: hasher.finish() }
    }

    /// The compiled module, if it is there and whole.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, module: &[u8; 32]) -> Option<Component> {
        let name = self.name(module);
        let bytes = match self.artefacts.read(&name) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(name, %error, "cannot read a compiled module: compiling it again");
                return None;
            }
        };
        let component = deserialize(engine, &bytes);
        if component.is_none() {
            tracing::warn!(name, "a compiled module is damaged: compiling it again");
        }
        component
    }

    /// Keeps a compiled module. Failing only costs a compilation later.
    pub(crate) fn store(&self, module: &[u8; 32], component: &Component) {
        if let Err(error) = self.try_store(module, component) {
            tracing::warn!(name = self.name(module), %error, "cannot keep a compiled module");
        }
    }

    /// Forgets a module, as every engine compiled it.
    pub(crate) fn remove(&self, module: &[u8; 32]) {
        let prefix = format!("{}-", hex(module));
        for name in self.artefacts.names().unwrap_or_default() {
            if name.starts_with(&prefix) {
                // What stays takes room, and nothing else.
                let _ = self.artefacts.remove(&name);
            }
        }
    }

    fn try_store(&self, module: &[u8; 32], component: &Component) -> io::Result<()> {
        let artefact = component.serialize().map_err(io::Error::other)?;
        // Artefacts of older engines are of no more use.
        self.remove(module);
        let mut bytes = Vec::with_capacity(HEADER + artefact.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&Sha256::digest(&artefact));
        bytes.extend_from_slice(&artefact);
        self.artefacts.write(&self.name(module), &bytes)
    }

    fn name(&self, module: &[u8; 32]) -> String {
        format!("{}-{:016x}.cwasm", hex(module), self.compatibility)
    }
}

/// Turns the bytes of a cache file into a component, if they are whole.
#[allow(unsafe_code, reason = "wasmtime trusts the machine code that it is given; see SAFETY")]
fn deserialize(engine: &wasmtime::Engine, bytes: &[u8]) -> Option<Component> {
    let (header, artefact) = bytes.split_at_checked(HEADER)?;
    let digest = header.strip_prefix(MAGIC)?;
    if digest != Sha256::digest(artefact).as_slice() {
        return None;
    }
    // SAFETY: the artefact must come from `Component::serialize` of a compatible engine, unchanged.
    // Only `Cache::try_store` writes this layout; the digest proves that the bytes are those it
    // wrote; wasmtime itself checks its version and settings. What is left is someone who forges
    // artefact and digest, who already has the rights of the broker's own user.
    unsafe { Component::deserialize(engine, artefact) }.ok()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
