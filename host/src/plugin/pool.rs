//! Warm instances of one plugin.
//!
//! Owns how many there are, who may use one and when one is retired. An instance leaves the pool
//! for one call; it comes back only if the call ended in order. A call that traps, runs out of time
//! or is cancelled takes its instance with it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::imports::BundleContext;
use super::instance::Instance;
use super::limits::PluginLimits;
use super::loader::Prepared;
use super::trap;
use crate::error::{Error, ErrorCode};

/// Calls that may wait for each instance before the next is refused.
const WAITING_PER_INSTANCE: usize = 256;

/// How a pool stands, for metrics and the admin API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Instances in use or idle.
    pub instances: usize,
    /// Instances made since the start.
    pub created: u64,
    /// Instances dropped because a call failed or was cancelled.
    pub broken: u64,
}

#[derive(Debug)]
pub(super) struct InstancePool {
    prepared: Arc<Prepared>,
    bundle: Arc<BundleContext>,
    limits: PluginLimits,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Instance>>,
    live: AtomicUsize,
    created: AtomicU64,
    broken: AtomicU64,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl InstancePool {
    pub(super) fn new(
        prepared: Arc<Prepared>,
        bundle: Arc<BundleContext>,
        limits: PluginLimits,
    ) -> Arc<Self> {
        Arc::new(Self {
            prepared,
            bundle,
            permits: Arc::new(Semaphore::new(limits.instances.max(1))),
            limits,
            waiting: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
            live: AtomicUsize::new(0),
            created: AtomicU64::new(0),
            broken: AtomicU64::new(0),
        })
    }

    pub(super) fn limits(&self) -> &PluginLimits {
        &self.limits
    }

    pub(super) fn plugin_name(&self) -> &str {
        &self.bundle.plugin
    }

    pub(super) fn status(&self) -> PoolStatus {
        PoolStatus {
            instances: self.live.load(Relaxed),
            created: self.created.load(Relaxed),
            broken: self.broken.load(Relaxed),
        }
    }

    /// Drops instances that have lain unused for longer than they may.
    pub(super) fn drop_idle(&self) {
        let Some(oldest) = Instant::now().checked_sub(self.limits.idle) else {
            return;
        };
        let retired: Vec<Instance> = {
            let mut idle = self.idle();
            let expired = idle.partition_point(|instance| instance.last_used < oldest);
            let kept = idle.split_off(expired);
            std::mem::replace(&mut *idle, kept)
        };
        self.live.fetch_sub(retired.len(), Relaxed);
    }

    /// Takes a warm instance, or makes a fresh one, once fewer than the limit are in use.
    ///
    /// # Errors
    /// `ResourceExhausted` if too many wait already; `PluginFault` if the fresh instance fails.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Error> {
        let permit = self.permit().await?;
        // The most recently used one: its memory is in the caches, and the others can age out.
        let warm = self.idle().pop();
        let instance = match warm {
            Some(instance) => instance,
            None => self.create().await?,
        };
        Ok(Lease { pool: Arc::clone(self), instance: Some(instance), _permit: permit })
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = Waiting::enter(self)?;
        Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Error::new(ErrorCode::Unavailable, "the plugin is being unloaded"))
    }

    async fn create(&self) -> Result<Instance, Error> {
        let made = Instance::create(&self.prepared, Arc::clone(&self.bundle), &self.limits).await;
        let instance = made.map_err(|failure| {
            let mut failure = *failure;
            self.broken.fetch_add(1, Relaxed);
            trap::describe(
                self.plugin_name(),
                &self.limits,
                &failure.error,
                &mut failure.store,
                &failure.clock,
            )
        })?;
        self.created.fetch_add(1, Relaxed);
        self.live.fetch_add(1, Relaxed);
        Ok(instance)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a call that waits for an instance, however its wait ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(pool: &'a InstancePool) -> Result<Self, Error> {
        let limit = pool.limits.instances.max(1) * WAITING_PER_INSTANCE;
        let guard = Self(&pool.waiting);
        if pool.waiting.fetch_add(1, Relaxed) >= limit {
            return Err(Error::new(
                ErrorCode::ResourceExhausted,
                format!("{limit} calls wait for plugin '{}' already; try again later", pool.plugin_name()),
            ));
        }
        Ok(guard)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// An instance out on a call. Dropped, it takes the instance with it; [`Lease::give_back`] is the
/// one way home.
pub(super) struct Lease {
    pool: Arc<InstancePool>,
    instance: Option<Instance>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    #[allow(
        clippy::expect_used,
        reason = "the instance is only taken by give_back, which consumes the lease"
    )]
    pub(super) fn instance(&mut self) -> &mut Instance {
        self.instance.as_mut().expect("a lease holds its instance until it is given back")
    }

    /// Returns the instance after a call that ended in order, unless it has served its time.
    pub(super) fn give_back(mut self) {
        if self.instance().calls >= self.pool.limits.calls_per_instance {
            return self.retire();
        }
        if let Some(mut instance) = self.instance.take() {
            instance.last_used = Instant::now();
            self.pool.idle().push(instance);
        }
    }

    /// Drops an instance that has served its time.
    pub(super) fn retire(mut self) {
        if self.instance.take().is_some() {
            self.pool.live.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.instance.take().is_some() {
            self.pool.live.fetch_sub(1, Relaxed);
            self.pool.broken.fetch_add(1, Relaxed);
        }
    }
}
