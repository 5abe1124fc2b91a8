//! The bound on all requests together, and on the head of one.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;

use nuke_tests::{Answer, Server, eventually, open_socket, read_until_closed, refused, settles, status_of};
use serde_json::json;

use super::{builder, vectors};

/// Sends a head and the first part of a body.
fn half_a_body(server: &Server, declared: usize, sent: usize) -> TcpStream {
    let mut stream = open_socket(server.address());
    let head = format!(
        "POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {declared}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.write_all(&vec![b' '; sent]);
    stream
}

#[test]
fn bodies_over_all_connections_have_one_bound_and_what_is_over_it_is_503_at_once() {
    let repository = vectors();
    let server = builder(&repository)
        .set("server.max_body", "4MiB")
        .set("server.max_memory", "8MiB")
        .set("server.body_timeout", "30s")
        .start();
    let held = || server.metrics().sum("nuke_http_memory_bytes", &[]);
    // Two of 3 MiB each, whole but for a byte: less may fit into what was set aside early.
    let mut half: Vec<TcpStream> = (0..2).map(|_| half_a_body(&server, 3 << 20, (3 << 20) - 1)).collect();
    eventually("six of eight MiB are held", || held() > f64::from(6 << 20));
    // What says that it does not fit is refused before a byte of it is read.
    let mut too_much = half_a_body(&server, 3 << 20, 0);
    too_much.write_all(b" ").unwrap();
    let answer = read_until_closed(&mut too_much).unwrap();
    assert_eq!(status_of(&answer), 503, "{answer}");
    assert!(answer.contains("retry-after: ") && answer.contains("server.max_memory"), "{answer}");
    // What does not say so, as soon as it does not fit.
    let mut chunked = open_socket(server.address());
    chunked
        .write_all(b"POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"40000\r\n".as_slice(), &[b' '; 0x40000], b"\r\n"].concat();
    let refused = || server.metrics().sum("nuke_http_refused_total", &[("reason", "memory")]);
    let before = refused();
    // The host may be done with this connection while it still sends.
    let _sent = (0..40).try_for_each(|_| chunked.write_all(&chunk));
    eventually("it is refused", || refused() > before);
    let answer = read_until_closed(&mut chunked).unwrap();
    assert!(answer.is_empty() || status_of(&answer) == 503, "{answer}");
    // Small requests find room, and health needs none.
    let small = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]});
    server.post_json("/v2/models/vector/infer", &small).expect(200);
    server.get("/v2/health/ready").expect(200);
    // Those that came first are served to their end.
    for stream in &mut half {
        stream.write_all(b" ").unwrap();
        let answer = read_until_closed(stream).unwrap();
        assert_eq!(status_of(&answer), 400, "blanks are no JSON: {answer}");
    }
    drop(half);
    eventually("all is given back", || held() == 0.0);
    settles(&server);
}

#[test]
fn many_uploads_at_once_are_answered_or_shed_and_never_stuck() {
    let repository = vectors();
    let server = builder(&repository).set("server.max_body", "1MiB").set("server.max_memory", "2MiB").start();
    let data = vec![1.0_f32; 20_000];
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [data.len()], "data": data}]});
    let answers: Vec<Option<Answer>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    let client = server.client();
                    let ask = |_| {
                        let asked = client.request("POST", "/v2/models/vector/infer").body(body.to_string());
                        let answer = asked.header("content-type", "application/json").try_send();
                        // Who pauses while it sends may find the connection closed behind its 503.
                        answer.inspect_err(|error| assert!(!error.contains("timeout"), "stuck: {error}")).ok()
                    };
                    (0..10).map(ask).collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let closed = answers.iter().filter(|answer| answer.is_none()).count();
    let answers: Vec<Answer> = answers.into_iter().flatten().collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429 | 503)), "{statuses:?}");
    assert!(statuses.contains(&200));
    // None is closed but for one that was shed.
    let told = answers.iter().filter(|answer| answer.text().contains("server.max_memory")).count();
    let shed = server.metrics().sum("nuke_http_refused_total", &[("reason", "memory")]);
    assert!((told + closed) as f64 <= shed, "{told} were told and {closed} were closed, of {shed}");
    eventually("all is given back", || server.metrics().sum("nuke_http_memory_bytes", &[]) == 0.0);
}

#[test]
fn a_head_has_a_bound_by_name() {
    let repository = vectors();
    let server =
        builder(&repository).set("server.max_header_size", "4KiB").set("server.max_headers", "20").start();
    let ask = |headers: &str| {
        let mut connection = server.connect();
        connection.send(format!("GET /v2 HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).unwrap();
        connection.read_answer().unwrap()
    };
    let large = ask(&format!("x-request-id: mine\r\nx: {}\r\n", "y".repeat(5000)));
    refused(&large, 431, &["server.max_header_size", "4096"]);
    assert_eq!(
        (large.json()["code"].as_str(), large.header("x-request-id")),
        (Some("headers_too_large"), Some("mine"))
    );
    assert_eq!(large.json()["request_id"], "mine");
    assert_eq!(ask(&format!("x: {}\r\n", "y".repeat(3000))).status, 200);
    let many = |count: usize| (0..count).map(|at| format!("x-{at}: y\r\n")).collect::<String>();
    assert_eq!(ask(&many(18)).status, 200);
    refused(&ask(&many(40)), 431, &["server.max_headers", "at most 20"]);
    // What not even the parser takes.
    assert_eq!(ask(&many(2000)).status, 431);
    let refusals = server.metrics().sum("nuke_http_refused_total", &[("reason", "headers")]);
    assert_eq!(refusals, 2.0);
}

/// Asks for an answer of so many MiB, and reads nothing of it.
fn unread(server: &Server, mib: usize) -> TcpStream {
    let mut stream = open_socket(server.address());
    let head = format!(
        "POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\ninference-header-content-length: 0\r\n\
         content-length: {}\r\n\r\n",
        mib << 20
    );
    stream.write_all(head.as_bytes()).unwrap();
    let _refused_while_sending = stream.write_all(&vec![0; mib << 20]);
    stream
}

#[test]
fn answers_that_nobody_reads_count_until_they_are_gone() {
    let repository = vectors();
    let server = builder(&repository)
        .set("server.max_body", "16MiB")
        .set("server.max_memory", "50MiB")
        .set("server.write_timeout", "1h")
        .set("server.idle_timeout", "1h")
        .start();
    let held = || server.metrics().sum("nuke_http_memory_bytes", &[]);
    let mut clients = Vec::new();
    for number in 1..=3 {
        clients.push(unread(&server, 12));
        eventually("the answer counts", || held() >= f64::from((number * 12) << 20));
    }
    // The body has no room beside them, nor would its answer.
    let mut fourth = unread(&server, 16);
    let answer = read_until_closed(&mut fourth).unwrap();
    assert!(answer.is_empty() || status_of(&answer) == 503, "{answer}");
    server.get("/v2/health/ready").expect(200);
    drop(clients);
    eventually("all is given back", || held() == 0.0);
    settles(&server);
}

#[test]
fn an_answer_that_is_not_read_keeps_its_callers_place() {
    let repository = vectors();
    let server = builder(&repository)
        .set("limits.anonymous.concurrent", "1")
        .set("server.write_timeout", "1h")
        .set("server.idle_timeout", "1h")
        .start();
    let small = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]});
    let ask = || server.post_json("/v2/models/vector/infer", &small);
    ask().expect(200);
    let client = unread(&server, 16);
    eventually("the answer has begun", || server.metrics().sum("nuke_requests_total", &[]) >= 2.0);
    refused(&ask(), 429, &["at a time"]);
    drop(client);
    eventually("the place is free again", || ask().status == 200);
    settles(&server);
}
