//! What many tests look for: an error in the protocol's form, and a host that has nothing left over.

use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Answer;
use crate::server::{Server, eventually};

/// Longer than any limit of time that a test sets, shorter than anybody's patience.
const GUARD: Duration = Duration::from_secs(20);

/// An error of the protocol: this status, JSON, one line, and all of `needles` in it.
///
/// # Panics
/// If the answer is another.
#[track_caller]
pub fn refused(answer: &Answer, status: u16, needles: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.text());
    let message = answer.error();
    assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
    for needle in needles {
        assert!(message.contains(needle), "{needle:?} is not in {message:?}");
    }
}

/// Waits until no request is in flight and no connection is open but the one that asks.
pub fn settles(server: &Server) {
    eventually("no request is in flight", || server.metrics().sum("nuke_requests_in_flight", &[]) == 0.0);
    eventually("all other connections are closed", || {
        server.metrics().sum("nuke_http_connections", &[]) <= 1.0
    });
}

/// A request that keeps a worker of the model `slow` busy for about so many milliseconds of one core.
pub fn slow_request(milliseconds: u32) -> Value {
    json!({"inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [milliseconds]}]})
}

/// A request to the model `tiny`; each seed makes another one.
pub fn tiny_request(seed: u64) -> Value {
    let values: Vec<f64> = (0..16).map(|index| (seed * 16 + index) as f64 / 1000.0).collect();
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": values}]})
}

/// Waits until one worker of the host runs a model.
pub fn worker_is_busy(server: &Server) {
    eventually("the worker is busy", || server.metrics().sum("nuke_workers_busy", &[]) == 1.0);
}

/// A TCP connection on which reading and writing give up after a while.
///
/// # Panics
/// If nobody listens.
#[track_caller]
pub fn open_socket(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("connect {address}: {error}"));
    stream.set_nodelay(true).expect("a TCP connection");
    stream.set_read_timeout(Some(GUARD)).expect("a timeout above zero");
    stream.set_write_timeout(Some(GUARD)).expect("a timeout above zero");
    stream
}

/// All that comes until the other side closes or resets the connection.
///
/// # Errors
/// It does neither for a while.
pub fn read_until_closed(stream: &mut TcpStream) -> Result<String, String> {
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(format!("{error} after {:?}", String::from_utf8_lossy(&all))),
        }
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// The status of an answer's text.
///
/// # Panics
/// If it is no answer.
#[track_caller]
pub fn status_of(answer: &str) -> u16 {
    let digits = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    digits.unwrap_or_else(|| panic!("no status in {answer:?}"))
}
