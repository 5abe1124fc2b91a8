//! HTTP/1.1 as hostile, broken and merely unusual clients speak it: limits on bodies, heads, connections
//! and time, and the same right answers for everybody else meanwhile.
//!
//! HTTP/2 is in `http2.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use nuke_tests::{Answer, RawConnection, Repository, Server, components, eventually};
use serde_json::{Value, json};

const HEADER_LENGTH: &str = "inference-header-content-length";
/// Longer than any limit of time that is set in here, shorter than anybody's patience.
const GUARD: Duration = Duration::from_secs(20);

fn vectors() -> Repository {
    Repository::new().model("vector", "1", "vector_fp32").model("identity", "1", "identity_fp32")
}

fn slow() -> Repository {
    Repository::new().model("slow", "1", "slow").model_yaml("{queue: {timeout: 30s}}")
}

fn slow_body(milliseconds: u32) -> String {
    json!({"inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [milliseconds]}]}).to_string()
}

fn bare(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.set_write_timeout(Some(GUARD)).unwrap();
    stream
}

/// Everything until the other side closes; the error if it does not.
fn rest(stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(all),
            Ok(count) => all.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(all),
            Err(error) => return Err(format!("{error} after {:?}", String::from_utf8_lossy(&all))),
        }
    }
}

/// Sends bytes and returns all that comes until the host closes. The bytes must make it close.
fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut stream = bare(server);
    // The host may have closed already: what it said before is still there to be read.
    let _ = stream.write_all(bytes);
    let answer = rest(&mut stream).unwrap_or_else(|error| panic!("not closed: {error}"));
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer
        .get(9..12)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("no status in {answer:?}"))
}

/// An error of the protocol with this status, whose message has `needle` in it.
#[track_caller]
fn refused(answer: &Answer, expected: u16, needle: &str) {
    assert_eq!(answer.status, expected, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.error().contains(needle), "{needle:?} is not in {:?}", answer.error());
}

/// Nothing is left over: no request in flight, and no connection but the one that asks.
fn settles(server: &Server) {
    eventually("no request is in flight", || server.metrics().sum("nuke_requests_in_flight", &[]) == 0.0);
    eventually("all other connections are closed", || {
        server.metrics().sum("nuke_http_connections", &[]) <= 1.0
    });
}

#[test]
fn a_body_that_says_it_is_too_long_is_refused_before_it_is_sent() {
    let server = Server::builder().repository(&vectors()).set("server.max_body", "1MiB").start();
    for length in ["1048577", "99999999999", "9223372036854775807"] {
        for expect in ["", "expect: 100-continue\r\n"] {
            let mut connection = server.connect();
            let head = format!(
                "POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\n{expect}content-length: {length}\r\n\r\n"
            );
            connection.send(head.as_bytes()).unwrap();
            // Nothing of the body is ever sent: whoever waits for it does not answer.
            refused(&connection.read_answer().unwrap(), 413, "1048576");
        }
    }
    for path in ["/predict/vector", "/predict/vector/1", "/v2/models/vector/versions/1/infer"] {
        let mut connection = server.connect();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1048577\r\n\r\n");
        connection.send(head.as_bytes()).unwrap();
        refused(&connection.read_answer().unwrap(), 413, "1048576");
    }
    settles(&server);
}

#[test]
fn a_body_of_exactly_the_limit_is_served() {
    let server = Server::builder().repository(&vectors()).set("server.max_body", "1MiB").start();
    let client = server.client();
    let send = |length: usize| {
        let request = client.request("POST", "/v2/models/vector/infer").header(HEADER_LENGTH, "0");
        request.body(vec![0; length]).try_send()
    };
    let answer = send(1 << 20).unwrap().expect(200);
    assert!(answer.body.ends_with(&[0; 1 << 20]));
    // A client that sends first and reads later may find the connection closed instead.
    assert!(send((1 << 20) + 4).is_ok_and(|answer| answer.status == 413) || send((1 << 20) + 4).is_err());
}

#[test]
fn a_chunked_body_is_cut_off_at_the_limit_while_it_is_read() {
    let server = Server::builder().repository(&vectors()).set("server.max_body", "1MiB").start();
    let mut stream = bare(&server);
    let mut reader = stream.try_clone().unwrap();
    let answer = thread::spawn(move || rest(&mut reader));
    stream
        .write_all(b"POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let mut sent = 0_usize;
    while sent < 1 << 30 && stream.write_all(&chunk).is_ok() {
        sent += 0x10000;
    }
    let answer = answer.join().unwrap().expect("the host closes");
    let answer = String::from_utf8_lossy(&answer);
    assert_eq!(status(&answer), 413, "{answer}");
    assert!(answer.contains("1048576"), "{answer}");
    // What the sockets' buffers hold on both sides counts as sent: some MiB, not the whole GiB.
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    settles(&server);
}

#[test]
fn a_body_that_breaks_off_costs_one_answer_and_nothing_else() {
    let server = Server::builder().repository(&vectors()).start();
    let bodies: [&[u8]; 5] = [
        b"content-length: 50\r\n\r\n{\"inp",
        b"content-length: 50\r\n\r\n",
        b"transfer-encoding: chunked\r\n\r\n5\r\n{\"inp\r\n",
        b"transfer-encoding: chunked\r\n\r\n5\r\n{\"i",
        b"transfer-encoding: chunked\r\n\r\n",
    ];
    for body in bodies {
        let mut connection = server.connect();
        let head = b"POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\n".as_slice();
        connection.send(&[head, body].concat()).unwrap();
        connection.finish_sending();
        // Some servers answer, some just close; a success or a fault of the server it must not be.
        if let Ok(answer) = connection.read_answer() {
            refused(&answer, 400, "body");
        }
        // The other way to break off: gone without a word.
        server.connect().send(&[head, body].concat()).unwrap();
    }
    for garbage in ["zz\r\n", "-5\r\n", "5;\r\nab", "ffffffffffffffffff\r\n", "5\r\nabcdefgh\r\n"] {
        let head = "POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut connection = server.connect();
        connection.send(format!("{head}{garbage}").as_bytes()).unwrap();
        connection.finish_sending();
        if let Ok(answer) = connection.read_answer() {
            refused(&answer, 400, "body");
        }
    }
    settles(&server);
    assert_eq!(server.metrics().sum("nuke_http_responses_total", &[("status", "500")]), 0.0);
}

#[test]
fn a_body_that_comes_too_slowly_is_cut_off_by_time() {
    let server = Server::builder().repository(&vectors()).set("server.request_timeout", "400ms").start();
    let mut stream = bare(&server);
    stream
        .write_all(b"POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        .unwrap();
    let mut trickle = stream.try_clone().unwrap();
    let answer = thread::spawn(move || rest(&mut stream));
    while !answer.is_finished() && trickle.write_all(b" ").is_ok() {
        thread::sleep(Duration::from_millis(20));
    }
    let answer = answer.join().unwrap().expect("the host closes");
    let answer = String::from_utf8_lossy(&answer);
    assert_eq!(status(&answer), 504, "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
    settles(&server);
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let server = Server::builder()
        .repository(&vectors())
        .set("server.header_timeout", "500ms")
        .set("server.idle_timeout", "1s")
        .start();
    let beginnings: [&[u8]; 7] = [
        b"",
        b"G",
        b"GET /v2 HTTP/1.1\r\nhost: x\r\n",
        b"P",
        b"PRI * HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        b"POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\nx-header: begun",
    ];
    let held: Vec<_> = beginnings
        .into_iter()
        .map(|bytes| {
            let mut stream = bare(&server);
            stream.write_all(bytes).unwrap();
            (bytes, thread::spawn(move || rest(&mut stream)))
        })
        .collect();
    let still_open: Vec<_> = held
        .into_iter()
        .filter_map(|(bytes, closed)| closed.join().unwrap().err().map(|_| String::from_utf8_lossy(bytes)))
        .collect();
    assert!(still_open.is_empty(), "still open after {GUARD:?}, having sent {still_open:?}");
    settles(&server);
}

#[test]
fn silent_clients_do_not_hold_the_places_of_others() {
    let server = Server::builder()
        .repository(&vectors())
        .set("server.max_connections", "2")
        .set("server.header_timeout", "300ms")
        .set("server.idle_timeout", "600ms")
        .start();
    let silent: Vec<_> = (0..2).map(|_| bare(&server)).collect();
    let mut third = bare(&server);
    third.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let answer = rest(&mut third).expect("an answer, once the silent ones have been closed");
    assert_eq!(status(&String::from_utf8_lossy(&answer)), 200);
    drop(silent);
}

#[test]
fn a_connection_may_lie_idle_for_longer_than_a_head_may_take_but_not_for_ever() {
    let server = Server::builder()
        .repository(&vectors())
        .set("server.header_timeout", "300ms")
        .set("server.idle_timeout", "3s")
        .start();
    let mut connection = server.connect();
    let request = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    for _ in 0..3 {
        connection.send(request).unwrap();
        assert_eq!(connection.read_answer().expect("the connection is still open").status, 200);
        thread::sleep(Duration::from_millis(900));
    }
    assert!(connection.read_to_end().is_ok(), "closed in the end");
}

#[test]
fn more_connections_than_allowed_wait_for_a_place() {
    let server = Server::builder().repository(&vectors()).set("server.max_connections", "2").start();
    let request = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    // The client that waited for readiness holds a connection that is closed with it; these take both.
    let mut held: Vec<RawConnection> = Vec::new();
    let mut waiting = loop {
        let mut stream = bare(&server);
        stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        stream.write_all(request).unwrap();
        let mut byte = [0; 1];
        if stream.peek(&mut byte).is_err() {
            break stream;
        }
        let mut connection = server.connect();
        drop(stream);
        connection.send(request).unwrap();
        assert_eq!(connection.read_answer().unwrap().status, 200);
        held.push(connection);
        assert!(held.len() <= 2, "a third connection is served beside two open ones");
    };
    assert!(!held.is_empty());
    held.pop();
    waiting.set_read_timeout(Some(GUARD)).unwrap();
    let mut answer = [0; 12];
    waiting.read_exact(&mut answer).expect("served once a place is free");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let server = Server::builder().repository(&vectors()).start();
    let mut connection = server.connect();
    let mut bytes = Vec::new();
    for number in 0..50 {
        let body = json!({"id": number.to_string(), "inputs":
            [{"name": "x", "datatype": "FP32", "shape": [1], "data": [number]}]})
        .to_string();
        let head = format!(
            "POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(body.as_bytes());
    }
    bytes.extend_from_slice(b"HEAD /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    connection.send(&bytes).unwrap();
    for number in 0..50 {
        let answer = connection.read_answer().unwrap().expect(200).json();
        assert_eq!(answer["id"], number.to_string());
        assert_eq!(answer["outputs"][0]["data"], json!([f64::from(number)]));
    }
    let last = connection.read_to_end().unwrap();
    assert!(last.starts_with(b"HTTP/1.1 200") && last.ends_with(b"\r\n\r\n"), "HEAD has no body");
}

#[test]
fn one_connection_serves_many_requests_and_errors_do_not_close_it() {
    let server = Server::builder().repository(&vectors()).start();
    let mut connection = server.connect();
    for round in 0..50 {
        connection.send_post("/v2/models/vector/infer", b"no json");
        assert_eq!(connection.read_answer().unwrap().status, 400);
        connection.send_post("/v2/models/nobody/infer", b"a body that nobody reads");
        let lost = connection.read_answer().unwrap();
        assert_eq!(lost.status, 404, "round {round}");
        // The host may close instead of reading on, if it says so.
        if lost.header("connection") == Some("close") {
            connection = server.connect();
        }
        connection.send(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert_eq!(connection.read_answer().unwrap().status, 200);
    }
}

#[test]
fn garbage_is_refused_or_closed_and_never_a_fault_of_the_server() {
    let server = Server::builder().repository(&vectors()).set("server.header_timeout", "1s").start();
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
        assert!(!is_h1 || (400..500).contains(&status(&answer)), "{what}: {answer}");
    }
    // Both framings at once: refused, or chunked wins and the connection ends there.
    let smuggled = "0\r\n\r\nGET /v2/models/vector HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = exchange(
        &server,
        format!("POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{smuggled}")
            .as_bytes(),
    );
    assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), (400, 1), "{answer}");
    settles(&server);
    assert_eq!(server.get("/v2/health/live").status, 200);
}

#[test]
fn changed_requests_never_break_the_server() {
    let server = Server::builder().repository(&vectors()).set("server.header_timeout", "1s").start();
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
        let mut stream = bare(&server);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = rest(&mut stream).unwrap_or_else(|error| panic!("round {round}: not closed: {error}"));
        let answer = String::from_utf8_lossy(&answer);
        if answer.starts_with("HTTP/1.") {
            let status = status(&answer);
            assert!(status < 500, "round {round}: {:?} -> {answer}", String::from_utf8_lossy(&bytes));
        }
    }
    settles(&server);
}

#[test]
fn two_different_lengths_of_the_json_part_are_refused() {
    let server = Server::builder().repository(&vectors()).start();
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
    refused(&lengths(head.len(), 0), 400, "Inference-Header-Content-Length");
    refused(&lengths(0, head.len()), 400, "Inference-Header-Content-Length");
}

#[test]
fn compressed_bodies_are_415_wherever_the_header_says_so() {
    let server = Server::builder().repository(&vectors()).start();
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
    for encoding in ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"] {
        refused(&send(&format!("content-encoding: {encoding}\r\n")), 415, "content-encoding");
    }
    refused(&send("content-encoding: identity\r\ncontent-encoding: gzip\r\n"), 415, "gzip");
    assert_eq!(send("content-encoding: identity\r\n").status, 200);
    assert_eq!(send("").status, 200);
}

#[test]
fn paths_are_read_as_they_are_meant_and_never_as_files() {
    let server = Server::builder().repository(&vectors()).start();
    let get = |path: &str| {
        let mut connection = server.connect();
        connection.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        connection.read_answer().unwrap()
    };
    assert_eq!(get("/v2/models/%76ector").expect(200).json()["name"], "vector");
    assert_eq!(get("/v2/models/vector/versions/%31").expect(200).json()["versions"], json!(["1"]));
    assert_eq!(get("http://elsewhere/v2/models/vector").status, 200);
    refused(&get("/v2/models/%zz"), 404, "%zz");
    for path in
        ["/v2/models/a%00b", "/v2/models/a%0d%0ab", "/v2/models/%1b[31m", "/v2/models/vector%2f..%2fidentity"]
    {
        let answer = get(path);
        refused(&answer, 404, "not found");
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
    refused(&long, 404, "aaa");
    assert!(long.body.len() < 1000, "a message does not grow with the request");
    let lost = get(&format!("/{}", "b".repeat(60_000)));
    refused(&lost, 404, "bbb");
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
    let server = Server::builder().repository(&vectors()).start();
    for path in ["/v2", "/v2/health/live", "/v2/models/vector", "/metrics"] {
        let (get, head) = (server.get(path).expect(200), server.client().request("HEAD", path).send());
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-type"), get.header("content-type"));
    }
    let mut connection = server.connect();
    for method in ["OPTIONS", "PATCH", "BREW", "TRACE", "get"] {
        connection.send(format!("{method} /v2 HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        let answer = connection.read_answer().unwrap();
        refused(&answer, 405, method);
        assert!(answer.header("allow").is_some_and(|allowed| allowed.contains("GET")));
    }
    connection.send(b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!((200..500).contains(&connection.read_answer().unwrap().status));
}

#[test]
fn clients_that_go_away_leave_nothing_behind() {
    let server = Server::builder().repository(&slow()).start();
    let body = slow_body(1200);
    let mut first = server.connect();
    first.send_post("/v2/models/slow/infer", body.as_bytes());
    eventually("the worker is busy", || server.metrics().sum("nuke_workers_busy", &[]) == 1.0);
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut connection = server.connect();
            connection.send_post("/v2/models/slow/infer", slow_body(60_000).as_bytes());
            connection
        })
        .collect();
    eventually("eight wait", || server.metrics().sum("nuke_queue_requests", &[]) == 8.0);
    drop(waiting);
    eventually("one is in flight", || server.metrics().sum("nuke_requests_in_flight", &[]) == 1.0);
    assert_eq!(first.read_answer().unwrap().status, 200);
    // Each of the eight would have taken a minute: they were never run.
    assert_eq!(server.post("/v2/models/slow/infer", "application/json", slow_body(1)).status, 200);
    drop(first);
    settles(&server);
}

#[test]
fn sixty_four_clients_each_get_their_own_answers() {
    let server = Server::builder().repository(&vectors()).start();
    thread::scope(|scope| {
        for number in 0..64_u16 {
            let server = &server;
            scope.spawn(move || {
                let mut connection = server.connect();
                for round in 0..12_u16 {
                    let values: Vec<f32> = (0..1 + (number + round) % 40)
                        .map(|at| f32::from(number) * 1000.0 + f32::from(round * 50 + at))
                        .collect();
                    let id = format!("{number}-{round}");
                    if (number + round) % 2 == 0 {
                        by_json(&mut connection, &id, &values)
                    } else {
                        by_bytes(&mut connection, &id, &values)
                    }
                }
            });
        }
    });
    let metrics = server.metrics();
    assert_eq!(metrics.sum("nuke_requests_total", &[("outcome", "ok")]), 64.0 * 12.0);
    settles(&server);
}

fn by_json(connection: &mut RawConnection, id: &str, values: &[f32]) {
    let body = json!({"id": id, "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, values.len()], "data": values}]});
    connection.send_post("/v2/models/identity/infer", body.to_string().as_bytes());
    let answer = connection.read_answer().unwrap().expect(200).json();
    assert_eq!(answer["id"], id);
    let output = &answer["outputs"][0];
    assert_eq!((&output["name"], &output["shape"]), (&json!("y"), &json!([1, values.len()])));
    let data: Vec<f32> = serde_json::from_value(output["data"].clone()).unwrap();
    assert_eq!(data, values);
}

fn by_bytes(connection: &mut RawConnection, id: &str, values: &[f32]) {
    let tensor: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let head = json!({"id": id, "parameters": {"binary_data_output": true}, "inputs": [{"name": "x", "datatype": "FP32",
        "shape": [1, values.len()], "parameters": {"binary_data_size": tensor.len()}}]})
    .to_string();
    let text = format!(
        "POST /v2/models/identity/infer HTTP/1.1\r\nhost: x\r\n{HEADER_LENGTH}: {}\r\ncontent-length: {}\r\n\r\n{head}",
        head.len(),
        head.len() + tensor.len()
    );
    connection.send(&[text.as_bytes(), &tensor].concat()).unwrap();
    let answer = connection.read_answer().unwrap().expect(200);
    let length: usize = answer.header(HEADER_LENGTH).unwrap().parse().unwrap();
    let head: Value = serde_json::from_slice(&answer.body[..length]).unwrap();
    assert_eq!(head["id"], id);
    assert_eq!(answer.body[length..], tensor);
}
