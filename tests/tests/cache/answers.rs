//! The same question by every route.

use nuke_tests::{Answer, Repository, components, marks};
use serde_json::json;

use super::{
    TINY, ask, builder, count, host, is_hit, is_miss, replace, runs, statistics, tiny_request, tiny_with,
    told,
};

/// The tensor of a request as bytes behind its JSON.
fn binary(seed: u64, outputs_binary: bool) -> (String, Vec<u8>) {
    let values = (0..16).map(|index| (seed * 16 + index) as f64 / 1000.0);
    let head = json!({
        "parameters": {"binary_data_output": outputs_binary},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "parameters": {"binary_data_size": 64}}],
    });
    let head = head.to_string().into_bytes();
    let length = head.len().to_string();
    let body = head.into_iter().chain(values.flat_map(|value| (value as f32).to_le_bytes())).collect();
    (length, body)
}

#[test]
fn every_form_of_a_request_for_inference_shares_an_answer() {
    let host = host(tiny_with("{ttl: 1h}"));
    let client = host.client();
    let first = ask(&client, TINY, &tiny_request(1), "").expect(200);
    assert!(is_miss(&first), "{}", told(&first));
    let second = ask(&client, TINY, &tiny_request(1), "").expect(200);
    assert!(is_hit(&second), "{}", told(&second));
    assert_eq!(first.body, second.body);

    let send = |(length, body): (String, Vec<u8>)| -> Answer {
        let asking = client.request("POST", TINY).header("inference-header-content-length", &length);
        asking.body(body).send().expect(200)
    };
    let (in_json, in_bytes) = (send(binary(1, false)), send(binary(1, true)));
    assert!(is_hit(&in_json) && is_hit(&in_bytes));
    assert_eq!(in_json.body, first.body);
    assert!(in_bytes.header("inference-header-content-length").is_some());
    let raw = client.request("POST", TINY).header("inference-header-content-length", "0");
    let (length, body) = binary(1, true);
    let raw = raw.body(body[length.parse::<usize>().unwrap()..].to_vec()).send().expect(200);
    assert!(is_hit(&raw), "{}", told(&raw));

    // What an answer does not depend on.
    let mut named = tiny_request(1);
    named["id"] = json!("mine");
    named["parameters"] = json!({"timeout": 5_000_000, "priority": 1});
    let named = ask(&client, TINY, &named, "").expect(200);
    assert!(is_hit(&named));
    assert_eq!(named.json()["id"], "mine");
    let v1 = json!({"instances": [tiny_request(1)["inputs"][0]["data"]]});
    assert!(is_hit(&ask(&client, "/v1/models/tiny:predict", &v1, "").expect(200)));
    assert!(is_hit(&ask(&client, "/predict/tiny", &tiny_request(1), "").expect(200)));

    let now = statistics(&host, "tiny");
    assert_eq!((runs(&host, "tiny"), now["inference_count"].as_u64()), (1, Some(1)));
    assert_eq!((count(&now, "cache_miss"), count(&now, "cache_hit")), (1, 7));
    assert_eq!((count(&now, "success"), count(&now, "queue"), count(&now, "compute_infer")), (8, 8, 1));
    let metrics = host.metrics();
    let asked = |outcome| {
        metrics
            .sum("nuke_cache_requests_total", &[("model", "tiny"), ("level", "memory"), ("outcome", outcome)])
    };
    assert_eq!((asked("hit"), asked("miss")), (7.0, 1.0));
    assert_eq!(metrics.sum("nuke_cache_entries", &[("model", "tiny")]), 1.0);
    assert!(metrics.sum("nuke_cache_memory_bytes", &[("model", "tiny")]) > 0.0);
    let config = host.get("/v2/models/tiny/config").expect(200).json();
    assert_eq!(config["response_cache"]["enable"], true);
}

/// Makes the request of a seed: where its JSON ends, if tensors follow it, and its body.
type Form = fn(u64) -> (Option<String>, Vec<u8>);

#[test]
fn answers_are_the_same_with_and_without_a_cache() {
    let plain = host(Repository::new().model("tiny", "1", "tiny"));
    let caching = host(tiny_with("{ttl: 1h}"));
    let forms: [Form; 3] = [
        |seed| (None, tiny_request(seed).to_string().into_bytes()),
        |seed| {
            let (length, body) = binary(seed, false);
            (Some(length), body)
        },
        |seed| {
            let (length, body) = binary(seed, true);
            (Some(length), body)
        },
    ];
    for seed in 0..5 {
        for form in forms {
            let (length, body) = form(seed);
            let answers = [&plain, &caching, &caching].map(|host| {
                let client = host.client();
                let asking = client.request("POST", TINY).header("content-type", "application/octet-stream");
                let asking = match &length {
                    Some(length) => asking.header("inference-header-content-length", length),
                    None => client.request("POST", TINY).header("content-type", "application/json"),
                };
                asking.body(body.clone()).send().expect(200)
            });
            assert_eq!(answers[0].body, answers[1].body);
            assert_eq!(answers[0].body, answers[2].body);
            assert!(answers[0].header("cache-status").is_none() && answers[0].header("age").is_none());
            assert!(is_hit(&answers[2]));
        }
    }
}

/// `counter` behind `digits`: each computation has another answer.
fn counter(cache: &str) -> Repository {
    let repository = Repository::new().model("counter", "1", "digits").plugin(components::build("counter"));
    repository.bundle_yaml("plugin: plugin.wasm\n").model_yaml(&format!("cache: {cache}\n"))
}

#[test]
fn a_plugins_answer_is_remembered_with_all_that_the_plugin_saw() {
    let host = host(counter("{ttl: 1h}"));
    let client = host.client();
    let post = |path: &str, kind: &str, language: &str, body: &str| {
        let asking = client.request("POST", path).header("content-type", kind);
        asking.header("accept-language", language).body(body).send().expect(200)
    };
    let first = post("/predict/counter", "text/plain", "de", "a");
    assert!(told(&first).starts_with("nuke; fwd=miss; stored"), "{}", told(&first));
    for _ in 0..3 {
        let again = post("/predict/counter", "text/plain", "de", "a");
        assert!(is_hit(&again));
        assert_eq!(
            (again.body.as_slice(), again.header("content-type")),
            (first.body.as_slice(), first.header("content-type"))
        );
    }
    let mut texts = vec![first.text()];
    for (path, kind, language, body) in [
        ("/predict/counter", "text/plain", "de", "b"),
        ("/predict/counter", "text/html", "de", "a"),
        ("/predict/counter", "text/plain", "en", "a"),
        ("/predict/counter?a=b", "text/plain", "de", "a"),
        ("/predict/counter?a=b&c=d", "text/plain", "de", "a"),
        ("/predict/counter?c=d&a=b", "text/plain", "de", "a"),
        ("/predict/counter?ab=", "text/plain", "de", "a"),
    ] {
        let other = post(path, kind, language, body);
        assert!(!is_hit(&other), "{path} {kind} {language} {body}");
        texts.push(other.text());
    }
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 8, "each was computed for itself: {texts:?}");
    // The plugin makes the same tensors of every body: the model ran once.
    assert_eq!(runs(&host, "counter"), 1);
    let other = post("/predict/counter", "text/plain", "de", "c");
    assert_eq!(told(&other), "nuke; fwd=miss; stored; detail=model-hit");
    let now = statistics(&host, "counter");
    assert_eq!((count(&now, "cache_miss"), count(&now, "cache_hit")), (1, 11));
}

#[test]
fn a_plugins_refusal_is_remembered_only_if_the_model_says_so() {
    let refusing = |cache: &str| {
        let repository =
            Repository::new().model("codes", "1", "digits").plugin(components::build("error-codes"));
        host(repository.bundle_yaml("plugin: plugin.wasm\n").model_yaml(&format!("cache: {cache}\n")))
    };
    for (cache, remembered) in [("{ttl: 1h}", false), ("{ttl: 1h, negative: 1h}", true)] {
        let host = refusing(cache);
        let post = |body: &str| host.post("/predict/codes", "text/plain", body);
        // invalid-input, unsupported-media-type, too-large, not-found; then what may be another time.
        for (body, lasting) in
            [("0", true), ("1", true), ("2", true), ("3", true), ("4", false), ("5", false)]
        {
            let (first, second) = (post(body), post(body));
            assert!(first.status >= 400 && first.status == second.status, "{}", first.text());
            assert_eq!(first.error(), second.error());
            assert_eq!(is_hit(&second), lasting && remembered, "{cache} {body}: {}", told(&second));
        }
    }
}

#[test]
fn settings_are_hot() {
    let host = host(counter("{ttl: 1h}"));
    let yaml = host.repository.models().join("counter/model.yaml");
    let post = || host.post("/predict/counter", "text/plain", "a").expect(200);
    let first = post();
    assert!(is_hit(&post()));
    replace(&yaml, b"queue: {size: 7}\n");
    nuke_tests::eventually("it remembers nothing", || post().header("cache-status").is_none());
    assert_ne!(post().text(), first.text());
    replace(&yaml, b"cache: {ttl: 1h, scope: caller}\n");
    nuke_tests::eventually("it remembers for callers", || post().header("cache-status").is_some());
    // Nobody has shown who it is.
    assert_eq!(told(&post()), "nuke; fwd=bypass; detail=anonymous");
    replace(&yaml, b"cache: {ttl: 1h, scope: shared}\n");
    nuke_tests::eventually("it remembers for all", || is_hit(&post()));
    assert!(is_hit(&post()));
}

#[test]
fn what_is_too_large_or_off_is_not_remembered() {
    let small = host(tiny_with("{ttl: 1h, max_entry: 10B}"));
    for _ in 0..2 {
        assert_eq!(told(&ask(&small.client(), TINY, &tiny_request(1), "").expect(200)), "nuke; fwd=miss");
    }
    let stores =
        small.metrics().sum("nuke_cache_stores_total", &[("model", "tiny"), ("outcome", "too_large")]);
    assert_eq!(stores, 2.0);
    let repository = tiny_with("{ttl: 1h}");
    let none = builder(&repository).set("cache.memory", "0").start();
    for _ in 0..2 {
        assert!(!is_hit(&ask(&none.client(), TINY, &tiny_request(1), "").expect(200)));
    }
    let tight = builder(&repository).set("cache.memory", "20KiB").start();
    for seed in 0..200 {
        ask(&tight.client(), TINY, &tiny_request(seed), "").expect(200);
    }
    let metrics = tight.metrics();
    let bytes = metrics.sum("nuke_cache_memory_bytes", &[("model", "tiny")]);
    assert!(bytes > 0.0 && bytes <= 20_480.0, "{bytes}");
    assert!(metrics.sum("nuke_cache_evictions_total", &[("reason", "size")]) > 100.0);
    assert_eq!(metrics.sum("nuke_cache_memory_limit_bytes", &[]), 20_480.0);
}

#[test]
fn errors_of_the_request_are_told_as_ever() {
    let host = host(tiny_with("{ttl: 1h}"));
    for body in [
        json!([]),
        json!({"inputs": []}),
        json!({"inputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1]}]}),
    ] {
        let answer: Answer = ask(&host.client(), TINY, &body, "");
        assert_eq!((answer.status, answer.header("cache-status")), (400, None), "{}", answer.text());
    }
    let factor = host.post(TINY, "application/json", marks::infer_body()).expect(200);
    assert_eq!(marks::factor(&factor), Ok(1.0));
}
