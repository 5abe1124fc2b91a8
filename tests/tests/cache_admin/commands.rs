//! `nuke cache stats` and `nuke cache purge`.

use nuke_tests::{Redis, nuke};
use serde_json::json;

use super::{TINY, connected, done, host, remembered, run, sharing, shown, tiny, tiny_request};

#[test]
fn the_cache_is_shown_and_purged_by_commands() {
    let host = host(tiny());
    for seed in [1, 2, 1] {
        host.post_json(TINY, &tiny_request(seed)).expect(200);
    }
    let text = shown(&run(&host, &["cache", "stats"]));
    assert!(
        text.contains("tiny   memory") && text.contains("33.3 %") && text.contains("Redis: none"),
        "{text}"
    );
    let stats = done(&run(&host, &["cache", "stats", "--model", "tiny", "--json"]));
    assert_eq!((&stats["models"][0]["memory"]["hits"], &stats["memory"]["entries"]), (&json!(1), &json!(2)));

    let purged = run(&host, &["cache", "purge", "--model", "tiny"]);
    assert_eq!(purged.status.code(), Some(0));
    assert!(shown(&purged).contains("model 'tiny' are forgotten, 2 of them in memory"), "{}", shown(&purged));
    remembered(&host.client(), TINY, &tiny_request(1)).expect(504);
    assert_eq!(done(&run(&host, &["cache", "purge", "--all", "--json"]))["purged"], 0);
}

#[test]
fn mistakes_have_exit_codes() {
    let host = host(tiny());
    for command in [&["cache", "stats", "--model", "nobody"][..], &["cache", "purge", "--model", "no/body"]] {
        let output = run(&host, command);
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        assert!(shown(&output).contains("is not found"), "{}", shown(&output));
    }
    for usage in [&["cache", "purge"][..], &["cache", "purge", "--all", "--model", "tiny"], &["cache"]] {
        let output = nuke().args(usage).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{usage:?}: {}", shown(&output));
    }
    let absent = nuke().args(["cache", "stats", "--url", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(2), "{}", shown(&absent));
}

#[test]
fn redis_is_shown_and_a_purge_says_who_knows_of_it() {
    let mut redis = Redis::with(&["--maxmemory", "64mb"]);
    let repository = tiny();
    let host = sharing(&repository, &redis).start();
    connected(&host);
    host.post_json(TINY, &tiny_request(1)).expect(200);
    let text = shown(&run(&host, &["cache", "stats"]));
    assert!(text.contains("of 67.1 MB") && text.contains("tiny   redis"), "{text}");
    let purged = run(&host, &["cache", "purge", "--all"]);
    assert!(purged.status.success() && shown(&purged).contains("were told"), "{}", shown(&purged));

    redis.kill();
    host.post_json(TINY, &tiny_request(1)).expect(200);
    let purged = run(&host, &["cache", "purge", "--model", "tiny"]);
    assert_eq!(purged.status.code(), Some(1), "{}", shown(&purged));
    assert!(shown(&purged).contains("do not know of it yet"), "{}", shown(&purged));
    remembered(&host.client(), TINY, &tiny_request(1)).expect(504);
    let text = shown(&run(&host, &["cache", "stats"]));
    assert!(text.contains("Redis: cannot be reached"), "{text}");
}
