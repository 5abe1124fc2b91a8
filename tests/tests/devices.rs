//! Where models run, and how the library gets there, as an operator sees it: `workers.device`, `gpu_id`,
//! `nuke runtime`. What needs a GPU says that it is skipped where there is none.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::Path;
use std::process::Output;

use nuke_tests::{Repository, Server, nuke, root};
use serde_json::{Value, json};

/// `nuke runtime` with these arguments, a cache of its own, and a registry that is not there.
fn runtime(cache: &Path, arguments: &[&str], index: &str) -> Output {
    let mut command = nuke();
    command.arg("runtime").args(arguments).env("NUKE_CACHE", cache).env("PIP_INDEX_URL", index);
    command.env("PIP_CONFIG_FILE", "/dev/null").env_remove("NUKE_ORT_LIB").output().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An address where nobody listens: one that was free a moment ago may be another test's by now.
const NOBODY: &str = "http://127.0.0.1:1/simple";

/// All files below a folder but locks.
fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path.display().to_string()] })
        .filter(|path| !path.ends_with(".nuke-lock"))
        .collect()
}

#[test]
fn an_install_that_cannot_be_leaves_nothing_and_names_the_remedy() {
    let cache = tempfile::tempdir().unwrap();
    let output = runtime(cache.path(), &["install"], NOBODY);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let text = err(&output);
    assert!(text.contains("cannot be reached") && text.contains("--from FILE"), "{text}");
    assert_eq!(files(cache.path()), Vec::<String>::new());
    assert!(output.stdout.is_empty());

    let wheel = cache.path().join("my.whl");
    fs::write(&wheel, "no package").unwrap();
    let output = runtime(cache.path(), &["install", "--from", wheel.to_str().unwrap()], NOBODY);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("my.whl has SHA-256"), "{}", err(&output));

    let output = runtime(cache.path(), &["install"], "ftp://me:secret@host/simple");
    assert_eq!(output.status.code(), Some(64));
    assert!(err(&output).contains("expected an address") && !err(&output).contains("secret"));
}

#[test]
fn the_status_tells_what_is_there_and_what_is_not() {
    let cache = tempfile::tempdir().unwrap();
    let output = runtime(cache.path(), &["status"], NOBODY);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("onnxruntime 1.31.1: not installed; `nuke runtime install` gets it"), "{text}");
    let folder = cache.path().join("onnxruntime/1.31.1");
    fs::create_dir_all(&folder).unwrap();
    let name =
        if cfg!(target_os = "macos") { "libonnxruntime.1.31.1.dylib" } else { "libonnxruntime.so.1.31.1" };
    fs::write(folder.join(name), "cut short").unwrap();
    let output = runtime(cache.path(), &["list"], NOBODY);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("{name} is not the pinned one")), "{text}");
}

fn device(server: &Server, model: &str) -> Value {
    let answer = server.get(&format!("/admin/models/{model}")).expect(200).json();
    answer["versions"][0]["device"].clone()
}

#[test]
fn auto_tells_in_index_log_and_metrics_what_it_chose() {
    let repository = Repository::new().model("auto", "1", "tiny").model("cores", "1", "tiny");
    let repository = repository.model_yaml("workers: {device: cpu}\n");
    let server = Server::builder().repository(&repository).start();
    let chosen = device(&server, "auto");
    let (name, reason) = (chosen["name"].as_str().unwrap(), chosen["reason"].as_str().unwrap());
    match name {
        "cpu" => assert!(reason.starts_with("auto: "), "{reason}"),
        _ => assert!(name == "cuda:0" && reason.contains("GPU"), "{chosen}"),
    }
    let expected = json!({"name": "cpu", "reason": "workers.device is cpu", "nodes": {}});
    assert_eq!(device(&server, "cores"), expected);
    let metrics = server.get("/metrics").expect(200).text();
    for (model, device) in [("auto", name), ("cores", "cpu")] {
        let series = format!("nuke_model_device{{model=\"{model}\",version=\"1\",device=\"{device}\"}} 1");
        assert!(metrics.contains(&series), "{metrics}");
    }
}

#[test]
fn a_gpu_that_is_not_there_fails_the_version_with_the_reason_and_no_other() {
    let tiny = root().join("tests/fixtures/models/tiny/1/model.onnx");
    let repository = Repository::new().model("good", "1", "tiny").model("gpu", "1", "tiny");
    // No machine has that many.
    let repository = repository.model_yaml("workers: {device: cuda:1000}\n");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let entry = format!("models: [{{name: listed, path: {}, gpu_id: 1001}}]\n", tiny.display());
    fs::write(&config, entry).unwrap();
    let server = Server::builder().repository(&repository).arg("--config").arg(config.as_os_str()).start();
    for (model, device) in [("gpu", "cuda:1000"), ("listed", "cuda:1001")] {
        let (state, reason) = server.state(model, "1");
        assert_eq!(state, "UNAVAILABLE", "{reason}");
        assert!(reason.contains(&format!("workers.device is {device}: ")), "{reason}");
    }
    server.get("/v2/models/good/ready").expect(200);
}

#[test]
fn many_workers_with_shared_weights_answer_as_one_with_its_own() {
    let digits = root().join("models/digits/1/model.onnx");
    let repository = Repository::new()
        .model("one", "1", &digits)
        .model_yaml("workers: {max: 1, device: cpu}\n")
        .model("shared", "1", &digits)
        .model_yaml(
            "workers: {min: 4, max: 4, device: cpu}\nbatching: {max_batch_size: 1}\nqueue: {timeout: 60s}\n",
        );
    let server = Server::builder().repository(&repository).start();
    let data: Vec<f32> = (0..64_u8).map(|pixel| f32::from(pixel % 17)).collect();
    let body = json!({"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 64], "data": data}]});
    let ask = |model: &str| {
        let answer = server.post_json(&format!("/v2/models/{model}/infer"), &body).expect(200).json();
        answer["outputs"].clone()
    };
    let expected = ask("one");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(ask("shared"), expected)));
        }
    });
}
