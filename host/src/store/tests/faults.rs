//! A Redis that is away, hangs, is full, or lets nobody in.

use std::time::Instant;

use nuke_tests::{Redis, Signal};

use super::*;
use crate::store::{Event, StoreError};

/// Asks until it is told that Redis is not asked any more; each call has to end in time.
async fn until_it_is_given_up(store: &Store) {
    for _ in 0..100 {
        let began = Instant::now();
        let answer = store.get_bytes("key", 100).await;
        assert!(began.elapsed() < TIMEOUT * 10, "{answer:?} took {:?}", began.elapsed());
        if answer == Err(StoreError::Open) {
            return;
        }
    }
    panic!("it is asked over and over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_killed_is_missed_at_once_and_used_again_when_it_is_back() {
    let mut redis = Redis::start();
    let store = connected(&of(&redis)).await;
    until_it_serves(&store, "key").await;
    redis.kill();
    until_it_is_given_up(&store).await;
    assert!(!store.is_up());
    redis.start_again();
    until_it_serves(&store, "key").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hangs_costs_three_times_the_timeout_and_then_nothing() {
    let redis = Redis::start();
    let store = connected(&of(&redis)).await;
    until_it_serves(&store, "key").await;
    redis.signal(Signal::STOP);
    let mut outcomes = Vec::new();
    while outcomes.last() != Some(&StoreError::Open) {
        outcomes.push(store.get_bytes("key", 100).await.expect_err("it hangs"));
        assert!(outcomes.len() < 20, "{outcomes:?}");
    }
    let expected = [StoreError::TimedOut, StoreError::TimedOut, StoreError::TimedOut, StoreError::Open];
    assert_eq!(outcomes, expected);
    redis.signal(Signal::CONT);
    until_it_serves(&store, "key").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_not_there_at_the_start_is_found_later() {
    let mut redis = Redis::start();
    let settings = of(&redis);
    redis.kill();
    let began = Instant::now();
    let store = open(&settings);
    assert_eq!(store.get_bytes("key", 100).await, Err(StoreError::Open));
    assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
    redis.start_again();
    until_it_serves(&store, "key").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_full_refuses_what_is_new_and_gives_what_it_has() {
    let redis = Redis::with(&["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"]);
    let store = connected(&patient(&redis)).await;
    until_it_serves(&store, "key").await;
    let mut number = 0;
    let refusal = loop {
        let value = vec![7; 32 << 10];
        if let Err(error) = store.set_bytes(&format!("fill-{number}"), value.into(), GUARD).await {
            break error;
        }
        number += 1;
        assert!(number < 1000, "it is never full");
    };
    assert!(matches!(&refusal, StoreError::Refused(text) if text.starts_with("OOM")), "{refusal:?}");
    for _ in 0..10 {
        assert!(store.set_bytes("new", vec![7; 32 << 10].into(), GUARD).await.is_err());
        assert_eq!(store.get_bytes("key", 100).await, Ok(Some("value".into())));
    }
    assert!(store.is_up(), "a full server is no reason to give it up");
    assert_eq!(redis.ask(&["FLUSHALL"]), "+OK");
    until_it_serves(&store, "key").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_busy_with_a_script_is_given_up_until_it_is_free() {
    let redis = Redis::with(&["--busy-reply-threshold", "50"]);
    let store = connected(&of(&redis)).await;
    let endless = redis::Script::new("while true do end");
    assert!(store.run::<()>(&endless, &[], &[]).await.is_err());
    until_it_is_given_up(&store).await;
    // While it is busy, it takes just this.
    until("the script ends", || redis.ask(&["SCRIPT", "KILL"]).starts_with("+OK")).await;
    until_it_serves(&store, "key").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_decides_and_may_change_in_its_file() {
    let redis = Redis::with(&["--requirepass", "right"]);
    let mut settings = of(&redis);
    let without = open(&settings);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "wrong\n").expect("a file");
    settings.login.password_file = Some(file.clone());
    let store = open(&settings);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!store.is_up() && !without.is_up());
    std::fs::write(&file, "right\n").expect("a file");
    until_it_serves(&store, "key").await;
    assert!(!without.is_up());
    assert!(matches!(without.get_bytes("key", 100).await, Err(StoreError::Open)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_gets_what_the_server_lets_him() {
    let redis = Redis::start();
    let user = ["ACL", "SETUSER", "reader", "on", ">secret", "~nuke:*", "&*", "+@read", "+@connection"];
    assert_eq!(redis.ask(&user), "+OK");
    let mut settings = patient(&redis);
    settings.login.user = Some("reader".to_owned());
    settings.login.password = Some("secret".to_owned().into());
    let store = connected(&settings).await;
    assert_eq!(store.get_bytes("nuke:a:1", 100).await, Ok(None));
    let refused = store.set_bytes("nuke:a:1", "x".into(), GUARD).await;
    assert!(matches!(&refused, Err(StoreError::Refused(text)) if text.contains("NOPERM")), "{refused:?}");
    assert!(store.is_up());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_missing_are_told_at_once() {
    let mut settings = settings(RedisPlace::Server(at(1)));
    settings.login.password_file = Some("/does/not/exist".into());
    let error = Store::open(&settings, "nuke", StoreMetrics::default()).expect_err("a missing file");
    assert!(error.message.contains("/does/not/exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_hear_messages_and_that_they_may_have_missed_some() {
    let mut redis = Redis::start();
    // A second, and as long as this: then a silent connection is given up.
    let settings = RedisConfig { connect_timeout: Duration::from_millis(500), ..of(&redis) };
    let store = connected(&settings).await;
    let mut listener = store.subscribe("nuke:news");
    let mut watcher = store.watch_keys("nuke:epochs");
    assert_eq!(next(&mut listener).await, Event::Reconnected);
    assert_eq!(next(&mut watcher).await, Event::Reconnected);
    assert_eq!(redis.ask(&["PUBLISH", "nuke:news", "hello"]), ":1");
    assert_eq!(next(&mut listener).await, Event::Message("hello".into()));
    redis.ask(&["SET", "nuke:other", "1"]);
    redis.ask(&["HSET", "nuke:epochs:models", "a", "1"]);
    assert_eq!(next(&mut watcher).await, Event::Message("nuke:epochs:models".into()));
    redis.ask(&["FLUSHALL"]);
    assert_eq!(next(&mut watcher).await, Event::Message("".into()));
    redis.start_again();
    assert_eq!(next(&mut listener).await, Event::Reconnected);
    assert_eq!(next(&mut watcher).await, Event::Reconnected);
    redis.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(5)).await;
    redis.signal(Signal::CONT);
    assert_eq!(next(&mut listener).await, Event::Reconnected);
    assert_eq!(redis.ask(&["PUBLISH", "nuke:news", "again"]), ":1");
    assert_eq!(next(&mut listener).await, Event::Message("again".into()));
}

pub(super) async fn next(listener: &mut crate::store::Subscription) -> Event {
    tokio::time::timeout(GUARD, listener.next()).await.expect("an event")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_with_the_store() {
    let redis = Redis::start();
    let store = connected(&of(&redis)).await;
    let listener = store.subscribe("nuke:news");
    let count = || {
        redis.ask(&["CLIENT", "LIST", "TYPE", "normal"]).lines().count()
            + redis.ask(&["CLIENT", "LIST", "TYPE", "pubsub"]).lines().filter(|line| !line.is_empty()).count()
    };
    until("both are there", || count() == 3).await;
    drop((store, listener));
    until("only the test is there", || count() == 1).await;
}
