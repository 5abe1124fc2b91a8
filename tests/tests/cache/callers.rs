//! Whose answers are whose.

use nuke_tests::{Answer, Server, nuke};
use serde_json::Value;

use super::{TINY, builder, is_hit, tiny_request, tiny_with, told};

fn new_key(file: &std::path::Path, name: &str) -> String {
    let mut command = nuke();
    command
        .args(["keys", "create", name, "--scope", "predict:*", "--expires", "1d", "--json", "--file"])
        .arg(file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    made["key"].as_str().unwrap().to_owned()
}

/// Asks with a key, or with none.
fn ask_as(server: &Server, key: &str) -> Answer {
    let client = server.client();
    let asking = client.request("POST", TINY).header("content-type", "application/json");
    let asking = if key.is_empty() { asking } else { asking.header("x-api-key", key) };
    asking.body(tiny_request(1).to_string()).send().expect(200)
}

#[test]
fn callers_see_each_others_answers_only_where_the_model_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let keys = ["a", "b"].map(|name| new_key(&file, name));
    for (scope, shared) in [("shared", true), ("caller", false)] {
        let repository = tiny_with(&format!("{{ttl: 1h, scope: {scope}}}"));
        let server = builder(&repository).set("auth.api_keys.file", file.to_str().unwrap()).start();
        assert!(!is_hit(&ask_as(&server, &keys[0])));
        assert_eq!(is_hit(&ask_as(&server, &keys[1])), shared, "{scope}");
        assert!(keys.iter().all(|key| is_hit(&ask_as(&server, key))));
    }
}

#[test]
fn who_shows_nothing_shares_answers_with_nobody_where_they_are_each_callers_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let key = new_key(&file, "a");
    let of = |scope: &str| {
        let repository = tiny_with(&format!("{{ttl: 1h, scope: {scope}}}"));
        let server = builder(&repository).set("auth.api_keys.file", file.to_str().unwrap());
        let server = server.set("auth.anonymous", "[metrics, predict:*]").start();
        (repository, server)
    };
    let (_repository, server) = of("caller");
    for _ in 0..3 {
        let stranger = ask_as(&server, "");
        assert_eq!(told(&stranger), "nuke; fwd=bypass; detail=anonymous");
        assert_eq!(stranger.header("age"), None);
    }
    // Nothing that comes with a request makes one stranger another, or somebody.
    let client = server.client();
    for (name, value) in
        [("x-forwarded-for", "10.0.0.1"), ("cache-control", "max-stale"), ("user-agent", "a")]
    {
        let asking =
            client.request("POST", TINY).header("content-type", "application/json").header(name, value);
        let answer = asking.body(tiny_request(1).to_string()).send().expect(200);
        assert_eq!(told(&answer), "nuke; fwd=bypass; detail=anonymous");
    }
    super::ask(&client, TINY, &tiny_request(1), "only-if-cached").expect(504);
    assert!(!is_hit(&ask_as(&server, &key)) && is_hit(&ask_as(&server, &key)), "a known caller's are");
    assert_eq!(told(&ask_as(&server, "")), "nuke; fwd=bypass; detail=anonymous");
    let bypassed = server.metrics().sum("nuke_cache_requests_total", &[("outcome", "bypass")]);
    assert_eq!(bypassed, 8.0);
    let (_repository, shared) = of("shared");
    assert!(!is_hit(&ask_as(&shared, "")) && is_hit(&ask_as(&shared, "")));
}
