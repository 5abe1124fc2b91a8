//! Requests that nobody waits for any more: they cost no compute if they have not been begun, and the run that
//! they are in is ended if they are the last in it. Over HTTP/1.1 and HTTP/2, by time, by reset and by closing.
//!
//! What the host really did is read from its metrics: runs, runs that it stopped, and how much processor it takes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use nuke_tests::{
    RawConnection, Repository, Server, eventually, refused, settles, slow_request, worker_is_busy,
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

const PATH: &str = "/v2/models/slow/infer";
/// Milliseconds of work that would take longer than any test waits.
const ENDLESS: u32 = 3_600_000;

/// One worker, and a queue that nobody is refused by or runs out of time in.
fn start() -> Server {
    let repository =
        Repository::new().model("slow", "1", "slow").model_yaml("{workers: {max: 1}, queue: {timeout: 10m}}");
    Server::builder().repository(&repository).set("server.request_timeout", "10m").start()
}

fn body(milliseconds: u32) -> Vec<u8> {
    slow_request(milliseconds).to_string().into()
}

/// Sends a request and does not wait for its answer.
fn ask(server: &Server, milliseconds: u32) -> RawConnection {
    let mut connection = server.connect();
    connection.send_post(PATH, &body(milliseconds));
    connection
}

#[track_caller]
fn waiting(server: &Server, count: f64) {
    eventually("so many requests wait", || server.metrics().sum("nuke_queue_requests", &[]) == count);
}

/// Runs, and how many of them were stopped, since the host started.
fn runs(server: &Server) -> (f64, f64) {
    let metrics = server.metrics();
    (metrics.sum("nuke_run_items_count", &[]), metrics.sum("nuke_runs_stopped_total", &[]))
}

/// Requests that ended in this way.
fn outcomes(server: &Server, outcome: &str) -> f64 {
    server.metrics().sum("nuke_requests_total", &[("model", "slow"), ("outcome", outcome)])
}

/// Waits until the host takes next to no processor time: whatever it ran is over.
#[track_caller]
fn goes_quiet(server: &Server) {
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
        // What follows the name: the state is field 3 of the line, user and system time are 14 and 15.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    eventually("the host goes quiet", || {
        let before = ticks();
        thread::sleep(Duration::from_millis(500));
        // Of some 50 ticks that a busy thread takes in that time.
        ticks() - before <= 5
    });
    eventually("no worker is busy", || server.metrics().sum("nuke_workers_busy", &[]) == 0.0);
}

#[test]
fn a_client_that_closes_ends_the_run_that_nobody_else_waits_for() {
    let server = start();
    let (before, _) = runs(&server);
    let connection = ask(&server, ENDLESS);
    worker_is_busy(&server);
    drop(connection);
    goes_quiet(&server);
    assert_eq!(runs(&server), (before + 1.0, 1.0));
    eventually("it counts as cancelled", || outcomes(&server, "cancelled") == 1.0);
    server.post_json(PATH, &slow_request(1)).expect(200);
    settles(&server);
}

#[test]
fn what_waits_and_is_given_up_is_never_run() {
    let server = start();
    let (before, _) = runs(&server);
    let running = ask(&server, ENDLESS);
    worker_is_busy(&server);
    let queued: Vec<_> = (0..8).map(|_| ask(&server, ENDLESS)).collect();
    waiting(&server, 8.0);
    drop(queued);
    eventually("they count as cancelled", || outcomes(&server, "cancelled") == 8.0);
    drop(running);
    goes_quiet(&server);
    // The one that ran was stopped; of the eight no run was begun.
    assert_eq!(runs(&server), (before + 1.0, 1.0));
    server.post_json(PATH, &slow_request(1)).expect(200);
    assert_eq!(runs(&server), (before + 2.0, 1.0));
    settles(&server);
}

#[test]
fn a_request_whose_time_is_over_is_answered_and_never_run() {
    let server = start();
    let (before, _) = runs(&server);
    let running = ask(&server, ENDLESS);
    worker_is_busy(&server);
    let mut hurried = slow_request(ENDLESS);
    hurried["parameters"] = json!({"timeout": 20_000});
    for _ in 0..3 {
        refused(&server.post_json(PATH, &hurried), 504, &["slow", "time"]);
    }
    // One that waits for longer is not touched by it.
    let mut patient = ask(&server, 1);
    waiting(&server, 1.0);
    drop(running);
    assert_eq!(patient.read_answer().unwrap().status, 200);
    assert_eq!(runs(&server), (before + 2.0, 1.0));
    assert_eq!(outcomes(&server, "deadline_exceeded"), 3.0);
    goes_quiet(&server);
}

#[test]
fn a_request_whose_time_is_over_while_it_runs_is_stopped() {
    let server = start();
    let (before, _) = runs(&server);
    let mut hurried = slow_request(ENDLESS);
    hurried["parameters"] = json!({"timeout": 300_000});
    // On a busy machine its time may be over before a worker has taken it: it is asked anew then.
    eventually("one has been begun", || {
        refused(&server.post_json(PATH, &hurried), 504, &["slow", "time"]);
        runs(&server).1 > 0.0
    });
    goes_quiet(&server);
    assert_eq!(runs(&server), (before + 1.0, 1.0));
    server.post_json(PATH, &slow_request(1)).expect(200);
}

#[test]
fn a_client_that_closes_its_sending_side_is_taken_as_gone() {
    let server = start();
    let connection = ask(&server, ENDLESS);
    worker_is_busy(&server);
    // The other side cannot tell this from a client that closed and will never read.
    connection.finish_sending();
    goes_quiet(&server);
    assert_eq!(runs(&server).1, 1.0);
    drop(connection);
    settles(&server);
}

#[test]
fn requests_sent_ahead_on_a_connection_that_closes_are_dropped_with_it() {
    let server = start();
    let (before, _) = runs(&server);
    let mut connection = server.connect();
    for _ in 0..3 {
        connection.send_post(PATH, &body(ENDLESS));
    }
    worker_is_busy(&server);
    drop(connection);
    goes_quiet(&server);
    assert_eq!(runs(&server), (before + 1.0, 1.0));
    settles(&server);
}

#[test]
fn requests_sent_ahead_are_answered_in_order_while_the_client_stays() {
    let server = start();
    let mut connection = server.connect();
    for _ in 0..3 {
        connection.send_post(PATH, &body(20));
    }
    for _ in 0..3 {
        assert_eq!(connection.read_answer().unwrap().status, 200);
    }
    drop(connection);
    settles(&server);
    assert_eq!((outcomes(&server, "ok"), outcomes(&server, "cancelled")), (3.0, 0.0));
}

/// A stream whose request has been sent, and the promise of its answer.
struct Asked {
    answer: ResponseFuture,
    stream: SendStream<Bytes>,
}

/// An HTTP/2 connection that a thread of its own drives, whatever the test waits for. Dropped, it is closed.
struct Http2 {
    runtime: Arc<Runtime>,
    sender: SendRequest<Bytes>,
    stop: Arc<AtomicBool>,
    driver: Option<JoinHandle<()>>,
}

impl Http2 {
    fn open(server: &Server) -> Self {
        let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(server.address()).await.unwrap();
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, drives) = (Arc::clone(&stop), Arc::clone(&runtime));
        let driver = thread::spawn(move || {
            drives.block_on(async {
                while !stopped.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        });
        Self { runtime, sender, stop, driver: Some(driver) }
    }

    fn ask(&self, milliseconds: u32) -> Asked {
        self.runtime.block_on(async {
            let mut ready = self.sender.clone().ready().await.unwrap();
            let request = Request::post(format!("http://test{PATH}")).body(()).unwrap();
            let (answer, mut stream) = ready.send_request(request, false).unwrap();
            stream.send_data(body(milliseconds).into(), true).unwrap();
            Asked { answer, stream }
        })
    }

    fn status(&self, asked: Asked) -> u16 {
        self.runtime.block_on(asked.answer).unwrap().status().as_u16()
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.driver.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_stream_that_is_reset_ends_its_run_and_leaves_the_others() {
    let server = start();
    let (before, _) = runs(&server);
    let client = Http2::open(&server);
    let mut running = client.ask(ENDLESS);
    worker_is_busy(&server);
    let mut given_up: Vec<_> = (0..4).map(|_| client.ask(ENDLESS)).collect();
    let kept = client.ask(1);
    waiting(&server, 5.0);
    given_up.iter_mut().for_each(|asked| asked.stream.send_reset(Reason::CANCEL));
    eventually("they count as cancelled", || outcomes(&server, "cancelled") == 4.0);
    running.stream.send_reset(Reason::CANCEL);
    assert_eq!(client.status(kept), 200);
    // The one that was stopped and the one that was kept.
    assert_eq!(runs(&server), (before + 2.0, 1.0));
    goes_quiet(&server);
    drop((running, given_up, client));
    settles(&server);
}

#[test]
fn a_connection_that_closes_takes_all_its_streams_with_it() {
    let server = start();
    let (before, _) = runs(&server);
    let client = Http2::open(&server);
    let mut asked = vec![client.ask(ENDLESS)];
    worker_is_busy(&server);
    asked.extend((0..4).map(|_| client.ask(ENDLESS)));
    waiting(&server, 4.0);
    // The streams are still open on this side when their connection goes.
    drop(client);
    goes_quiet(&server);
    assert_eq!(runs(&server), (before + 1.0, 1.0));
    eventually("all count as cancelled", || outcomes(&server, "cancelled") == 5.0);
    drop(asked);
    settles(&server);
}
