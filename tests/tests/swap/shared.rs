//! Plugins of the plugins folder: dropping one reloads the bundles that refer to it.

use std::fs;
use std::time::{Duration, Instant};

use nuke_tests::{Repository, Server};

use crate::{builder, eventually, replace, saying};

fn says(server: &Server, model: &str) -> String {
    let answer = server.post(&format!("/predict/{model}"), "", "x");
    if answer.status == 200 { answer.text() } else { format!("{}", answer.status) }
}

fn install(repository: &Repository, version: &str, word: &str) {
    let fresh = repository.plugins().join(".fresh");
    fs::create_dir_all(&fresh).unwrap();
    fs::write(fresh.join("plugin.wasm"), saying(word)).unwrap();
    fs::rename(fresh, repository.plugins().join("talk").join(version)).unwrap();
}

fn swaps(server: &Server, model: &str) -> f64 {
    server.metrics().sum("nuke_swaps_total", &[("model", model)])
}

#[test]
fn a_newer_plugin_reloads_every_bundle_that_it_fits() {
    let repository = Repository::new()
        .shared_plugin("talk", "1.0.0", saying("v1"))
        .model("any", "1", "digits")
        .bundle_yaml("plugin: talk@^1\nwarmup: [sample]\n")
        .file("sample", "x")
        .model("held", "1", "digits")
        .bundle_yaml("plugin: talk@=1.0.0\n");
    let server = builder(&repository).start();
    assert_eq!((says(&server, "any"), says(&server, "held")), ("v1".to_owned(), "v1".to_owned()));
    install(&repository, "1.1.0", "v2");
    eventually("the newer one answers", || says(&server, "any") == "v2");
    install(&repository, "2.0.0", "v3");
    // A plugin that is no component: the one before answers on.
    fs::create_dir(repository.plugins().join("talk/1.2.0")).unwrap();
    fs::write(repository.plugins().join("talk/1.2.0/plugin.wasm"), "no component").unwrap();
    eventually("the reason shows", || !server.state("any", "1").1.is_empty());
    assert_eq!((says(&server, "any"), says(&server, "held")), ("v2".to_owned(), "v1".to_owned()));
    fs::remove_dir_all(repository.plugins().join("talk/1.2.0")).unwrap();
    eventually("it has healed", || server.state("any", "1").1.is_empty());
    // What serves again is what served all the time.
    eventually("the log says so", || {
        server.logs().iter().any(|line| line.contains("own content serves again"))
    });
    assert_eq!((says(&server, "any"), swaps(&server, "held")), ("v2".to_owned(), 1.0));
}

#[test]
fn a_model_and_its_plugin_that_change_together_swap_as_one() {
    eventually("both are there within the quiet time", || {
        let repository = Repository::new()
            .shared_plugin("talk", "1.0.0", saying("v1"))
            .model("both", "1", "digits")
            .bundle_yaml("plugin: talk@^1\n");
        let server = builder(&repository).set("repository.quiet", "2s").start();
        assert_eq!((says(&server, "both"), swaps(&server, "both")), ("v1".to_owned(), 1.0));
        let model = repository.version_folder().join("model.onnx");
        let same = fs::read(&model).unwrap();
        let began = Instant::now();
        install(&repository, "1.1.0", "v2");
        replace(&model, &same);
        let together = began.elapsed() < Duration::from_secs(1);
        eventually("the newer one answers", || says(&server, "both") == "v2");
        assert!(swaps(&server, "both") == 2.0 || !together, "one swap for both");
        together
    });
}
