//! Clients that are slow on purpose: with their heads, their bodies and their reading.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nuke_tests::{Server, eventually, open_socket, read_until_closed, settles, status_of};

use super::{builder, ended, vectors};

/// Connections that send a byte of a head now and then, until told to stop.
fn drip(server: &Server, count: usize, stop: &AtomicBool) {
    let address = server.address();
    let open = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"GET /v2 HTTP/1.1\r\nx: ").ok()?;
        Some(stream)
    };
    let mut streams: Vec<Option<TcpStream>> = (0..count).map(|_| open()).collect();
    while !stop.load(Ordering::Relaxed) {
        for stream in &mut streams {
            let alive = stream.as_mut().is_some_and(|stream| stream.write_all(b"y").is_ok());
            if !alive {
                *stream = open();
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Tells an attack to stop when it is dropped.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn two_thousand_slow_heads_on_five_hundred_places_keep_an_honest_client_from_nothing() {
    let repository = vectors();
    let server =
        builder(&repository).set("server.max_connections", "500").set("server.header_timeout", "30s").start();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| drip(&server, 2_000, &stop));
        // However this ends: without it, a test that fails would wait for the attack for ever.
        let _stop = StopAtEnd(&stop);
        eventually("they make room", || ended(&server, "crowded") > 500.0);
        for _ in 0..20 {
            // Each on a connection of its own: those who were there before have taken all places.
            let started = Instant::now();
            let mut stream = open_socket(server.address());
            let request = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            let asked = stream.write_all(request).map_err(|error| error.to_string());
            let answer = asked.and_then(|()| read_until_closed(&mut stream));
            let answer = answer.unwrap_or_else(|error| panic!("{error} after {:?}", started.elapsed()));
            assert_eq!(status_of(&answer), 200);
        }
    });
    settles(&server);
}

#[test]
fn a_body_that_drips_is_408() {
    let repository = vectors();
    let server = builder(&repository).set("server.body_timeout", "500ms").start();
    let mut stream = open_socket(server.address());
    stream
        .write_all(b"POST /v2/models/vector/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        .unwrap();
    let mut reader = stream.try_clone().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) && stream.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        let _stop = StopAtEnd(&stop);
        let answer = read_until_closed(&mut reader).unwrap();
        assert_eq!(status_of(&answer), 408, "{answer}");
        assert!(answer.contains("request_timeout"), "{answer}");
        assert!(answer.contains("server.body_timeout"), "{answer}");
    });
    settles(&server);
}

#[test]
fn an_address_has_so_many_connections_and_is_served_again_with_fewer() {
    let repository = vectors();
    let server = builder(&repository).set("server.max_connections_per_address", "5").start();
    let held: Vec<TcpStream> = (0..20).map(|_| open_socket(server.address())).collect();
    let closed = |stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        matches!((&*stream).read(&mut [0; 1]), Ok(0)) || stream.take_error().unwrap().is_some()
    };
    let open = || held.iter().filter(|stream| !closed(stream)).count();
    eventually("no more than five stay open", || open() <= 5);
    assert!(open() >= 1, "none is open");
    drop(held);
    eventually("it is served", || {
        let mut stream = open_socket(server.address());
        let request = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).is_ok()
            && read_until_closed(&mut stream).is_ok_and(|answer| answer.contains(" 200 "))
    });
    eventually("those that were closed are told", || ended(&server, "address") >= 15.0);
}

#[test]
fn an_answer_that_is_not_read_is_let_go() {
    let repository = vectors();
    let server =
        builder(&repository).set("server.write_timeout", "1s").set("server.idle_timeout", "3s").start();
    let many = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(5_000);
    let open = |_| {
        // It asks at once: one that asked for nothing would be ended for that.
        let mut stream = open_socket(server.address());
        // Enough that the answers fill all buffers between the two.
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let _ = stream.write_all(&many);
        stream
    };
    let streams: Vec<TcpStream> = (0..4).map(open).collect();
    eventually("all are ended", || ended(&server, "unread_answer") >= 4.0);
    drop(streams);
    settles(&server);
}
