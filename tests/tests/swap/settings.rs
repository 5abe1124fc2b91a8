//! What is not a matter of content: manifests that spare the wait, and settings that change what serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nuke_tests::{Repository, Server, eventually, nuke};

use crate::{INFER, answers, builder, eventually_answers, one_tiny, replace, tiny};

/// A published version of `tiny` beside the repository.
fn published(repository: &Repository, factor: f32) -> PathBuf {
    let staging = repository.models().with_file_name(format!("staging-{factor}"));
    fs::create_dir_all(staging.join("models")).unwrap();
    fs::write(staging.join("model.onnx"), tiny(factor)).unwrap();
    let mut command = nuke();
    command
        .arg("publish")
        .arg(staging.join("model.onnx"))
        .arg(staging.join("models"))
        .args(["--model", "tiny"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    staging.join("models/tiny/1")
}

fn copy(from: &Path, to: &Path, name: &str) {
    fs::copy(from.join(name), to.join(name)).unwrap();
}

/// A host that would wait for ten minutes, and that looks often.
fn patient(repository: &Repository) -> Server {
    Server::builder()
        .repository(repository)
        .set("repository.quiet", "10m")
        .set("repository.rescan", "200ms")
        .start()
}

#[test]
fn a_complete_manifest_spares_the_wait_and_an_incomplete_one_does_not() {
    let repository = Repository::new();
    let server = patient(&repository);
    let folder = repository.models().join("tiny");
    fs::create_dir(&folder).unwrap();
    fs::rename(published(&repository, 1.0), folder.join("1")).unwrap();
    eventually_answers(&server, INFER, 1.0);

    // The manifest first, the model slowly, the version before serving meanwhile.
    let (source, place) = (published(&repository, 2.0), folder.join("2"));
    fs::create_dir(&place).unwrap();
    copy(&source, &place, "manifest.json");
    let whole = fs::read(source.join("model.onnx")).unwrap();
    for end in (0..=4).map(|part| whole.len() * part / 4) {
        sleep(Duration::from_millis(500));
        assert_eq!(answers(&server, INFER), Some(1.0));
        fs::write(place.join("model.onnx"), &whole[..end]).unwrap();
    }
    eventually_answers(&server, INFER, 2.0);
    // The manifest last: without it nothing happens for ten minutes.
    let (source, place) = (published(&repository, 3.0), folder.join("3"));
    fs::create_dir(&place).unwrap();
    copy(&source, &place, "model.onnx");
    eventually("it is found", || server.logs().iter().filter(|line| line.contains("was found")).count() >= 3);
    sleep(Duration::from_millis(500));
    assert_eq!(answers(&server, INFER), Some(2.0));
    copy(&source, &place, "manifest.json");
    eventually_answers(&server, INFER, 3.0);
}

#[test]
fn settings_change_what_serves_without_a_load() {
    let repository = one_tiny();
    let server = builder(&repository).start();
    let (file, swaps) = (repository.models().join("tiny/model.yaml"), |server: &Server| {
        server.metrics().sum("nuke_swaps_total", &[("model", "tiny")])
    });
    let workers = |server: &Server| server.metrics().sum("nuke_workers", &[("model", "tiny")]);
    for (text, count) in [
        ("workers: {min: 3, max: 3}\nqueue: {size: 5}\n", 3.0),
        ("workers: {max: 1}\nqueue: {timeout: 1s}\n", 1.0),
        ("workers: {min: 2, max: 2}\nversions: all\n", 2.0),
    ] {
        replace(&file, text.as_bytes());
        eventually(text, || workers(&server) == count);
        assert_eq!(answers(&server, INFER), Some(1.0));
    }
    assert_eq!(swaps(&server), 1.0, "something was loaded anew");
    server.tells("new settings are in effect", 3);
    let entry = &server.post("/v2/repository/index", "", "").expect(200).json()[0];
    assert_eq!((&entry["state"], &entry["status"]), (&"READY".into(), &"ready".into()));

    replace(&file, b"warmup: {batch_sizes: [1, 4]}\n");
    eventually("what was warmed up otherwise is another generation", || swaps(&server) == 2.0);
    for state in ["discovered", "validating", "loading", "warming", "ready"] {
        let count =
            server.metrics().sum("nuke_model_transitions_total", &[("model", "tiny"), ("state", state)]);
        assert!(count >= 1.0, "{state}: {count}");
    }
}
