//! HTTP/2 frame by frame, as no library would send it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use nuke_tests::{Server, eventually, open_socket, settles};

use super::{builder, ended, vectors};

const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header without compression and without an index.
fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
    bytes.extend_from_slice(name.as_bytes());
    assert!(value.len() < 127);
    bytes.push(u8::try_from(value.len()).unwrap());
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// The head of `GET path`.
fn get(path: &str) -> Vec<u8> {
    [header(":method", "GET"), header(":scheme", "http"), header(":path", path), header(":authority", "x")]
        .concat()
}

/// A connection that has begun, with these settings of the client's.
fn begin(server: &Server, settings: &[u8]) -> TcpStream {
    let mut stream = open_socket(server.address());
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).unwrap();
    stream
}

/// Sends the bytes again and again until the host has had enough; returns how often it bore it.
fn flood(stream: &mut TcpStream, mut bytes: impl FnMut(usize) -> Vec<u8>, most: usize) -> usize {
    stream.set_nonblocking(true).unwrap();
    let mut sink = [0; 64 << 10];
    for round in 0..most {
        let bytes = bytes(round);
        let mut sent = 0;
        while sent < bytes.len() {
            // What the host says is read away, so that it has no reason to wait for us.
            match stream.read(&mut sink) {
                Ok(0) => return round,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return round,
            }
            match stream.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return round,
            }
        }
    }
    // All of it may lie in buffers before the host has looked at any.
    stream.set_nonblocking(false).unwrap();
    loop {
        match stream.read(&mut sink) {
            Ok(1..) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return most,
            Ok(0) | Err(_) => return most - 1,
        }
    }
}

#[test]
fn frames_that_ask_for_nothing_end_the_connection_that_sends_them() {
    let repository = vectors();
    let server = builder(&repository).start();
    let window = 1_u32.to_be_bytes();
    let one: [(&str, Vec<u8>); 6] = [
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("priorities", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 16])),
        ("window updates", frame(WINDOW_UPDATE, 0, 0, &window)),
        ("frames of no known kind", frame(0xee, 0xff, 0, &[1; 32])),
        ("empty data", frame(0, 0, 1, &[])),
    ];
    for (what, bytes) in one {
        let mut stream = begin(&server, &[]);
        if what == "empty data" {
            let head =
                [header(":method", "POST"), header(":scheme", "http"), header(":path", "/predict/nobody")];
            stream.write_all(&frame(HEADERS, END_HEADERS, 1, &head.concat())).unwrap();
        }
        let many = bytes.repeat(50);
        let rounds = flood(&mut stream, |_| many.clone(), 4_000);
        assert!(rounds < 4_000, "200000 {what} are borne");
        assert_eq!(server.get("/v2/health/live").status, 200);
    }
    // Some kinds are ended by the library's own bounds first. A connection counts once it has been closed.
    eventually("four kinds are told", || ended(&server, "flood") >= 4.0);
    settles(&server);
}

#[test]
fn requests_that_are_taken_back_at_once_end_the_connection() {
    let repository = vectors();
    let server = builder(&repository).start();
    let mut stream = begin(&server, &[]);
    let cancel = 8_u32.to_be_bytes();
    let rounds = flood(
        &mut stream,
        |round| {
            let streams = (0..20).map(|number| u32::try_from(round * 20 + number).unwrap() * 2 + 1);
            let one = |id| {
                [frame(HEADERS, END_HEADERS | END_STREAM, id, &get("/v2")), frame(RST_STREAM, 0, id, &cancel)]
            };
            streams.flat_map(|id| one(id).concat()).collect()
        },
        5_000,
    );
    assert!(rounds < 5_000, "100000 requests that were taken back are borne");
    assert_eq!(server.get("/v2/health/live").status, 200);
    settles(&server);
}

#[test]
fn a_head_without_an_end_is_not_gathered() {
    let repository = vectors();
    let server = builder(&repository).start();
    let before = server.rss();
    for empty in [true, false] {
        let mut stream = begin(&server, &[]);
        stream.write_all(&frame(HEADERS, END_STREAM, 1, &get("/v2"))).unwrap();
        let filler = (0..100).flat_map(|_| header("x-filler", &"y".repeat(100))).collect::<Vec<u8>>();
        let more = frame(CONTINUATION, 0, 1, if empty { &[] } else { &filler });
        let rounds = flood(&mut stream, |_| more.clone(), 100_000);
        assert!(rounds < 100_000, "empty {empty}: 100000 continuations are borne");
    }
    assert_eq!(server.get("/v2/health/live").status, 200);
    settles(&server);
    assert!(server.rss() < before + (64 << 20), "{before} -> {}", server.rss());
}

#[test]
fn a_compressed_head_that_grows_is_refused() {
    let repository = vectors();
    let server = builder(&repository).start();
    let mut stream = begin(&server, &[]);
    // An entry of 4000 bytes for the table, then thousands of references to it: some 12 MB in 3 KB.
    let mut block = get("/v2");
    block.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend(std::iter::repeat_n(b'y', 127 + 0x21 + (0x1e << 7)));
    block.extend(std::iter::repeat_n(0xbe, 3000));
    stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).unwrap();
    let mut all = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut chunk = [0; 4096];
    while let Ok(count) = stream.read(&mut chunk)
        && count > 0
    {
        all.extend_from_slice(&chunk[..count]);
    }
    assert!(
        !all.windows(6).any(|window| window == b"\"name\""),
        "it is not answered as if nothing were wrong"
    );
    assert_eq!(server.get("/v2/health/live").status, 200);
}

/// The client's setting that no stream may send anything.
const NO_WINDOW: &[u8] = &[0, 4, 0, 0, 0, 0];

#[test]
fn answers_that_nobody_takes_are_let_go() {
    let repository = vectors();
    let server = builder(&repository).set("server.write_timeout", "2s").start();
    let mut clients: Vec<TcpStream> = (0..10).map(|_| begin(&server, NO_WINDOW)).collect();
    let one = |number: u32| frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &get("/metrics"));
    let heads: Vec<u8> = (0..50).flat_map(one).collect();
    for stream in &mut clients {
        // All at once: from the first answer on the connection has little time.
        stream.write_all(&heads).unwrap();
    }
    // They stay alive by all other signs.
    for round in 0..6 {
        std::thread::sleep(Duration::from_millis(500));
        for stream in &mut clients {
            let _ = stream.write_all(&frame(PING, 0, 0, &[round; 8]));
        }
    }
    eventually("all are ended", || ended(&server, "unread_answer") >= 10.0);
    settles(&server);
}

#[test]
fn a_connection_of_pings_alone_is_asked_to_go_and_then_ended() {
    let repository = vectors();
    let server =
        builder(&repository).set("server.idle_timeout", "1s").set("server.header_timeout", "1s").start();
    let mut stream = begin(&server, &[]);
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    let closed = (0..400).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let _ = stream.write_all(&frame(PING, 0, 0, &[1; 8]));
        match stream.read(&mut chunk) {
            Ok(0) => true,
            Ok(count) => {
                all.extend_from_slice(&chunk[..count]);
                false
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock && error.kind() != ErrorKind::TimedOut,
        }
    });
    assert!(closed, "pings keep it open");
    // GOAWAY: type 7 on stream 0.
    assert!(all.windows(6).any(|window| window == [7, 0, 0, 0, 0, 0]), "it was not told to go");
}
