//! The cached path while Redis hangs, and while it is full: every request is answered, and rightly; what Redis has is
//! found for as long as it answers; and what it costs is bounded, by the timeout first and then by the breaker.
//!
//! `redis_faults` puts a host under load through more of it; here it is known for each answer where it comes from.

use std::time::{Duration, Instant};

use nuke_tests::{Client, Redis, Repository, Server, Signal, eventually};

use super::nodes::{connected, node, stored};
use super::{TINY, ask, builder, is_hit, is_miss, tiny_request, tiny_with, told};

/// What no request may take: much more than a timeout of 500 ms, much less than a Redis that hangs for good.
const LONG: Duration = Duration::from_secs(10);

/// The right answers, from a host that remembers none.
fn right(seeds: impl Iterator<Item = u64>) -> Vec<(u64, Vec<u8>)> {
    let repository = Repository::new().model("tiny", "1", "tiny");
    let server = builder(&repository).start();
    let client = server.client();
    seeds.map(|seed| (seed, ask(&client, TINY, &tiny_request(seed), "").expect(200).body.clone())).collect()
}

#[track_caller]
fn asks(client: &Client, (seed, body): &(u64, Vec<u8>)) -> String {
    let began = Instant::now();
    let answer = ask(client, TINY, &tiny_request(*seed), "").expect(200);
    assert!(began.elapsed() < LONG, "{seed} took {:?}", began.elapsed());
    assert_eq!(&answer.body, body, "{seed}");
    assert!(is_hit(&answer) || is_miss(&answer), "{seed}: {}", told(&answer));
    told(&answer).to_owned()
}

fn timed_out(server: &Server) -> f64 {
    server.metrics().sum("nuke_redis_requests_total", &[("outcome", "timed_out")])
}

#[test]
fn a_redis_that_hangs_costs_a_few_timeouts_and_then_nothing() {
    let redis = Redis::start();
    let repository = tiny_with("{ttl: 1h}");
    let server =
        builder(&repository).set("cache.redis.url", &redis.url()).set("cache.redis.timeout", "500ms").start();
    connected(&server);
    let answers = right(0..60);
    let client = server.client();
    let (known, new) = answers.split_at(10);
    known.iter().for_each(|one| assert!(!asks(&client, one).contains("hit")));
    stored(&server, 10.0);

    redis.signal(Signal::STOP);
    for one in known {
        assert!(asks(&client, one).contains("detail=memory"), "what memory has needs no Redis");
    }
    let mut asked = 0;
    for one in new.iter().take(20) {
        assert!(asks(&client, one).contains("fwd=miss"));
        asked += 1;
        if server.metrics().sum("nuke_redis_up", &[]) == 0.0 {
            break;
        }
    }
    assert!(asked < 20, "it is asked over and over");
    // What was asked just before ends with its own time.
    std::thread::sleep(Duration::from_secs(3));
    let (until_then, openings) =
        (timed_out(&server), server.metrics().sum("nuke_redis_breaker_openings_total", &[]));
    assert!(until_then >= 3.0 && openings == 1.0, "{until_then} {openings}");
    for one in new.iter().skip(20).chain(known) {
        asks(&client, one);
    }
    assert_eq!(timed_out(&server), until_then, "it is not asked any more");

    redis.signal(Signal::CONT);
    connected(&server);
    // What could not go there goes there when it is asked for anew, and others find it.
    let last = right(100..101).remove(0);
    assert!(asks(&client, &last).contains("fwd=miss"));
    stored(&server, 11.0);
    let other = node(&repository, &redis).start();
    connected(&other);
    for one in known.iter().chain([&last]) {
        assert!(asks(&other.client(), one).contains("detail=redis"));
    }
}

#[test]
fn a_redis_that_is_full_gives_what_it_has_and_fails_nobody() {
    let redis = Redis::with(&["--maxmemory-policy", "noeviction"]);
    let repository = tiny_with("{ttl: 1h}");
    let answers = right(0..40);
    let (known, new) = answers.split_at(10);
    let one = node(&repository, &redis).start();
    connected(&one);
    known.iter().for_each(|answer| assert!(asks(&one.client(), answer).contains("fwd=miss")));
    stored(&one, 10.0);
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);

    let other = node(&repository, &redis).start();
    connected(&other);
    let client = other.client();
    for answer in known {
        assert!(asks(&client, answer).contains("detail=redis"), "what it has is found");
    }
    for answer in new {
        assert!(asks(&client, answer).contains("fwd=miss"));
        assert!(asks(&client, answer).contains("detail=memory"), "it is remembered where there is room");
    }
    let refused = [("level", "redis"), ("outcome", "error")];
    eventually("it was offered all of them", || {
        other.metrics().sum("nuke_cache_stores_total", &refused) >= 30.0
    });
    assert_eq!(other.metrics().sum("nuke_redis_up", &[]), 1.0, "a full server is no reason to give it up");
    assert_eq!(timed_out(&other), 0.0);
    drop(one);

    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    redis.ask(&["FLUSHALL"]);
    let labels = [("level", "redis"), ("outcome", "stored")];
    eventually("answers go there again", || {
        // One that a purge overtakes is remembered nowhere.
        for (seed, body) in new {
            assert_eq!(&ask(&client, TINY, &tiny_request(*seed), "").expect(200).body, body);
        }
        other.metrics().sum("nuke_cache_stores_total", &labels) >= 1.0
    });
}
