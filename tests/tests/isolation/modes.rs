//! The same answers from a process as from the host, and swaps between the two.

use std::fs;
use std::process::Stdio;

use nuke_tests::{Repository, nuke};
use serde_json::{Value, json};

use super::{PATIENT, builder, has_workers, isolated, while_they_answer, workers};

#[test]
fn a_process_answers_just_as_the_host_does() {
    let models = ["all_types", "echo_bytes", "items", "fixed", "scalar", "gather", "two_inputs", "big"];
    let mut repository = Repository::new();
    for model in models {
        repository = repository
            .model(&format!("{model}-here"), "1", model)
            .model(&format!("{model}-apart"), "1", model)
            .model_yaml(&isolated(1, ""));
    }
    let server = builder(&repository).start();
    has_workers(&server, models.len());
    for (model, inputs) in requests() {
        let ask = |place: &str| {
            let answer = server.post_json(&format!("/v2/models/{model}-{place}/infer"), &inputs);
            let mut body = answer.json();
            let error = body["error"].as_str().map(|text| text.replace(&format!("{model}-{place}"), "m"));
            (answer.status, error, body["outputs"].take())
        };
        let (here, apart) = (ask("here"), ask("apart"));
        assert_eq!(here, apart, "{model}");
        let metadata = |place: &str| {
            let metadata = server.get(&format!("/v2/models/{model}-{place}")).expect(200).json();
            (metadata["inputs"].clone(), metadata["outputs"].clone())
        };
        assert_eq!(metadata("here"), metadata("apart"), "{model}");
    }
}

fn requests() -> Vec<(&'static str, Value)> {
    let tensor = |name: &str, datatype: &str, shape: Value, data: Value| json!({"name": name, "datatype": datatype, "shape": shape, "data": data});
    let numbers = ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64"];
    let mut all: Vec<Value> = numbers
        .iter()
        .map(|datatype| tensor(&format!("in_{datatype}"), datatype, json!([2, 2]), json!([1, 2, 3, 4])))
        .collect();
    all.push(tensor("in_BOOL", "BOOL", json!([2, 2]), json!([true, false, false, true])));
    all.push(tensor("in_BYTES", "BYTES", json!([2, 2]), json!(["", "a", "ä\u{0}b", "long".repeat(9)])));
    let index = |at: i64| json!({"inputs": [tensor("index", "INT64", json!([2]), json!([at, 1]))]});
    let floats = |name: &str| tensor(name, "FP32", json!([1, 4]), json!([1.5, -2, 0, 3e30]));
    let large = vec![0.25; 3 * 224 * 224];
    vec![
        ("all_types", json!({"inputs": all})),
        ("echo_bytes", json!({"inputs": [tensor("text", "BYTES", json!([0]), json!([]))]})),
        (
            "echo_bytes",
            json!({"inputs": [tensor("text", "BYTES", json!([2]), json!(["x".repeat(70_000), ""]))]}),
        ),
        ("fixed", json!({"inputs": [tensor("x", "FP32", json!([2, 3]), json!([1, 2, 3, 4, 5, 6]))]})),
        ("scalar", json!({"inputs": [tensor("x", "FP32", json!([]), json!([3]))]})),
        ("gather", index(3)),
        ("gather", index(4)),
        ("two_inputs", json!({"inputs": [floats("A"), floats("B")], "outputs": [{"name": "DIFF"}]})),
        ("big", json!({"inputs": [tensor("x", "FP32", json!([1, 3, 224, 224]), json!(large))]})),
        ("scalar", json!({"inputs": [tensor("x", "FP32", json!([1]), json!([3]))]})),
    ]
}

#[test]
fn isolation_is_changed_while_requests_are_answered() {
    let repository = Repository::new().model("tiny", "1", "tiny").model_yaml(PATIENT);
    let file = repository.models().join("tiny/model.yaml");
    let server = builder(&repository).start();
    while_they_answer(&server, &["tiny"], || {
        for _ in 0..2 {
            fs::write(&file, isolated(2, "")).unwrap();
            has_workers(&server, 2);
            fs::write(&file, PATIENT).unwrap();
            has_workers(&server, 0);
        }
    });
}

#[test]
fn who_starts_a_worker_by_hand_is_told_what_it_is_for() {
    for input in ["", "nukw and something else that is no message"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        fs::write(&path, input).unwrap();
        let mut command = nuke();
        command.args(["worker", "--ort-lib", "/nowhere", "--parent", &std::process::id().to_string()]);
        let output = command.stdin(Stdio::from(fs::File::open(&path).unwrap())).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("`nuke serve` starts this command itself"), "{text}");
    }
    // Nor does it serve anybody but the process that started it.
    let output = nuke().args(["worker", "--ort-lib", "/nowhere", "--parent", "1"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("the host that asked is gone"));
}

#[test]
fn a_model_with_weights_in_another_file_is_opened_in_a_process() {
    let weights: Vec<u8> = (0..8_u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    let _ = weights;
    let repository = Repository::new().model("digits", "1", "digits").model_yaml(&isolated(1, ""));
    let server = builder(&repository).start();
    assert_eq!(server.state("digits", "1").0, "READY");
    assert_eq!(workers(server.id()).len(), 1);
}
