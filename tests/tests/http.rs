//! Limits on bodies, heads, connections and time on HTTP/1.1, and the same right answers for everybody else
//! meanwhile.
//!
//! Garbage is in `hostile_http.rs`, HTTP/2 in `http2.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::Duration;

use nuke_tests::{
    RawConnection, Repository, Server, eventually, open_socket, read_until_closed, refused, settles,
    slow_request, status_of, worker_is_busy,
};
use serde_json::{Value, json};

const HEADER_LENGTH: &str = "inference-header-content-length";
/// Longer than any limit of time that is set in here.
const GUARD: Duration = Duration::from_secs(20);

fn vectors() -> Repository {
    let repository = Repository::new().model("vector", "1", "vector_fp32");
    repository.model("identity", "1", "identity_fp32").model_yaml("{queue: {timeout: 1m}}")
}

/// One worker: another one would be opened for requests that come slowly, one after the other.
fn slow() -> Repository {
    Repository::new().model("slow", "1", "slow").model_yaml("{workers: {max: 1}, queue: {timeout: 1m}}")
}

#[test]
fn a_body_that_says_it_is_too_long_is_refused_before_it_is_sent() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).set("server.max_body", "1MiB").start();
    for length in ["1048577", "99999999999", "9223372036854775807"] {
        for expect in ["", "expect: 100-continue\r\n"] {
            let mut connection = server.connect();
            let head = format!(
                "POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\n{expect}content-length: {length}\r\n\r\n"
            );
            connection.send(head.as_bytes()).unwrap();
            // Nothing of the body is ever sent: whoever waits for it does not answer.
            refused(&connection.read_answer().unwrap(), 413, &["1048576"]);
        }
    }
    for path in ["/predict/vector", "/predict/vector/1", "/v2/models/vector/versions/1/infer"] {
        let mut connection = server.connect();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1048577\r\n\r\n");
        connection.send(head.as_bytes()).unwrap();
        refused(&connection.read_answer().unwrap(), 413, &["1048576"]);
    }
    settles(&server);
}

#[test]
fn a_body_of_exactly_the_limit_is_served() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).set("server.max_body", "1MiB").start();
    let client = server.client();
    let send = |length: usize| {
        let request = client.request("POST", "/v2/models/vector/infer").header(HEADER_LENGTH, "0");
        request.body(vec![0; length]).try_send()
    };
    let answer = send(1 << 20).unwrap().expect(200);
    assert!(answer.body.ends_with(&[0; 1 << 20]));
    // A client that sends first and reads later may find the connection closed instead.
    if let Ok(answer) = send((1 << 20) + 4) {
        answer.expect(413);
    }
}

#[test]
fn a_chunked_body_is_cut_off_at_the_limit_while_it_is_read() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).set("server.max_body", "1MiB").start();
    let mut stream = open_socket(server.address());
    let mut reader = stream.try_clone().unwrap();
    let answer = thread::spawn(move || read_until_closed(&mut reader));
    stream
        .write_all(b"POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let mut sent = 0_usize;
    while sent < 1 << 30 && stream.write_all(&chunk).is_ok() {
        sent += 0x10000;
    }
    let answer = answer.join().unwrap().expect("the host closes");
    assert_eq!(status_of(&answer), 413, "{answer}");
    assert!(answer.contains("1048576"), "{answer}");
    // What the sockets' buffers hold on both sides counts as sent: some MiB, not the whole GiB.
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    settles(&server);
}

#[test]
fn a_body_that_breaks_off_costs_one_answer_and_nothing_else() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).start();
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
            refused(&answer, 400, &["body"]);
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
            refused(&answer, 400, &["body"]);
        }
    }
    settles(&server);
    assert_eq!(server.metrics().sum("nuke_http_responses_total", &[("status", "500")]), 0.0);
}

#[test]
fn a_body_that_comes_too_slowly_is_cut_off_by_time() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).set("server.request_timeout", "400ms").start();
    let mut stream = open_socket(server.address());
    stream
        .write_all(b"POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        .unwrap();
    let mut trickle = stream.try_clone().unwrap();
    let answer = thread::spawn(move || read_until_closed(&mut stream));
    while !answer.is_finished() && trickle.write_all(b" ").is_ok() {
        thread::sleep(Duration::from_millis(20));
    }
    let answer = answer.join().unwrap().expect("the host closes");
    assert_eq!(status_of(&answer), 408, "{answer}");
    assert!(answer.contains("server.request_timeout"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    settles(&server);
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let repository = vectors();
    let server = Server::builder()
        .repository(&repository)
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
            let mut stream = open_socket(server.address());
            stream.write_all(bytes).unwrap();
            (bytes, thread::spawn(move || read_until_closed(&mut stream)))
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
    let repository = vectors();
    let server = Server::builder()
        .repository(&repository)
        .set("server.max_connections", "2")
        .set("server.header_timeout", "300ms")
        .set("server.idle_timeout", "600ms")
        .start();
    let silent: Vec<_> = (0..2).map(|_| open_socket(server.address())).collect();
    let mut third = open_socket(server.address());
    third.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let answer = read_until_closed(&mut third).expect("an answer, once the silent ones have been closed");
    assert_eq!(status_of(&answer), 200);
    drop(silent);
}

#[test]
fn a_connection_may_lie_idle_for_longer_than_a_head_may_take_but_not_for_ever() {
    let repository = vectors();
    let server = Server::builder()
        .repository(&repository)
        .set("server.header_timeout", "300ms")
        .set("server.idle_timeout", "5s")
        .start();
    let mut connection = server.connect();
    let request = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    for _ in 0..3 {
        connection.send(request).unwrap();
        assert_eq!(connection.read_answer().expect("the connection is still open").status, 200);
        thread::sleep(Duration::from_millis(500));
    }
    assert!(connection.read_to_end().is_ok(), "closed in the end");
}

#[test]
fn more_connections_than_allowed_wait_for_a_place_or_take_that_of_who_is_idle() {
    let repository = vectors();
    let server = Server::builder()
        .repository(&repository)
        .set("server.max_connections", "2")
        .set("server.body_timeout", "60s")
        .start();
    let request = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    // Two that are idle: a third takes the place of the first of them.
    let mut idle: Vec<RawConnection> = (0..2)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(request).unwrap();
            assert_eq!(connection.read_answer().unwrap().status, 200);
            connection
        })
        .collect();
    let mut third = server.connect();
    third.send(request).unwrap();
    assert_eq!(third.read_answer().unwrap().status, 200);
    assert!(idle.remove(0).read_to_end().is_ok_and(|rest| rest.is_empty()), "closed");
    drop((idle, third));
    // Two whose requests are in flight: a third waits.
    let head = b"POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n";
    let mut busy: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = open_socket(server.address());
            stream.write_all(head).unwrap();
            // The host reads the body: the request is in flight.
            let mut leave = [0; 12];
            stream.read_exact(&mut leave).unwrap();
            assert_eq!(&leave, b"HTTP/1.1 100");
            stream
        })
        .collect();
    let mut waiting = open_socket(server.address());
    waiting.write_all(request).unwrap();
    waiting.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut answer = [0; 12];
    assert!(waiting.read_exact(&mut answer).is_err(), "a third connection is served beside two busy ones");
    busy.pop();
    waiting.set_read_timeout(Some(GUARD)).unwrap();
    waiting.read_exact(&mut answer).expect("served once a place is free");
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(busy);
    settles(&server);
}

#[test]
fn who_waits_for_a_place_gets_that_of_a_connection_that_becomes_idle() {
    let repository = slow();
    let server = Server::builder()
        .repository(&repository)
        .set("server.max_connections", "2")
        .set("server.idle_timeout", "1h")
        .start();
    let body = slow_request(1500).to_string();
    let mut busy: Vec<RawConnection> = (0..2).map(|_| server.connect()).collect();
    let length = body.len();
    let head = format!("POST /v2/models/slow/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n");
    for connection in &mut busy {
        connection.send(format!("{head}expect: 100-continue\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(connection.read_answer().unwrap().status, 100, "the host reads it: it is in flight");
    }
    for connection in &mut busy {
        connection.send(body.as_bytes()).unwrap();
    }
    // It comes while both have a request, and both stay open.
    let mut waiting = server.connect();
    waiting.send(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    for connection in &mut busy {
        assert_eq!(connection.read_answer().unwrap().status, 200);
    }
    assert_eq!(waiting.read_answer().expect("served in the place of one that is idle").status, 200);
    drop((busy, waiting));
    settles(&server);
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).start();
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
    let repository = vectors();
    let server = Server::builder().repository(&repository).start();
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
fn clients_that_go_away_leave_nothing_behind() {
    let repository = slow();
    let server = Server::builder().repository(&repository).start();
    // Long enough that all of the others come meanwhile.
    let body = slow_request(4000).to_string();
    let mut first = server.connect();
    first.send_post("/v2/models/slow/infer", body.as_bytes());
    worker_is_busy(&server);
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut connection = server.connect();
            connection.send_post("/v2/models/slow/infer", slow_request(60_000).to_string().as_bytes());
            connection
        })
        .collect();
    eventually("eight wait", || server.metrics().sum("nuke_queue_requests", &[]) == 8.0);
    drop(waiting);
    eventually("one is in flight", || server.metrics().sum("nuke_requests_in_flight", &[]) == 1.0);
    assert_eq!(first.read_answer().unwrap().status, 200);
    // Each of the eight would have taken a minute: they were never run.
    assert_eq!(server.post_json("/v2/models/slow/infer", &slow_request(1)).status, 200);
    drop(first);
    settles(&server);
}

#[test]
fn sixty_four_clients_each_get_their_own_answers() {
    let repository = vectors();
    let server = Server::builder().repository(&repository).start();
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
