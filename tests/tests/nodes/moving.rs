//! Traffic that moves by itself moves on all nodes, once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nuke_tests::{Server, eventually};
use serde_json::{Value, json};

use crate::{Pair, follows, serves, traffic, version};

const SLOW: &str = "traffic: {strategy: rollout, stable: '1', canary: '2', steps: [1%, 100%], hold: 1h}\n";
const QUICK: &str = "traffic: {strategy: rollout, stable: '1', canary: '2', steps: [20%, 50%, 100%], hold: 2s, gates: {max_error_rate: 5%, min_requests: 40, latency_ratio: 50}}\n";

fn rollout(server: &Server) -> Value {
    traffic(server, "tiny")["status"]["rollout"].clone()
}

fn phase(server: &Server) -> String {
    rollout(server)["phase"].as_str().unwrap_or_default().to_owned()
}

/// Asks both nodes until the condition holds.
fn under_load(servers: &[&Server], what: &str, condition: impl FnMut() -> bool) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&over);
        for server in servers {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    version(server);
                }
            });
        }
        eventually(what, condition);
    });
}

#[test]
fn a_rollout_advances_once_and_both_nodes_follow() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start(QUICK);
    under_load(&[&a, &b], "both have promoted it", || phase(&a) == "promoted" && phase(&b) == "promoted");
    assert!(serves(&a, "2") && serves(&b, "2"));
    let promoted = |server: &Server| server.metrics().sum("nuke_rollouts_total", &[("model", "tiny")]);
    eventually("it is counted", || promoted(&a) + promoted(&b) > 0.0);
    assert_eq!(promoted(&a) + promoted(&b), 1.0, "one node has moved it");
    let steps = |server: &Server| {
        server.logs().iter().filter(|line| line.contains("the canary gets more requests")).count()
    };
    eventually("step by step", || steps(&a) + steps(&b) >= 2);
    assert_eq!(steps(&a) + steps(&b), 2, "each once");
    drop(redis);
}

#[test]
fn requests_of_all_nodes_count_towards_a_step() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start(&QUICK.replace("hold: 2s", "hold: 1h"));
    let moves = |server: &Server| server.logs().iter().any(|line| line.contains("moves the rollout"));
    eventually("one of them moves it", || moves(&a) || moves(&b));
    let (leader, other) = if moves(&a) { (&a, &b) } else { (&b, &a) };
    // Only the other one is asked.
    under_load(&[other], "the leader counts them", || {
        let reason = rollout(leader)["reason"].as_str().unwrap_or_default().to_owned();
        reason.contains("the end of the hold")
    });
    drop(redis);
}

#[test]
fn a_command_on_one_node_counts_on_both_and_what_has_become_impossible_is_refused() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start(SLOW);
    eventually("it runs on both", || phase(&a) == "running" && phase(&b) == "running");
    a.post("/admin/models/tiny/rollout/abort", "", "").expect(200);
    // At once, before it can have heard of it: it looks first.
    let refused = b.post("/admin/models/tiny/rollout/promote", "", "").expect(409);
    assert!(refused.error().contains("rolled back"), "{}", refused.text());
    follows("the other node follows", Instant::now(), || phase(&b) == "rolled_back" && serves(&b, "1"));
    b.post("/admin/models/tiny/rollout/retry", "", "").expect(200);
    follows("and back", Instant::now(), || phase(&a) == "running");
    b.post("/admin/models/tiny/rollout/promote", "", "").expect(200);
    follows("promoted on both", Instant::now(), || phase(&a) == "promoted" && serves(&a, "2"));
    drop(redis);
}

#[test]
fn of_many_commands_at_once_each_is_carried_out_on_what_the_one_before_has_left() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start(SLOW);
    eventually("it runs on both", || phase(&a) == "running" && phase(&b) == "running");
    let done = |server: &Server, action: &str| {
        let answer = server.post(&format!("/admin/models/tiny/rollout/{action}"), "", "");
        assert!(matches!(answer.status, 200 | 409), "{}", answer.text());
        answer.status == 200
    };
    let (aborted, retried) = std::thread::scope(|scope| {
        let aborts = [&a, &b].map(|server| scope.spawn(|| (0..15).filter(|_| done(server, "abort")).count()));
        let retries =
            [&a, &b].map(|server| scope.spawn(|| (0..15).filter(|_| done(server, "retry")).count()));
        let sum = |threads: [std::thread::ScopedJoinHandle<'_, usize>; 2]| {
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        };
        (sum(aborts), sum(retries))
    });
    eventually("both are at rest in one place", || {
        phase(&a) == phase(&b) && traffic(&a, "tiny")["shared"] == traffic(&b, "tiny")["shared"]
    });
    let is_back = usize::from(phase(&a) == "rolled_back");
    assert_eq!(aborted, retried + is_back, "an abort only follows a retry, and a retry only an abort");
    drop(redis);
}

#[test]
fn however_many_rollouts_there_were_before_the_next_one_is_shared() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start("");
    for number in 1..14 {
        let steps = format!("steps: [{number}%, 100%], hold: 1h");
        let policy = format!("{{strategy: rollout, stable: '1', canary: '2', {steps}}}");
        // What it has come to counts no more once there is another policy.
        crate::put_traffic(&a, "{strategy: latest}").expect(200);
        let strategy = |server: &Server| traffic(server, "tiny")["status"]["strategy"] == "latest";
        eventually("both have another policy", || strategy(&a) && strategy(&b));
        crate::put_traffic(&a, &policy).expect(200);
        eventually("it runs on both", || phase(&a) == "running" && phase(&b) == "running");
        a.post("/admin/models/tiny/rollout/promote", "", "").expect(200);
        follows(&format!("rollout {number} is promoted on the other"), Instant::now(), || {
            phase(&b) == "promoted"
        });
    }
    drop(redis);
}

#[test]
fn blue_green_switches_on_all_nodes() {
    let Pair { a, b, redis, repositories: _folders } =
        Pair::start("traffic: {strategy: blue-green, blue: '1', green: '2', active: blue}\n");
    assert!(serves(&a, "1") && serves(&b, "1"));
    a.post("/admin/models/tiny/traffic/switch", "", "").expect(200);
    follows("the other node switches", Instant::now(), || serves(&b, "2"));
    assert!(serves(&a, "2"));
    drop(redis);
}

#[test]
fn what_one_node_learns_of_a_bandits_arms_all_know() {
    let bandit =
        "traffic: {strategy: bandit, arms: {x: {version: '1'}, y: {version: '2'}}, reward: feedback}\n";
    let Pair { a, b, redis, repositories } = Pair::start(bandit);
    for turn in 0..400 {
        let (arm, reward) = if turn % 2 == 0 { ("x", 1.0) } else { ("y", 0.0) };
        let server = if turn % 4 < 2 { &a } else { &b };
        server.post_json("/admin/models/tiny/feedback", &json!({"arm": arm, "reward": reward})).expect(200);
    }
    let belief =
        |server: &Server, arm: usize| traffic(server, "tiny")["status"]["arms"][arm]["belief"].clone();
    let good = |server: &Server| belief(server, 0)["good"].as_f64().unwrap();
    let bad = |server: &Server| belief(server, 1)["bad"].as_f64().unwrap();
    for server in [&a, &b] {
        eventually("it knows all of them", || good(server) > 190.0 && bad(server) > 190.0);
        assert!(good(server) <= 200.0 && bad(server) <= 200.0, "and none of them twice");
        let share = || traffic(server, "tiny")["status"]["arms"][0]["share"].as_f64().unwrap();
        eventually("and it goes by that", || share() > 0.9);
    }
    // Neither does a restart count anything twice, nor lose anything.
    assert_eq!(b.terminate().status.code(), Some(0));
    let b = crate::node(&repositories[1], &redis, "b").start();
    eventually("it knows all of them again", || good(&b) > 180.0 && bad(&b) > 180.0);
    std::thread::sleep(std::time::Duration::from_secs(1));
    for server in [&a, &b] {
        assert!(good(server) <= 200.0 && bad(server) <= 200.0, "{}", belief(server, 0));
    }
}
