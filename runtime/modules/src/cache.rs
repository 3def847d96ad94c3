//! Cache: compiled modules beside the data, so that a module is compiled once.
//!
//! Invariant: what is loaded is byte for byte what this engine, in this version, once compiled; anything else is recompiled.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

/// Starts every file; the last digits are the version of the layout.
const MAGIC: &[u8; 8] = b"MSCWASM1";
const HEADER: usize = MAGIC.len() + 32;

/// A directory of compiled modules.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    /// Says which engine and which settings an artefact is for.
    compatibility: u64,
}

impl Cache {
    pub(crate) fn open(directory: &Path, engine: &wasmtime::Engine) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { directory: directory.to_owned(), compatibility: hasher.finish() })
    }

    /// The compiled module, if it is there and whole.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, module: &[u8; 32]) -> Option<Component> {
        let path = self.path(module);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a compiled module: compiling it again");
                return None;
            }
        };
        let component = deserialize(engine, &bytes);
        if component.is_none() {
            tracing::warn!(path = %path.display(), "a compiled module is damaged: compiling it again");
        }
        component
    }

    /// Keeps a compiled module. Failing only costs a compilation later.
    pub(crate) fn store(&self, module: &[u8; 32], component: &Component) {
        if let Err(error) = self.try_store(module, component) {
            tracing::warn!(directory = %self.directory.display(), %error, "cannot keep a compiled module");
        }
    }

    /// Forgets a module, as every engine compiled it.
    pub(crate) fn remove(&self, module: &[u8; 32]) {
        let prefix = format!("{}-", hex(module));
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn try_store(&self, module: &[u8; 32], component: &Component) -> io::Result<()> {
        static TEMPORARY: AtomicU64 = AtomicU64::new(0);

        let artefact = component.serialize().map_err(io::Error::other)?;
        // Artefacts of older engines are of no more use.
        self.remove(module);
        let number = TEMPORARY.fetch_add(1, Relaxed);
        let temporary = self.directory.join(format!("{}-{number}.tmp", std::process::id()));
        let mut file = File::create(&temporary)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(&artefact))?;
        file.write_all(&artefact)?;
        file.sync_all()?;
        fs::rename(&temporary, self.path(module))
    }

    fn path(&self, module: &[u8; 32]) -> PathBuf {
        self.directory.join(format!("{}-{:016x}.cwasm", hex(module), self.compatibility))
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
    // SAFETY: the artefact must come from `Component::serialize` of a compatible engine, unchanged. Only `Cache::try_store`
    // writes files of this layout; the digest proves that the bytes are those it wrote; wasmtime itself checks its version and
    // settings. What is left is someone who forges file and digest, who already has the rights of the broker's own user.
    unsafe { Component::deserialize(engine, artefact) }.ok()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
