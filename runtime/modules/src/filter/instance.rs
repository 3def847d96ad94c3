//! Instance: one filter in its store, and the calls into it.
//!
//! Invariant: whatever goes wrong inside becomes a [`GuestError`] that says which limit or rule was broken.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::{Store, Trap, UpdateDeadline};

use super::{
    BatchInput, Bitmap, FilterSpec, Rewritten, Verdict,
    contract::{Filter, transform},
};
use crate::{
    GuestError,
    engine::Module,
    host::{HostStop, State},
    log_ring::cut,
    meter::Meter,
};

/// Handles (streams, pollables) that a guest may hold at once.
const MAX_HANDLES: usize = 1_000;
/// Call frames from which an access outside memory is taken for the end of the guest's own stack,
/// which lies at the bottom of its memory.
pub(crate) const DEEP: usize = 500;

/// One filter in its store.
pub(crate) struct Instance {
    store: Store<State>,
    filter: Filter,
    meter: Arc<Meter>,
    outputs: usize,
}

impl Instance {
    /// Instantiates the module and calls its `init`.
    pub(crate) async fn start(module: &Module, spec: &FilterSpec) -> Result<Self, GuestError> {
        let meter = Arc::new(Meter::new());
        let mut state = State::new(Arc::clone(&spec.scope), Arc::clone(&meter), module.hash_seed());
        state.place.clone_from(&spec.place);
        let mut store = Store::new(module.pre().engine(), state);
        store.limiter(|state| state);
        store.set_max_component_handles(MAX_HANDLES);
        store.epoch_deadline_callback(|store| {
            let state = store.data();
            if state.meter.running() > state.scope.deadline() {
                return Err(HostStop::Deadline.into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        let result = meter.time(init(&mut store, module, spec)).await;
        spec.scope.counters().spent(meter.spent());
        store.data_mut().end_batch();
        match result {
            Ok((filter, Ok(()))) => Ok(Self { store, filter, meter, outputs: spec.outputs.len() }),
            Ok((_, Err(message))) => {
                Err(GuestError::InitFailed { message: cut(&message).to_owned() })
            }
            Err(error) => Err(classify(&error, store.data())),
        }
    }

    /// Runs the filter over one batch.
    pub(crate) async fn process(&mut self, batch: &BatchInput) -> Result<Verdict, GuestError> {
        let state = self.store.data_mut();
        state.start_batch(batch);
        let limits = state.scope.limits();
        // What the guest returns is copied out of its memory, which is bounded by its own limit.
        self.store.set_hostcall_fuel(limits.memory_bytes.saturating_add(1 << 20));
        self.store.set_epoch_deadline(1);
        let info = transform::BatchInfo {
            topic: &batch.topic,
            partition: batch.partition,
            base_offset: batch.base_offset,
            base_timestamp: batch.base_timestamp,
            count: batch.count,
        };
        let call = self.filter.millstream_module_transform();
        let call = call.call_process(&mut self.store, info, &batch.records);
        let result = self.meter.time(call).await;
        let state = self.store.data_mut();
        state.end_batch();
        state.scope.counters().spent(self.meter.spent());
        match result {
            Ok(Ok(verdict)) => {
                let allowed = limits.output_bytes(batch.records.len());
                check(verdict, batch.count, self.outputs, allowed)
            }
            Ok(Err(refusal)) => Err(refused(&refusal, batch.count)),
            Err(error) => Err(classify(&error, self.store.data())),
        }
    }

    /// Whether the instance has more memory than a limit that was lowered since.
    pub(crate) fn is_over_memory(&self) -> bool {
        let state = self.store.data();
        state.memory_bytes > state.scope.limits().memory_bytes
    }
}

async fn init(
    store: &mut Store<State>,
    module: &Module,
    spec: &FilterSpec,
) -> wasmtime::Result<(Filter, Result<(), String>)> {
    store.set_epoch_deadline(1);
    let filter = module.pre().instantiate_async(&mut *store).await?;
    let params: Vec<(&str, &str)> =
        spec.params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let outputs: Vec<&str> = spec.outputs.iter().map(String::as_str).collect();
    let answer = filter.millstream_module_transform().call_init(store, &params, &outputs).await?;
    Ok((filter, answer))
}

fn check(
    verdict: transform::Verdict,
    count: u32,
    outputs: usize,
    allowed: usize,
) -> Result<Verdict, GuestError> {
    match verdict {
        transform::Verdict::All => Ok(Verdict::All),
        transform::Verdict::None => Ok(Verdict::None),
        transform::Verdict::Bitmap(bits) => {
            let bitmap = Bitmap::check(bits, count);
            bitmap.map(Verdict::Keep).map_err(|reason| GuestError::BadOutput { reason })
        }
        transform::Verdict::Rewritten(bytes) if bytes.len() > allowed => {
            Err(GuestError::OutputLimit { bytes: bytes.len(), limit: allowed })
        }
        transform::Verdict::Rewritten(bytes) => {
            let rewritten = Rewritten::check(Bytes::from(bytes), count, outputs);
            rewritten
                .map(Verdict::Rewritten)
                .map_err(|error| GuestError::BadOutput { reason: error.to_string() })
        }
    }
}

fn refused(refusal: &transform::Refusal, count: u32) -> GuestError {
    if refusal.index >= count {
        let reason = format!("it refuses record {} of {count}", refusal.index);
        return GuestError::BadOutput { reason };
    }
    GuestError::Refused { index: refusal.index, message: cut(&refusal.message).to_owned() }
}

/// Says what an error of a call means.
fn classify(error: &wasmtime::Error, state: &State) -> GuestError {
    let limits = state.scope.limits();
    if let Some(stop) = error.downcast_ref::<HostStop>() {
        return match stop {
            HostStop::Deadline => GuestError::DeadlineExceeded { deadline: limits.deadline },
            HostStop::Exit | HostStop::TooMuch => GuestError::Trap { message: stop.to_string() },
        };
    }
    // A guest whose allocation was refused usually aborts by a trap of its own.
    if state.memory_refused {
        return GuestError::MemoryLimit { limit: limits.memory_bytes };
    }
    let Some(trap) = error.downcast_ref::<Trap>() else {
        return GuestError::BadOutput { reason: format!("{error:#}") };
    };
    let frames =
        error.downcast_ref::<wasmtime::WasmBacktrace>().map_or(0, |trace| trace.frames().len());
    match trap {
        Trap::StackOverflow => GuestError::StackOverflow,
        Trap::MemoryOutOfBounds if frames >= DEEP => GuestError::StackOverflow,
        _ if state.last_error_line.is_empty() => GuestError::Trap { message: trap.to_string() },
        _ => GuestError::Trap { message: format!("{trap}: {}", state.last_error_line) },
    }
}
