//! What a request may ask of the cache, and what it is told.

use std::thread;
use std::time::Duration;

use super::{TINY, ask, host, is_hit, is_miss, runs, tiny_request, tiny_with, told};

#[test]
fn directives_are_followed_and_nonsense_is_passed_over() {
    let host = host(tiny_with("{ttl: 1h}"));
    let client = host.client();
    let asked = |control: &str| ask(&client, TINY, &tiny_request(1), control);
    let absent = asked("only-if-cached").expect(504);
    assert_eq!(
        (absent.json()["code"].as_str(), told(&absent)),
        (Some("not_cached"), "nuke; detail=only-if-cached")
    );
    assert_eq!(runs(&host, "tiny"), 0, "nothing is computed for it");
    assert_eq!(told(&asked("no-store").expect(200)), "nuke; fwd=bypass");
    asked("only-if-cached").expect(504);
    assert!(is_miss(&asked("").expect(200)));
    assert!(is_hit(&asked("only-if-cached").expect(200)));
    assert_eq!(told(&asked("no-cache").expect(200)), "nuke; fwd=request; stored");
    assert_eq!(told(&asked("no-store, only-if-cached").expect(504)), "nuke; detail=only-if-cached");
    assert_eq!(runs(&host, "tiny"), 3);
    for nonsense in [
        "max-age=x",
        "max-age=-1",
        "no store",
        ",,,",
        "\"no-store",
        "max-age=99999999999999999999999",
        "x=\"no-store\"",
    ] {
        assert!(is_hit(&asked(nonsense).expect(200)), "{nonsense}");
    }
    assert!(!is_hit(&asked("min-fresh=3601").expect(200)));
    assert!(is_hit(&asked("min-fresh=3000, max-age=600").expect(200)));
    thread::sleep(Duration::from_millis(5));
    assert!(!is_hit(&asked("max-age=0").expect(200)));
    let last = |line: &serde_json::Value| line["request_id"] == "last";
    client.request("GET", "/v2").header("x-request-id", "last").send().expect(200);
    nuke_tests::eventually("all lines are written", || host.log_lines("access").iter().any(last));
    let lines = host.log_lines("access");
    let cached: Vec<&str> = lines.iter().filter_map(|line| line["cache"].as_str()).collect();
    assert_eq!(cached[..5], ["absent", "bypass", "absent", "miss", "hit"]);
    assert!(
        lines
            .iter()
            .filter(|line| line["cache"] == "hit")
            .all(|line| line["recall_us"].is_u64() && line["infer_us"].is_null())
    );
}

#[test]
fn an_answer_past_its_time_is_computed_anew_in_the_background() {
    let host = host(tiny_with("{ttl: 1s, stale: 1h}"));
    let client = host.client();
    ask(&client, TINY, &tiny_request(1), "").expect(200);
    assert_eq!(runs(&host, "tiny"), 1);
    thread::sleep(Duration::from_millis(1100));
    let stale = ask(&client, TINY, &tiny_request(1), "").expect(200);
    assert!(told(&stale).starts_with("nuke; hit; ttl=-"), "{}", told(&stale));
    nuke_tests::eventually("it is computed anew", || runs(&host, "tiny") == 2);
    let metrics = host.metrics();
    assert_eq!(metrics.sum("nuke_cache_requests_total", &[("outcome", "stale")]), 1.0);
    thread::sleep(Duration::from_millis(1100));
    let strict = ask(&client, TINY, &tiny_request(1), "max-age=3600").expect(200);
    assert!(!is_hit(&strict), "{}", told(&strict));
}

#[test]
fn an_answer_ends_with_its_time() {
    let host = host(tiny_with("{ttl: 200ms}"));
    let client = host.client();
    ask(&client, TINY, &tiny_request(1), "").expect(200);
    thread::sleep(Duration::from_millis(250));
    let late = ask(&client, TINY, &tiny_request(1), "").expect(200);
    assert!(!is_hit(&late));
    assert_eq!(runs(&host, "tiny"), 2);
}

#[test]
fn a_model_without_a_cache_computes_nothing_for_who_takes_only_remembered_answers() {
    let plain = host(nuke_tests::Repository::new().model("tiny", "1", "tiny"));
    let client = plain.client();
    let v1 = serde_json::json!({"instances": [tiny_request(1)["inputs"][0]["data"]]});
    for (path, body) in [
        (TINY, tiny_request(1)),
        ("/v1/models/tiny:predict", v1),
        ("/predict/tiny", tiny_request(1)),
        ("/v2/models/tiny/versions/1/infer", tiny_request(1)),
    ] {
        let absent = ask(&client, path, &body, "only-if-cached").expect(504);
        assert_eq!(
            (absent.json()["code"].as_str(), told(&absent), absent.header("age")),
            (Some("not_cached"), "nuke; detail=only-if-cached", None),
            "{path}"
        );
        // All else is passed over.
        let answer = ask(&client, path, &body, "no-cache, max-age=0, no-store").expect(200);
        assert_eq!(answer.header("cache-status"), None, "{path}");
    }
    assert_eq!(runs(&plain, "tiny"), 4);
    // What is wrong with a request is said first, as with a cache.
    assert_eq!(ask(&client, TINY, &serde_json::json!({"inputs": []}), "only-if-cached").status, 400);
    let settings = plain.repository.models().join("tiny/model.yaml");
    super::replace(&settings, b"cache: {ttl: 1h}\n");
    nuke_tests::eventually("it remembers", || {
        ask(&client, TINY, &tiny_request(1), "").expect(200).header("cache-status").is_some()
    });
    ask(&client, TINY, &tiny_request(1), "only-if-cached").expect(200);
}
