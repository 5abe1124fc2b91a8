//! HTTP/1.1 as nobody should speak it: garbage, changed requests, odd paths, too much of everything. All of it
//! is refused or read as it is meant, and none of it is a fault of the server.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::io::Write as _;

use nuke_tests::{
    Repository, Server, components, open_socket, read_until_closed, refused, settles, status_of,
};
use serde_json::json;

const HEADER_LENGTH: &str = "inference-header-content-length";

fn vectors() -> Repository {
    Repository::new().model("vector", "1", "vector_fp32").model("identity", "1", "identity_fp32")
}

/// Sends bytes and returns all that comes until the host closes. The bytes must make it close.
fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut stream = open_socket(server.address());
    // The host may have closed already: what it said before is still there to be read.
    let _ = stream.write_all(bytes);
    read_until_closed(&mut stream).unwrap_or_else(|error| panic!("not closed: {error}"))
}

#[test]
fn garbage_is_refused_or_closed_and_never_a_fault_of_the_server() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).set("server.header_timeout", "1s").start();
    let many = |count: usize| (0..count).map(|at| format!("x-{at}: y\r\n")).collect::<String>();
    let get = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").into_bytes()
    };
    let post = |headers: &str| {
        format!("POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\n{headers}\r\n0\r\n\r\n").into_bytes()
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("control bytes", b"\x00\xff\x01\x02\x03 garbage\r\n\r\n".to_vec()),
        (
            "a TLS hello",
            [b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4".as_slice(), &[0; 200], b"\r\n\r\n"].concat(),
        ),
        ("a NUL in a header", get("/v2", "x: a\0b\r\n")),
        ("a NUL in the path", get("/v2\0", "")),
        ("a blank in the path", get("/v2 /health", "")),
        ("a header without a colon", get("/v2", "nonsense\r\n")),
        ("a header with blanks before the colon", get("/v2", "content-length : 5\r\n")),
        ("a folded header", get("/v2", "x: a\r\n b\r\n")),
        ("an unknown version", b"GET /v2 HTTP/9.9\r\n\r\n".to_vec()),
        ("no version", b"GET /v2\r\n\r\n".to_vec()),
        ("a header of 2 MB", get("/v2", &format!("x: {}\r\n", "y".repeat(2_000_000)))),
        ("5000 headers", get("/v2", &many(5000))),
        ("a path of 1 MB", get(&format!("/{}", "a".repeat(1_000_000)), "")),
        ("two lengths", post("content-length: 5\r\ncontent-length: 6\r\n")),
        ("a negative length", post("content-length: -5\r\n")),
        ("a length with a sign", post("content-length: +5\r\n")),
        ("a length beyond 64 bits", post("content-length: 99999999999999999999999\r\n")),
        ("a length that is a list", post("content-length: 5, 6\r\n")),
        ("an unknown transfer encoding", post("transfer-encoding: compress\r\n")),
        ("chunked twice", post("transfer-encoding: chunked, chunked\r\nconnection: close\r\n")),
        (
            "an h2 preface with nonsense behind it",
            [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0xff; 500]].concat(),
        ),
    ];
    for (what, bytes) in cases {
        let answer = exchange(&server, &bytes);
        let is_h1 = answer.starts_with("HTTP/1.");
        assert!(!is_h1 || (400..500).contains(&status_of(&answer)), "{what}: {answer}");
    }
    // Both framings at once: refused, or chunked wins and the connection ends there.
    let smuggled = "0\r\n\r\nGET /v2/models/vector HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = exchange(
        &server,
        format!("POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{smuggled}")
            .as_bytes(),
    );
    assert_eq!((status_of(&answer), answer.matches("HTTP/1.1 ").count()), (400, 1), "{answer}");
    settles(&server);
    assert_eq!(server.get("/v2/health/live").status, 200);
}

#[test]
fn changed_requests_never_break_the_server() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).set("server.header_timeout", "1s").start();
    let body = r#"{"id": "a", "inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}"#;
    let right = format!(
        "POST /v2/models/vector/infer?a=b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         {HEADER_LENGTH}: {}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len(),
        body.len()
    );
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    for round in 0..400 {
        let mut bytes = right.clone().into_bytes();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes[at] = u8::try_from(next(256)).unwrap(),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, u8::try_from(next(256)).unwrap()),
                _ => drop(bytes.remove(at)),
            }
        }
        let mut stream = open_socket(server.address());
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = read_until_closed(&mut stream)
            .unwrap_or_else(|error| panic!("round {round}: not closed: {error}"));
        if answer.starts_with("HTTP/1.") {
            let status = status_of(&answer);
            assert!(status < 500, "round {round}: {:?} -> {answer}", String::from_utf8_lossy(&bytes));
        }
    }
    settles(&server);
}

#[test]
fn two_different_lengths_of_the_json_part_are_refused() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).start();
    let head = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}]})
        .to_string();
    let body = [head.as_bytes(), &1_f32.to_le_bytes()].concat();
    let lengths = |first: usize, second: usize| {
        let mut connection = server.connect();
        let text = format!(
            "POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\n{HEADER_LENGTH}: {first}\r\n{HEADER_LENGTH}: {second}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        connection.send(&[text.as_bytes(), &body].concat()).unwrap();
        connection.read_answer().unwrap()
    };
    refused(&lengths(head.len(), 0), 400, &["Inference-Header-Content-Length"]);
    refused(&lengths(0, head.len()), 400, &["Inference-Header-Content-Length"]);
}

#[test]
fn bodies_that_are_not_what_their_coding_says_are_refused() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).start();
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}).to_string();
    let send = |headers: &str| {
        let mut connection = server.connect();
        let head = format!(
            "POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.send(head.as_bytes()).unwrap();
        connection.read_answer().unwrap()
    };
    for encoding in ["gzip", "deflate", "zstd", "GZIP", "identity, gzip"] {
        refused(&send(&format!("content-encoding: {encoding}\r\n")), 400, &["body", "whole"]);
    }
    refused(&send("content-encoding: identity\r\ncontent-encoding: gzip\r\n"), 400, &["gzip"]);
    for encoding in ["br", "compress", "gzip, gzip", "gzip, zstd", "gzip;q=1"] {
        refused(&send(&format!("content-encoding: {encoding}\r\n")), 415, &["content-encoding"]);
    }
    refused(&send("content-encoding: gzip\r\ncontent-encoding: gzip\r\n"), 415, &["gzip"]);
    assert_eq!(send("content-encoding: identity\r\n").status, 200);
    assert_eq!(send("").status, 200);
}

#[test]
fn paths_are_read_as_they_are_meant_and_never_as_files() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).start();
    let get = |path: &str| {
        let mut connection = server.connect();
        connection.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        connection.read_answer().unwrap()
    };
    assert_eq!(get("/v2/models/%76ector").expect(200).json()["name"], "vector");
    assert_eq!(get("/v2/models/vector/versions/%31").expect(200).json()["versions"], json!(["1"]));
    assert_eq!(get("http://elsewhere/v2/models/vector").status, 200);
    refused(&get("/v2/models/%zz"), 404, &["%zz"]);
    for path in
        ["/v2/models/a%00b", "/v2/models/a%0d%0ab", "/v2/models/%1b[31m", "/v2/models/vector%2f..%2fidentity"]
    {
        let answer = get(path);
        refused(&answer, 404, &["not found"]);
        assert!(answer.headers.iter().all(|(_, value)| value.as_bytes().iter().all(|&byte| byte >= b' ')));
    }
    for path in [
        "/v2/../../etc/passwd",
        "/v2/models/../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
    ] {
        assert_eq!(get(path).status, 404);
    }
    let long = get(&format!("/v2/models/{}", "a".repeat(60_000)));
    refused(&long, 404, &["aaa"]);
    assert!(long.body.len() < 1000, "a message does not grow with the request");
    let lost = get(&format!("/{}", "b".repeat(60_000)));
    refused(&lost, 404, &["bbb"]);
    assert!(lost.body.len() < 1000);
}

#[test]
fn ten_thousand_query_parameters_reach_the_plugin() {
    let repository = Repository::new().model("good", "1", "digits").plugin(components::build("good"));
    let server = Server::builder().repository(&repository).start();
    let query = (0..10_000).map(|at| format!("{}=", at % 10)).collect::<Vec<_>>().join("&");
    let answer = server.post(&format!("/predict/good?{query}"), "image/png", "x").expect(200);
    assert_eq!(answer.text(), "ok");
    let odd = "/predict/good?&&=&a=%FF%00&%zz=%&a=+&b";
    assert_eq!(server.post(odd, "image/png", "x").expect(200).text(), "ok");
}

#[test]
fn head_is_get_without_a_body_and_other_methods_are_405() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).start();
    for path in ["/v2", "/v2/health/live", "/v2/models/vector", "/metrics"] {
        let (get, head) = (server.get(path).expect(200), server.client().request("HEAD", path).send());
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-type"), get.header("content-type"));
    }
    let mut connection = server.connect();
    for method in ["OPTIONS", "PATCH", "BREW", "TRACE", "get"] {
        connection.send(format!("{method} /v2 HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        let answer = connection.read_answer().unwrap();
        refused(&answer, 405, &[method]);
        assert!(answer.header("allow").is_some_and(|allowed| allowed.contains("GET")));
    }
    connection.send(b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!((200..500).contains(&connection.read_answer().unwrap().status));
}

#[test]
fn a_shape_of_nothing_that_spans_everything_is_refused_whatever_is_asked_of_it() {
    let repository = vectors()
        .model("split", "1", "identity_fp32")
        .model_yaml("batching: {max_batch_size: 8, oversize: split}");
    let server = Server::builder().repository(&repository).start();
    let huge = 1_u64 << 60;
    for shape in [json!([huge, 0]), json!([0, huge]), json!([2_000_000_000, 0]), json!([u64::MAX / 2, 0])] {
        for model in ["identity", "split"] {
            let path = format!("/v2/models/{model}/infer");
            let input = json!({"name": "x", "datatype": "FP32", "shape": shape, "data": []});
            let classes = json!([{"name": "y", "parameters": {"classification": 1}}]);
            refused(&server.post_json(&path, &json!({"inputs": [input]})), 400, &["'x'", "no elements"]);
            refused(&server.post_json(&path, &json!({"inputs": [input], "outputs": classes})), 400, &["'x'"]);
            let binary = json!({"name": "x", "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": 0}});
            refused(&server.post_json(&path, &json!({"inputs": [binary]})), 400, &["'x'"]);
        }
    }
    // What could be sent full can be sent empty.
    let empty = json!({"name": "x", "datatype": "FP32", "shape": [1000, 0], "data": []});
    let classes = json!([{"name": "y", "parameters": {"classification": 1}}]);
    let asked = json!({"inputs": [empty], "outputs": classes});
    let answer = server.post_json("/v2/models/identity/infer", &asked).expect(200);
    assert_eq!(answer.json()["outputs"][0]["shape"], json!([1000, 0]));
    server.post_json("/v2/models/split/infer", &json!({"inputs": [empty]})).expect(200);
    settles(&server);
}
