//! Models that keep their weights in other files: in the version's own folder they are used, anywhere else
//! they are never read, whatever way the model words it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod onnx_bytes;

use std::fs;
use std::path::Path;
use std::process::Command;

use nuke_tests::{Repository, Server, nuke};
use onnx_bytes::{Disguise, with_constant, with_initializer, with_subgraph};
use serde_json::{Value, json};

/// `nuke check` of a repository in a folder, as one text, and whether all was fine.
fn check(repository: &Repository, folder: &Path) -> (bool, String) {
    let mut command: Command = nuke();
    command.current_dir(folder).args(["check", "--set", "plugins.compile_cache=off", "--models"]);
    let output = command.arg(repository.models()).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {text}", output.status);
    (output.status.success(), text)
}

#[test]
fn weights_outside_of_the_versions_folder_are_never_read() {
    // Started in `/`, as in a container: a path that ONNX Runtime takes for relative reaches everything.
    let locations: [&[u8]; 9] = [
        b"/etc/passwd",
        b"../../etc/passwd",
        b"../../../../../../../../../../etc/passwd",
        b"etc/passwd",
        b"./etc/passwd",
        b"etc//passwd",
        b"etc/../etc/passwd",
        b"\xff/../etc/passwd",
        b"etc/passwd\0",
    ];
    for location in locations {
        for disguise in [Disguise::None, Disguise::Graph, Disguise::Initializer, Disguise::ExternalData] {
            let repository = Repository::new()
                .empty_version("thief", "1")
                .file("model.onnx", with_initializer(location, disguise));
            let (fine, text) = check(&repository, Path::new("/"));
            assert!(!fine, "{:?} {disguise:?}: {text}", String::from_utf8_lossy(location));
            assert!(!text.contains("root:"), "{text}");
        }
        for model in [with_constant(location), with_subgraph(location)] {
            let repository = Repository::new().empty_version("thief", "1").file("model.onnx", model);
            let (fine, text) = check(&repository, Path::new("/"));
            assert!(!fine, "{:?}: {text}", String::from_utf8_lossy(location));
        }
    }
    // Nor what lies in the folder that the server was started in.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret.bin"), [b's'; 64]).unwrap();
    for model in [
        with_initializer(b"secret.bin", Disguise::Graph),
        with_constant(b"secret.bin"),
        with_subgraph(b"secret.bin"),
    ] {
        let repository = Repository::new().empty_version("thief", "1").file("model.onnx", model);
        let (fine, text) = check(&repository, folder.path());
        assert!(!fine, "{text}");
    }
}

#[test]
fn weights_in_the_versions_folder_are_the_ones_that_are_used() {
    // The same path leads somewhere from where the server was started: those must not be taken.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/weights.bin"), [0xaa; 64]).unwrap();
    let weights: Vec<u8> = (0..16_u8).flat_map(|at| f32::from(at).to_le_bytes()).collect();
    let location = b"data/weights.bin";
    let models = [
        ("initializer", with_initializer(location, Disguise::None)),
        ("constant", with_constant(location)),
        ("subgraph", with_subgraph(location)),
    ];
    let repository = models.into_iter().fold(Repository::new(), |repository, (name, model)| {
        repository.empty_version(name, "1").file("model.onnx", model).file("data/weights.bin", &weights)
    });
    let (_, text) = check(&repository, folder.path());
    assert!(text.contains("ok      initializer 1"), "{text}");
    let server = Server::builder().repository(&repository).start();
    let unit: Vec<f32> = (0..16).map(|at| if at % 5 == 0 { 1.0 } else { 0.0 }).collect();
    for name in ["initializer", "constant", "subgraph"] {
        let (state, reason) = server.state(name, "1");
        if state == "UNAVAILABLE" {
            // The plain way has to work; the odd ones may be refused, if they are refused by name.
            assert_ne!(name, "initializer", "{reason}");
            assert!(reason.contains("data/weights.bin") || reason.contains("external"), "{reason}");
            continue;
        }
        let mut request =
            json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [4, 4], "data": unit}]});
        if name == "subgraph" {
            let condition = json!({"name": "c", "datatype": "BOOL", "shape": [], "data": [true]});
            request["inputs"].as_array_mut().unwrap().push(condition);
        }
        let answer = server.post_json(&format!("/v2/models/{name}/infer"), &request).expect(200).json();
        let data: Vec<f32> = serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap();
        assert_eq!(data, (0..16_u8).map(f32::from).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn weights_of_a_subgraph_are_not_swapped_for_others() {
    // A harmless file in the version's folder for whoever looks there first; another one by the same path in
    // the folder that the server is started in, for whoever opens it in the end.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("etc")).unwrap();
    fs::write(folder.path().join("etc/secret"), [b's'; 64]).unwrap();
    let model = with_subgraph(b"etc/secret");
    let repository =
        Repository::new().empty_version("thief", "1").file("model.onnx", model).file("etc/secret", [0; 64]);
    let mut command = nuke();
    command.current_dir(folder.path()).args([
        "serve",
        "--http",
        "127.0.0.1:0",
        "--log-format",
        "json",
        "--models",
    ]);
    let mut child = command.arg(repository.models()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let mut address = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["message"] == "listening" {
            address = line["address"].as_str().unwrap().to_owned();
        }
        if line["message"].as_str().unwrap().starts_with("all versions have been loaded") {
            break;
        }
    }
    let unit: Vec<f32> = (0..16).map(|at| if at % 5 == 0 { 1.0 } else { 0.0 }).collect();
    let request = json!({"parameters": {"binary_data_output": true}, "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [4, 4], "data": unit},
        {"name": "c", "datatype": "BOOL", "shape": [], "data": [true]}]});
    let answer =
        nuke_tests::Client::new(&format!("http://{address}")).post_json("/v2/models/thief/infer", &request);
    child.kill().unwrap();
    child.wait().unwrap();
    let leaked = answer.body.windows(16).any(|window| window == [b's'; 16]);
    assert!(!leaked, "status {}: the answer has what the server's own folder holds", answer.status);
}
