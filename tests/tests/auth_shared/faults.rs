//! Redis killed, started again empty, stopped: callers who are known do not notice, and nobody comes back.

use std::time::{Duration, Instant};

use nuke_tests::{Signal, eventually};

use super::{Fleet, ask, text, within_a_second};

#[test]
fn keys_outlive_a_redis_that_forgets_them() {
    let mut fleet = Fleet::new();
    let (one, two) = (fleet.host(), fleet.host());
    let key = fleet.key_for(&[&one, &two]);
    let gone = fleet.keys(&["create", "gone", "--scope", "predict:*"]);
    within_a_second("a second key", || ask(&two, &text(&gone, "key")) == 200);
    fleet.keys(&["revoke", "gone"]);
    within_a_second("its revocation", || ask(&two, &text(&gone, "key")) == 401);

    fleet.redis.kill();
    for host in [&one, &two] {
        assert_eq!((ask(host, &key), ask(host, &text(&gone, "key"))), (200, 401));
    }
    eventually("it is told", || one.logs().iter().any(|line| line.contains("those of before stay")));
    fleet.redis.start_again();
    eventually("both keys are put back", || fleet.redis.ask(&["HLEN", "fleet:auth:keys"]) == ":3");
    for host in [&one, &two] {
        assert_eq!((ask(host, &key), ask(host, &text(&gone, "key"))), (200, 401));
    }
    // A host that starts now knows what the others have put back, and everybody hears of what comes next.
    let three = fleet.host();
    within_a_second("a key at a new host", || ask(&three, &key) == 200);
    assert_eq!(ask(&three, &text(&gone, "key")), 401);
    fleet.keys(&["revoke", "ci"]);
    for host in [&one, &two, &three] {
        within_a_second("a revocation after a restart", || ask(host, &key) == 401);
    }
}

#[test]
fn a_host_that_never_reached_redis_says_so_to_those_it_does_not_know() {
    let mut fleet = Fleet::new();
    let file = fleet.path("keys.yaml");
    let of_file = super::run_keys(&[
        "create",
        "near",
        "--scope",
        "predict:*",
        "--json",
        "--file",
        file.to_str().unwrap(),
    ]);
    let shared = fleet.keys(&["create", "ci", "--scope", "predict:*"]);
    fleet.redis.kill();
    let host = fleet.host();
    assert_eq!(ask(&host, &text(&of_file.unwrap(), "key")), 200, "the file's keys need no redis");
    assert_eq!(ask(&host, &text(&shared, "key")), 503, "it is not known whether this is a key");
    fleet.redis.start_again();
    let again = fleet.keys(&["create", "again", "--scope", "predict:*"]);
    within_a_second("keys at last", || ask(&host, &text(&again, "key")) == 200);
    assert_eq!(ask(&host, &text(&shared, "key")), 401, "nobody was left who knew it");
}

#[test]
fn a_redis_that_is_stopped_holds_nobody_up() {
    let fleet = Fleet::new();
    fleet.write_config("limits: {identity: {requests: 1000/s}, redis: true}\n");
    let (one, two) = (fleet.host(), fleet.host());
    let key = fleet.key_for(&[&one, &two]);
    fleet.redis.signal(Signal::STOP);
    let (mut slowest, mut requests) = (Duration::ZERO, 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        for host in [&one, &two] {
            let asked = Instant::now();
            assert_eq!(ask(host, &key), 200);
            slowest = slowest.max(asked.elapsed());
            requests += 1;
        }
    }
    fleet.redis.signal(Signal::CONT);
    println!("redis stopped: {requests} requests answered, the slowest after {} ms", slowest.as_millis());
    let made = fleet.keys(&["create", "later", "--scope", "predict:*"]);
    within_a_second("a key after it goes on", || ask(&two, &text(&made, "key")) == 200);
}
