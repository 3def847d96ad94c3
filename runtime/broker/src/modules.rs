//! The broker's modules: their bytes by content, compiled when first used.
//!
//! Invariant: a module is compiled and linked before its version exists; what exists can be run. Bytes
//! are removed only while no version has them and nobody uploads them; what no version came of does not
//! stay. Who waits to be compiled takes no thread.

pub(crate) mod copies;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use millstream_core::metadata::Image;
use millstream_modules::{
    Artefacts, CompilePlace, Engine, EngineConfig, FilterHandle, FilterSpec, GuestError, Module,
    ModuleInfo, UploadError,
};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::ModuleRef;
use millstream_storage::blobs::{BlobId, Blobs};
use millstream_storage::cache_dir::CacheDir;
use millstream_storage::disk::AnyDisk;
use parking_lot::Mutex;

use crate::config;
use crate::peers::Peers;

/// Bytes of a module that go to another broker in one answer.
const PART_BYTES: usize = 256 << 10;

/// Gives the newest image.
type Newest = Box<dyn Fn() -> Arc<Image> + Send + Sync>;

/// All modules of this broker.
pub(crate) struct Modules {
    config: EngineConfig,
    image: Newest,
    blobs: Blobs<AnyDisk>,
    peers: Peers,
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
        peers: Peers,
        image: impl Fn() -> Arc<Image> + Send + Sync + 'static,
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
            image: Box::new(image),
            blobs,
            peers,
            engine: OnceLock::new(),
            loaded: Mutex::default(),
            uploading: Mutex::default(),
        }
    }

    /// The most bytes that a module may have.
    pub(crate) fn max_bytes(&self) -> usize {
        self.config.max_module_bytes
    }

    /// Checks, compiles and stores an upload that was announced with this SHA-256. Takes a while. Its
    /// bytes stay while the upload is held: it is to be dropped when the version is there.
    pub(crate) async fn upload(
        self: &Arc<Self>,
        bytes: Bytes,
        announced: &str,
    ) -> Result<Upload, WireError> {
        let (this, of) = (Arc::clone(self), bytes.clone());
        let begun = blocking(move || Ok((this.engine()?.clone(), BlobId::of(&of))));
        let (engine, id) = begun.await?;
        if id.to_string() != announced {
            let text = "the module's SHA-256 is not the announced one: it was damaged on its way";
            return Err(WireError::new(ErrorCode::InvalidRequest, text));
        }
        let place = engine.place().await.map_err(refused)?;
        let this = Arc::clone(self);
        blocking(move || this.admit(id, &bytes, place)).await
    }

    fn admit(
        self: Arc<Self>,
        id: BlobId,
        bytes: &Bytes,
        place: CompilePlace,
    ) -> Result<Upload, WireError> {
        let held = Arc::clone(&self).hold(id);
        let module = self.engine()?.admit(bytes, place).map_err(refused)?;
        let stored = self.blobs.put(bytes).map_err(internal)?;
        assert_eq!(stored, id, "a module is stored under its own hash");
        let info = module.info().clone();
        self.loaded.lock().insert(id, module);
        Ok(Upload { info, held })
    }

    fn hold(self: Arc<Self>, id: BlobId) -> Held {
        *self.uploading.lock().entry(id).or_default() += 1;
        Held { modules: self, id, undecided: false }
    }

    /// Forgets the bytes of a version that was deleted, unless another version has the same, or is
    /// about to.
    pub(crate) fn forget(&self, sha256: &str) {
        if let Ok(id) = sha256.parse::<BlobId>() {
            self.forget_unused(&self.uploading.lock(), id);
        }
    }

    /// The lock is held until the bytes are gone: an upload that comes meanwhile stores them again. What
    /// was uploaded before is in the newest image, if not in the one that lacks the deleted version.
    fn forget_unused(&self, uploading: &BTreeMap<BlobId, usize>, id: BlobId) {
        if uploading.contains_key(&id) || is_named(&(self.image)(), &id.to_string()) {
            return;
        }
        self.loaded.lock().remove(&id);
        if let Some(engine) = self.engine.get() {
            engine.forget(&id.0);
        }
        if let Err(error) = self.blobs.remove(&id) {
            tracing::warn!(%error, "the bytes of a module that is no more stay");
        }
    }

    /// Removes what a broker that ended in the middle of an upload, or of a deletion, left behind: bytes
    /// and compiled modules of which the image has no version. Before the first upload.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let image = (self.image)();
        let named = |sha256: &str| is_named(&image, sha256);
        for id in self.blobs.list().map_err(io::Error::other)? {
            if !named(&id.to_string()) {
                self.blobs.remove(&id).map_err(io::Error::other)?;
                tracing::info!(sha256 = %id, "removed the bytes of a module without a version");
            }
        }
        let Some(compiled) = &self.config.artefacts else { return Ok(()) };
        for name in compiled.names()? {
            let of = name.split_once('-').map(|(sha256, _)| sha256);
            if of.is_some_and(|sha256| sha256.parse::<BlobId>().is_ok() && !named(sha256)) {
                compiled.remove(&name)?;
            }
        }
        Ok(())
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

    /// A part of a module's bytes, for another broker; empty behind the end.
    pub(crate) async fn read_part(
        self: &Arc<Self>,
        sha256: &str,
        offset: u64,
    ) -> Result<Vec<u8>, WireError> {
        let id: BlobId = sha256.parse().map_err(|error| {
            WireError::new(
                ErrorCode::InvalidRequest,
                format!("{sha256:?} names no module: {error}"),
            )
        })?;
        let this = Arc::clone(self);
        blocking(move || {
            let unknown = |error| WireError::new(ErrorCode::UnknownModule, error);
            let bytes = this.blobs.get(&id).map_err(unknown)?;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let to = bytes.len().min(from + PART_BYTES);
            Ok(bytes[from..to].to_vec())
        })
        .await
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
        if !self.has(id).await? {
            self.fetch(id, known.size).await?;
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
    held: Held,
}

impl Upload {
    /// Its version is being decided: should nobody learn how, the bytes stay until the next start knows.
    pub(crate) fn propose(&mut self) {
        self.held.undecided = true;
    }

    /// Its version is there, or was refused for this reason.
    pub(crate) fn decided(mut self, refused: Option<&WireError>) {
        self.held.undecided = refused.is_some_and(is_undecided);
    }
}

/// Whether a command that was answered so may take effect all the same.
fn is_undecided(error: &WireError) -> bool {
    matches!(
        error.code,
        ErrorCode::ShuttingDown
            | ErrorCode::StorageStopped
            | ErrorCode::DiskFull
            | ErrorCode::CorruptLog
            | ErrorCode::Overloaded
            | ErrorCode::TimedOut
            | ErrorCode::Internal
    )
}

/// Keeps the bytes of an upload. When the last goes, what no version has goes too.
#[derive(Debug)]
struct Held {
    modules: Arc<Modules>,
    id: BlobId,
    /// A version may come of it, now or when the broker is started again.
    undecided: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.undecided {
            return;
        }
        let mut uploading = self.modules.uploading.lock();
        let uploads = uploading.get_mut(&self.id).expect("it is held");
        *uploads -= 1;
        if *uploads == 0 {
            uploading.remove(&self.id);
            self.modules.forget_unused(&uploading, self.id);
        }
    }
}

fn is_named(image: &Image, sha256: &str) -> bool {
    image.modules().values().any(|module| module.sha256 == sha256)
}

fn refused(error: UploadError) -> WireError {
    let busy = matches!(error, UploadError::Busy { .. });
    WireError::new(if busy { ErrorCode::Overloaded } else { ErrorCode::InvalidModule }, error)
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
pub(crate) mod tests;
