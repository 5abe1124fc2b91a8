//! Random histories of folders against the real binary: whatever happens to the files, nothing partial is
//! ever served, and once all is still, just that is served which should be.
//!
//! `NUKE_TEST_SEED` repeats a history (its steps, not its timing); `NUKE_TEST_EPISODES` makes it longer.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod chance;
mod registry;
mod steps;
mod verify;
mod world;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nuke_tests::marks::{self, Plugins};
use nuke_tests::{Repository, Server};

use chance::Chance;
use registry::{Content, Registry};
use world::{Shared, World};

/// How long files have to be still.
const QUIET: Duration = Duration::from_millis(300);
/// Models, each with a history of its own, all at the same time.
const MODELS: u64 = 4;
/// Steps of each of them until all are left in peace.
const STEPS: usize = 22;
/// A model that nobody touches.
const STILL: &str = "still";
const STILL_CONTENT: Content = Content { model: 1, plugin: Some(1) };

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

fn start(shared: &Shared) -> Server {
    Server::builder()
        .models(shared.models())
        .set("repository.quiet", &format!("{}ms", QUIET.as_millis()))
        .set("repository.rescan", "400ms")
        .set("plugins.compile_cache", &shared.root.join("compiled").display().to_string())
        .set("log.access", "false")
        .start()
}

/// Asks all models all the time, until `over`.
fn watch(server: &Server, shared: &Shared, over: &AtomicBool, mut chance: Chance) {
    let (client, body) = (server.client(), marks::infer_body());
    while !over.load(SeqCst) {
        let model = format!("h{}", chance.below(usize::try_from(MODELS).unwrap()));
        let version = chance.below(6);
        let path = if version == 0 { String::new() } else { format!("/{version}") };
        let answer = client.post(&format!("/predict/{model}{path}"), "application/json", body.clone());
        shared.registry.judge(&model, &answer);
        let still = client.post(&format!("/predict/{STILL}"), "application/json", body.clone());
        if still.status != 200 || Content::of(&still) != Ok(STILL_CONTENT) {
            shared.registry.fault(format!("{STILL}: {} {}", still.status, still.text()));
        }
        if client.get("/v2/health/ready").status != 200 {
            shared.registry.fault("the host was not ready".to_owned());
        }
        thread::sleep(chance.moment(8));
    }
}

/// Moves the models folder away and back, now and then.
fn vanish(shared: &Shared, over: &AtomicBool, mut chance: Chance) {
    while !over.load(SeqCst) {
        thread::sleep(chance.moment(3000));
        let _nobody_else = shared.gate.write().unwrap();
        let away = shared.beside("away");
        fs::rename(shared.models(), &away).unwrap();
        thread::sleep(chance.moment(900));
        fs::rename(away, shared.models()).unwrap();
    }
}

/// All worlds take their steps at the same time, while clients ask.
fn episode(server: &Server, shared: &Shared, worlds: &mut [World<'_>], chance: &mut Chance) {
    let (over, still) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut another = || Chance::new(chance.below(1 << 30) as u64);
    thread::scope(|scope| {
        for chance in [another(), another()] {
            let over = &over;
            scope.spawn(move || watch(server, shared, over, chance));
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            thread::scope(|scope| {
                let (still, chance) = (&still, another());
                let vanishing = scope.spawn(move || vanish(shared, still, chance));
                let working: Vec<_> = worlds
                    .iter_mut()
                    .map(|world| scope.spawn(move || (0..STEPS).for_each(|_| world.step())))
                    .collect();
                let ended: Vec<_> = working.into_iter().map(thread::ScopedJoinHandle::join).collect();
                still.store(true, SeqCst);
                for ended in ended.into_iter().chain([vanishing.join()]) {
                    ended.unwrap_or_else(|panic| resume_unwind(panic));
                }
            });
            verify::settles(server, worlds, &shared.registry, false);
        }));
        over.store(true, SeqCst);
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

#[test]
fn what_is_served_is_what_the_folders_say_and_nothing_partial() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("NUKE_TEST_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    let episodes = number("NUKE_TEST_EPISODES").unwrap_or(3);
    println!("NUKE_TEST_SEED={seed} repeats these {episodes} episodes");
    let repository = Repository::new();
    let shared = Shared {
        root: repository.models().parent().unwrap().to_path_buf(),
        plugins: Plugins::new(),
        registry: Registry::default(),
        gate: RwLock::new(()),
        numbers: AtomicU32::new(1),
    };
    let mut chance = Chance::new(seed);
    let mut worlds: Vec<World<'_>> = (0..MODELS)
        .map(|number| World::new(format!("h{number}"), &shared, seed.wrapping_mul(31).wrapping_add(number)))
        .collect();
    worlds[0].write_bundle(&shared.models().join(STILL).join("1"), STILL_CONTENT);
    // A machine that stands still for a moment lets nobody down.
    fs::write(shared.models().join(STILL).join("model.yaml"), "queue: {timeout: 60s}\n").unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let server = start(&shared);
        for _ in 0..episodes {
            episode(&server, &shared, &mut worlds, &mut chance);
        }
        drop(server);
        // A host that starts now has seen nothing before.
        let server = start(&shared);
        verify::settles(&server, &worlds, &shared.registry, true);
    }));
    if let Err(panic) = outcome {
        println!("NUKE_TEST_SEED={seed} NUKE_TEST_EPISODES={episodes} repeats the steps of this history");
        resume_unwind(panic);
    }
    let (refused, answered, contents) = shared.registry.counts();
    println!("{answered} answers by any of {contents} contents, {refused} refused, none partial");
    assert!(answered > 100, "hardly anything was served: {answered}");
}
