//! HTTP/2 without TLS, by prior knowledge: many streams on one connection, limits, broken streams, and the
//! drain.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request};
use nuke_tests::{Repository, Server, Signal, settles, slow_request};

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// What nothing that is waited for should take.
const GUARD: Duration = Duration::from_secs(60);

/// Runs a client; everything of it ends within the guard.
fn client<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(GUARD, work).await.expect("an answer within a minute") })
}

type Connection = JoinHandle<Result<(), h2::Error>>;

async fn connect(server: &Server) -> (SendRequest<Bytes>, Connection) {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

/// What came back on one stream.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

async fn send(
    sender: &SendRequest<Bytes>,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<Answer, h2::Error> {
    let request = Request::builder().method(method).uri(format!("http://test{path}")).body(()).unwrap();
    let mut sender = sender.clone().ready().await?;
    let (answer, mut stream) = sender.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        // A host that has seen enough resets the stream: its answer is still to be read.
        let _ = stream.send_data(body.into(), true);
    }
    let (head, body) = answer.await?.into_parts();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: read(body).await? })
}

async fn read(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

fn identity() -> Repository {
    let repository = Repository::new().model("big", "1", "big");
    repository.model("identity", "1", "identity_fp32").model_yaml("{queue: {timeout: 1m}}")
}

fn slow_body(milliseconds: u32) -> Vec<u8> {
    slow_request(milliseconds).to_string().into()
}

#[test]
fn two_hundred_streams_at_once_each_get_their_own_answers() {
    let repository = identity();
    let server = Server::builder().repository(&repository).start();
    client(async {
        let (sender, _connection) = connect(&server).await;
        let streams: Vec<_> = (0..200_u16)
            .map(|number| {
                let sender = sender.clone();
                tokio::spawn(async move {
                    let values: Vec<f32> =
                        (0..1 + number % 30).map(|at| f32::from(number * 100 + at)).collect();
                    let body = json!({"id": number.to_string(), "inputs": [
                        {"name": "x", "datatype": "FP32", "shape": [1, values.len()], "data": values}]});
                    let path = "/v2/models/identity/infer";
                    let answer = send(&sender, "POST", path, body.to_string().into()).await.unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.json());
                    assert_eq!(answer.json()["id"], number.to_string());
                    assert_eq!(answer.json()["outputs"][0]["data"], json!(values));
                })
            })
            .collect();
        for stream in streams {
            stream.await.unwrap();
        }
    });
    assert_eq!(server.metrics().sum("nuke_requests_total", &[("outcome", "ok")]), 200.0);
}

#[test]
fn answers_larger_than_the_windows_come_whole() {
    let repository = identity();
    let server = Server::builder().repository(&repository).start();
    client(async {
        let (sender, _connection) = connect(&server).await;
        let head =
            json!({"parameters": {"binary_data_output": true}, "inputs": [{"name": "x", "datatype": "FP32",
            "shape": [4, 3, 224, 224], "parameters": {"binary_data_size": 4 * 602_112}}]})
            .to_string();
        let tensor: Vec<u8> = (0..602_112_u32)
            .flat_map(|at| f32::from(u16::try_from(at % 65_536).unwrap()).to_le_bytes())
            .collect();
        let request = Request::builder()
            .method("POST")
            .uri("http://test/v2/models/big/infer")
            .header("inference-header-content-length", head.len())
            .body(())
            .unwrap();
        let mut ready = sender.ready().await.unwrap();
        let (answer, mut stream) = ready.send_request(request, false).unwrap();
        stream.send_data(Bytes::from(head), false).unwrap();
        stream.send_data(Bytes::from(tensor.clone()), true).unwrap();
        let (head, body) = answer.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        let length: usize =
            head.headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
        let body = read(body).await.unwrap();
        assert!(body[length..] == tensor, "{} bytes came back", body.len());
    });
}

#[test]
fn errors_are_the_same_as_on_http_1() {
    let repository = identity();
    let server = Server::builder().repository(&repository).set("server.max_body", "64KiB").start();
    client(async {
        let (sender, connection) = connect(&server).await;
        let infer = "/v2/models/identity/infer";
        for (method, path, body, status) in [
            ("POST", infer, b"no json".to_vec(), 400),
            ("POST", "/v2/models/nobody/infer", b"{}".to_vec(), 404),
            ("GET", infer, vec![], 405),
            ("GET", "/nothing", vec![], 404),
            ("GET", "/v2/models/%FF", vec![], 400),
            ("POST", infer, vec![b' '; 100_000], 413),
            ("POST", infer, vec![b' '; 1 << 20], 413),
        ] {
            let answer = send(&sender, method, path, body).await.unwrap();
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.headers["content-type"], "application/json", "{method} {path}");
            assert!(answer.json()["error"].as_str().is_some_and(|message| !message.is_empty()));
        }
        // None of them cost the connection.
        assert_eq!(send(&sender, "GET", "/v2/health/live", vec![]).await.unwrap().status, 200);
        assert!(!connection.is_finished());
    });
}

/// Opens a stream, sends half a body, and takes it back after a while.
async fn reset(sender: &SendRequest<Bytes>, path: &str, after: Duration) {
    let Ok(mut ready) = sender.clone().ready().await else {
        return;
    };
    let request = Request::post(format!("http://test{path}")).body(()).unwrap();
    let Ok((_, mut stream)) = ready.send_request(request, false) else {
        return;
    };
    let _ = stream.send_data(Bytes::from_static(b"{\"inputs\":"), false);
    tokio::time::sleep(after).await;
    stream.send_reset(Reason::CANCEL);
}

#[test]
fn a_client_that_resets_thousands_of_streams_is_alone_with_it() {
    let repository = identity();
    let server = Server::builder().repository(&repository).start();
    client(async {
        for _ in 0..5 {
            let (sender, connection) = connect(&server).await;
            for _ in 0..2000 {
                reset(&sender, "/v2/models/identity/infer", Duration::ZERO).await;
            }
            // The host may end such a connection, or bear it.
            drop(sender);
            let _ = connection.await;
            assert_eq!(server.get("/v2/health/live").status, 200);
        }
    });
    settles(&server);
}

#[test]
fn streams_that_are_reset_leave_nothing_behind() {
    let repository = identity().model("slow", "1", "slow");
    // Another worker would be opened for requests that come slowly, one after the other.
    let repository = repository.model_yaml("{workers: {max: 1}, queue: {timeout: 60s}}");
    let server = Server::builder().repository(&repository).start();
    client(async {
        let (sender, _connection) = connect(&server).await;
        for path in ["/v2/models/identity/infer", "/v2/models/nobody/infer"] {
            for _ in 0..10 {
                reset(&sender, path, Duration::from_millis(5)).await;
            }
        }
        let running = tokio::spawn({
            let sender = sender.clone();
            async move { send(&sender, "POST", "/v2/models/slow/infer", slow_body(4000)).await }
        });
        // The client's tasks have to run while the host is asked.
        while server.metrics().sum("nuke_workers_busy", &[]) < 1.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut waiting = Vec::new();
        for _ in 0..10 {
            let mut ready = sender.clone().ready().await.unwrap();
            let request = Request::post("http://test/v2/models/slow/infer").body(()).unwrap();
            let (answer, mut stream) = ready.send_request(request, false).unwrap();
            stream.send_data(slow_body(60_000).into(), true).unwrap();
            waiting.push((answer, stream));
        }
        while server.metrics().sum("nuke_queue_requests", &[]) < 10.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for (_, stream) in &mut waiting {
            stream.send_reset(Reason::CANCEL);
        }
        drop(waiting);
        assert_eq!(running.await.unwrap().unwrap().status, 200);
        // Each of the ten would have taken a minute.
        let last = send(&sender, "POST", "/v2/models/slow/infer", slow_body(1)).await.unwrap();
        assert_eq!(last.status, 200);
    });
    settles(&server);
}

#[test]
fn a_draining_server_says_goodbye_and_finishes_the_streams_it_has() {
    let repository = Repository::new().model("slow", "1", "slow").model_yaml("{queue: {timeout: 60s}}");
    let mut server = Server::builder().repository(&repository).start();
    client(async {
        let (sender, connection) = connect(&server).await;
        let mut running = Vec::new();
        for _ in 0..3 {
            let mut ready = sender.clone().ready().await.unwrap();
            let request = Request::post("http://test/v2/models/slow/infer").body(()).unwrap();
            running.push(ready.send_request(request, false).unwrap());
        }
        // They are in flight from their heads on, and none is answered before its body has come.
        while server.metrics().sum("nuke_requests_in_flight", &[]) < 3.0 {
            // The client's tasks have to run while the host is asked.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for (_, stream) in &mut running {
            stream.send_data(slow_body(400).into(), true).unwrap();
        }
        server.signal(Signal::TERM);
        for (answer, _stream) in running {
            let (head, body) = answer.await.expect("finished").into_parts();
            assert_eq!(head.status, 200);
            assert!(!read(body).await.expect("finished").is_empty());
        }
        // The connection ends in order, and takes no more streams.
        connection.await.unwrap().expect("closed without an error");
        assert!(send(&sender, "GET", "/v2/health/live", vec![]).await.is_err());
    });
    let exited = server.wait_for_exit();
    assert_eq!(exited.status.code(), Some(0), "{exited}");
    assert!(exited.logs.iter().any(|line| line.contains("all requests were answered")), "{exited}");
}
