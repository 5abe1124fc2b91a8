//! Questions of several nodes with a real Redis between them.

use std::time::{Duration, Instant};

use nuke_tests::{Redis, Signal};

use super::questions::{Asking, Model, SECOND, policy};
use crate::cache::{Cache, Key, Remote, Scope, Seed, SeedParts, Story, Subject};
use crate::config::{CachePolicy, ServerConfig};
use crate::store::Store;
use crate::telemetry::{CacheLevel, CacheMetrics, StoreMetrics};

/// What nothing that is waited for should take.
const GUARD: Duration = Duration::from_secs(60);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A node of its own, connected.
async fn node(redis: &Redis) -> Cache {
    node_with(redis, "10s").await
}

/// One whose questions are given up after a while.
async fn hasty(redis: &Redis) -> Cache {
    node_with(redis, "300ms").await
}

async fn node_with(redis: &Redis, timeout: &str) -> Cache {
    let text = format!("cache: {{redis: {{url: '{}', timeout: {timeout}}}}}", redis.url());
    let settings = ServerConfig::from_text("config.yaml", &text).unwrap().value.cache.redis.unwrap();
    let store = Store::open(&settings, "fleet", StoreMetrics::default()).unwrap();
    until("it is connected", || store.is_up()).await;
    Cache::new(1 << 20, Some(Remote::new(store)), CacheMetrics::default())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < GUARD, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The key in Redis of the answer (`a`) or the lease (`l`) of a question, before any purge.
fn key_of(kind: &str, body: &str) -> String {
    let subject = Subject::Body { content_type: "", body: body.as_bytes(), parameters: &[] };
    let key = Key::new(&Seed::new(&SeedParts::default()), Scope { owner: None, epoch: 0 }, subject);
    format!("fleet:{kind}:{{{}}}", key.to_hex())
}

fn has(redis: &Redis, pattern: &str) -> bool {
    redis.ask(&["KEYS", pattern]).contains("fleet:")
}

/// How often a lease has been given back.
fn given_back(redis: &Redis) -> u64 {
    let stats = redis.ask(&["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_unlink:calls="));
    calls.and_then(|calls| calls.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

#[test]
fn a_lease_of_a_node_that_is_gone_costs_nobody_its_answer() {
    let redis = Redis::start();
    runtime().block_on(async {
        let (cache, model) = (node(&redis).await, Model::default());
        redis.ask(&["SET", &key_of("l", "x"), "somebody", "PX", "60000"]);
        // The lease is waited for, and then there is time left.
        let asking = Asking { patience: 6 * SECOND, ..Asking::new(&cache) };
        assert_eq!(asking.ask("x", &model).await.0, Ok(0));
        let redis = cache.stats()[0].redis;
        assert_eq!((redis.misses, redis.hits, redis.errors), (1, 0, 0), "it was one question");
    });
}

#[test]
fn an_answer_that_another_node_computes_is_waited_for_and_counts_once() {
    let redis = Redis::start();
    runtime().block_on(async {
        let (one, other) = (node(&redis).await, node(&redis).await);
        // Half of what a lease lasts: the other comes while it is computed, and waits for as long.
        let model = Model { takes: SECOND, ..Model::default() };
        let (first, second) = (Asking::new(&one), Asking::new(&other));
        let later = async {
            until("it is being computed", || has(&redis, "fleet:l:*")).await;
            second.ask("x", &model).await
        };
        let (computed, (got, story)) = tokio::join!(first.ask("x", &model), later);
        assert_eq!((computed.0, got, model.count()), (Ok(0), Ok(0), 1));
        assert!(matches!(story, Story::Hit { level: CacheLevel::Redis, .. }), "{story:?}");
        let counts = [&one, &other].map(|cache| cache.stats()[0].redis);
        assert_eq!((counts[0].misses, counts[0].coalesced, counts[0].hits), (1, 0, 0));
        assert_eq!((counts[1].misses, counts[1].coalesced, counts[1].hits), (0, 1, 0));
        until("the lease is given back", || !has(&redis, "fleet:l:*")).await;
    });
}

#[test]
fn a_lease_that_came_too_late_is_given_back() {
    let redis = Redis::start();
    runtime().block_on(async {
        let (cache, model) = (hasty(&redis).await, Model::default());
        let asking = Asking::new(&cache);
        assert_eq!(asking.ask("before", &model).await.0, Ok(0));
        until("the first is given back", || given_back(&redis) == 1).await;
        redis.signal(Signal::STOP);
        assert_eq!(asking.ask("x", &model).await.0, Ok(1));
        redis.signal(Signal::CONT);
        until("it is given back", || given_back(&redis) == 2).await;
        assert!(!has(&redis, "fleet:l:*"));
    });
}

#[test]
fn a_lease_of_somebody_who_has_left_is_given_back() {
    let redis = Redis::start();
    runtime().block_on(async {
        let (cache, model) = (hasty(&redis).await, Model::default());
        assert_eq!(Asking::new(&cache).ask("before", &model).await.0, Ok(0));
        until("the first is given back", || given_back(&redis) == 1).await;
        redis.signal(Signal::STOP);
        let asking = Asking { patience: Duration::from_millis(50), ..Asking::new(&cache) };
        assert!(asking.ask("x", &model).await.0.is_err());
        redis.signal(Signal::CONT);
        until("it is given back", || given_back(&redis) == 2).await;
        assert!(!has(&redis, "fleet:l:*"));
    });
}

#[test]
fn an_answer_past_its_time_that_comes_from_redis_is_computed_anew() {
    let redis = Redis::start();
    let policy = CachePolicy { ttl: Some(Duration::from_millis(30)), stale: 60 * SECOND, ..policy() };
    runtime().block_on(async {
        for field in ["", "only-if-cached"] {
            let (one, other) = (node(&redis).await, node(&redis).await);
            let model = Model::default();
            assert!(Asking { policy, ..Asking::new(&one) }.ask(field, &model).await.0 == Ok(0));
            until("it is in Redis", || has(&redis, &key_of("a", field))).await;
            tokio::time::sleep(Duration::from_millis(40)).await;
            let (old, story) = Asking { policy, field, ..Asking::new(&other) }.ask(field, &model).await;
            assert_eq!((old, story.as_str()), (Ok(0), "stale"));
            until("it is computed anew", || model.count() == 2).await;
        }
    });
}

#[test]
fn what_was_purged_before_a_node_came_is_not_given_by_it() {
    let redis = Redis::start();
    runtime().block_on(async {
        let (one, model) = (node(&redis).await, Model::default());
        assert_eq!(Asking::new(&one).ask("x", &model).await.0, Ok(0));
        until("it is in Redis", || has(&redis, &key_of("a", "x"))).await;
        assert_eq!(one.purge_everywhere(Some("m")).await.told, Some(Ok(())));
        let late = node(&redis).await;
        let (got, story) = Asking::new(&late).ask("x", &model).await;
        assert_eq!((got, story.is_hit()), (Ok(1), false), "it is from before the purge");
        // From then on it is a node as any other.
        assert_eq!(Asking::new(&one).ask("y", &model).await.0, Ok(2));
        until("it is in Redis", || redis.ask(&["KEYS", "fleet:a:*"]).matches("fleet:a").count() >= 2).await;
        assert_eq!(Asking::new(&late).ask("y", &model).await.0, Ok(2));
    });
}
