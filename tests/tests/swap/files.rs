//! What becomes of files: dropped, copied slowly, broken, repaired, removed, moved away.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nuke_tests::{Repository, Server};

use crate::{INFER, answers, builder, drop_in, eventually, eventually_answers, old, one_tiny, replace, tiny};

fn is_listed(server: &Server, model: &str) -> bool {
    let index = server.post("/v2/repository/index", "", "").expect(200).json();
    index.as_array().unwrap().iter().any(|entry| entry["name"] == model)
}

#[test]
fn a_bundle_that_is_dropped_serves_and_is_gone_when_it_is_removed() {
    // The usual second of quiet, and a rescan too far away to help: events have to tell.
    let repository = Repository::new();
    let server = Server::builder()
        .repository(&repository)
        .set("repository.quiet", "1s")
        .set("repository.rescan", "10m")
        .set("repository.watch", "native")
        .start();
    assert_eq!(server.get("/v2/models/tiny/ready").status, 404);
    let dropped = Instant::now();
    drop_in(&repository, "tiny/1", &[("model.onnx", &tiny(3.0))]);
    eventually_answers(&server, INFER, 3.0);
    println!("from rename to answer: {:?}", dropped.elapsed());
    assert_eq!(server.state("tiny", "1"), ("READY".to_owned(), String::new()));
    let metrics = server.metrics();
    assert_eq!(metrics.find("nuke_model_state", &[("model", "tiny"), ("state", "ready")]), Some(1.0));
    assert_eq!(metrics.find("nuke_model_state", &[("state", "loading")]), None);
    assert_eq!(metrics.sum("nuke_swaps_total", &[("model", "tiny"), ("outcome", "ok")]), 1.0);
    assert_eq!(metrics.sum("nuke_repository_readable", &[]), 1.0);

    fs::rename(repository.models().join("tiny"), old(&repository)).unwrap();
    eventually("it is gone", || server.get("/v2/models/tiny/ready").status == 404);
    assert!(!is_listed(&server, "tiny"));
    let metrics = server.metrics();
    assert_eq!(metrics.find("nuke_model_state", &[("model", "tiny")]), None);
    assert_eq!(metrics.find("nuke_workers", &[("model", "tiny")]), None);
    assert_eq!(server.get("/v2/health/ready").status, 200);
}

#[test]
fn without_events_a_rescan_sees_it() {
    let repository = one_tiny();
    let server = builder(&repository).set("repository.watch", "poll").start();
    drop_in(&repository, "tiny/1", &[("model.onnx", &tiny(2.0))]);
    eventually_answers(&server, INFER, 2.0);
    drop_in(&repository, "other/1", &[("model.onnx", &tiny(5.0))]);
    eventually_answers(&server, "/v2/models/other/infer", 5.0);
}

/// Copies version 2 in parts, while version 1 serves; returns for how long nothing was written, at most.
fn copied_slowly(quiet: Duration) -> (Repository, Server, Duration) {
    let repository = one_tiny();
    let server = builder(&repository).set("repository.quiet", &format!("{}ms", quiet.as_millis())).start();
    let whole = tiny(2.0);
    let folder = repository.models().join("tiny/2");
    let (mut longest, mut since) = (Duration::ZERO, Instant::now());
    fs::create_dir(&folder).unwrap();
    let mut file = File::create(folder.join("model.onnx")).unwrap();
    for part in whole.chunks(whole.len() / 12) {
        file.write_all(part).unwrap();
        longest = longest.max(since.elapsed());
        since = Instant::now();
        let version = answers(&server, INFER);
        assert!(version == Some(1.0) || since.elapsed() >= quiet, "the version before serves meanwhile");
        sleep(Duration::from_millis(250));
    }
    drop(file);
    (repository, server, longest)
}

#[test]
fn a_slow_copy_is_loaded_when_it_is_whole() {
    let quiet = Duration::from_millis(1500);
    let (mut repository, mut server, mut longest) = copied_slowly(quiet);
    // A copy that stood still for as long as that itself was whole, as far as anybody could know.
    while longest >= quiet * 2 / 3 {
        (repository, server, longest) = copied_slowly(quiet);
    }
    eventually_answers(&server, INFER, 2.0);
    eventually("version 1 has gone", || server.get("/v2/models/tiny/versions/1/ready").status == 404);
    drop(repository);
    assert!(
        !server
            .logs()
            .iter()
            .any(|line| line.contains("cannot be served") || line.contains("cannot replace")),
        "a part of it was loaded"
    );
}

#[test]
fn bad_content_replaces_nothing_says_why_and_heals() {
    let repository = one_tiny();
    let server = builder(&repository).start();
    let model = repository.models().join("tiny/1/model.onnx");
    replace(&model, b"this is no model");
    eventually("the reason shows", || !server.state("tiny", "1").1.is_empty());
    let (state, reason) = server.state("tiny", "1");
    assert_eq!(state, "READY");
    assert!(reason.contains("model.onnx"), "{reason}");
    assert_eq!(answers(&server, INFER), Some(1.0));
    assert_eq!(server.get("/v2/health/ready").status, 200);
    let index = server.post("/v2/repository/index", "", "").expect(200).json();
    let entry = &index[0];
    assert!(entry["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{entry}");
    assert!(entry["next_retry"].is_string(), "{entry}");
    let metrics = server.metrics();
    for (state, value) in [("ready", Some(1.0)), ("outdated", Some(1.0)), ("failed", None)] {
        assert_eq!(
            metrics.find("nuke_model_state", &[("model", "tiny"), ("state", state)]),
            value,
            "{state}"
        );
    }
    // It is tried again, and tells of it once.
    let failed = |server: &Server| server.metrics().sum("nuke_swaps_total", &[("outcome", "failed")]);
    eventually("it is tried again", || failed(&server) >= 3.0);
    server.tells("new content cannot replace", 1);

    replace(&model, &tiny(4.0));
    eventually_answers(&server, INFER, 4.0);
    assert_eq!(server.state("tiny", "1"), ("READY".to_owned(), String::new()));
    assert_eq!(server.metrics().find("nuke_model_state", &[("state", "outdated")]), None);

    // A version that never served and is repaired, too; and a settings file that cannot be read.
    drop_in(&repository, "broken/1", &[("model.onnx", b"no model")]);
    eventually("it has failed", || {
        is_listed(&server, "broken") && server.state("broken", "1").0 == "UNAVAILABLE"
    });
    replace(&repository.models().join("broken/1/model.onnx"), &tiny(6.0));
    eventually_answers(&server, "/v2/models/broken/infer", 6.0);
    replace(&repository.models().join("tiny/model.yaml"), b"workerz: {max: 2}\n");
    eventually("the reason shows", || server.state("tiny", "1").1.contains("workerz"));
    assert_eq!(answers(&server, INFER), Some(4.0));
    replace(&repository.models().join("tiny/model.yaml"), b"workers: {min: 2, max: 2}\n");
    eventually("two workers", || server.metrics().sum("nuke_workers", &[("model", "tiny")]) == 2.0);
    assert_eq!(answers(&server, INFER), Some(4.0));
}

#[test]
fn a_bad_later_version_leaves_the_one_before() {
    let repository = one_tiny();
    let server = builder(&repository).start();
    drop_in(&repository, "tiny/2", &[("model.onnx", b"no model")]);
    eventually("version 2 has failed", || {
        server.get("/v2/models/tiny/versions/2/ready").status == 503
            && server.state("tiny", "2").0 == "UNAVAILABLE"
    });
    assert_eq!(answers(&server, INFER), Some(1.0));
    drop_in(&repository, "tiny/2", &[("model.onnx", &tiny(2.0))]);
    eventually_answers(&server, INFER, 2.0);
    eventually("version 1 has gone", || server.get("/v2/models/tiny/versions/1/ready").status == 404);
    // And back, by taking version 2 away.
    fs::rename(repository.models().join("tiny/2"), old(&repository)).unwrap();
    eventually_answers(&server, INFER, 1.0);
}

#[test]
fn a_folder_that_goes_and_comes_back_changes_nothing() {
    let repository = one_tiny();
    let server = builder(&repository).start();
    let (models, away) = (repository.models(), repository.models().with_file_name("away"));
    fs::rename(&models, &away).unwrap();
    let readable = |server: &Server| server.metrics().sum("nuke_repository_readable", &[]);
    eventually("it is noticed", || readable(&server) == 0.0);
    let rescans = |server: &Server| server.metrics().sum("nuke_rescans_total", &[]);
    let before = rescans(&server);
    eventually("some more scans", || rescans(&server) >= before + 3.0);
    assert_eq!(answers(&server, INFER), Some(1.0));
    assert_eq!(server.state("tiny", "1"), ("READY".to_owned(), String::new()));
    fs::rename(&away, &models).unwrap();
    eventually("it is back", || readable(&server) == 1.0);
    drop_in(&repository, "tiny/1", &[("model.onnx", &tiny(7.0))]);
    eventually_answers(&server, INFER, 7.0);
    server.tells("the models folder cannot be read", 1);
    server.tells("the models folder can be read again", 1);
}

#[test]
fn a_link_that_is_swapped_is_seen_and_one_that_leads_out_is_refused() {
    let repository = one_tiny();
    let folder = repository.models().join("tiny/1");
    // As Kubernetes does it: the file is a link through `..data`, and only that one is replaced.
    for (name, factor) in [("..first", 10.0), ("..second", 20.0)] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("model.onnx"), tiny(factor)).unwrap();
    }
    symlink("..first", folder.join("..data")).unwrap();
    fs::remove_file(folder.join("model.onnx")).unwrap();
    symlink("..data/model.onnx", folder.join("model.onnx")).unwrap();
    let server = builder(&repository).start();
    eventually_answers(&server, INFER, 10.0);
    symlink("..second", folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    eventually_answers(&server, INFER, 20.0);

    let outside = repository.models().with_file_name("outside.onnx");
    fs::write(&outside, tiny(30.0)).unwrap();
    symlink(&outside, folder.join("link.tmp")).unwrap();
    fs::rename(folder.join("link.tmp"), folder.join("model.onnx")).unwrap();
    eventually("it is refused", || server.state("tiny", "1").1.contains("leads out of its folder"));
    assert_eq!(answers(&server, INFER), Some(20.0));
}

#[test]
fn droppings_change_nothing() {
    let repository = one_tiny();
    let server = builder(&repository).start();
    let models = repository.models();
    let swaps = |server: &Server| server.metrics().sum("nuke_swaps_total", &[]);
    let before = swaps(&server);
    for name in [".hidden", "model.onnx.part", "model.onnx~", ".model.onnx.swp", "model.onnx.tmp"] {
        fs::write(models.join("tiny/1").join(name), "x").unwrap();
    }
    for name in ["new.tmp", ".git", "upload.part"] {
        fs::create_dir_all(models.join(name).join("1")).unwrap();
        fs::write(models.join(name).join("1/model.onnx"), tiny(1.0)).unwrap();
    }
    // Something that does show, after all of that.
    drop_in(&repository, "other/1", &[("model.onnx", &tiny(5.0))]);
    eventually_answers(&server, "/v2/models/other/infer", 5.0);
    assert_eq!(swaps(&server), before + 1.0);
    let index = server.post("/v2/repository/index", "", "").expect(200).json();
    assert_eq!(index.as_array().unwrap().len(), 2, "{index}");
}
