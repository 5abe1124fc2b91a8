//! Plugins that are not let in: the version is listed as unavailable with the reason, the others serve.

use nuke_tests::{Repository, Server, components};

use crate::serving;

/// A fixture and what the reason has to name besides the plugin.
const REFUSED: [(&str, &[&str]); 9] = [
    ("wrong-world", &["preprocessor", "postprocessor", "greet"]),
    ("wrong-version", &["0.9.0", "0.1.0", "rebuild"]),
    ("truncated", &["not valid WebAssembly"]),
    ("not-wasm", &["not valid WebAssembly"]),
    ("core-module", &["core WebAssembly module", "component"]),
    ("uses-image", &["nuke:plugin/image", "capabilities: [image]", "bundle.yaml"]),
    ("wasi-sockets", &["wasi:sockets", "no network"]),
    ("memory-at-start", &["plugins.memory"]),
    ("table-at-start", &["table"]),
];

/// What is wrong with how a model is refused; `None` if nothing.
fn complaint(server: &Server, model: &str, names: &[&str]) -> Option<String> {
    let (state, reason) = server.state(model, "1");
    if state != "UNAVAILABLE" {
        return Some(format!("{model}: it is {state}"));
    }
    if let Some(name) = names.iter().find(|name| !reason.contains(**name)) {
        return Some(format!("{model}: '{name}' is not in '{reason}'"));
    }
    if reason.contains('\n') {
        return Some(format!("{model}: more than one line: {reason:?}"));
    }
    let answer = server.post(&format!("/predict/{model}"), "", "x").expect(503);
    (!answer.error().contains(&reason))
        .then(|| format!("{model}: the request's error is '{}'", answer.error()))
}

#[track_caller]
fn assert_refused(server: &Server, model: &str, names: &[&str]) {
    assert_eq!(complaint(server, model, names), None);
}

#[test]
fn a_component_that_does_not_fit_is_listed_with_the_reason() {
    let fixtures = REFUSED.map(|(name, _)| name);
    let repository = serving(&fixtures).model("good", "1", "digits").plugin(components::build("good"));
    let server = Server::builder().repository(&repository).start();
    assert_eq!(server.post("/predict/good", "", "x").expect(200).text(), "ok");
    let complaints: Vec<String> = REFUSED
        .iter()
        .filter_map(|(model, names)| {
            let names: Vec<&str> = names.iter().copied().chain(["plugin 'plugin.wasm'"]).collect();
            complaint(&server, model, &names)
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_shared_plugin_is_refused_by_its_name() {
    let repository = Repository::new()
        .shared_plugin("alien", "1.0.0", components::build("wrong-version"))
        .shared_plugin("fine", "1.2.0", components::build("good"))
        .model("outdated", "1", "digits")
        .bundle_yaml("plugin: alien@^1\n")
        .model("missing", "1", "digits")
        .bundle_yaml("plugin: nowhere@^1\n")
        .model("newer", "1", "digits")
        .bundle_yaml("plugin: fine@^2\n")
        .model("good", "1", "digits")
        .bundle_yaml("plugin: fine@^1\n");
    let server = Server::builder().repository(&repository).start();
    assert_refused(&server, "outdated", &["plugin 'alien'", "0.9.0", "0.1.0"]);
    assert_refused(&server, "missing", &["nowhere", "--plugins"]);
    assert_refused(&server, "newer", &["fine", "^2", "1.2.0"]);
    assert_eq!(server.post("/predict/good", "", "x").expect(200).text(), "ok");
}

#[test]
fn a_capability_takes_the_bundles_word_and_the_operators() {
    let repository = Repository::new()
        .model("declared", "1", "digits")
        .plugin(components::build("uses-image"))
        .bundle_yaml("plugin: plugin.wasm\ncapabilities: [image]\n");
    let allowed = Server::builder().repository(&repository).start();
    allowed.post("/predict/declared", "", "x").expect(200);
    let forbidden = Server::builder().repository(&repository).set("plugins.allow", "logging,bundle").start();
    assert_refused(&forbidden, "declared", &["plugin 'plugin.wasm'", "nuke:plugin/image", "plugins.allow"]);
}

#[test]
fn a_component_over_the_size_limit_is_not_compiled() {
    let repository = serving(&["good"]);
    let server = Server::builder().repository(&repository).set("plugins.component_size", "1KiB").start();
    assert_refused(&server, "good", &["plugin 'plugin.wasm'", "1024", "plugins.component_size"]);
}

#[test]
fn a_plugin_that_fails_its_warm_up_does_not_serve() {
    let add = |repository: Repository, name: &str, fixture: &str| {
        let repository = repository.model(name, "1", "digits").plugin(components::build(fixture));
        repository
            .file("samples/one.txt", "sample")
            .bundle_yaml("plugin: plugin.wasm\nwarmup: [samples/one.txt]\n")
    };
    let repository = add(Repository::new(), "trapping", "trap");
    let repository = add(repository, "looping", "loop-forever");
    let repository = add(repository, "good", "counter");
    let server = Server::builder().repository(&repository).set("plugins.time", "300ms").start();
    assert_refused(&server, "trapping", &["samples/one.txt", "plugin 'plugin.wasm'", "unreachable"]);
    assert_refused(&server, "looping", &["samples/one.txt", "plugin 'plugin.wasm'", "plugins.time"]);
    // The warm-up was this instance's first request.
    assert_eq!(server.post("/predict/good", "", "x").expect(200).text(), "0002");
}

#[test]
fn a_plugin_beside_the_model_needs_no_word_in_the_bundle_file() {
    let add = |repository: Repository, name: &str| {
        repository.model(name, "1", "digits").plugin(components::build("good"))
    };
    let repository = add(Repository::new(), "without-file");
    let repository = add(repository, "without-word").bundle_yaml("settings: {a: 1}\n");
    let repository = add(repository, "null").bundle_yaml("plugin: null\n");
    let server = Server::builder().repository(&repository).start();
    for model in ["without-file", "without-word", "null"] {
        assert_eq!(server.post(&format!("/predict/{model}"), "", "x").text(), "ok", "{model}");
    }
}
