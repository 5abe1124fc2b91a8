//! Several hosts with one Redis: what one has computed the others have, and a Redis that fails costs nobody an answer.

use std::sync::Barrier;
use std::thread;

use nuke_tests::{Redis, Repository, Server, ServerBuilder, eventually, slow_request};

use super::{TINY, ask, builder, is_hit, is_miss, runs, tiny_request, tiny_with, told};

const SLOW: &str = "/v2/models/slow/infer";

/// One that waits for Redis however busy the machine is: these tests are about what Redis holds.
pub(super) fn node(repository: &Repository, redis: &Redis) -> ServerBuilder {
    builder(repository).set("cache.redis.url", &redis.url()).set("cache.redis.timeout", "2s")
}

fn slow() -> Repository {
    let settings = "{workers: {max: 1}, queue: {timeout: 10m}, cache: {ttl: 1h}}\n";
    Repository::new().model("slow", "1", "slow").model_yaml(settings)
}

/// Waits until an answer has come into Redis.
pub(super) fn stored(server: &Server, count: f64) {
    let labels = [("level", "redis"), ("outcome", "stored")];
    eventually("it is in Redis", || server.metrics().sum("nuke_cache_stores_total", &labels) >= count);
}

pub(super) fn connected(server: &Server) {
    eventually("Redis is connected", || server.metrics().sum("nuke_redis_up", &[]) == 1.0);
}

#[test]
fn an_answer_outlives_its_host_and_is_there_for_all_nodes() {
    let redis = Redis::start();
    for compress in ["none", "zstd"] {
        let repository = tiny_with(&format!("{{ttl: 1h, compress: {compress}}}"));
        redis.ask(&["FLUSHALL"]);
        let first = node(&repository, &redis).start();
        connected(&first);
        let computed = ask(&first.client(), TINY, &tiny_request(1), "").expect(200);
        assert!(is_miss(&computed), "{}", told(&computed));
        stored(&first, 1.0);
        first.terminate();

        let (one, other) = (node(&repository, &redis).start(), node(&repository, &redis).start());
        for server in [&one, &other] {
            connected(server);
            let answer = ask(&server.client(), TINY, &tiny_request(1), "only-if-cached").expect(200);
            assert!(is_hit(&answer) && told(&answer).ends_with("detail=redis"), "{}", told(&answer));
            assert_eq!(answer.body, computed.body);
            let again = ask(&server.client(), TINY, &tiny_request(1), "").expect(200);
            assert!(told(&again).ends_with("detail=memory"), "{}", told(&again));
            assert_eq!(runs(server, "tiny"), 0);
        }
    }
}

#[test]
fn a_thousand_equal_requests_at_two_nodes_are_one_run() {
    let redis = Redis::start();
    let repository = slow();
    let nodes = [node(&repository, &redis).start(), node(&repository, &redis).start()];
    nodes.iter().for_each(connected);
    let barrier = Barrier::new(50);
    thread::scope(|scope| {
        for at in 0..50 {
            let (barrier, server) = (&barrier, &nodes[at % 2]);
            scope.spawn(move || {
                let client = server.client();
                barrier.wait();
                for _ in 0..20 {
                    client.post_json(SLOW, &slow_request(300)).expect(200);
                }
            });
        }
    });
    assert_eq!(nodes.iter().map(|server| runs(server, "slow")).sum::<u64>(), 1);
    assert_eq!(redis.ask(&["KEYS", "nuke:l:*"]).trim(), "", "no lease is left");
}

#[test]
fn what_is_no_answer_is_a_miss() {
    let redis = Redis::start();
    let repository = tiny_with("{ttl: 1h}");
    let server = node(&repository, &redis).set("cache.memory", "0").start();
    connected(&server);
    let computed = ask(&server.client(), TINY, &tiny_request(1), "").expect(200);
    stored(&server, 1.0);
    let keys = redis.ask(&["KEYS", "nuke:a:*"]);
    let key =
        keys.split_whitespace().find(|word| word.starts_with("nuke:a:")).expect("one answer").to_owned();
    assert!(is_hit(&ask(&server.client(), TINY, &tiny_request(1), "").expect(200)));
    ask(&server.client(), TINY, &tiny_request(2), "").expect(200);
    stored(&server, 2.0);
    let keys = redis.ask(&["KEYS", "nuke:a:*"]);
    let other =
        keys.split_whitespace().find(|word| word.starts_with("nuke:a:") && *word != key).unwrap().to_owned();
    // Somebody else's text; nothing; half of it; the whole of another answer.
    for damage in [
        vec!["SET", &key, "hello"],
        vec!["SET", &key, ""],
        vec!["SETRANGE", &key, "60", "zzzz"],
        vec!["COPY", &other, &key, "REPLACE"],
        vec!["DEL", &key],
    ] {
        redis.ask(&damage);
        let answer = ask(&server.client(), TINY, &tiny_request(1), "").expect(200);
        assert!(!is_hit(&answer), "{damage:?}: {}", told(&answer));
        assert_eq!(answer.body, computed.body);
        eventually("it is there again", || {
            is_hit(&ask(&server.client(), TINY, &tiny_request(1), "").expect(200))
        });
        // All that was computed: what is still on its way would mend the next damage.
        stored(&server, runs(&server, "tiny") as f64);
    }
    // Of another type: Redis itself refuses.
    redis.ask(&["DEL", &key]);
    redis.ask(&["LPUSH", &key, "1"]);
    for _ in 0..3 {
        assert_eq!(ask(&server.client(), TINY, &tiny_request(1), "").expect(200).body, computed.body);
    }
}

#[test]
fn a_redis_that_is_away_fails_no_request() {
    let mut redis = Redis::start();
    let repository = tiny_with("{ttl: 1h}");
    let server = node(&repository, &redis).start();
    connected(&server);
    let client = server.client();
    ask(&client, TINY, &tiny_request(0), "").expect(200);
    redis.kill();
    for seed in 1..50 {
        assert!(!is_hit(&ask(&client, TINY, &tiny_request(seed), "").expect(200)));
        assert!(is_hit(&ask(&client, TINY, &tiny_request(seed), "").expect(200)), "memory goes on");
    }
    redis.start_again();
    connected(&server);
    let mut seed = 100;
    eventually("answers go there again", || {
        seed += 1;
        ask(&client, TINY, &tiny_request(seed), "").expect(200);
        redis.ask(&["KEYS", "nuke:a:*"]).contains("nuke:a:")
    });
}
