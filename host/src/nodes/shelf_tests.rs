//! The scripts against a real server, and against what somebody else has put in the place of records.

use std::time::{Duration, Instant};

use nuke_tests::Redis;

use super::*;
use crate::config::ServerConfig;
use crate::nodes::share::mark;
use crate::telemetry::StoreMetrics;

async fn shelf(redis: &Redis) -> Shelf {
    let text = format!("cache: {{redis: {{url: '{}', timeout: 2s}}}}", redis.url());
    let loaded = ServerConfig::from_text("config.yaml", &text).expect("a configuration");
    let settings = loaded.value.cache.redis.expect("a redis");
    let store = Store::open(&settings, "fleet", StoreMetrics::default()).expect("usable settings");
    let began = Instant::now();
    while !store.is_up() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not connect");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Shelf::new(store)
}

/// Puts a text, of any bytes, in the place of a record; `lua` is an expression.
fn put(redis: &Redis, model: &str, lua: &str) {
    let script = format!("return redis.call('HSET', 'fleet:traffic:records', '{model}', {lua})");
    assert!(redis.ask(&["EVAL", &script, "0"]).starts_with(':'));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_heard_is_heard_once_whatever_it_is_and_can_be_replaced() {
    let redis = Redis::start();
    let shelf = shelf(&redis).await;
    let texts = [
        "'12 ab {}'",
        "''",
        "' '",
        "'12'",
        "'12 '",
        "'x'",
        "'12  x'",
        "'\\255\\254 x'",
        "'7 \\255 {'",
        "'7\\0 a b'",
        "string.rep('9', 70) .. ' x {'",
        "'7 ' .. string.rep('x', 200)",
        "string.rep('x', 3000000)",
        "'7 n {' .. string.rep(' ', 3000000)",
    ];
    for (number, lua) in texts.iter().enumerate() {
        put(&redis, &format!("m{number}"), lua);
    }
    put(&redis, "\\255", "'1 a {}'");
    put(&redis, &"n".repeat(1000), "'1 a {}'");
    put(&redis, "../outside", "'1 a {}'");
    put(&redis, ".hidden", "'1 a {}'");
    let Looked { changed, is_all } = shelf.look(&[]).await.expect("an answer");
    // Nothing is as good as nothing there.
    assert_eq!((changed.len(), is_all), (texts.len(), true), "{changed:?}");
    assert!(changed.iter().all(|(_, text)| text.len() < 300), "of what is too long, the beginning");
    let known: Vec<(String, Vec<u8>)> =
        changed.iter().map(|(model, text)| (model.clone(), mark(text).to_vec())).collect();
    let again = shelf.look(&known).await.expect("an answer");
    assert_eq!(again.changed, [], "nothing has changed");
    for (model, text) in changed {
        assert_eq!(shelf.read(&model).await.expect("an answer"), text);
        let mut share = crate::nodes::Share::default();
        share.record_mut().set_policy(Some("x".to_owned()), "a", 1);
        // What is no record is told, and in the way of nothing.
        let _ = share.hear(Some(text).filter(|text| !text.is_empty()));
        let put = share.to_put("a").expect("a put");
        assert!(matches!(shelf.put(&model, &put).await, Ok(Placed::Done)), "{model}");
        share.has_put(put);
        let expected = share.to_remove().expect("it stands there").to_vec();
        assert!(!shelf.remove(&model, b"another").await.expect("an answer"));
        assert!(shelf.remove(&model, &expected).await.expect("an answer"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_records_are_read_in_parts() {
    let redis = Redis::start();
    let shelf = shelf(&redis).await;
    for number in 0..50 {
        put(&redis, &format!("m{number}"), &format!("'1 a ' .. string.rep('{}', 20000)", number % 10));
    }
    let mut known: Vec<(String, Vec<u8>)> = vec![("gone".to_owned(), b"1 a".to_vec())];
    let mut looks = 0;
    loop {
        let Looked { changed, is_all } = shelf.look(&known).await.expect("an answer");
        looks += 1;
        known.extend(
            changed
                .into_iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(model, text)| (model, mark(&text).to_vec())),
        );
        if is_all {
            break;
        }
    }
    assert_eq!(known.len(), 51);
    assert!((2..10).contains(&looks), "{looks}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_dated_by_the_server_and_bounded() {
    let redis = Redis::start();
    let shelf = shelf(&redis).await;
    let counted = Counted::default();
    let exchange = async |node: &str| shelf.exchange("m", node, &counted, false).await.expect("an answer");
    assert!(exchange("a").await.is_empty());
    assert_eq!(exchange("b").await.len(), 1);
    let key = "fleet:counts:m";
    let now: u64 = redis.ask(&["TIME"]).lines().next().expect("seconds").parse().expect("a number");
    for (name, text) in [
        ("old", format!("{} 600000 {{}}", (now - 601) * 1000)),
        ("of another day", format!("{} 600000 {{}}", (now + 90_000) * 1000)),
        ("odd", "{\"at\": 1}".to_owned()),
        ("odder", "nan inf {}".to_owned()),
        ("no counts", format!("{}000 600000 [", now)),
        ("large", format!("{}000 600000 {}", now, "x".repeat(2 << 20))),
    ] {
        redis.ask(&["HSET", key, name, &text]);
    }
    let heard = exchange("a").await;
    assert_eq!(heard.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(
        redis.ask(&["HLEN", key]),
        ":3",
        "the others are taken away, but for one that is nearly right"
    );
    // A host that is started again and again has a new name each time.
    for number in 0..400 {
        redis.ask(&["HSET", key, &format!("n{number}"), &format!("{}000 600000 {{}}", now - 100)]);
    }
    assert!(exchange("a").await.len() <= 256);
    assert_eq!(redis.ask(&["HLEN", key]), ":256");
    let heard = exchange("b").await;
    assert!(heard.iter().any(|(name, _)| name == "a"), "the latest stay");
}
