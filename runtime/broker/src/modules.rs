//! The broker's modules: their bytes by content, compiled when first used.
//!
//! Invariant: a module is compiled and linked before its version exists; what exists can be run. Bytes
//! are removed only while no version has them and nobody uploads them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use millstream_core::metadata::Image;
use millstream_modules::{
    Artefacts, Engine, EngineConfig, FilterHandle, FilterSpec, GuestError, Module, ModuleInfo,
    UploadError,
};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::ModuleRef;
use millstream_storage::blobs::{BlobId, Blobs};
use millstream_storage::cache_dir::CacheDir;
use millstream_storage::disk::AnyDisk;
use parking_lot::Mutex;

use crate::config;

/// All modules of this broker.
pub(crate) struct Modules {
    config: EngineConfig,
    blobs: Blobs<AnyDisk>,
    /// Started with the first module: a broker without any carries no compiler in its memory.
    engine: OnceLock<Engine>,
    loaded: Mutex<BTreeMap<BlobId, Module>>,
    /// Bytes that are being uploaded, and how often: until their versions are decided, they stay.
    uploading: Mutex<BTreeMap<BlobId, usize>>,
}

impl Modules {
    pub(crate) fn new(
        section: &config::Modules,
        blobs: Blobs<AnyDisk>,
        cache: CacheDir<AnyDisk>,
    ) -> Self {
        let default = EngineConfig::default();
        let threads = section.guest_threads;
        let config = EngineConfig {
            artefacts: Some(Arc::new(Compiled(cache))),
            guest_threads: if threads == 0 { default.guest_threads } else { threads },
            max_instances: u32::try_from(section.max_instances).unwrap_or(u32::MAX),
            max_module_bytes: usize::try_from(section.max_bytes.0).unwrap_or(usize::MAX),
            ..default
        };
        Self {
            config,
            blobs,
            engine: OnceLock::new(),
            loaded: Mutex::default(),
            uploading: Mutex::default(),
        }
    }

    /// The most bytes that a module may have.
    pub(crate) fn max_bytes(&self) -> usize {
        self.config.max_module_bytes
    }

    /// Checks, compiles and stores an upload. Takes a while. Its bytes stay while the upload is held: it
    /// is to be dropped when the version is there.
    pub(crate) async fn upload(self: &Arc<Self>, bytes: Bytes) -> Result<Upload, WireError> {
        let this = Arc::clone(self);
        blocking(move || {
            let held = Arc::clone(&this).hold(BlobId::of(&bytes));
            let module = this.engine()?.admit(&bytes).map_err(|error| {
                let busy = matches!(error, UploadError::Busy { .. });
                let code = if busy { ErrorCode::Overloaded } else { ErrorCode::InvalidModule };
                WireError::new(code, error)
            })?;
            let id = this.blobs.put(&bytes).map_err(internal)?;
            let info = module.info().clone();
            assert_eq!(id.0, info.sha256, "a module is stored under its own hash");
            this.loaded.lock().insert(id, module);
            Ok(Upload { info, _held: held })
        })
        .await
    }

    fn hold(self: Arc<Self>, id: BlobId) -> Held {
        *self.uploading.lock().entry(id).or_default() += 1;
        Held { modules: self, id }
    }

    /// Forgets the bytes of a version that was deleted, unless another version has the same, or is
    /// about to. `image` gives the newest image.
    pub(crate) fn forget(&self, sha256: &str, image: impl Fn() -> Arc<Image>) {
        let Ok(id) = sha256.parse::<BlobId>() else {
            return;
        };
        // Held until the bytes are gone: an upload that comes meanwhile stores them again. What was
        // uploaded before is in the newest image, if not in the one that lacks the deleted version.
        let uploading = self.uploading.lock();
        let used = || image().modules().values().any(|module| module.sha256 == sha256);
        if uploading.contains_key(&id) || used() {
            return;
        }
        self.loaded.lock().remove(&id);
        if let Some(engine) = self.engine.get() {
            engine.forget(&id.0);
        }
        if let Err(error) = self.blobs.remove(&id) {
            tracing::warn!(%error, "the bytes of a deleted module stay");
        }
    }

    /// Starts an instance of a version.
    pub(crate) async fn start(
        self: &Arc<Self>,
        image: &Image,
        version: &ModuleRef,
        spec: FilterSpec,
    ) -> Result<FilterHandle, WireError> {
        let module = self.load(image, version).await?;
        let started = self.engine()?.start_filter(&module, spec).await;
        started.map_err(|error| {
            let code = match &error {
                GuestError::TooManyInstances { .. } | GuestError::Stopped => ErrorCode::Overloaded,
                _ => ErrorCode::GuestFailed,
            };
            WireError::new(code, format!("module {version}: {error}"))
        })
    }

    async fn load(
        self: &Arc<Self>,
        image: &Image,
        version: &ModuleRef,
    ) -> Result<Module, WireError> {
        let unknown = || {
            let text = format!("there is no module {version}: `millstream module list` shows all");
            WireError::new(ErrorCode::UnknownModule, text)
        };
        let known = image.modules().get(version).ok_or_else(unknown)?;
        let id: BlobId = known.sha256.parse().map_err(internal)?;
        if let Some(module) = self.loaded.lock().get(&id) {
            return Ok(module.clone());
        }
        let this = Arc::clone(self);
        blocking(move || {
            let bytes = this.blobs.get(&id).map_err(internal)?;
            let module = this.engine()?.load(&bytes).map_err(internal)?;
            this.loaded.lock().insert(id, module.clone());
            Ok(module)
        })
        .await
    }

    fn engine(&self) -> Result<&Engine, WireError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = Engine::new(self.config.clone()).map_err(internal)?;
        Ok(self.engine.get_or_init(|| engine))
    }
}

/// A module that was uploaded and has no version yet.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) info: ModuleInfo,
    _held: Held,
}

/// Keeps the bytes of an upload.
#[derive(Debug)]
struct Held {
    modules: Arc<Modules>,
    id: BlobId,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut uploading = self.modules.uploading.lock();
        let uploads = uploading.get_mut(&self.id).expect("it is held");
        *uploads -= 1;
        if *uploads == 0 {
            uploading.remove(&self.id);
        }
    }
}

impl std::fmt::Debug for Modules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Modules").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Bytes of a compiled module: a few times those of the largest upload.
const MAX_COMPILED_BYTES: u64 = 1 << 30;

/// Compiled modules beside the data.
#[derive(Debug)]
struct Compiled(CacheDir<AnyDisk>);

impl Artefacts for Compiled {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.read(name, MAX_COMPILED_BYTES)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.write(name, bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }
}

/// Runs what takes long, or waits for a disk, beside the cores.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WireError> + Send + 'static,
) -> Result<T, WireError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(internal(error)))
}

fn internal(error: impl std::fmt::Display) -> WireError {
    WireError::new(ErrorCode::Internal, error)
}

#[cfg(test)]
mod tests {
    use millstream_storage::disk::MemDisk;

    use super::*;

    #[test]
    fn bytes_that_are_being_uploaded_outlive_the_version_that_had_them() {
        let disk = AnyDisk::Memory(MemDisk::new());
        let blobs = Blobs::open(disk.clone(), "modules".into()).expect("blobs");
        let cache = CacheDir::open(disk, "cache".as_ref()).expect("a cache");
        let modules = Arc::new(Modules::new(&config::Modules::default(), blobs, cache));
        let id = modules.blobs.put(b"a module").expect("stored");
        let forget = || modules.forget(&id.to_string(), Arc::default);
        let held = [(); 2].map(|()| Arc::clone(&modules).hold(id));
        for held in held {
            forget();
            assert!(modules.blobs.contains(&id), "it is being uploaded");
            drop(held);
        }
        forget();
        assert!(!modules.blobs.contains(&id), "nobody has it or wants it");
    }
}
