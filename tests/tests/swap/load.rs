//! Swaps under load: no request fails, and each is answered by one version from beginning to end.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nuke_tests::{Repository, Server, eventually};

use crate::{
    INFER, answers, ask, builder, drop_in, eventually_answers, factor, old, one_tiny, replace, tiny,
};

/// What clients saw while `work` went on.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicUsize,
    failed: Mutex<Vec<String>>,
    /// Version (by its header) and factor of each answer, once.
    pairs: Mutex<BTreeSet<(String, u64)>>,
}

fn hammer(server: &Server, clients: usize, work: impl FnOnce()) -> Seen {
    let (seen, over) = (Seen::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..clients {
            let (client, seen, over) = (server.client(), &seen, &over);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    let answer = ask(&client, INFER);
                    let version = answer.header("x-nuke-model-version").unwrap_or_default().to_owned();
                    match (answer.status, factor(&answer)) {
                        (200, Some(factor)) => {
                            seen.answered.fetch_add(1, Relaxed);
                            seen.pairs.lock().unwrap().insert((version, factor.round() as u64));
                        }
                        (status, _) => {
                            seen.failed.lock().unwrap().push(format!("{status}: {}", answer.text()));
                        }
                    }
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    seen
}

/// A repository at whose model a machine that stands still for a moment lets nobody down.
fn patient() -> Repository {
    let repository = one_tiny();
    fs::write(repository.models().join("tiny/model.yaml"), "queue: {timeout: 60s}\n").unwrap();
    repository
}

fn fails(seen: &Seen) -> Vec<String> {
    seen.failed.lock().unwrap().iter().take(5).cloned().collect()
}

#[test]
fn the_default_version_changes_without_a_failed_or_mixed_answer() {
    let repository = patient();
    let server = builder(&repository).start();
    let seen = hammer(&server, 16, || {
        thread::sleep(Duration::from_millis(300));
        drop_in(&repository, "tiny/2", &[("model.onnx", &tiny(2.0))]);
        eventually_answers(&server, INFER, 2.0);
        thread::sleep(Duration::from_millis(300));
    });
    assert_eq!(fails(&seen), [""; 0]);
    let pairs = seen.pairs.into_inner().unwrap();
    assert_eq!(pairs, [("1".to_owned(), 1), ("2".to_owned(), 2)].into());
    println!("{} answers over one change of the default version", seen.answered.into_inner());
}

#[test]
fn sixty_swaps_under_load_fail_no_request_and_keep_memory() {
    let repository = patient();
    let server = builder(&repository).set("repository.quiet", "50ms").set("repository.rescan", "2s").start();
    let (mut after_ten, mut times) = (0, Vec::new());
    let seen = hammer(&server, 16, || {
        for round in 2..62_u8 {
            let began = Instant::now();
            let (model, value) = (tiny(f32::from(round)), f64::from(round));
            match round % 3 {
                // In place by rename, a new version, and the version before away.
                0 => replace(&newest(&repository).join("model.onnx"), &model),
                1 => drop_in(&repository, &format!("tiny/{round}"), &[("model.onnx", &model)]),
                _ => {
                    let before = newest(&repository);
                    drop_in(&repository, &format!("tiny/{round}"), &[("model.onnx", &model)]);
                    fs::rename(before, old(&repository)).unwrap();
                }
            }
            eventually_answers(&server, INFER, value);
            times.push(began.elapsed());
            if round % 10 == 5 {
                // Bad content in between is refused, and nothing is lost.
                let good = fs::read(newest(&repository).join("model.onnx")).unwrap();
                replace(&newest(&repository).join("model.onnx"), &good[..good.len() / 2]);
                thread::sleep(Duration::from_millis(200));
                assert_eq!(answers(&server, INFER), Some(value));
                replace(&newest(&repository).join("model.onnx"), &good);
            }
            if round == 12 {
                after_ten = server.rss();
            }
        }
    });
    assert_eq!(fails(&seen), [""; 0]);
    times.sort();
    let (answered, rss) = (seen.answered.into_inner(), server.rss());
    println!(
        "{answered} answers over 60 swaps, 0 failed; from change to answer: median {:?}, longest {:?}; RSS {} \
         MiB after 11 swaps, {} MiB after 60",
        times[times.len() / 2],
        times[times.len() - 1],
        after_ten >> 20,
        rss >> 20
    );
    assert!(rss < after_ten + (48 << 20), "memory of generations is kept: {after_ten} to {rss} bytes");
    // Each version answered only with contents that it had.
    for (version, factor) in seen.pairs.into_inner().unwrap() {
        let version: u64 = version.parse().unwrap();
        assert!(version <= factor && factor <= version + 2, "version {version} answered with {factor}");
    }
    eventually("the last version that was replaced is freed", || {
        let metrics = server.metrics();
        metrics.sum("nuke_requests_in_flight", &[]) == 0.0
            && metrics.sum("nuke_workers", &[("model", "tiny")]) == 1.0
    });
}

/// The folder of the latest version.
fn newest(repository: &Repository) -> std::path::PathBuf {
    let entries = fs::read_dir(repository.models().join("tiny")).unwrap();
    let versions = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    repository.models().join("tiny").join(versions.max().unwrap().to_string())
}
