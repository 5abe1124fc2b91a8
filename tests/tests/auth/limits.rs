//! Rates, places and bytes: exact, released whatever happens, bounded.

use std::io::Write as _;

use nuke_tests::{Metrics, Server, eventually, open_socket, refused, slow_request};
use serde_json::json;

use super::issuer::Issuer;
use super::{Setup, bearer, infer, infer_for};

fn token(subject: &str) -> String {
    bearer(&Issuer::hs256().token(json!({"sub": subject, "scope": "predict:* metrics"})))
}

#[test]
fn a_rate_is_exact_and_told() {
    let setup = Setup::new();
    let server = setup.start("limits: {identity: {requests: 10/h, burst: 5}, identities: {boss: {}}}\n");
    let ann = token("ann");
    for left in (0..5).rev() {
        let answer = infer(&server.client(), ("authorization", &ann)).expect(200);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"requests\";q=5;w=1800"));
        assert!(answer.header("ratelimit").unwrap().starts_with(&format!("\"requests\";r={left};t=")));
    }
    let answer = infer(&server.client(), ("authorization", &ann));
    refused(&answer, 429, &["too many requests"]);
    let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((300..=360).contains(&wait), "{wait}");
    assert!(answer.header("ratelimit").unwrap().starts_with("\"requests\";r=0;t="));
    infer(&server.client(), ("authorization", &token("bob"))).expect(200);
    assert!((0..20).all(|_| infer(&server.client(), ("authorization", &token("boss"))).status == 200));
    server.get("/v2/health/live").expect(200);
}

#[test]
fn many_at_once_get_exactly_what_there_is() {
    let setup = Setup::new();
    let server = setup.start("limits: {model: {requests: 25/h}}\n");
    let answered: usize = std::thread::scope(|scope| {
        let clients = (0..8).map(|number| {
            let (client, token) = (server.client(), token(&format!("user{number}")));
            scope.spawn(move || {
                (0..10).filter(|_| infer(&client, ("authorization", &token)).status == 200).count()
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(answered, 25);
    infer_for(&server.client(), "other", 1, ("authorization", &token("ann"))).expect(200);
}

#[test]
fn places_come_back_when_clients_go_away() {
    let setup = Setup::new();
    let server = setup.start("limits: {identity: {concurrent: 2}}\n");
    let ann = token("ann");
    for _ in 0..5 {
        let body = slow_request(60_000).to_string();
        let head = format!(
            "POST /v2/models/slow/infer HTTP/1.1\r\nhost: x\r\nauthorization: {ann}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut gone = open_socket(server.address());
        gone.write_all(head.as_bytes()).unwrap();
        // One that is still sending its body has a place, too.
        let mut sending = open_socket(server.address());
        sending.write_all(&head.as_bytes()[..head.len() - 5]).unwrap();
        eventually("both have come in", || sum(&server, "nuke_requests_in_flight") == 2.0);
        let answer = infer_for(&server.client(), "other", 1, ("authorization", &ann));
        refused(&answer, 429, &["at a time", "this caller"]);
        assert!(answer.header("retry-after").is_some());
        infer_for(&server.client(), "other", 1, ("authorization", &token("bob"))).expect(200);
        drop((gone, sending));
        eventually("both have left", || sum(&server, "nuke_requests_in_flight") == 0.0);
        infer_for(&server.client(), "other", 1, ("authorization", &ann)).expect(200);
    }
    // What nobody waits for any more costs no compute.
    eventually("no worker is busy", || sum(&server, "nuke_workers_busy") == 0.0);
}

/// A metric over all its labels.
fn sum(server: &Server, name: &str) -> f64 {
    let answer = server.client().request("GET", "/metrics").header("authorization", &token("metrics")).send();
    Metrics::new(answer.expect(200).text()).sum(name, &[])
}

#[test]
fn bytes_are_counted_whether_they_are_announced_or_not() {
    let setup = Setup::new();
    let server = setup.start("limits: {identity: {bytes: 100KiB/h, burst_bytes: 100KiB}}\n");
    let send = |size: usize, chunked: bool, token: &str| {
        let mut body = slow_request(1).to_string().into_bytes();
        body.resize(size, b' ');
        let mut connection = server.connect();
        let length =
            if chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {size}") };
        let head = format!(
            "POST /v2/models/slow/infer HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\n{length}\r\n\r\n"
        );
        let mut bytes = head.into_bytes();
        if chunked {
            bytes.extend_from_slice(format!("{size:x}\r\n").as_bytes());
        }
        bytes.extend_from_slice(&body);
        if chunked {
            bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        connection.send(&bytes).unwrap();
        connection.read_answer().unwrap()
    };
    for chunked in [false, true] {
        let ann = token(if chunked { "ann" } else { "bob" });
        send(50 << 10, chunked, &ann).expect(200);
        send(50 << 10, chunked, &ann).expect(200);
        refused(&send(1 << 10, chunked, &ann), 429, &["too many bytes"]);
        refused(&send(101 << 10, chunked, &token("x")), 413, &["burst_bytes"]);
    }
}

#[test]
fn a_body_that_decides_which_version_answers_counts_as_any_other() {
    let setup = Setup::new();
    std::fs::write(
        setup.repository.models().join("other/model.yaml"),
        "traffic: {strategy: split, weights: {'1': 1}, sticky: body}\n",
    )
    .unwrap();
    let server = setup.start("limits: {identity: {concurrent: 1, bytes: 100KiB/h, burst_bytes: 100KiB}}\n");
    let ann = token("ann");
    let send = |size: usize| {
        let mut body = slow_request(1).to_string().into_bytes();
        body.resize(size, b' ');
        let client = server.client();
        client.request("POST", "/v2/models/other/infer").header("authorization", &ann).body(body).send()
    };
    send(60 << 10).expect(200);
    refused(&send(60 << 10), 429, &["too many bytes"]);
    // It has its place while its body comes. The host asks for a body once the request has its place; no
    // request is sent before that, since it could be the one that is let in.
    let mut sending = server.connect();
    let head = format!(
        "POST /v2/models/other/infer HTTP/1.1\r\nhost: x\r\nauthorization: {ann}\r\ncontent-length: 500\r\n\
         expect: 100-continue\r\n\r\n"
    );
    sending.send(head.as_bytes()).unwrap();
    assert_eq!(sending.read_answer().unwrap().status, 100);
    refused(&send(10), 429, &["at a time"]);
}

#[test]
fn ten_thousand_callers_cost_what_a_few_do() {
    let setup = Setup::new();
    // Lines of the log would lie in the host's memory for as long as this process is slow to read them.
    let server = setup.start("limits: {identity: {requests: 100/s}, tracked: 1000}\nlog: {access: false}\n");
    let ask = |from: usize, to: usize| {
        std::thread::scope(|scope| {
            for part in 0..4 {
                let client = server.client();
                scope.spawn(move || {
                    for number in (from..to).filter(|number| number % 4 == part) {
                        let token = token(&format!("caller-number-{number}"));
                        let status =
                            client.request("GET", "/v2").header("authorization", &token).send().status;
                        // Those for whom there is no room share a rate.
                        assert!([200, 429].contains(&status), "{status}");
                    }
                });
            }
        });
    };
    ask(0, 2_000);
    let before = server.rss();
    ask(2_000, 12_000);
    let after = server.rss();
    assert!(after < before + (8 << 20), "{before} bytes before, {after} after");
}

#[test]
fn strangers_are_told_apart_by_their_address() {
    let setup = Setup::new();
    let server = setup.start(
        "  anonymous: ['predict:slow']\nlimits: {anonymous: {requests: 3/h}, trusted_proxies: [127.0.0.1]}\n",
    );
    let ask = |address: &str| infer(&server.client(), ("x-forwarded-for", address)).status;
    assert_eq!((0..4).map(|_| ask("1.2.3.4")).collect::<Vec<_>>(), [200, 200, 200, 429]);
    assert_eq!(ask("9.9.9.9, 1.2.3.4"), 429, "what a client writes in front changes nothing");
    assert_eq!(ask("1.2.3.5"), 200);
    assert_eq!(infer_for(&server.client(), "other", 1, ("x-forwarded-for", "1.2.3.6")).status, 401);
}
