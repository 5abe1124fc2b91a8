//! Giving memory back to the system after much of it was freed.
//!
//! Owns when the allocator is asked to. ONNX Runtime and wasmtime free what a generation or a large run had, on
//! many threads; glibc keeps that in arenas of its own, where it lies in pieces that the next generation, loaded
//! by other threads, does not find. Asked once in a while, it hands whole free pages back.
#![allow(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From a generation's end to the trim: what ends in a row is one trim. It costs milliseconds, in which
/// single allocations of others may wait.
const PAUSE: Duration = Duration::from_millis(100);

/// When to trim next.
#[derive(Debug, Default)]
pub(crate) struct Trim(Option<Instant>);

impl Trim {
    /// Something large was freed.
    pub(crate) fn ask(&mut self) {
        self.0.get_or_insert_with(|| Instant::now() + PAUSE);
    }

    /// When it is due, if it is.
    pub(crate) const fn at(&self) -> Option<Instant> {
        self.0
    }

    /// Trims, on a blocking thread.
    pub(crate) fn start(&mut self) {
        self.0 = None;
        drop(tokio::task::spawn_blocking(trim));
    }
}

/// Trims now, on a thread of its own, unless that was done a moment ago.
pub(crate) fn trim_now() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_some_and(|last| last.elapsed() < PAUSE) {
        return;
    }
    *last = Some(Instant::now());
    if let Err(error) = std::thread::Builder::new().name("trim".to_owned()).spawn(trim) {
        tracing::debug!(%error, "no thread to give memory back on");
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn trim() {
    let began = Instant::now();
    // SAFETY: malloc_trim takes no pointer, may be called from any thread at any time, and changes nothing that
    // is allocated.
    let gave = unsafe { libc::malloc_trim(0) };
    let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(gave_back = gave == 1, took_us, "the allocator was asked to give memory back");
}

/// Other allocators give back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) const fn trim() {}
