//! Handshakes that stall, and the end of a host that speaks TLS.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use nuke_tests::{Signal, eventually, open_socket};

use super::*;

/// The first bytes of a TLS handshake that never goes on.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[test]
fn handshakes_that_stall_keep_nobody_out_and_are_ended() {
    let repository = vectors();
    let server = builder(&repository)
        .set("tls.max_handshakes", "8")
        .set("tls.handshake_timeout", "2s")
        .set("server.max_connections", "1000")
        .start();
    let at = server.also_at("https");
    let stalled: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = open_socket(at);
            if number % 2 == 0 {
                stream.write_all(HALF_A_HELLO).unwrap();
            }
            stream
        })
        .collect();
    for _ in 0..5 {
        let answer = curl(&["--cacert", &file("ca.pem"), &url(at, "/v2/health/live")]);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for mut stream in stalled {
        let mut byte = [0; 1];
        // Closed or reset; not still open.
        assert!(!matches!(stream.read(&mut byte), Ok(1..)), "an answer to nothing");
    }
    let ended = |reason| server.metrics().sum("nuke_http_connections_ended_total", &[("reason", reason)]);
    eventually("all are counted", || ended("handshake_crowded") + ended("handshake_timeout") >= 200.0);
    assert!(ended("handshake_crowded") > 100.0, "more than 8 at a time end the oldest");
}

#[test]
fn garbage_instead_of_a_handshake_ends_that_connection_alone() {
    let repository = vectors();
    let server = builder(&repository).start();
    let at = server.also_at("https");
    let many = vec![0x16; 100_000];
    for bytes in [
        &b"\x16"[..],
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x00\x00\x00\x05aaaaa",
        &many,
    ] {
        let mut stream = open_socket(at);
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        // An alert at most, and the end.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 100 && !rest.starts_with(b"HTTP/"), "{rest:?}");
    }
    assert_eq!(curl(&["--cacert", &file("ca.pem"), &url(at, "/v2")]).status, 200);
}

#[test]
fn a_host_that_stops_answers_what_is_in_flight_under_tls_and_drops_who_is_idle() {
    let repository = Repository::new().model("slow", "1", "slow").model_yaml("{queue: {timeout: 60s}}");
    let mut server = builder(&repository).start();
    let at = server.also_at("https");
    let idle = open_socket(at);
    let body = nuke_tests::slow_request(2000).to_string();
    let (url, ca) = (url(at, "/v2/models/slow/infer"), file("ca.pem"));
    let ask = |http: &'static str| {
        let (url, ca, body) = (url.clone(), ca.clone(), body.clone());
        std::thread::spawn(move || curl(&["--cacert", &ca, http, "--json", &body, &url]))
    };
    let mut asked = ["--http1.1", "--http2"].map(&ask);
    eventually("both are in flight", || {
        for (one, http) in asked.iter_mut().zip(["--http1.1", "--http2"]) {
            if one.is_finished() {
                // It was answered before the other one had come.
                let answer = std::mem::replace(one, ask(http)).join().unwrap();
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        }
        server.metrics().sum("nuke_requests_in_flight", &[]) == 2.0
    });
    server.signal(Signal::TERM);
    for asked in asked {
        let answer = asked.join().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // One more signal would end it at once.
    let ended = server.wait_for_exit();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    let mut byte = [0; 1];
    assert!(!matches!((&idle).read(&mut byte), Ok(1..)), "nothing was said to who said nothing");
}
