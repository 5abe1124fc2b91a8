//! `nuke precompute` and `nuke cache warm`.

use std::fs;
use std::path::Path;

use nuke_tests::{Redis, Server, eventually, nuke};
use serde_json::Value;

use super::{TINY, connected, done, host, remembered, run, sharing, shown, tiny, tiny_request};

/// Requests in a tree of folders, with what is to be left out.
fn inputs(count: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..count {
        let name = format!("{}/{seed}.json", if seed % 2 == 0 { "even" } else { "odd/deep" });
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, tiny_request(seed).to_string()).unwrap();
    }
    fs::write(folder.path().join(".hidden"), "no request").unwrap();
    folder
}

fn counts(report: &Value) -> [u64; 3] {
    ["stored", "hits", "failed"].map(|name| report[name].as_u64().unwrap())
}

/// All of them but from the cache.
fn all_remembered(server: &Server, count: u64) -> bool {
    let client = server.client();
    (0..count).all(|seed| remembered(&client, TINY, &tiny_request(seed)).status == 200)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn answers_are_there_for_each_file_after_a_restart() {
    const COUNT: u64 = 40;
    let redis = Redis::start();
    let (repository, folder) = (tiny(), inputs(COUNT));
    let host = sharing(&repository, &redis).start();
    connected(&host);
    let precompute = ["precompute", "--model", "tiny", "--infer", "--json", text(folder.path())];
    assert_eq!(counts(&done(&run(&host, &precompute))), [COUNT, 0, 0]);
    assert_eq!(counts(&done(&run(&host, &precompute))), [0, COUNT, 0], "what is there is not computed again");
    let warm =
        ["cache", "warm", "--model", "tiny", "--version", "1", "--force", "--json", text(folder.path())];
    assert_eq!(counts(&done(&run(&host, &warm))), [COUNT, 0, 0], "by predict, and all anew");
    eventually("all of it is in Redis", || redis.ask(&["KEYS", "*:a:*"]).lines().count() as u64 >= COUNT);
    host.terminate();

    let again = sharing(&repository, &redis).start();
    eventually("the new host reaches Redis", || all_remembered(&again, 1));
    assert!(all_remembered(&again, COUNT));
    let statistics = again.get("/v2/models/tiny/stats").expect(200).json();
    assert_eq!(statistics["model_stats"][0]["execution_count"], 0, "nothing was computed anew");
}

#[test]
fn a_model_without_a_cache_and_one_that_is_not_there_end_it_at_once() {
    let host = host(tiny().model("plain", "1", "tiny").model_yaml("{}\n"));
    let folder = inputs(30);
    let plain = run(&host, &["precompute", "--model", "plain", text(folder.path())]);
    assert_eq!(plain.status.code(), Some(1), "{}", shown(&plain));
    assert!(shown(&plain).contains("set cache.ttl in its model.yaml"), "{}", shown(&plain));
    let nobody = run(&host, &["precompute", "--model", "nobody", text(folder.path())]);
    assert_eq!(nobody.status.code(), Some(1), "{}", shown(&nobody));
    assert!(shown(&nobody).contains("is not found"), "{}", shown(&nobody));
    let sent = host.metrics().sum("nuke_requests_total", &[("model", "plain")]);
    assert_eq!(sent, 1.0, "one file tells it");
}

#[test]
fn files_that_cannot_be_answered_are_listed_and_the_others_are_sent() {
    let host = host(tiny());
    let folder = inputs(6);
    fs::write(folder.path().join("broken.json"), "{\"inputs\": [").unwrap();
    fs::write(
        folder.path().join("wrong.json"),
        r#"{"inputs":[{"name":"z","datatype":"FP32","shape":[1],"data":[1]}]}"#,
    )
    .unwrap();
    let output =
        run(&host, &["precompute", "--model", "tiny", "--json", text(folder.path()), "no/such/file"]);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(counts(&report), [6, 0, 3], "{report}");
    let mut files: Vec<_> =
        report["failures"].as_array().unwrap().iter().map(|one| one["file"].to_string()).collect();
    files.sort();
    let expected = ["broken.json\"", "wrong.json\"", "no/such/file\""];
    assert!(expected.iter().all(|name| files.iter().any(|file| file.ends_with(name))), "{files:?}");
    assert!(all_remembered(&host, 6));
}

#[test]
fn hostile_arguments_are_refused() {
    let folder = inputs(1);
    let wrong: [&[&str]; 6] = [
        &["precompute", "--model", "tiny"],
        &["precompute", text(folder.path())],
        &["precompute", "--model", "tiny", "--concurrency", "0", text(folder.path())],
        &["precompute", "--model", "tiny", "--infer", "--param", "k=1", text(folder.path())],
        &["precompute", "--model", "tiny", "--header", "a: b\r\nc: d", text(folder.path())],
        &["cache", "warm", "--model", "tiny", "--retry-for", "a while", text(folder.path())],
    ];
    for line in wrong {
        let output = nuke().args(line).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{line:?}: {}", shown(&output));
    }
    let absent = ["precompute", "--model", "tiny", "--url", "http://127.0.0.1:1", text(folder.path())];
    assert_eq!(nuke().args(absent).output().unwrap().status.code(), Some(2));
    let host = host(tiny());
    for model in ["", "../../admin/cache", "tiny/../x", "%2e%2e"] {
        let output = run(&host, &["precompute", "--model", model, text(folder.path())]);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{model}: {}", shown(&output));
    }
    assert_eq!(host.metrics().sum("nuke_requests_total", &[("model", "tiny")]), 0.0);
}
