//! One uninterrupted stretch of load: threads, connections, senders, and the pacer of an open loop.
//!
//! Owns the threads: all are joined before it returns. It never prints.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Barrier, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::error::ClientError;
use super::args::Arrival;
use super::channel::Channel;
use super::request::Prepared;
use super::schedule::{Limit, Schedule};
use super::tally::{ProcessorUse, Tally};
use super::worker::{Shared, Turns, work};

/// How often the caller hears of the progress, and looks for the end.
const TICK: Duration = Duration::from_millis(25);
/// The longest sleep of the pacer, so that it sees a stop.
const LONGEST_NAP: Duration = Duration::from_millis(50);

/// Who decides when a request is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// The answer to the one before.
    Closed,
    /// A schedule.
    Open {
        /// Requests a second.
        rate: f64,
        /// The gaps between them.
        arrival: Arrival,
    },
}

/// What to do.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// What is sent.
    pub(super) prepared: Prepared,
    /// Who decides when.
    pub(super) pace: Pace,
    /// Where random gaps begin.
    pub(super) seed: u64,
    /// The most requests in flight.
    pub(super) concurrency: u32,
    /// h2 connections to share; `None` for HTTP/1.1, where each request in flight has its own.
    pub(super) http2_connections: Option<u32>,
    /// The most threads to use.
    pub(super) threads: u32,
    /// What begins earlier is not measured.
    pub(super) warmup: Duration,
    /// When to end.
    pub(super) limit: Limit,
    /// The most that one request may take.
    pub(super) timeout: Duration,
    /// Whether each success is kept with its moment, not only counted.
    pub(super) keeps_points: bool,
}

/// Runs a phase to its end or until `stop` is set, calling `tick` meanwhile.
///
/// # Errors
/// [`ClientError::Usage`] if the system gives no thread or no histogram. Failing requests are no
/// errors of this kind: they are in the tally.
pub(super) fn run(
    phase: &Phase,
    stop: &Arc<AtomicBool>,
    tick: impl Fn(&Shared),
) -> Result<Tally, ClientError> {
    let shared = Arc::new(shared_of(phase, stop));
    let groups = channel_groups(phase);
    let mut total = Tally::new()?;
    let mut tallies: Vec<_> = groups.iter().map(|_| Tally::new()).collect::<Result<_, _>>()?;
    if phase.keeps_points {
        tallies.iter_mut().for_each(|tally| tally.points = Some(Vec::new()));
    }
    let runtimes: Vec<_> = groups.iter().map(|_| runtime()).collect::<Result<_, _>>()?;
    let connected = Barrier::new(groups.len() + usize::from(shared.turns.is_some()));
    thread::scope(|scope| {
        let mut senders = Vec::new();
        for ((channels, runtime), tally) in groups.into_iter().zip(runtimes).zip(tallies) {
            let (shared, connected) = (&shared, &connected);
            senders.push(scope.spawn(move || send(&runtime, channels, shared, connected, tally)));
        }
        if let Some(turns) = &shared.turns {
            let (shared, connected) = (&shared, &connected);
            scope.spawn(move || pace(shared, turns, phase.concurrency, connected));
        }
        while !senders.iter().all(thread::ScopedJoinHandle::is_finished) {
            tick(&shared);
            thread::sleep(TICK);
        }
        for sender in senders {
            let tally = sender.join().map_err(|_| ClientError::Usage("a load thread panicked".to_owned()))?;
            total.merge(&tally);
        }
        tick(&shared);
        Ok(total)
    })
}

fn shared_of(phase: &Phase, stop: &Arc<AtomicBool>) -> Shared {
    let turns = match phase.pace {
        Pace::Closed => None,
        Pace::Open { rate, arrival } => {
            let schedule = Schedule::new(rate, arrival, phase.seed, phase.warmup, phase.limit);
            Some(Turns { released: Semaphore::new(0), schedule: Mutex::new(schedule) })
        }
    };
    Shared {
        prepared: phase.prepared.clone(),
        timeout: phase.timeout,
        warmup: phase.warmup,
        limit: phase.limit,
        turns,
        start: OnceLock::new(),
        stop: Arc::clone(stop),
        begun: AtomicU64::new(0),
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    }
}

fn runtime() -> Result<Runtime, ClientError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ClientError::Usage(format!("cannot start a load thread: {error}")))
}

/// The channels of each thread. The streams of an h2 connection stay on one thread.
fn channel_groups(phase: &Phase) -> Vec<Vec<Channel>> {
    let host = phase.prepared.host();
    let links = phase.http2_connections.unwrap_or(phase.concurrency).min(phase.concurrency);
    let mut groups: Vec<Vec<Channel>> = (0..phase.threads.min(links)).map(|_| Vec::new()).collect();
    let threads = groups.len();
    for link in 0..links {
        let group = &mut groups[link as usize % threads];
        match phase.http2_connections {
            None => group.push(Channel::http1(host.clone())),
            Some(_) => {
                let streams = phase.concurrency / links + u32::from(link < phase.concurrency % links);
                group.extend(Channel::http2(host, streams));
            }
        }
    }
    groups
}

/// The life of one load thread.
fn send(
    runtime: &Runtime,
    mut channels: Vec<Channel>,
    shared: &Arc<Shared>,
    connected: &Barrier,
    tally: Tally,
) -> Tally {
    runtime.block_on(async {
        for channel in &mut channels {
            if channel.open(shared.timeout).await.is_err() {
                // The requests will meet the same fault, and record it.
                break;
            }
        }
    });
    connected.wait();
    let start = shared.start();
    let before = processor_use();
    let tally = Arc::new(Mutex::new(tally));
    runtime.block_on(async {
        let mut senders = JoinSet::new();
        for channel in channels {
            senders.spawn(work(channel, Arc::clone(shared), Arc::clone(&tally)));
        }
        while senders.join_next().await.is_some() {}
    });
    let after = processor_use();
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
    tally.thread_time = start.elapsed();
    tally.processor = after.zip(before).map(|(after, before)| after.since(before));
    tally
}

/// Releases each turn of an open loop when its moment has come, and at the end one for each sender,
/// to find that there are no more.
fn pace(shared: &Shared, turns: &Turns, senders: u32, connected: &Barrier) {
    let schedule = super::worker::lock(&turns.schedule).clone();
    sharpen_timer();
    connected.wait();
    let start = shared.start();
    for due in schedule {
        if !sleep_until(start, due, shared) {
            break;
        }
        turns.released.add_permits(1);
    }
    turns.released.add_permits(senders as usize);
}

/// Sleeps up to a moment; false if the phase is to end early.
fn sleep_until(start: Instant, due: Duration, shared: &Shared) -> bool {
    loop {
        if shared.is_stopped() {
            return false;
        }
        let left = due.saturating_sub(start.elapsed());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(LONGEST_NAP));
    }
}

/// Asks the system to wake this thread up on time, not up to 50 us late as is its habit. Where it
/// will not, the lag is larger, and is reported as it is.
fn sharpen_timer() {
    let Ok(this_thread) = std::fs::read_link("/proc/thread-self") else { return };
    let Some(id) = this_thread.file_name() else { return };
    let _ = std::fs::write(std::path::Path::new("/proc").join(id).join("timerslack_ns"), "1");
}

/// How long this thread has run, and how long it was ready but had no processor, where the system
/// tells it.
fn processor_use() -> Option<ProcessorUse> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let mut fields = text.split_whitespace().map(|field| field.parse().ok().map(Duration::from_nanos));
    Some(ProcessorUse { ran: fields.next()??, waited: fields.next()?? })
}
