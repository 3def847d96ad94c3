//! Engine: uploads become modules, modules become running instances.
//!
//! Invariant: a module that loads has been compiled, linked and checked against the contract;
//! starting an instance of it can only fail by what the guest itself does, or by too many instances.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use wasmtime::{
    Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    component::{Component, Linker},
};

use crate::{
    FilterHandle, FilterSpec, GuestError, ModuleInfo, UploadError,
    cache::{Artefacts, Cache},
    compile::{CompilePlace, Compilers, compile, compile_known},
    filter::{Call, DEEP, QUEUE, Worker, contract::FilterPre},
    host::{self, State},
    inspect::inspect,
    threads::Threads,
    ticker::Ticker,
};

/// Settings of an [`Engine`], fixed for its life.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Where compiled modules are kept; `None` compiles anew after every start.
    pub artefacts: Option<Arc<dyn Artefacts>>,
    /// Threads on which all guests run.
    pub guest_threads: usize,
    /// How much lower their priority is than the broker's own: 0 (the same) to 19.
    pub guest_nice: i32,
    /// Instances that may exist at once.
    pub max_instances: u32,
    /// Bytes of a module's file.
    pub max_module_bytes: usize,
    /// Uploads that are compiled at once.
    pub compilers: usize,
    /// How long an upload may take to compile, and how long it waits until it is its turn.
    pub compile_time: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            artefacts: None,
            guest_threads: thread::available_parallelism().map_or(2, usize::from),
            guest_nice: 5,
            max_instances: 256,
            max_module_bytes: millstream_protocol::limits::MAX_MODULE_BYTES,
            compilers: 2,
            compile_time: Duration::from_secs(60),
        }
    }
}

/// Why an [`Engine`] does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The runtime refuses its settings or this machine.
    #[error("the WebAssembly runtime does not start: {0:#}")]
    Runtime(wasmtime::Error),
    /// A thread cannot be started.
    #[error("cannot start a guest thread: {0}")]
    Thread(std::io::Error),
}

/// Compiles modules and runs their instances. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    config: EngineConfig,
    wasmtime: wasmtime::Engine,
    linker: Linker<State>,
    cache: Option<Cache>,
    compilers: Compilers,
    instances: Arc<AtomicU32>,
    // Dropped in this order: the threads' guests only stop while the ticker still runs.
    threads: Threads,
    ticker: Arc<Ticker>,
}

/// A compiled and linked module. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    inner: Arc<ModuleInner>,
}

struct ModuleInner {
    info: ModuleInfo,
    pre: FilterPre<State>,
}

/// The right to have one instance.
pub(crate) struct Permit(Arc<AtomicU32>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Engine {
    /// Starts the guest threads. Costs little while no guest runs.
    ///
    /// # Errors
    /// If the runtime, the cache directory or the threads cannot be had.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let wasmtime = wasmtime::Engine::new(&settings(&config)).map_err(EngineError::Runtime)?;
        let mut linker = Linker::new(&wasmtime);
        host::link(&mut linker).map_err(EngineError::Runtime)?;
        let cache = config.artefacts.clone().map(|artefacts| Cache::new(artefacts, &wasmtime));
        let threads = Threads::start(config.guest_threads, config.guest_nice);
        let threads = threads.map_err(EngineError::Thread)?;
        let ticker = Arc::new(Ticker::start(wasmtime.clone()).map_err(EngineError::Thread)?);
        let (compilers, instances) = (Compilers::new(config.compilers), Arc::default());
        let inner =
            Inner { config, wasmtime, linker, cache, compilers, instances, threads, ticker };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What an uploaded file is, without compiling it.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn inspect(&self, bytes: &[u8]) -> Result<ModuleInfo, UploadError> {
        inspect(bytes, self.inner.config.max_module_bytes)
    }

    /// Waits for a place among the few uploads that are compiled at once. No thread waits with it.
    ///
    /// # Errors
    /// [`UploadError::Busy`].
    pub async fn place(&self) -> Result<CompilePlace, UploadError> {
        self.inner.compilers.place(self.inner.config.compile_time).await
    }

    /// Compiles an upload, of which nothing is known, and links it: in bounded time. Takes a while: not
    /// for a thread that serves others.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit(&self, bytes: &Bytes, place: CompilePlace) -> Result<Module, UploadError> {
        let (inner, info) = (&*self.inner, self.inspect(bytes)?);
        let (nice, limit) = (inner.config.guest_nice, inner.config.compile_time);
        let component =
            self.component(&info, || compile(&inner.wasmtime, bytes, place, nice, limit))?;
        self.link(info, &component)
    }

    /// Compiles a file that was admitted before (or takes what was compiled then) and links it,
    /// however long that takes.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn load(&self, bytes: &[u8]) -> Result<Module, UploadError> {
        let (inner, info) = (&*self.inner, self.inspect(bytes)?);
        let component = self
            .component(&info, || compile_known(&inner.wasmtime, bytes, inner.config.guest_nice))?;
        self.link(info, &component)
    }

    fn link(&self, info: ModuleInfo, component: &Component) -> Result<Module, UploadError> {
        let contract =
            |error: wasmtime::Error| UploadError::Contract { message: format!("{error:#}") };
        let pre = self.inner.linker.instantiate_pre(component).map_err(contract)?;
        let pre = FilterPre::new(pre).map_err(contract)?;
        Ok(Module { inner: Arc::new(ModuleInner { info, pre }) })
    }

    /// Forgets what was compiled for a module that is no more.
    pub fn forget(&self, sha256: &[u8; 32]) {
        if let Some(cache) = &self.inner.cache {
            cache.remove(sha256);
        }
    }

    /// Starts an instance of a filter and calls its `init`.
    ///
    /// # Errors
    /// What the guest says about its parameters, or did wrong while starting; or too many instances.
    pub async fn start_filter(
        &self,
        module: &Module,
        spec: FilterSpec,
    ) -> Result<FilterHandle, GuestError> {
        let refused = |error: &GuestError| spec.scope.counters().failed(error.kind());
        let permit = self.permit().inspect_err(refused)?;
        let (calls, queue) = mpsc::channel(QUEUE);
        let handle = FilterHandle::new(calls, Arc::clone(&spec.scope));
        let (started, result) = oneshot::channel();
        let (module, ticker) = (module.clone(), Arc::clone(&self.inner.ticker));
        let running = move || work(module, spec, permit, ticker, queue, started);
        if !self.inner.threads.spawn(running).await {
            return Err(GuestError::Stopped);
        }
        result.await.unwrap_or(Err(GuestError::Stopped)).map(|()| handle)
    }

    /// How many instances exist.
    pub fn instances(&self) -> u32 {
        self.inner.instances.load(Relaxed)
    }

    fn permit(&self) -> Result<Permit, GuestError> {
        let limit = self.inner.config.max_instances;
        let more = |count: u32| (count < limit).then_some(count + 1);
        match self.inner.instances.fetch_update(Relaxed, Relaxed, more) {
            Ok(_) => Ok(Permit(Arc::clone(&self.inner.instances))),
            Err(_) => Err(GuestError::TooManyInstances { limit }),
        }
    }

    fn component(
        &self,
        info: &ModuleInfo,
        compile: impl FnOnce() -> Result<Component, UploadError>,
    ) -> Result<Component, UploadError> {
        let Inner { wasmtime, cache, .. } = &*self.inner;
        if let Some(found) = cache.as_ref().and_then(|cache| cache.load(wasmtime, &info.sha256)) {
            return Ok(found);
        }
        let component = compile()?;
        if let Some(cache) = cache {
            cache.store(&info.sha256, &component);
        }
        Ok(component)
    }
}

async fn work(
    module: Module,
    spec: FilterSpec,
    permit: Permit,
    ticker: Arc<Ticker>,
    queue: mpsc::Receiver<Call>,
    started: oneshot::Sender<Result<(), GuestError>>,
) {
    match Worker::start(module, spec, permit, &ticker).await {
        Ok(worker) => {
            if started.send(Ok(())).is_ok() {
                worker.run(queue, &ticker).await;
            }
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    }
}

impl Module {
    /// What the module is.
    pub fn info(&self) -> &ModuleInfo {
        &self.inner.info
    }

    pub(crate) fn pre(&self) -> &FilterPre<State> {
        &self.inner.pre
    }

    /// The seed of the hash maps in every instance of this module.
    pub(crate) fn hash_seed(&self) -> (u64, u64) {
        let half = |range: std::ops::Range<usize>| {
            u64::from_le_bytes(self.inner.info.sha256[range].try_into().expect("eight bytes"))
        };
        (half(0..8), half(8..16))
    }
}

/// How guests are compiled and what they get: the same output on every machine, and a yield at every tick.
fn settings(config: &EngineConfig) -> Config {
    let mut settings = Config::new();
    settings
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .parallel_compilation(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(DEEP))
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)));
    settings
}

/// Address space for all instances, reserved at once and used when needed.
fn pool(config: &EngineConfig) -> PoolingAllocationConfig {
    let instances = config.max_instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(8))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(4))
        .total_stacks(instances)
        .max_unused_warm_slots(4);
    pool
}
