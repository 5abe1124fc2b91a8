//! Giving memory back to the system after much of it was freed.
//!
//! Owns when the allocator is asked to, and in how many places it keeps what was freed. ONNX Runtime and wasmtime free what a generation or a large run had, on
//! many threads; glibc keeps that in arenas of its own, where it lies in pieces that the next generation, loaded
//! by other threads, does not find. Asked once in a while, it hands whole free pages back.
#![allow(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From a generation's end to the trim: what ends in a row is one trim. It costs milliseconds, in which
/// single allocations of others may wait.
const PAUSE: Duration = Duration::from_millis(100);

/// Arenas for each core: allocating threads that run at the same time seldom meet in one.
const ARENAS: usize = 2;

/// Bounds the arenas of glibc, which are eight for each core if nobody says otherwise: what a generation leaves in
/// one is of no use to the next generation, whose threads allocate from another. To be called before there are
/// threads. What the operator says by glibc's own variables counts.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn bound_arenas() {
    let tuned = std::env::var("GLIBC_TUNABLES").is_ok_and(|text| text.contains("glibc.malloc.arena_max"));
    if tuned || std::env::var_os("MALLOC_ARENA_MAX").is_some() {
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let most = libc::c_int::try_from(ARENAS * cores).unwrap_or(libc::c_int::MAX);
    // SAFETY: mallopt takes no pointer and changes nothing that is allocated; no other thread is there yet. If it
    // refuses the number, there are as many arenas as glibc likes.
    let _set = unsafe { libc::mallopt(libc::M_ARENA_MAX, most) };
}

/// Other allocators have no such number.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) const fn bound_arenas() {}

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
