//! One running plugin: its store, its memory and what it has been granted.
//!
//! Owns the state behind a guest's imports. It never outlives a trap: the pool drops it.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::bindings::exports::nuke::plugin::{postprocessor, preprocessor};
use super::clock::{CpuClock, Metered};
use super::imports::{BundleContext, LogBudget, PictureBudget};
use super::limits::{MemoryLimiter, PluginLimits};
use super::loader::Prepared;
use super::output::CapturedOutput;

/// Host handles that one instance may hold at once (pictures, and WASI's own).
const HANDLES: usize = 256;

/// The host's side of one instance.
pub(super) struct InstanceState {
    wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) memory: MemoryLimiter,
    pub(super) output: CapturedOutput,
    pub(super) bundle: Arc<BundleContext>,
    pub(super) log: LogBudget,
    pub(super) pictures: PictureBudget,
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// One instance with the exports it has.
pub(super) struct Instance {
    pub(super) store: Store<InstanceState>,
    pub(super) preprocessor: Option<preprocessor::Guest>,
    pub(super) postprocessor: Option<postprocessor::Guest>,
    pub(super) clock: Arc<CpuClock>,
    pub(super) calls: u64,
    pub(super) last_used: Instant,
}

/// An instance cannot be made; the state says why.
pub(super) struct InstantiateFailure {
    pub(super) error: wasmtime::Error,
    pub(super) store: Store<InstanceState>,
    pub(super) clock: Arc<CpuClock>,
}

impl Instance {
    /// Makes a fresh instance and runs its start functions, within the limits of a call.
    pub(super) async fn create(
        prepared: &Prepared,
        bundle: Arc<BundleContext>,
        limits: &PluginLimits,
    ) -> Result<Self, Box<InstantiateFailure>> {
        let clock = CpuClock::new();
        let mut store = new_store(prepared, bundle, limits, &clock);
        let instantiation = prepared.instance_pre.instantiate_async(&mut store);
        let made = Metered::new(instantiation, Arc::clone(&clock), limits.time).await;
        let loaded = made.unwrap_or_else(|_| Err(wasmtime::Trap::Interrupt.into())).and_then(|instance| {
            let preprocessor = match &prepared.preprocessor {
                Some(indices) => Some(indices.load(&mut store, &instance)?),
                None => None,
            };
            let postprocessor = match &prepared.postprocessor {
                Some(indices) => Some(indices.load(&mut store, &instance)?),
                None => None,
            };
            Ok((preprocessor, postprocessor))
        });
        match loaded {
            Ok((preprocessor, postprocessor)) => {
                Ok(Self { store, preprocessor, postprocessor, clock, calls: 0, last_used: Instant::now() })
            }
            Err(error) => Err(Box::new(InstantiateFailure { error, store, clock })),
        }
    }

    /// Gives the next call its time, its output and its log lines.
    pub(super) fn begin_call(&mut self) {
        self.calls += 1;
        self.clock.reset();
        self.store.set_epoch_deadline(1);
        let state = self.store.data_mut();
        state.log.refill();
        // What an earlier call was refused, and lived with, does not explain this one's failure.
        state.memory.take_refused();
    }
}

fn new_store(
    prepared: &Prepared,
    bundle: Arc<BundleContext>,
    limits: &PluginLimits,
    clock: &Arc<CpuClock>,
) -> Store<InstanceState> {
    let output = CapturedOutput::new(limits.log);
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(output.clone()).stderr(output.clone()).max_random_size(1 << 20);
    let mut table = ResourceTable::new();
    table.set_max_capacity(HANDLES);
    let state = InstanceState {
        wasi: wasi.build(),
        table,
        memory: MemoryLimiter::new(limits.memory),
        output,
        bundle,
        log: LogBudget::new(limits.log),
        pictures: PictureBudget::new(limits.pixels, limits.memory),
    };
    let mut store = Store::new(prepared.instance_pre.engine(), state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits.output);
    store.set_max_component_handles(HANDLES);
    store.set_epoch_deadline(1);
    let (clock, time) = (Arc::clone(clock), limits.time);
    store.epoch_deadline_callback(move |_| {
        if clock.spent() > time {
            return Ok(UpdateDeadline::Interrupt);
        }
        clock.note_yield();
        Ok(UpdateDeadline::Yield(1))
    });
    store
}
