//! The Open Inference Protocol as a client meets it: what a wrong request is told, and what a right one gets
//! back.
//!
//! Spot checks by hand-made requests; the whole of the protocol is gone through by a real client in
//! `python/client_conformance.py`. Queues and time are in `overload.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use nuke_tests::{Answer, Repository, Server, components, refused};
use serde_json::{Value, json};

const HEADER_LENGTH: &str = "inference-header-content-length";

/// Model, body, and what the message has to name.
const WRONG_BODIES: [(&str, &str, &[&str]); 22] = [
    ("tiny", "", &["body"]),
    ("tiny", "no json", &["body", "object"]),
    ("tiny", "[]", &["object"]),
    ("tiny", "{}", &["inputs", "missing"]),
    ("tiny", r#"{"inputs": 7}"#, &["inputs"]),
    ("tiny", r#"{"inputs": [{"datatype": "FP32", "shape": [1, 16], "data": [1]}]}"#, &["inputs[0]", "name"]),
    ("tiny", r#"{"inputs": [{"name": "x", "shape": [1, 16], "data": [1]}]}"#, &["inputs[0]", "datatype"]),
    ("tiny", r#"{"inputs": [{"name": "x", "datatype": "FP32", "data": [1]}]}"#, &["inputs[0]", "shape"]),
    ("tiny", r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16]}]}"#, &["'x'", "'data'"]),
    (
        "tiny",
        r#"{"inputs": [{"name": "x", "datatype": "FP31", "shape": [1, 1], "data": [1]}]}"#,
        &["inputs[0].datatype", "FP31", "FP32"],
    ),
    (
        "tiny",
        r#"{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [1]}]}"#,
        &["'x'", "'tiny'", "expected", "FP32", "FP64"],
    ),
    (
        "tiny",
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}"#,
        &["'x'", "[-1, 16]", "[2]"],
    ),
    (
        "fixed",
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 2], "data": [1, 2, 3, 4, 5, 6]}]}"#,
        &["'x'", "[2, 3]", "[3, 2]"],
    ),
    (
        "tiny",
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [1, 2, 3]}]}"#,
        &["'x'", "16", "3"],
    ),
    (
        "tiny",
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": ["one"]}]}"#,
        &["'x'", "element 0", "number", "FP32", "string"],
    ),
    (
        "tiny",
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 16], "data": []}]}"#,
        &["inputs[0].shape", "-1"],
    ),
    (
        "all_types",
        r#"{"inputs": [{"name": "in_INT8", "datatype": "INT8", "shape": [1, 1], "data": [128]}]}"#,
        &["'in_INT8'", "element 0", "128"],
    ),
    (
        "tiny",
        r#"{"inputs": [{"name": "z", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}"#,
        &["'z'", "'tiny'", "'x'"],
    ),
    (
        "two_inputs",
        r#"{"inputs": [{"name": "A", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}"#,
        &["'two_inputs'", "'B'", "2", "1"],
    ),
    (
        "tiny",
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}, {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}"#,
        &["'x'", "twice"],
    ),
    (
        "tiny",
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}], "outputs": [{"name": "w"}]}"#,
        &["'w'", "'y'"],
    ),
    ("gather", r#"{"inputs": [{"name": "index", "datatype": "INT64", "shape": [1], "data": [9]}]}"#, &["9"]),
];

/// One FP32 input `x` of [1, 16] for the model `tiny`: all ones.
fn tiny_request() -> Value {
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16]}]})
}

fn fixtures() -> Repository {
    ["tiny", "two_inputs", "all_types", "fixed", "gather"]
        .into_iter()
        .fold(Repository::new(), |repository, name| repository.model(name, "1", name))
}

fn infer(server: &Server, model: &str, body: &str) -> Answer {
    server.post(&format!("/v2/models/{model}/infer"), "application/json", body)
}

#[test]
fn a_wrong_body_is_told_which_field_what_was_expected_and_what_came() {
    let repository = fixtures();
    let server = Server::builder().repository(&repository).start();
    for (model, body, needles) in WRONG_BODIES {
        let answer = infer(&server, model, body);
        eprintln!("{body}\n  -> {} {}", answer.status, answer.text());
        // A fault in the run itself may be the model's or the request's: ONNX Runtime does not say.
        let status = if model == "gather" { answer.status.clamp(400, 500) } else { 400 };
        refused(&answer, status, needles);
    }
    assert_eq!(server.metrics().sum("nuke_requests_in_flight", &[]), 0.0);
}

#[test]
fn a_body_that_is_not_utf_8_is_refused() {
    let repository = fixtures();
    let server = Server::builder().repository(&repository).start();
    let answer = server.post("/v2/models/tiny/infer", "application/json", b"{\"inputs\": \"\xff\xfe\"}");
    refused(&answer, 400, &["UTF-8", "12"]);
}

#[test]
fn wrong_binary_tensors_are_told_the_tensor_and_both_sizes() {
    let repository = fixtures();
    let server = Server::builder().repository(&repository).start();
    let path = "/v2/models/tiny/infer";
    let request = |size: u64, tail: &[u8], announced: Option<&str>| {
        let head = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16],
            "parameters": {"binary_data_size": size}}]})
        .to_string();
        let length = announced.map_or_else(|| head.len().to_string(), str::to_owned);
        let body = [head.as_bytes(), tail].concat();
        server.client().request("POST", path).header(HEADER_LENGTH, &length).body(body).send()
    };
    request(64, &[0; 64], None).expect(200);
    refused(&request(64, &[0; 60], None), 400, &["'x'", "64", "60"]);
    refused(&request(60, &[0; 60], None), 400, &["'x'", "64", "60"]);
    refused(&request(64, &[0; 65], None), 400, &["1"]);
    refused(&request(u64::MAX, &[0; 64], None), 400, &["'x'", "18446744073709551615", "64"]);
    refused(&request(64, &[0; 64], Some("100000")), 400, &["100000"]);
    for nonsense in ["-1", "+5", "ten", "1e3", "99999999999999999999999", ""] {
        refused(&request(64, &[0; 64], Some(nonsense)), 400, &["Inference-Header-Content-Length"]);
    }
    // Half of the JSON is no JSON.
    refused(&request(64, &[0; 64], Some("20")), 400, &[]);
    let no_header = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16],
        "parameters": {"binary_data_size": 64}}]});
    refused(
        &server.post_json(path, &no_header),
        400,
        &["'x'", "binary_data_size", "Inference-Header-Content-Length"],
    );
}

#[test]
fn what_this_version_does_not_serve_is_refused_and_named() {
    let repository = fixtures();
    let server = Server::builder().repository(&repository).start();
    let mut shared = tiny_request();
    shared["inputs"][0]["parameters"] = json!({"shared_memory_region": "r", "shared_memory_byte_size": 64});
    let mut sequence = tiny_request();
    sequence["parameters"] = json!({"sequence_id": 5});
    for (body, needle) in [(shared, "shared_memory_region"), (sequence, "sequence_id")] {
        refused(&server.post_json("/v2/models/tiny/infer", &body), 501, &[needle]);
    }
    for wrong in [json!(-1), json!("soon"), json!(1.5), json!(true)] {
        let mut timed = tiny_request();
        timed["parameters"] = json!({"timeout": wrong});
        refused(&server.post_json("/v2/models/tiny/infer", &timed), 400, &["timeout", "expected"]);
    }
}

#[test]
fn unknown_models_versions_and_paths_are_404_and_named() {
    let repository = fixtures();
    let server = Server::builder().repository(&repository).start();
    for path in ["/v2/models/nobody", "/v2/models/nobody/ready", "/v2/models/nobody/config"] {
        refused(&server.get(path), 404, &["nobody"]);
    }
    for path in ["/v2/models/tiny/versions/7", "/v2/models/tiny/versions/7/ready"] {
        refused(&server.get(path), 404, &["tiny", "7"]);
    }
    refused(&server.post_json("/v2/models/nobody/infer", &tiny_request()), 404, &["nobody"]);
    refused(&server.post_json("/v2/models/tiny/versions/7/infer", &tiny_request()), 404, &["tiny", "7"]);
    refused(&server.post("/predict/nobody", "image/png", "x"), 404, &["nobody"]);
    refused(&server.post("/predict/tiny/7", "image/png", "x"), 404, &["tiny", "7"]);
    for path in
        ["/", "/v3", "/v2/nothing", "/v2/models/tiny/nothing", "/predict", "/predict/a/b/c", "/favicon.ico"]
    {
        refused(&server.get(path), 404, &[path]);
    }
}

#[test]
fn a_wrong_method_is_405_and_says_which_are_right() {
    let repository = fixtures();
    let server = Server::builder().repository(&repository).start();
    let cases = [
        ("GET", "/v2/models/tiny/infer", "POST"),
        ("GET", "/predict/tiny", "POST"),
        ("GET", "/v2/repository/index", "POST"),
        ("POST", "/v2", "GET"),
        ("POST", "/metrics", "GET"),
        ("DELETE", "/v2/models/tiny", "GET"),
        ("PUT", "/v2/health/ready", "GET"),
        ("OPTIONS", "/v2/models/tiny/infer", "POST"),
    ];
    for (method, path, right) in cases {
        let answer = server.client().request(method, path).send();
        refused(&answer, 405, &[path, method]);
        let allowed = answer.header("allow").unwrap_or_default();
        assert!(
            allowed.split(',').any(|method| method.trim() == right),
            "{method} {path}: allow {allowed:?}"
        );
    }
}

#[test]
fn names_that_are_no_text_are_refused_in_the_protocols_form() {
    let repository = fixtures();
    let server = Server::builder().repository(&repository).start();
    for path in ["/v2/models/%FF", "/v2/models/tiny/versions/%C3%28", "/v2/models/%FF/ready"] {
        refused(&server.get(path), 400, &[]);
    }
    for path in ["/predict/%FF", "/v2/models/%FF/infer"] {
        refused(&server.post(path, "application/json", "{}"), 400, &[]);
    }
}

#[test]
fn the_index_lists_and_filters_and_holds_to_the_limits_of_all_bodies() {
    let repository = fixtures().model("broken", "1", "truncated");
    let server = Server::builder().repository(&repository).set("server.max_body", "5MiB").start();
    let path = "/v2/repository/index";
    let names = |answer: Answer| -> Vec<String> {
        let entries = answer.expect(200).json();
        entries.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = names(server.post(path, "", ""));
    assert_eq!(all, ["all_types", "broken", "fixed", "gather", "tiny", "two_inputs"]);
    assert_eq!(names(server.post_json(path, &json!({}))), all);
    assert!(!names(server.post_json(path, &json!({"ready": true}))).contains(&"broken".to_owned()));
    refused(&server.post_json(path, &json!({"ready": "yes"})), 400, &["ready", "yes"]);
    refused(&server.post(path, "", "nonsense"), 400, &["JSON"]);
    // Blanks before an object are JSON.
    let long = format!("{}{{}}", " ".repeat(3 << 10));
    assert_eq!(names(server.post(path, "application/json", long)), all);
    let mut connection = server.connect();
    connection
        .send(format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 6000000\r\n\r\n").as_bytes())
        .unwrap();
    refused(&connection.read_answer().unwrap(), 413, &["4096"]);
    let packed = server.client().request("POST", path).header("content-encoding", "gzip").body("{}").send();
    refused(&packed, 400, &["gzip"]);
}

#[test]
fn an_id_comes_back_as_it_was() {
    let repository = fixtures();
    let server = Server::builder().repository(&repository).start();
    for id in ["7", "", "a \"quoted\" \\ id", "é\u{1F600}\u{7}", "x".repeat(5000).as_str()] {
        let mut request = tiny_request();
        request["id"] = json!(id);
        let answer = server.post_json("/v2/models/tiny/infer", &request).expect(200).json();
        assert_eq!(answer["id"], json!(id));
    }
    let answer = server.post_json("/v2/models/tiny/infer", &tiny_request()).expect(200).json();
    assert!(answer.get("id").is_none_or(|id| id == ""), "{answer}");
    let mut request = tiny_request();
    request["id"] = json!(7);
    refused(&server.post_json("/v2/models/tiny/infer", &request), 400, &["id"]);
}

#[test]
fn outputs_come_as_they_were_asked_for_in_json_and_in_binary() {
    let repository = fixtures();
    let server = Server::builder().repository(&repository).start();
    let request = |more: Value| {
        let input = |name: &str, value: f32| json!({"name": name, "datatype": "FP32", "shape": [1, 4], "data": vec![value; 4]});
        let mut request = json!({"inputs": [input("B", 1.0), input("A", 3.0)]});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post_json("/v2/models/two_inputs/infer", &request).expect(200)
    };
    let names = |answer: &Value| -> Vec<String> {
        let outputs = answer["outputs"].as_array().unwrap();
        outputs.iter().map(|output| output["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = request(json!({})).json();
    assert_eq!(names(&all), ["SUM", "DIFF"]);
    assert_eq!(
        all["outputs"][0],
        json!({"name": "SUM", "datatype": "FP32", "shape": [1, 4], "data": [4.0, 4.0, 4.0, 4.0]})
    );
    assert_eq!((&all["model_name"], &all["model_version"]), (&json!("two_inputs"), &json!("1")));

    let one = request(json!({"outputs": [{"name": "DIFF"}]})).json();
    assert_eq!(names(&one), ["DIFF"]);
    assert_eq!(one["outputs"][0]["data"], json!([2.0, 2.0, 2.0, 2.0]));

    let both =
        request(json!({"outputs": [{"name": "DIFF"}, {"name": "SUM", "parameters": {"binary_data": true}}]}));
    assert_eq!(both.header("content-type"), Some("application/octet-stream"));
    let length: usize = both.header(HEADER_LENGTH).unwrap().parse().unwrap();
    let head: Value = serde_json::from_slice(&both.body[..length]).unwrap();
    assert_eq!(names(&head), ["DIFF", "SUM"]);
    assert_eq!(head["outputs"][1]["parameters"]["binary_data_size"], 16);
    assert!(head["outputs"][1].get("data").is_none());
    assert_eq!(both.body[length..], [4.0_f32.to_le_bytes(); 4].concat());

    let binary = request(json!({"parameters": {"binary_data_output": true}}));
    let length: usize = binary.header(HEADER_LENGTH).unwrap().parse().unwrap();
    assert_eq!(
        binary.body[length..],
        [[4.0_f32.to_le_bytes(); 4], [2.0_f32.to_le_bytes(); 4]].concat().concat()
    );
}

#[test]
fn the_version_that_answered_is_in_the_header_and_the_body() {
    let repository = Repository::new()
        .model("tiny", "9", "tiny")
        .model("tiny", "10", "tiny")
        .model("tiny", "2.1.0-rc.1", "tiny")
        .model_yaml("versions: all\n");
    let server = Server::builder().repository(&repository).start();
    for (path, version) in [
        ("/v2/models/tiny/infer", "10"),
        ("/v2/models/tiny/versions/9/infer", "9"),
        ("/v2/models/tiny/versions/2.1.0-rc.1/infer", "2.1.0-rc.1"),
    ] {
        let answer = server.post_json(path, &tiny_request()).expect(200);
        assert_eq!(answer.header("x-nuke-model-version"), Some(version));
        assert_eq!(answer.json()["model_version"], version);
        let wrong = server.post(path, "application/json", "{}");
        assert_eq!((wrong.status, wrong.header("x-nuke-model-version")), (400, Some(version)));
    }
    let metadata = server.get("/v2/models/tiny").expect(200).json();
    assert_eq!(metadata["versions"], json!(["2.1.0-rc.1", "9", "10"]));
    assert_eq!(server.get("/v2/models/tiny/versions/9").expect(200).json()["versions"], json!(["9"]));
}

#[test]
fn a_media_type_that_the_plugin_does_not_read_is_415() {
    let repository = Repository::new().model("picky", "1", "digits").plugin(components::build("error-codes"));
    let server = Server::builder().repository(&repository).start();
    // This plugin answers with the error code that the body's first byte names.
    for (body, status) in [("0", 400), ("1", 415), ("2", 413), ("3", 404), ("4", 503), ("5", 500)] {
        refused(&server.post("/predict/picky", "text/plain", body), status, &[]);
    }
    let packed =
        server.client().request("POST", "/predict/picky").header("content-encoding", "br").body("0").send();
    refused(&packed, 415, &["br"]);
}
