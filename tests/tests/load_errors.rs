//! Folders that an operator, an accident or an attacker has left behind: what is refused, in which words,
//! and that everything else serves on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use nuke_tests::{Answer, Repository, Server, components, eventually, nuke, root};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

/// Names, versions and states of the whole index.
fn index(server: &Server) -> Vec<(String, String, String)> {
    let entries = server.post("/v2/repository/index", "", "").expect(200).json();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let entries = entries.as_array().unwrap().iter();
    entries.map(|entry| (text(entry, "name"), text(entry, "version"), text(entry, "state"))).collect()
}

/// The version is listed as failed, for a reason of one line in which all of `needles` are, and says so to
/// whoever asks for it.
#[track_caller]
fn failed(server: &Server, model: &str, version: &str, needles: &[&str]) {
    let (state, reason) = server.state(model, version);
    assert_eq!(state, "UNAVAILABLE", "{model} {version}: {reason}");
    for needle in needles {
        assert!(reason.contains(needle), "{model} {version}: {needle:?} is not in {reason:?}");
    }
    assert!(!reason.contains('\n') && !reason.ends_with('.'), "{model} {version}: {reason:?}");
    let path = format!("/v2/models/{model}/versions/{version}");
    for answer in [
        server.get(&path),
        server.get(&format!("{path}/ready")),
        server.post(&format!("{path}/infer"), "application/json", "{}"),
    ] {
        assert_eq!(answer.status, 503, "{model} {version}: {}", answer.text());
        assert!(answer.error().contains(needles.first().unwrap_or(&"")), "{}", answer.error());
    }
}

#[track_caller]
fn serves_tiny(server: &Server) -> Answer {
    let request =
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![1; 16]}]});
    server.post_json("/v2/models/tiny/infer", &request).expect(200)
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn every_bad_model_is_listed_with_its_file_and_a_reason_and_the_others_serve() {
    let bad: [(&str, &[&str]); 10] = [
        ("bad-shape", &["MatMul"]),
        ("bad-type", &["tensor(float)", "tensor(int64)"]),
        ("dangling-input", &["nowhere"]),
        ("empty", &["empty"]),
        ("external-absolute", &["/etc/passwd"]),
        ("external-escape", &["../../etc/passwd"]),
        ("future-opset", &["9999"]),
        ("not-onnx", &["ONNX"]),
        ("truncated", &["cut short"]),
        ("wrong-op", &["NoSuchOperator"]),
    ];
    let repository = bad
        .iter()
        .fold(Repository::new(), |repository, (name, _)| repository.model(name, "1", name))
        .model("tiny", "1", "tiny");
    let server = Server::builder().repository(&repository).start();
    for (name, needles) in bad {
        failed(&server, name, "1", &["model.onnx"]);
        failed(&server, name, "1", needles);
        let is_told = |line: &Value| line["model"] == name && line["level"] == "ERROR";
        eventually(&format!("the log tells of {name}"), || {
            server.log_lines("nuke_host::repository::announce").iter().any(is_told)
        });
    }
    serves_tiny(&server);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    let metrics = server.metrics();
    assert_eq!(metrics.sum("nuke_model_state", &[("state", "failed")]), 10.0);
    assert_eq!(metrics.sum("nuke_model_state", &[("state", "ready")]), 1.0);
}

#[test]
fn links_that_lead_out_are_refused_and_what_they_name_is_not_shown() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret-words: [of, others]\n").unwrap();
    let tiny = root().join("tests/fixtures/models/tiny/1/model.onnx");
    let repository = Repository::new()
        .empty_version("model", "1")
        .model("labels", "1", "tiny")
        .model("bundle", "1", "tiny")
        .model("settings", "1", "tiny")
        .model("plugin", "1", "tiny")
        .model("folder", "1", "tiny")
        .model("dangling", "1", "tiny")
        .model("tiny", "1", "tiny");
    let models = repository.models();
    symlink(&tiny, models.join("model/1/model.onnx")).unwrap();
    symlink(&secret, models.join("labels/1/labels.txt")).unwrap();
    symlink(&secret, models.join("bundle/1/bundle.yaml")).unwrap();
    symlink(&secret, models.join("settings/model.yaml")).unwrap();
    symlink(&secret, models.join("plugin/1/plugin.wasm")).unwrap();
    symlink(outside.path(), models.join("folder/1/assets")).unwrap();
    symlink("nowhere", models.join("dangling/1/labels.txt")).unwrap();
    // A link that stays within is as good as a file.
    fs::write(models.join("tiny/1/real.txt"), "x").unwrap();
    symlink("real.txt", models.join("tiny/1/labels.txt")).unwrap();
    let server = Server::builder().repository(&repository).start();
    for (model, file) in [
        ("model", "model.onnx"),
        ("labels", "labels.txt"),
        ("bundle", "bundle.yaml"),
        ("settings", "model.yaml"),
        ("plugin", "plugin.wasm"),
        ("folder", "assets"),
        ("dangling", "labels.txt"),
    ] {
        failed(&server, model, "1", &[file]);
    }
    serves_tiny(&server);
    let told = server.post("/v2/repository/index", "", "").text() + &server.logs().join("\n");
    assert!(!told.contains("secret-words") && !told.contains("of, others"), "{told}");
}

#[test]
fn pipes_and_devices_do_not_hold_the_start_up() {
    let repository = Repository::new()
        .empty_version("model", "1")
        .empty_version("zero", "1")
        .empty_version("folder", "1")
        .model("labels", "1", "tiny")
        .model("bundle", "1", "tiny")
        .model("settings", "1", "tiny")
        .model("plugin", "1", "tiny")
        .model("tiny", "1", "tiny");
    let models = repository.models();
    fifo(&models.join("model/1/model.onnx"));
    symlink("/dev/zero", models.join("zero/1/model.onnx")).unwrap();
    fs::create_dir(models.join("folder/1/model.onnx")).unwrap();
    fifo(&models.join("labels/1/labels.txt"));
    fifo(&models.join("bundle/1/bundle.yaml"));
    fifo(&models.join("settings/model.yaml"));
    fifo(&models.join("plugin/1/plugin.wasm"));
    fifo(&models.join("pipe-among-the-models"));
    let server = Server::builder().repository(&repository).start();
    for (model, file) in [
        ("model", "model.onnx"),
        ("zero", "model.onnx"),
        ("folder", "model.onnx"),
        ("labels", "labels.txt"),
        ("bundle", "bundle.yaml"),
        ("settings", "model.yaml"),
        ("plugin", "plugin.wasm"),
    ] {
        failed(&server, model, "1", &[file]);
    }
    serves_tiny(&server);
}

#[test]
fn oddly_named_folders_are_passed_over_with_a_warning() {
    let repository = Repository::new()
        .model("tiny", "1", "tiny")
        .model("odd name", "1", "tiny")
        .model("uml\u{e4}ut", "1", "tiny")
        .model("new\nline", "1", "tiny")
        .model("quote\"s", "1", "tiny")
        .model(&"long".repeat(40), "1", "tiny")
        .model(".hidden", "1", "tiny")
        .model("tiny", "v2", "tiny")
        .model("tiny", "1.0", "tiny")
        .model("tiny", ".3", "tiny");
    fs::create_dir_all(repository.models().join(OsStr::from_bytes(b"bad\xff")).join("1")).unwrap();
    fs::write(repository.models().join("README.md"), "a file among the folders").unwrap();
    let server = Server::builder().repository(&repository).start();
    assert_eq!(index(&server), [("tiny".to_owned(), "1".to_owned(), "READY".to_owned())]);
    for odd in ["odd name", "uml", "new\\nline", "quote", "longlong", "bad"] {
        let is_told = |line: &String| line.contains("\"WARN\"") && line.contains(odd);
        eventually(&format!("the log warns of '{odd}'"), || server.logs().iter().any(is_told));
    }
    serves_tiny(&server);
}

#[test]
fn a_model_without_a_version_is_not_dropped_in_silence() {
    let repository = Repository::new().model("tiny", "1", "tiny").model("named", "latest", "tiny");
    let models = repository.models();
    fs::create_dir(models.join("bare")).unwrap();
    fs::copy(root().join("tests/fixtures/models/tiny/1/model.onnx"), models.join("bare/model.onnx")).unwrap();
    let server = Server::builder().repository(&repository).start();
    serves_tiny(&server);
    let listed = server.post("/v2/repository/index", "", "").text();
    for name in ["named", "bare"] {
        eventually(&format!("somebody is told about '{name}'"), || {
            listed.contains(name) || server.logs().iter().any(|line| line.contains(name))
        });
    }
    let checked = nuke().current_dir(&models).args(["check", "--models", "."]).output().unwrap();
    let text = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    for name in ["named", "bare"] {
        assert!(text.contains(name), "check says nothing about '{name}': {text}");
    }
}

#[test]
fn version_policies_choose_what_is_loaded() {
    let three = |repository: Repository, name: &str| {
        ["1", "2", "10"]
            .into_iter()
            .fold(repository, |repository, version| repository.model(name, version, "tiny"))
    };
    let mut repository = three(Repository::new(), "tiny");
    repository = three(repository, "all").model_yaml("versions: all\n");
    repository = three(repository, "list").model_yaml("versions: [1, 10]\n");
    repository = three(repository, "missing").model_yaml("versions: [2, 7]\n");
    repository = three(repository, "two").model_yaml("versions: {latest: 2}\n");
    repository = repository.model("two", "3.5.0-rc.1", "tiny").model("two", "10.0.1", "tiny");
    let server = Server::builder().repository(&repository).start();
    let versions = |model: &str| -> Vec<(String, bool)> {
        let all = index(&server).into_iter().filter(|(name, _, _)| name == model);
        all.map(|(_, version, state)| (version, state == "READY")).collect()
    };
    let ready = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), true)).collect::<Vec<_>>();
    assert_eq!(versions("tiny"), ready(&["10"]));
    assert_eq!(versions("all"), ready(&["1", "2", "10"]));
    assert_eq!(versions("list"), ready(&["1", "10"]));
    assert_eq!(versions("missing"), [("2".to_owned(), true), ("7".to_owned(), false)]);
    assert_eq!(versions("two"), ready(&["10", "10.0.1"]));
    failed(&server, "missing", "7", &["model.yaml", "'7'"]);
    assert_eq!(server.get("/v2/models/tiny/versions/2").status, 404);
}

#[test]
fn a_wrong_model_yaml_or_bundle_yaml_names_file_line_and_key() {
    let long = format!("# {}\n", "x".repeat(2 << 20));
    let repository = Repository::new()
        .model("keys", "1", "tiny")
        .model_yaml("queue:\n  siez: 1\n")
        .model("values", "1", "tiny")
        .model_yaml("workers: {max: 0}\n")
        .model("versions", "1", "tiny")
        .model_yaml("versions: latest\n")
        .model("later", "1", "tiny")
        .model_yaml("traffic: {strategy: split}\n")
        .model("text", "1", "tiny")
        .bundle_yaml("just words\n")
        .model("broken", "1", "tiny")
        .bundle_yaml("settings: {a: [1, 2\n")
        .model("large", "1", "tiny")
        .bundle_yaml(&long)
        .model("escape", "1", "tiny")
        .bundle_yaml("model: ../../tiny/1/model.onnx\n")
        .model("sample", "1", "digits")
        .plugin(components::build("good"))
        .bundle_yaml("plugin: plugin.wasm\nwarmup: [samples/none.png]\n")
        .model("tiny", "1", "tiny");
    let server = Server::builder().repository(&repository).start();
    for (model, needles) in [
        ("keys", ["model.yaml:2:3", "queue.siez", "'queue.size'"]),
        ("values", ["model.yaml:1:", "workers.max", "1"]),
        ("versions", ["model.yaml:1:", "versions", "latest"]),
        ("later", ["model.yaml:1:1", "traffic", ""]),
        ("text", ["bundle.yaml:1:1", "map", ""]),
        ("broken", ["bundle.yaml:", "YAML", ""]),
        ("large", ["bundle.yaml", "1048576", ""]),
        ("escape", ["bundle.yaml:1:8", "model", "'..'"]),
        ("sample", ["samples/none.png", "", ""]),
    ] {
        failed(&server, model, "1", &needles);
    }
    serves_tiny(&server);
}

#[test]
fn listed_models_are_served_from_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = root().join("tests/fixtures/models/tiny/1/model.onnx");
    fs::create_dir_all(folder.path().join("elsewhere/bundle")).unwrap();
    fs::copy(&tiny, folder.path().join("elsewhere/resnet.onnx")).unwrap();
    fs::copy(&tiny, folder.path().join("elsewhere/bundle/model.onnx")).unwrap();
    let config = folder.path().join("config.yaml");
    let text = "models:\n\
        - {name: bare, path: ./elsewhere/resnet.onnx, version: \"1.0.0\", max_workers: 3}\n\
        - {name: whole, path: elsewhere/bundle}\n\
        - {name: tiny, path: elsewhere/bundle, version: \"2\"}\n\
        - {name: lost, path: elsewhere/none.onnx}\n";
    fs::write(&config, text).unwrap();
    let repository = Repository::new().model("tiny", "1", "tiny");
    let server = Server::builder().repository(&repository).arg("--config").arg(&config).start();
    let expected = [
        ("bare", "1.0.0", "READY"),
        ("lost", "1", "UNAVAILABLE"),
        ("tiny", "1", "READY"),
        ("tiny", "2", "READY"),
        ("whole", "1", "READY"),
    ];
    let found = index(&server);
    let found: Vec<_> = found
        .iter()
        .map(|(name, version, state)| (name.as_str(), version.as_str(), state.as_str()))
        .collect();
    assert_eq!(found, expected);
    let bare = server.get("/v2/models/bare/config").expect(200).json();
    assert_eq!(bare["instance_group"][0]["count"], 3);
    assert_eq!(server.get("/v2/models/whole/config").expect(200).json()["instance_group"][0]["count"], 1);
    assert_eq!(serves_tiny(&server).header("x-nuke-model-version"), Some("2"));
    failed(&server, "lost", "1", &["none.onnx"]);

    let twice = "models:\n- {name: a, path: x.onnx}\n- {name: a, path: y.onnx}\n- {name: a/b, path: z.onnx}\n- {path: z.onnx}\n";
    fs::write(&config, twice).unwrap();
    let exited = Server::builder().arg("--config").arg(&config).try_start().expect_err("refused");
    assert_eq!(exited.status.code(), Some(64), "{exited}");
    let told = exited.logs.join("\n");
    for needle in ["config.yaml:3", "config.yaml:4", "config.yaml:5", "name"] {
        assert!(told.contains(needle), "{needle}: {told}");
    }
}
