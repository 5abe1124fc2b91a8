//! From a component's bytes to a plugin that is ready to be called.
//!
//! Owns the order of the checks: size, precompiled code, contract, capabilities, compilation,
//! linking. Each refusal names the plugin and the remedy. It never runs on the request path.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use super::bindings::exports::nuke::plugin::{postprocessor, preprocessor};
use super::bindings::nuke::plugin as host;
use super::contract::{Contract, ContractError};
use super::engine::PluginEngine;
use super::imports::BundleContext;
use super::instance::InstanceState;
use super::limits::PluginLimits;
use super::pool::{InstancePool, Lease, PoolStatus};
use crate::config::Capability;
use crate::error::Error;

/// What is to be loaded, for whom and with which rights.
#[derive(Clone, Debug)]
pub struct PluginSource {
    /// The component's bytes, read once.
    pub component: Bytes,
    /// What the bundle declares.
    pub declared: Vec<Capability>,
    /// What the operator allows.
    pub allowed: Vec<Capability>,
    /// Whom it serves, with the files and settings it may see.
    pub bundle: BundleContext,
    /// Its limits.
    pub limits: PluginLimits,
}

/// Why a plugin cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Over the size limit.
    #[error("plugin '{plugin}' has {size} bytes; the limit is {limit} (plugins.component_size)")]
    TooLarge {
        /// The plugin.
        plugin: String,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It wants more memory from the start than it may ever have.
    #[error("plugin '{plugin}' starts with {wanted} bytes of memory; the limit is {limit} (plugins.memory)")]
    Memory {
        /// The plugin.
        plugin: String,
        /// What its modules declare, in bytes.
        wanted: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// Native code where a component is needed.
    #[error("plugin '{0}' is precompiled code, which is run unchecked; give the .wasm component instead")]
    Precompiled(String),
    /// It does not fit the contract.
    #[error("plugin '{plugin}' {source}")]
    Contract {
        /// The plugin.
        plugin: String,
        /// Why.
        source: ContractError,
    },
    /// It imports what its bundle does not declare.
    #[error("plugin '{plugin}' imports nuke:plugin/{}; add `capabilities: [{0}]` to bundle.yaml", capability.as_str())]
    Undeclared {
        /// The plugin.
        plugin: String,
        /// What it imports.
        capability: Capability,
    },
    /// It imports what the operator does not allow.
    #[error("plugin '{plugin}' imports nuke:plugin/{}, which this host does not allow (plugins.allow)", capability.as_str())]
    Forbidden {
        /// The plugin.
        plugin: String,
        /// What it imports.
        capability: Capability,
    },
    /// wasmtime cannot compile or link it.
    #[error("plugin '{plugin}': {message}")]
    Rejected {
        /// The plugin.
        plugin: String,
        /// Why, on one line.
        message: String,
    },
}

/// A compiled, linked component: all that a fresh instance needs.
pub(super) struct Prepared {
    pub(super) instance_pre: InstancePre<InstanceState>,
    pub(super) preprocessor: Option<preprocessor::GuestIndices>,
    pub(super) postprocessor: Option<postprocessor::GuestIndices>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

/// A loaded plugin with its warm instances. Clones share them.
#[derive(Clone, Debug)]
pub struct Plugin {
    pub(super) engine: Arc<PluginEngine>,
    pub(super) pool: Arc<InstancePool>,
    contract: Contract,
}

impl Plugin {
    /// Checks, compiles and links a component. Takes CPU seconds for a large one: call it on a
    /// blocking thread.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(engine: &Arc<PluginEngine>, source: PluginSource) -> Result<Self, LoadError> {
        let plugin = source.bundle.plugin.clone();
        let contract = check(&plugin, &source)?;
        let rejected = |error: wasmtime::Error| LoadError::Rejected {
            plugin: plugin.clone(),
            message: one_line(&error),
        };
        let component = Component::new(engine.engine(), &source.component).map_err(rejected)?;
        let prepared = prepare(engine, &component, &contract).map_err(rejected)?;
        let pool = InstancePool::new(Arc::new(prepared), Arc::new(source.bundle), source.limits);
        spawn_janitor(engine, &pool);
        Ok(Self { engine: Arc::clone(engine), pool, contract })
    }

    /// Makes a first instance, which checks the types of its exports and runs its start functions.
    ///
    /// # Errors
    /// How it failed.
    pub async fn probe(&self) -> Result<(), Error> {
        let pool = Arc::clone(&self.pool);
        let made = self.engine.cpu().spawn(async move { pool.lease().await.map(Lease::give_back) });
        made.await.unwrap_or_else(|error| Err(Error::internal(format!("the first instance: {error}"))))
    }

    /// Which halves it has and what it imports.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Its name, for logs and errors.
    pub fn name(&self) -> &str {
        self.pool.plugin_name()
    }

    /// How its instances stand.
    pub fn status(&self) -> PoolStatus {
        self.pool.status()
    }
}

/// Reads the contract and holds it against what was declared and allowed.
fn check(plugin: &str, source: &PluginSource) -> Result<Contract, LoadError> {
    let plugin = || plugin.to_owned();
    let (size, limit) = (source.component.len(), source.limits.component_size);
    if size > limit {
        return Err(LoadError::TooLarge { plugin: plugin(), size, limit });
    }
    if wasmtime::Engine::detect_precompiled(&source.component).is_some() {
        return Err(LoadError::Precompiled(plugin()));
    }
    let contract = Contract::read(&source.component)
        .map_err(|source| LoadError::Contract { plugin: plugin(), source })?;
    let (wanted, limit) = (contract.initial_memory, source.limits.memory);
    if wanted > limit as u64 {
        return Err(LoadError::Memory { plugin: plugin(), wanted, limit });
    }
    for &capability in &contract.capabilities {
        if !source.declared.contains(&capability) {
            return Err(LoadError::Undeclared { plugin: plugin(), capability });
        }
        if !source.allowed.contains(&capability) {
            return Err(LoadError::Forbidden { plugin: plugin(), capability });
        }
    }
    Ok(contract)
}

fn prepare(engine: &PluginEngine, component: &Component, contract: &Contract) -> wasmtime::Result<Prepared> {
    let mut linker: Linker<InstanceState> = Linker::new(engine.engine());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    for capability in &contract.capabilities {
        match capability {
            Capability::Logging => {
                host::logging::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
            }
            Capability::Bundle => {
                host::bundle::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
            }
            Capability::Image => {
                host::image::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
            }
        }
    }
    let instance_pre = linker.instantiate_pre(component)?;
    let preprocessor =
        contract.preprocessor.then(|| preprocessor::GuestIndices::new(&instance_pre)).transpose()?;
    let postprocessor =
        contract.postprocessor.then(|| postprocessor::GuestIndices::new(&instance_pre)).transpose()?;
    Ok(Prepared { instance_pre, preprocessor, postprocessor })
}

/// Retires idle instances for as long as the pool lives.
fn spawn_janitor(engine: &PluginEngine, pool: &Arc<InstancePool>) {
    let period = (pool.limits().idle / 2)
        .clamp(std::time::Duration::from_millis(100), std::time::Duration::from_secs(10));
    let pool = Arc::downgrade(pool);
    engine.cpu().spawn(async move {
        loop {
            tokio::time::sleep(period).await;
            let Some(pool) = pool.upgrade() else {
                return;
            };
            pool.drop_idle();
        }
    });
}

fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
