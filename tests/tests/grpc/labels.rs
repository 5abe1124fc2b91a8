//! Classification with the labels of the bundle, on both protocols.

use nuke_tests::{Repository, Server, eventually};
use serde_json::{Value, json};

use crate::call::{call, client, connect, field, framed, infer_message};

const ONES: [f32; 16] = [1.0; 16];

fn labelled(labels: &[u8]) -> Repository {
    Repository::new()
        .model("tiny", "1", "tiny")
        .file("names/labels.txt", labels)
        .bundle_yaml("labels: {y: names/labels.txt}\n")
}

/// The `count` greatest of `tiny`, as JSON has them.
fn over_http(server: &Server, count: u32) -> Value {
    let output = json!({"name": "y", "parameters": {"classification": count}});
    let input = json!({"name": "x", "datatype": "FP32", "shape": [1, 16], "data": ONES});
    let answer = server.post_json("/v2/models/tiny/infer", &json!({"inputs": [input], "outputs": [output]}));
    answer.expect(200).json()["outputs"][0].clone()
}

/// The same over gRPC: the whole answer.
fn over_grpc(server: &Server, count: u8) -> Vec<u8> {
    let raw: Vec<u8> = ONES.iter().flat_map(|one| one.to_le_bytes()).collect();
    let parameter = [field(1, b"classification"), field(2, &[2 << 3, count])].concat();
    let output = [field(1, b"y"), field(2, &parameter)].concat();
    let message = [infer_message("tiny", "x", "FP32", &[1, 16], &raw), field(6, &output)].concat();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let mut answer = call(&sender, "ModelInfer", &[], framed(&message)).await;
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.messages.remove(0)
    })
}

#[test]
fn the_greatest_elements_have_the_labels_of_the_bundle() {
    let repository = labelled("cat\r\nbig: dog\n\nбелка\nmore than there are\n".as_bytes());
    let server = Server::builder().repository(&repository).start();
    let expected = ["8.500000:3:белка", "6.375000:2", "4.250000:1:big: dog"];
    let output = over_http(&server, 3);
    assert_eq!(output["datatype"], "BYTES");
    assert_eq!(output["shape"], json!([1, 3]));
    assert_eq!(output["data"], json!(expected));
    let mut elements = Vec::new();
    for text in expected {
        elements.extend_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
        elements.extend_from_slice(text.as_bytes());
    }
    let answer = over_grpc(&server, 3);
    assert!(answer.windows(elements.len()).any(|part| part == elements), "{answer:?}");
}

#[test]
fn new_labels_are_new_content() {
    let repository = labelled(b"a\nb\nc\nd\n");
    let server = Server::builder().repository(&repository).set("repository.quiet", "100ms").start();
    assert_eq!(over_http(&server, 1)["data"], json!(["8.500000:3:d"]));
    std::fs::write(repository.version_folder().join("names/labels.txt"), "a\nb\nc\nchanged\n").unwrap();
    eventually("the new labels are told", || over_http(&server, 1)["data"] == json!(["8.500000:3:changed"]));
}

#[test]
fn labels_that_are_none_fail_the_version_with_the_reason() {
    for (labels, yaml, needle) in [
        (&b"a\n\xff\n"[..], "labels: {y: names/labels.txt}\n", "labels.txt: no UTF-8"),
        (b"a\n\x07\n", "labels: {y: names/labels.txt}\n", "line 2: a control character"),
        (b"a\n", "labels: {z: names/labels.txt}\n", "labels.z: the model has no such output; it has y"),
        (b"a\n", "labels: {y: names/none.txt}\n", "none.txt"),
        (b"a\n", "labels: {y: ../../secret}\n", "labels.y: expected the path of a file in the bundle"),
    ] {
        let repository = labelled(labels).bundle_yaml(yaml);
        let server = Server::builder().repository(&repository).start();
        let (state, reason) = server.state("tiny", "1");
        assert_ne!(state, "ready", "{yaml}");
        assert!(reason.contains(needle), "{yaml}: {reason}");
    }
}
