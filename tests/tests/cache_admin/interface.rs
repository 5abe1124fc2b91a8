//! `/admin/cache` and `/admin/models/{model}/cache`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nuke_tests::{Repository, components, eventually, slow_request, worker_is_busy};
use serde_json::{Value, json};

use super::{TINY, builder, host, remembered, tiny, tiny_request};

#[test]
fn what_is_remembered_is_counted_by_model_and_level() {
    let host = host(tiny().model("plain", "1", "tiny"));
    let client = host.client();
    for seed in [1, 2, 1, 1] {
        client.post_json(TINY, &tiny_request(seed)).expect(200);
    }
    client.post_json("/v2/models/plain/infer", &tiny_request(1)).expect(200);
    let all = host.get("/admin/cache").expect(200).json();
    assert_eq!(all["redis"], Value::Null);
    let models = all["models"].as_array().unwrap();
    assert_eq!(models.len(), 1, "models without a cache are of no interest: {all}");
    let tiny = &models[0];
    let counts = |name: &str| tiny["memory"][name].as_u64().unwrap();
    assert_eq!((&tiny["model"], &tiny["remembers"]), (&json!("tiny"), &json!(true)));
    assert_eq!((counts("entries"), counts("hits"), counts("misses"), counts("errors")), (2, 2, 2, 0));
    assert!(counts("bytes") > 0 && all["memory"]["bytes"] == tiny["memory"]["bytes"], "{all}");
    assert_eq!(all["memory"]["limit"], 256 << 20);
    assert_eq!(host.get("/admin/models/tiny/cache").expect(200).json(), all);
    let plain = host.get("/admin/models/plain/cache").expect(200).json();
    assert_eq!(
        (&plain["models"][0]["remembers"], &plain["models"][0]["memory"]["hits"]),
        (&json!(false), &json!(0))
    );
}

#[test]
fn a_purge_is_of_one_model_or_of_all() {
    let host = host(tiny().model("other", "1", "tiny").model_yaml("cache: {ttl: 1h}\n"));
    let client = host.client();
    let both = ["/v2/models/other/infer", TINY];
    let fill = || both.map(|path| client.post_json(path, &tiny_request(1)).expect(200));
    let status = || both.map(|path| remembered(&client, path, &tiny_request(1)).status);
    let purge = |path: &str| client.request("DELETE", path).send().expect(200).json();
    fill();
    assert_eq!(status(), [200, 200]);
    let purged = purge("/admin/models/tiny/cache");
    assert_eq!(purged, json!({"model": "tiny", "purged": 1, "nodes": null}));
    assert_eq!(status(), [200, 504]);
    fill();
    assert_eq!(purge("/admin/cache"), json!({"model": null, "purged": 2, "nodes": null}));
    assert_eq!(status(), [504, 504]);
    assert_eq!(purge("/admin/cache")["purged"], 0);
    fill();
    assert_eq!(status(), [200, 200], "what comes after a purge is remembered");
}

#[test]
fn what_cannot_be_shown_or_purged_is_told() {
    let host = host(tiny().model("plain", "1", "tiny").model_yaml("{}\n"));
    let client = host.client();
    let ask = |method: &str, path: &str| client.request(method, path).send();
    for method in ["GET", "DELETE"] {
        let none = ask(method, "/admin/models/nobody/cache").expect(404);
        assert!(none.error().contains("'nobody' is not found"), "{}", none.text());
        for wrong in
            ["/admin/models/tiny@1/cache", "/admin/models/%00/cache", "/admin/models/..%2F..%2Fetc/cache"]
        {
            let status = ask(method, wrong).status;
            assert!((400..=404).contains(&status), "{method} {wrong}: {status}");
        }
        ask(method, &format!("/admin/models/{}/cache", "x".repeat(4000))).expect(404);
    }
    assert_eq!(ask("DELETE", "/admin/models/plain/cache").expect(200).json()["purged"], 0);
    for path in ["/admin/cache", "/admin/models/tiny/cache"] {
        ask("POST", path).expect(405);
        ask("PUT", path).expect(405);
    }
}

#[test]
fn purges_are_kept_in_the_audit_log() {
    let host = host(tiny());
    let client = host.client();
    client.request("DELETE", "/admin/models/tiny/cache").send().expect(200);
    client.request("DELETE", "/admin/cache").send().expect(200);
    client.request("DELETE", "/admin/models/nobody/cache").send().expect(404);
    host.get("/admin/cache").expect(200);
    eventually("the log has them", || host.log_lines("audit").len() >= 3);
    let lines = host.log_lines("audit");
    let said: Vec<_> = lines
        .iter()
        .map(|line| (line["action"].as_str().unwrap(), line["outcome"].as_str().unwrap()))
        .collect();
    let expected = [
        ("DELETE /admin/models/tiny/cache", "done"),
        ("DELETE /admin/cache", "done"),
        ("DELETE /admin/models/nobody/cache", "not_found"),
    ];
    assert_eq!(said, expected);
}

/// `counter` counts what it computes: an answer from before a purge has a smaller number.
#[test]
fn no_answer_from_before_a_purge_is_given_after_it() {
    let repository = Repository::new().model("counter", "1", "digits").plugin(components::build("counter"));
    let repository = repository.bundle_yaml("plugin: plugin.wasm\n").model_yaml("cache: {ttl: 1h}\n");
    // One instance for all, so that the numbers only grow.
    let builder =
        builder(&repository).set("plugins.instances", "1").set("plugins.calls_per_instance", "1000000");
    let host = builder.set("plugins.idle", "1h").start();
    let is_over = AtomicBool::new(false);
    let number = || -> u32 {
        let answer = host.client().post("/predict/counter", "text/plain", "a").expect(200);
        answer.text().trim().parse().unwrap()
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let client = host.client();
                while !is_over.load(Ordering::Relaxed) {
                    client.post("/predict/counter", "text/plain", "a").expect(200);
                }
            });
        }
        let client = host.client();
        for round in 0..60 {
            let before = number();
            let path = if round % 2 == 0 { "/admin/models/counter/cache" } else { "/admin/cache" };
            client.request("DELETE", path).send().expect(200);
            let after = number();
            if after <= before {
                is_over.store(true, Ordering::Relaxed);
            }
            assert!(after > before, "round {round}: {after} is not younger than {before}");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(number() < 2000, "between purges answers are remembered");
}

#[test]
fn an_answer_that_was_being_computed_at_a_purge_is_not_remembered() {
    let repository = Repository::new().model("slow", "1", "slow");
    let host = host(repository.model_yaml("{workers: {max: 1}, queue: {timeout: 10m}, cache: {ttl: 1h}}\n"));
    thread::scope(|scope| {
        let asking = scope.spawn(|| host.post_json("/v2/models/slow/infer", &slow_request(4000)).expect(200));
        worker_is_busy(&host);
        host.client().request("DELETE", "/admin/models/slow/cache").send().expect(200);
        let answer = asking.join().unwrap();
        assert_eq!(
            answer.header("cache-status"),
            Some("nuke; fwd=miss"),
            "who asked has it, and nobody else"
        );
    });
    remembered(&host.client(), "/v2/models/slow/infer", &slow_request(4000)).expect(504);
}
