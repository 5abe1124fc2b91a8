//! More models than there is room for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use nuke_tests::{Repository, Server, eventually};

use crate::large::{BYTES, large, number, question};
use crate::{LAZY, builder, status};

/// Models, and how many of them there is room for.
const MODELS: u16 = 20;
const ROOM: u64 = 5;

/// What one is taken to use: its weights four times, and a MiB.
const FOOTPRINT: u64 = 4 * (BYTES + (40 << 10)) + (1 << 20);

fn name(number: u16) -> String {
    format!("m{number}")
}

fn infer(server: &Server, model: &str) -> nuke_tests::Answer {
    server.post(&format!("/v2/models/{model}/infer"), "application/json", question())
}

fn many(yaml: &str, count: u16) -> Repository {
    (0..count).fold(Repository::new(), |repository, each| {
        repository.empty_version(&name(each), "1").file("model.onnx", large(each + 1)).model_yaml(yaml)
    })
}

fn in_memory(server: &Server) -> usize {
    (0..MODELS).filter(|each| status(server, &name(*each)) == "ready").count()
}

#[test]
fn twenty_models_in_the_room_of_five_are_all_answered() {
    let repository = many(LAZY, MODELS);
    let budget = (ROOM * FOOTPRINT).to_string();
    let server = builder(&repository).set("repository.memory", &budget).start();
    let (quiet, most) = (server.rss(), AtomicU64::new(0));
    thread::scope(|scope| {
        for client in 0..4_u64 {
            let (server, most) = (&server, &most);
            scope.spawn(move || {
                let mut random = 0x9e37_79b9_7f4a_7c15 ^ client;
                for _ in 0..40 {
                    random = random_after(random);
                    let each = u16::try_from((random >> 33) % u64::from(MODELS)).unwrap();
                    let answer = infer(server, &name(each));
                    assert_eq!(answer.status, 200, "{}: {}", name(each), answer.text());
                    assert_eq!(number(&answer), Some(f64::from(each + 1)));
                    most.fetch_max(server.rss(), Relaxed);
                }
            });
        }
    });
    let metrics = server.metrics();
    assert_eq!(metrics.sum("nuke_model_wakes_total", &[("outcome", "refused")]), 0.0);
    assert!(metrics.sum("nuke_model_rests_total", &[("reason", "memory")]) >= 10.0, "{}", metrics.text());
    assert!(metrics.sum("nuke_models_memory_bytes", &[]) <= (ROOM * FOOTPRINT) as f64);
    assert!(in_memory(&server) <= ROOM as usize);
    // The estimate is above what such models use, by more than what the allocator keeps for a while.
    let (grown, room) = (most.into_inner().saturating_sub(quiet), ROOM * FOOTPRINT);
    assert!(grown < room, "{} MiB for a budget of {} MiB", grown >> 20, room >> 20);
}

fn random_after(seed: u64) -> u64 {
    seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

#[test]
fn the_one_that_was_used_longest_ago_goes_and_eager_ones_never_do() {
    let repository = many("load: lazy\n", 4);
    std::fs::write(repository.models().join("m0/model.yaml"), "load: eager\n").unwrap();
    let server = builder(&repository).set("repository.memory", &(3 * FOOTPRINT).to_string()).start();
    let states = || (0..4).map(|each| status(&server, &name(each))).collect::<Vec<_>>();
    assert_eq!(states(), ["ready", "standby", "standby", "standby"]);
    for each in ["m1", "m2", "m1"] {
        infer(&server, each).expect(200);
    }
    assert_eq!(states(), ["ready", "ready", "ready", "standby"]);
    infer(&server, "m3").expect(200);
    assert_eq!(states(), ["ready", "ready", "standby", "ready"]);
    for each in ["m1", "m2", "m3", "m2", "m1", "m3", "m0"] {
        infer(&server, each).expect(200);
        assert_eq!(status(&server, "m0"), "ready");
    }
    let rests = server.metrics().sum("nuke_model_rests_total", &[("reason", "memory")]);
    server.tells("unloaded until it is asked for", rests as usize);
}

#[test]
fn a_load_without_room_is_refused_and_says_what_the_budget_is() {
    let repository = many("load: lazy\n", 2);
    std::fs::write(repository.models().join("m0/model.yaml"), "load: eager\n").unwrap();
    let server =
        builder(&repository).set("repository.memory", &(FOOTPRINT + FOOTPRINT / 2).to_string()).start();
    for _ in 0..3 {
        let refused = infer(&server, "m1").expect(503);
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert!(refused.error().contains("repository.memory, which is 49."), "{}", refused.error());
    }
    // It is no fault of the model.
    assert_eq!(status(&server, "m1"), "standby");
    let reason = server.post("/v2/repository/models/m1/load", "", "").expect(400).error();
    assert!(reason.contains("repository.memory"), "{reason}");
    infer(&server, "m0").expect(200);
    // The eager one goes, and there is room.
    std::fs::rename(repository.models().join("m0"), repository.models().with_file_name("gone")).unwrap();
    eventually("there is room", || infer(&server, "m1").status == 200);
    // An eager one that has no room is failed, and comes when there is some.
    std::fs::rename(repository.models().with_file_name("gone"), repository.models().join("m0")).unwrap();
    eventually("the lazy one makes room", || status(&server, "m0") == "ready");
    assert_eq!(status(&server, "m1"), "standby");
}
