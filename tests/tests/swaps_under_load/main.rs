//! Two hundred swaps of every kind under load: no request fails, and each answer comes from exactly one
//! generation, named by its header.
//!
//! `NUKE_TEST_SWAPS` sets another number of swaps, `NUKE_TEST_SEED` another order.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod bad;
mod clients;
mod ledger;
mod operator;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use nuke_tests::{Repository, Server, eventually};

use bad::BAD;
use ledger::Ledger;
use operator::{Operator, SWAPS, Swap};

/// The model whose bundle has a plugin of its own.
const OWN: &str = "own";
/// The model whose bundle refers to a plugin of the plugins folder.
const NAMED: &str = "named";
/// How long files have to be still.
const QUIET: Duration = Duration::from_millis(100);
/// Memory in which a host may grow after its twentieth swap, in bytes, however many come: pools that fill up,
/// but no generations. How much it is, is measured by `tests/bench/swaps.py`.
const KEPT: u64 = 48 << 20;
/// One mistake after so many swaps.
const SWAPS_A_MISTAKE: usize = 6;

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).unwrap_or_default();
    if text.is_empty() { default } else { text.parse().unwrap_or_else(|_| panic!("{variable}={text}")) }
}

/// Puts a list into an order that the seed decides (xorshift).
fn shuffle<T>(list: &mut [T], seed: &mut u64) {
    for at in (1..list.len()).rev() {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        list.swap(at, usize::try_from(*seed % (at as u64 + 1)).unwrap());
    }
}

fn compile_cache(repository: &Repository) -> String {
    repository.models().with_file_name("compiled").display().to_string()
}

/// Memory after twenty swaps, for what comes after them.
fn work(operator: &mut Operator<'_>, swaps: usize, seed: &mut u64) -> u64 {
    let (mut after_twenty, mut mistakes) = (0, 0);
    let mut mistakes_left = Vec::new();
    while operator.times.len() < swaps {
        let mut kinds = SWAPS;
        shuffle(&mut kinds, seed);
        for kind in kinds {
            operator.swap(kind);
            if after_twenty == 0 && operator.times.len() >= 20 {
                after_twenty = operator.server.rss();
            }
            if operator.times.len().is_multiple_of(100) {
                println!("RSS {} MiB after {} swaps", operator.server.rss() >> 20, operator.times.len());
            }
            if operator.times.len() / SWAPS_A_MISTAKE > mistakes {
                mistakes += 1;
                if mistakes_left.is_empty() {
                    mistakes_left = BAD.to_vec();
                    shuffle(&mut mistakes_left, seed);
                }
                operator.mistake(mistakes_left.pop().unwrap());
            }
            let (failed, misversioned, faults) = operator.ledger.faults();
            assert_eq!((failed, misversioned), (0, 0), "after {kind:?}: {faults:#?}");
        }
    }
    after_twenty
}

fn report(times: &[(Swap, Duration)]) {
    let mut by_kind: BTreeMap<Swap, Vec<Duration>> = BTreeMap::new();
    for (kind, time) in times {
        by_kind.entry(*kind).or_default().push(*time);
    }
    for (kind, mut times) in by_kind {
        times.sort();
        let (count, median, longest) = (times.len(), times[times.len() / 2], times[times.len() - 1]);
        println!("{count:4} x {kind:?}: median {median:.0?}, longest {longest:.0?} from change to answer");
    }
}

#[test]
fn every_answer_comes_from_one_generation_through_two_hundred_swaps() {
    let swaps = usize::try_from(number("NUKE_TEST_SWAPS", 200)).unwrap();
    let seed = number("NUKE_TEST_SEED", 0x6e75_6b65).max(1);
    println!("{swaps} swaps at least, NUKE_TEST_SEED={seed}");
    let repository = Repository::new();
    let plugins = Operator::fill(&repository);
    let server = Server::builder()
        .repository(&repository)
        .set("repository.quiet", &format!("{}ms", QUIET.as_millis()))
        .set("repository.rescan", "500ms")
        .set("plugins.compile_cache", &compile_cache(&repository))
        .set("log.access", "false")
        .start();
    let ledger = Ledger::new(&[OWN, NAMED]);
    let mut operator = Operator::new(&repository, &server, &ledger, plugins);
    let (over, began) = (AtomicBool::new(false), Instant::now());
    let after_twenty = thread::scope(|scope| {
        clients::start(scope, &server, &ledger, &over);
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut operator, swaps, &mut seed.clone())));
        over.store(true, SeqCst);
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    });
    let took = began.elapsed();
    let (failed, misversioned, faults) = ledger.faults();
    assert_eq!((failed, misversioned), (0, 0), "{faults:#?}");
    let answered = ledger.answered();
    report(&operator.times);
    let rss = server.rss();
    println!(
        "{} swaps in {took:.0?}; answers by HTTP/1.1 predict and infer, HTTP/2 predict and infer: {answered:?}; \
         0 failed, 0 of another version; RSS {} MiB after 20 swaps, {} MiB at the end",
        operator.times.len(),
        after_twenty >> 20,
        rss >> 20
    );
    assert!(answered.iter().all(|count| *count > swaps), "{answered:?}");
    assert!(rss < after_twenty + KEPT, "memory of generations is kept: {after_twenty} to {rss} bytes");
    eventually("all that was replaced is gone", || {
        let metrics = server.metrics();
        let workers = [OWN, NAMED].map(|model| metrics.sum("nuke_workers", &[("model", model)]));
        workers == [1.0, 1.0] && metrics.sum("nuke_requests_in_flight", &[]) == 0.0
    });
}
