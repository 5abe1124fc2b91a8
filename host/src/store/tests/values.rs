//! Values of every size, what is foreign under a key, and scripts.

use nuke_tests::Redis;

use super::*;
use crate::store::StoreError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_comes_back_whole_whatever_its_size() {
    let redis = Redis::start();
    let mut settings = of(&redis);
    settings.timeout = PATIENCE;
    let store = connected(&settings).await;
    for round in 0..3_u8 {
        for size in [1, 100, 65_535, 65_536, 65_537, 131_072, 5_000_000] {
            let value: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).expect("small") ^ round).collect();
            store.set_bytes("key", value.clone().into(), GUARD).await.expect("it is set");
            assert_eq!(store.get_bytes("key", size).await.expect("an answer").as_deref(), Some(&value[..]));
            assert_eq!(store.get_bytes("key", size - 1).await, Ok(None), "it is larger than wanted");
        }
    }
    assert_eq!(store.get_bytes("nothing", 100).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_values_at_a_time_neither_break_nor_exceed_the_connections() {
    let redis = Redis::start();
    let mut settings = of(&redis);
    settings.timeout = Duration::from_secs(20);
    settings.max_connections = 4;
    let store = connected(&settings).await;
    let tasks = (0..32_u8).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let (key, value) = (format!("key-{number}"), vec![number; 300_000]);
            for _ in 0..5 {
                store.set_bytes(&key, value.clone().into(), GUARD).await.expect("it is set");
                assert_eq!(
                    store.get_bytes(&key, 300_000).await.expect("an answer").as_deref(),
                    Some(&value[..])
                );
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("a task");
    }
    let clients = redis.ask(&["CLIENT", "LIST"]);
    let ours =
        clients.lines().filter(|line| line.contains("lib-name=nuke") || line.contains("resp=3")).count();
    assert!(ours <= 4, "{clients}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_foreign_under_a_key_is_an_error_of_that_key_alone() {
    let redis = Redis::start();
    let store = connected(&patient(&redis)).await;
    redis.ask(&["RPUSH", "list", "a"]);
    for _ in 0..10 {
        let answer = store.get_bytes("list", 100).await;
        assert!(
            matches!(&answer, Err(StoreError::Refused(text)) if text.contains("WRONGTYPE")),
            "{answer:?}"
        );
        let wrong: Result<u64, _> = {
            let mut command = redis::cmd("LRANGE");
            command.arg("list").arg(0).arg(-1);
            store.ask(command).await
        };
        assert!(matches!(wrong, Err(StoreError::Garbage(_))), "{wrong:?}");
    }
    assert!(store.is_up());
    until_it_serves(&store, "key").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_loaded_where_it_is_not_known() {
    let redis = Redis::start();
    let store = connected(&patient(&redis)).await;
    let script = redis::Script::new("return {KEYS[1], ARGV[1]}");
    for _ in 0..2 {
        let answer: (String, Vec<u8>) = store.run(&script, &["key"], &[b"\xff\0"]).await.expect("an answer");
        assert_eq!(answer, ("key".to_owned(), b"\xff\0".to_vec()));
        assert_eq!(redis.ask(&["SCRIPT", "FLUSH"]), "+OK");
    }
}
