//! The threads that serve connections.
//!
//! Owns which thread a connection is served by: one of as many as there are cores, that with the fewest, for as
//! long as the connection lasts. Each has a runtime of its own, so that an answer wakes the thread that reads the
//! next request, and no other: threads that share their tasks wake each other for each request, which costs more
//! than a small request itself. What takes long must not run on them: plugins, large bodies and models have threads
//! of their own.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::runtime::{Builder, Runtime};

/// See the module. Cheap to clone; what still runs when the last clone goes is dropped.
#[derive(Clone, Debug)]
pub struct Lanes(Arc<[Lane]>);

#[derive(Debug)]
struct Lane {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    connections: Arc<AtomicUsize>,
}

impl Lanes {
    /// Starts as many threads.
    ///
    /// # Errors
    /// When the system has no more.
    pub fn start(count: usize) -> std::io::Result<Self> {
        (0..count.max(1)).map(Lane::start).collect::<std::io::Result<_>>().map(Self)
    }

    /// One for each core.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn of_this_machine() -> std::io::Result<Self> {
        Self::start(std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get))
    }

    /// Serves a connection to its end on the thread that has the fewest.
    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let least = self.0.iter().min_by_key(|lane| lane.connections.load(Relaxed));
        let Some((lane, runtime)) = least.and_then(|lane| Some((lane, lane.runtime.as_ref()?))) else {
            return;
        };
        let counted = Counted::new(&lane.connections);
        runtime.spawn(async move {
            connection.await;
            drop(counted);
        });
    }
}

impl Lane {
    /// A runtime of one thread that may still hand its connections to another while it does something long.
    fn start(index: usize) -> std::io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime =
            builder.worker_threads(1).thread_name(format!("nuke-http-{index}")).enable_all().build()?;
        Ok(Self { runtime: Some(runtime), connections: Arc::default() })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection, counted for as long as it is there.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn connections_are_shared_out_and_stay_where_they_are() {
        let lanes = Lanes::start(3).unwrap();
        let (told, tells) = mpsc::channel();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        for _ in 0..9 {
            let (told, gate) = (told.clone(), Arc::clone(&gate));
            lanes.spawn(async move {
                let name = || std::thread::current().name().map(str::to_owned);
                let before = name();
                gate.acquire().await.unwrap().forget();
                told.send((before, name())).unwrap();
            });
        }
        gate.add_permits(9);
        let mut each = BTreeMap::new();
        for _ in 0..9 {
            let (before, after) = tells.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
            assert_eq!(before, after);
            *each.entry(after).or_insert(0) += 1;
        }
        assert_eq!(each.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    }

    #[tokio::test]
    async fn they_end_with_their_last_clone_wherever_that_is() {
        let lanes = Lanes::start(1).unwrap();
        let (told, end) = tokio::sync::oneshot::channel::<()>();
        lanes.clone().spawn(async move {
            std::future::pending::<()>().await;
            drop(told);
        });
        drop(lanes);
        assert!(end.await.is_err());
    }
}
