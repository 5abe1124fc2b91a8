//! The one wasmtime engine, its CPU runtime and its clock.
//!
//! Owns wasmtime's configuration: the only file that names `wasmtime::Config`. It never knows a
//! plugin.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use wasmtime::{Cache, CacheConfig, Config, Enabled, Engine, PoolingAllocationConfig};

use super::limits::TABLE_ELEMENTS;
use crate::paths;

/// How often running guests are looked at: each tick they yield, and may be ended.
const TICK: Duration = Duration::from_millis(5);
/// Instances of all plugins together, where the pooling allocator is used.
const POOLED_INSTANCES: u32 = 512;
/// Slots without an instance that stay as the last module left them.
const WARM_SLOTS: u32 = 16;
/// Bytes of a slot's memory that stay resident between instances.
const KEEP_RESIDENT: usize = 1 << 20;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Threads of the CPU runtime that runs guests and their host functions.
    pub threads: usize,
    /// `Some(true)`: pool memory or fail. `Some(false)`: never. `None`: pool if the address space
    /// allows, else say so loudly and go on without.
    pub pooling: Option<bool>,
    /// The most linear memory that any instance may have.
    pub memory: usize,
    /// A private folder for compiled code; `None` compiles anew at each start.
    pub compile_cache: Option<PathBuf>,
    /// Whether what memories begin with may lie in files in memory, which instances share until they write:
    /// fresh instances are cheaper that way. Not for a process that may write no file.
    pub image_files: bool,
}

/// Why the engine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The compile cache's folder is unusable.
    #[error("compile cache {}: {message}; set plugins.compile_cache to a folder of your own", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// wasmtime refuses the configuration on this machine.
    #[error("plugin engine: {0}")]
    Engine(String),
    /// A thread cannot be started.
    #[error("plugin engine: {0}")]
    Thread(#[from] std::io::Error),
}

/// The process's one engine for plugins. Dropping it ends its threads.
#[derive(Debug)]
pub struct PluginEngine {
    engine: Engine,
    pooled: bool,
    runtime: Option<Runtime>,
}

impl PluginEngine {
    /// Starts the engine, its CPU runtime and its clock.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        let cache = options.compile_cache.clone().map(open_cache).transpose()?;
        let (engine, pooled) = build_engine(options, cache.as_ref())?;
        let ticked = engine.weak();
        std::thread::Builder::new().name("nuke-epoch".to_owned()).spawn(move || {
            while let Some(engine) = ticked.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("nuke-plugin")
            .enable_time()
            .build()?;
        Ok(Self { engine, pooled, runtime: Some(runtime) })
    }

    /// Whether instances come from the pooling allocator.
    pub fn pooled(&self) -> bool {
        self.pooled
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The runtime that plugin calls run on.
    #[allow(clippy::expect_used, reason = "the runtime is only taken in drop")]
    pub(super) fn cpu(&self) -> &Handle {
        self.runtime.as_ref().expect("the runtime lives as long as the engine").handle()
    }
}

impl Drop for PluginEngine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn build_engine(options: &EngineOptions, cache: Option<&Cache>) -> Result<(Engine, bool), EngineError> {
    let build = |pooled: bool| {
        let mut config = base_config(cache);
        config.memory_init_cow(options.image_files);
        if pooled {
            config.allocation_strategy(pooling(options.memory));
        }
        Engine::new(&config)
    };
    if options.pooling != Some(false) {
        match build(true) {
            Ok(engine) => return Ok((engine, true)),
            Err(error) if options.pooling == Some(true) => {
                return Err(EngineError::Engine(format!("plugins.pooling is on, but {error:#}")));
            }
            Err(error) => tracing::warn!(
                error = %format!("{error:#}"),
                "the pooling allocator cannot reserve its address space; instances are allocated on \
                 demand, which makes a fresh one several times slower (set plugins.pooling: off to \
                 silence this, or raise the limit on virtual memory)"
            ),
        }
    }
    let engine = build(false).map_err(|error| EngineError::Engine(format!("{error:#}")))?;
    Ok((engine, false))
}

/// Component-model async, concurrency, GC, exceptions and threads are off: plugins are plain
/// synchronous components, calls are four times cheaper that way, and most of the advisories of 2026
/// lie in those parts.
fn base_config(cache: Option<&Cache>) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .wasm_component_model(true)
        .concurrency_support(false)
        .wasm_gc(false)
        .wasm_exceptions(false)
        .wasm_relaxed_simd(false)
        .native_unwind_info(false)
        // A swap must not take every core away from requests.
        .parallel_compilation(false)
        .cache(cache.cloned());
    config
}

fn pooling(memory: usize) -> PoolingAllocationConfig {
    let mut pooling = PoolingAllocationConfig::default();
    pooling
        .total_component_instances(POOLED_INSTANCES)
        .total_core_instances(POOLED_INSTANCES * 4)
        .total_memories(POOLED_INSTANCES)
        .total_tables(POOLED_INSTANCES * 4)
        .total_stacks(POOLED_INSTANCES)
        .table_elements(TABLE_ELEMENTS)
        .max_tables_per_module(8)
        .max_memory_size(memory)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        // Warm slots belong to the modules that used them: those of modules that were swapped out would keep
        // what they have resident for good.
        .max_unused_warm_slots(WARM_SLOTS)
        .pagemap_scan(Enabled::Auto);
    pooling
}

fn open_cache(path: PathBuf) -> Result<Cache, EngineError> {
    let fail = |message: String| EngineError::Cache { path: path.clone(), message };
    paths::ensure_private(&path).map_err(fail)?;
    let absolute = path.canonicalize().map_err(|error| fail(error.to_string()))?;
    let mut config = CacheConfig::new();
    config.with_directory(absolute);
    Cache::new(config).map_err(|error| fail(format!("{error:#}")))
}
