//! `nuke publish`, `nuke unpublish` and `nuke versions` as an operator uses them, and what a host makes
//! of versions that are not as they were published.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod signed;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nuke_tests::{Repository, Server, components, eventually, nuke, root};
use serde_json::{Value, json};

/// Bad usage.
const EXIT_USAGE: i32 = 64;

/// `nuke publish SRC MODELS_DIR` with more arguments, as a command.
fn publish_command(source: &Path, models: &Path, more: &[&str]) -> Command {
    let mut command = nuke();
    command.arg("publish").arg(source).arg(models).args(more);
    command
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

/// Publishes and returns what `--json` says.
#[track_caller]
fn publish(source: &Path, models: &Path, more: &[&str]) -> Value {
    let output = run(publish_command(source, models, &[more, &["--json"]].concat()));
    assert!(output.status.success(), "{}", err(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Exit code and one line of standard error that has all of these in it.
#[track_caller]
fn fails(output: &Output, code: i32, needles: &[&str]) {
    let text = err(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(
        text.lines().any(|line| needles.iter().all(|needle| line.contains(needle))),
        "{needles:?}: {text}"
    );
}

fn digits() -> PathBuf {
    root().join("models/digits/1")
}

fn versions(models: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let mut command = nuke();
    command.arg("versions").arg(models).arg("--json").args(more);
    let output = run(command);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// Names in a folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_published_is_served_and_listed_until_it_is_unpublished() {
    let repository = Repository::new();
    let models = repository.models();
    let first = publish(&digits(), &models, &[]);
    assert_eq!(
        (&first["model"], &first["version"], &first["signed"]),
        (&json!("digits"), &json!("1"), &json!(false))
    );
    let second = publish(&digits().join("model.onnx"), &models, &["--model", "digits"]);
    assert_eq!((&second["version"], &second["files"]), (&json!("2"), &json!(1)));
    let (code, listed) = versions(&models, &["digits"]);
    assert_eq!(code, Some(0));
    assert!(listed.as_array().unwrap().iter().all(|version| version["manifest"] == "ok"), "{listed}");
    let mut table = nuke();
    table.arg("versions").arg(&models);
    let table = String::from_utf8(run(table).stdout).unwrap();
    assert!(table.starts_with("model   version  files"), "{table}");

    let repository = repository.model("plain", "1", "tiny");
    fs::write(models.join("digits/model.yaml"), "versions: all\n").unwrap();
    let server = Server::builder().repository(&repository).start();
    for (model, version) in [("digits", "1"), ("digits", "2"), ("plain", "1")] {
        assert_eq!(server.state(model, version).0, "READY", "{model} {version}");
    }
    drop(server);

    let mut unpublish = nuke();
    unpublish.arg("unpublish").arg(&models).args(["digits", "2"]);
    let output = run(unpublish);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(names(&models.join("digits")), ["1", "model.yaml"]);
    let (code, listed) = versions(&models, &[]);
    assert_eq!((code, listed.as_array().unwrap().len()), (Some(0), 2), "{listed}");
    assert_eq!(listed[1]["manifest"], "none");
}

#[test]
fn a_version_that_was_altered_is_refused_with_the_reason() {
    let repository = Repository::new();
    let models = repository.models();
    let source = repository.plugins().join("source");
    fs::create_dir_all(source.join("samples")).unwrap();
    fs::copy(digits().join("model.onnx"), source.join("model.onnx")).unwrap();
    fs::write(source.join("plugin.wasm"), components::build("good")).unwrap();
    fs::write(source.join("bundle.yaml"), "plugin: plugin.wasm\n").unwrap();
    fs::write(source.join("samples/notes.txt"), "notes").unwrap();
    // How each model's files are changed after they were published, and what the reason names.
    type Change = fn(&Path);
    let changes: [(&str, Change, &[&str]); 7] = [
        (
            "model",
            |folder| flip(&folder.join("model.onnx")),
            &["model.onnx has the sha-256 ", "lists it with "],
        ),
        ("plugin", |folder| flip(&folder.join("plugin.wasm")), &["plugin.wasm has the sha-256 "]),
        ("bundle", |folder| flip(&folder.join("bundle.yaml")), &["bundle.yaml has the sha-256 "]),
        ("file", |folder| flip(&folder.join("samples/notes.txt")), &["samples/notes.txt has the sha-256 "]),
        (
            "cut",
            |folder| fs::write(folder.join("samples/notes.txt"), "not").unwrap(),
            &["notes.txt has 3 bytes", "with 5"],
        ),
        ("extra", |folder| fs::write(folder.join("more.txt"), "").unwrap(), &["more.txt is not listed"]),
        (
            "list",
            |folder| fs::write(folder.join("manifest.json"), "{").unwrap(),
            &["manifest.json: it is no manifest"],
        ),
    ];
    for (model, change, _) in &changes {
        let published = publish(&source, &models, &["--model", model]);
        change(Path::new(published["path"].as_str().unwrap()));
    }
    publish(&source, &models, &["--model", "whole"]);
    let server = Server::builder().repository(&repository).start();
    assert_eq!(server.state("whole", "1"), ("READY".to_owned(), String::new()));
    for (model, _, needles) in &changes {
        let (state, reason) = server.state(model, "1");
        assert_eq!(state, "UNAVAILABLE", "{model}");
        assert!(needles.iter().all(|needle| reason.contains(needle)), "{model}: {reason}");
    }
    let (code, listed) = versions(&models, &[]);
    assert_eq!(code, Some(1));
    let broken: Vec<_> = listed.as_array().unwrap().iter().filter(|it| it["manifest"] == "broken").collect();
    assert_eq!(broken.len(), changes.len(), "{listed}");
    // Names and sizes alone do not show a changed byte.
    let (_, quick) = versions(&models, &["model", "--quick"]);
    assert_eq!(quick[0]["manifest"], "ok");
}

/// Changes one bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_publish_that_is_killed_leaves_nothing_that_serves() {
    let repository = Repository::new().model("big", "1", "tiny");
    let models = repository.models();
    let source = tempfile::tempdir().unwrap();
    fs::copy(digits().join("model.onnx"), source.path().join("model.onnx")).unwrap();
    // Longer than any kill takes to arrive: the file has no blocks of its own, its copy has.
    fs::File::create(source.path().join("a-large-file")).unwrap().set_len(8 << 30).unwrap();
    let mut command = publish_command(source.path(), &models, &["--model", "big"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let copied = |name: &String| fs::metadata(models.join("big").join(name).join("a-large-file"));
    eventually("the copy has begun", || {
        let staged = names(&models.join("big")).into_iter().find(|name| name.starts_with(".publish-"));
        staged.is_some_and(|name| copied(&name).is_ok_and(|metadata| metadata.len() > 1 << 20))
    });
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.code().is_none(), "it ended before it was killed: {status}");
    let left = names(&models.join("big"));
    assert_eq!(left.iter().filter(|name| !name.starts_with('.')).collect::<Vec<_>>(), ["1"], "{left:?}");
    let server = Server::builder().repository(&repository).start();
    let index = server.post("/v2/repository/index", "", "").expect(200).json();
    assert_eq!(index.as_array().unwrap().len(), 1, "{index}");
    assert_eq!(server.state("big", "1").0, "READY");
    // The next publish is not in its way, and the rest is removed once it is old.
    assert_eq!(publish(&digits(), &models, &["--model", "big"])["version"], "2");
    let rest = models.join("big").join(left.iter().find(|name| name.starts_with('.')).unwrap());
    assert!(rest.exists());
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    for path in [rest.join("a-large-file"), rest.clone()] {
        fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    }
    assert_eq!(publish(&digits(), &models, &["--model", "big"])["version"], "3");
    assert_eq!(names(&models.join("big")), ["1", "2", "3"]);
}

#[test]
fn an_interrupted_publish_cleans_up() {
    let repository = Repository::new();
    let models = repository.models();
    let source = tempfile::tempdir().unwrap();
    fs::copy(digits().join("model.onnx"), source.path().join("model.onnx")).unwrap();
    fs::File::create(source.path().join("a-large-file")).unwrap().set_len(8 << 30).unwrap();
    let mut command = publish_command(source.path(), &models, &["--model", "big"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the copy has begun", || {
        models.join("big").exists()
            && names(&models.join("big"))
                .iter()
                .any(|name| models.join("big").join(name).join("a-large-file").exists())
    });
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, nuke_tests::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    fails(&output, 130, &["interrupted; nothing was published"]);
    assert_eq!(names(&models), Vec::<String>::new());
}

#[test]
fn two_at_once_get_versions_of_their_own_or_one_refusal() {
    let repository = Repository::new();
    let models = repository.models();
    let spawn = |more: &[&str]| {
        let mut command = publish_command(&digits(), &models, more);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(|_| spawn(&[])).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", err(&output));
    }
    assert_eq!(names(&models.join("digits")), ["1", "2", "3", "4"]);
    let children: Vec<_> = (0..4).map(|_| spawn(&["--version", "7.0.0"])).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let (done, refused): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.status.success());
    assert_eq!((done.len(), refused.len()), (1, 3));
    for output in refused {
        fails(output, 1, &["7.0.0 is there, and a version is never changed"]);
    }
    assert_eq!(versions(&models, &[]).0, Some(0));
}

#[test]
fn refusals_name_what_is_wrong() {
    let repository = Repository::new().model("digits", "1", "digits");
    let models = repository.models();
    let publish = |source: &Path, more: &[&str]| run(publish_command(source, &models, more));
    fails(&publish(&digits(), &["--version", "1"]), 1, &["digits/1 is there"]);
    fails(&publish(&digits(), &["--version", "1.0.0"]), 1, &["version 1 of", "same number"]);
    fails(&publish(&digits(), &["--version", "../2"]), EXIT_USAGE, &["'../2' cannot be a version's name"]);
    fails(&publish(&digits(), &["--model", "../m"]), EXIT_USAGE, &["'../m' cannot be a model's name"]);
    fails(&publish(&digits().join("model.onnx"), &[]), EXIT_USAGE, &["needs --model"]);
    fails(&publish(&digits().join("none"), &[]), EXIT_USAGE, &["none cannot be read"]);
    fails(&run(publish_command(&digits(), &models.join("none"), &[])), EXIT_USAGE, &["there is no folder"]);
    let cut = tempfile::tempdir().unwrap();
    let bytes = fs::read(digits().join("model.onnx")).unwrap();
    fs::write(cut.path().join("model.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    fails(&publish(cut.path(), &["--model", "cut"]), 1, &["model.onnx: the file is cut short"]);
    fs::write(cut.path().join("model.onnx"), &bytes).unwrap();
    fs::write(cut.path().join("plugin.wasm"), components::build("uses-image")).unwrap();
    fails(&publish(cut.path(), &["--model", "cut"]), 1, &["add capabilities: [image] to bundle.yaml"]);
    std::os::unix::fs::symlink("/etc/passwd", cut.path().join("labels.txt")).unwrap();
    fails(&publish(cut.path(), &["--model", "cut"]), 1, &["labels.txt is a link"]);
    let mut unpublish = nuke();
    unpublish.arg("unpublish").arg(&models).args(["digits", "2"]);
    fails(&run(unpublish), 1, &["digits/2 cannot be read"]);
    assert_eq!(names(&models), ["digits"]);
    assert_eq!(names(&models.join("digits")), ["1"]);
}
