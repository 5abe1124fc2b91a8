//! The load: clients that keep their connections, over HTTP/1.1 and HTTP/2, until they are told to stop.
//!
//! Owns the asking. Whether an answer is right is the ledger's to say; a connection that the host closes is a
//! failed request.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, Scope};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use nuke_tests::{Answer, RawConnection, Server, marks};
use tokio::net::TcpStream;

use crate::ledger::{Kind, Ledger};
use crate::{NAMED, OWN};

/// Clients with an HTTP/1.1 connection each.
pub(crate) const HTTP1: usize = 20;
/// HTTP/2 connections, and how many clients share each.
pub(crate) const HTTP2: (usize, usize) = (2, 8);
/// From an answer to the next request: so that the load leaves room for the loads of versions, as a host
/// that is not overloaded has it.
const PAUSE: Duration = Duration::from_millis(4);
/// What no answer should take, however busy the machine is.
const GUARD: Duration = Duration::from_secs(60);

/// What a client asks at its turn: both models in both ways.
fn turn(number: usize) -> (&'static str, Kind, String) {
    let model = if number.is_multiple_of(2) { OWN } else { NAMED };
    match number / 2 % 2 {
        0 => (model, Kind::Predict, format!("/predict/{model}")),
        _ => (model, Kind::Infer, format!("/v2/models/{model}/infer")),
    }
}

/// What a client sends at its turn.
fn body(kind: Kind) -> Vec<u8> {
    if kind == Kind::Predict { b"x".to_vec() } else { marks::infer_body() }
}

/// Starts all clients; they end after `over` is set.
pub(crate) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    server: &'scope Server,
    ledger: &'scope Ledger,
    over: &'scope AtomicBool,
) {
    for client in 0..HTTP1 {
        scope.spawn(move || http1(server, ledger, over, client));
    }
    for connection in 0..HTTP2.0 {
        scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(http2(server, ledger, over, connection));
        });
    }
}

fn http1(server: &Server, ledger: &Ledger, over: &AtomicBool, client: usize) {
    let mut connection = server.connect();
    for number in client.. {
        if over.load(SeqCst) {
            return;
        }
        let (model, kind, path) = turn(number);
        let body = body(kind);
        let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
        let since = ledger.since(model);
        match exchange(&mut connection, &[head.as_bytes(), &body].concat()) {
            Ok(answer) => ledger.judge(model, kind, false, since, &answer),
            Err(error) => {
                ledger.failed(&format!("HTTP/1.1 {path}: {error}"));
                connection = server.connect();
            }
        }
        thread::sleep(PAUSE);
    }
}

fn exchange(connection: &mut RawConnection, request: &[u8]) -> Result<Answer, String> {
    connection.send(request).map_err(|error| error.to_string())?;
    connection.read_answer()
}

async fn http2(server: &Server, ledger: &Ledger, over: &AtomicBool, connection: usize) {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (sender, driver) = h2::client::handshake(stream).await.unwrap();
    tokio::select! {
        ended = driver => ledger.failed(&format!("an HTTP/2 connection ended: {ended:?}")),
        () = streams(&sender, ledger, over, connection * HTTP2.1) => {}
    }
}

/// All clients of one connection.
async fn streams(sender: &SendRequest<Bytes>, ledger: &Ledger, over: &AtomicBool, first: usize) {
    let clients = (first..first + HTTP2.1).map(|client| Box::pin(stream(sender, ledger, over, client)));
    let mut clients: Vec<_> = clients.collect();
    std::future::poll_fn(|context| {
        clients.retain_mut(|client| client.as_mut().poll(context).is_pending());
        if clients.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

async fn stream(sender: &SendRequest<Bytes>, ledger: &Ledger, over: &AtomicBool, client: usize) {
    for number in client.. {
        if over.load(SeqCst) {
            return;
        }
        let (model, kind, path) = turn(number);
        let since = ledger.since(model);
        let asked = tokio::time::timeout(GUARD, ask(sender, &path, body(kind))).await;
        match asked.map_err(|_| "no answer within a minute".to_owned()).flatten() {
            Ok(answer) => ledger.judge(model, kind, true, since, &answer),
            Err(error) => ledger.failed(&format!("HTTP/2 {path}: {error}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(sender: &SendRequest<Bytes>, path: &str, body: Vec<u8>) -> Result<Answer, String> {
    let request = Request::post(format!("http://test{path}")).body(()).map_err(|error| error.to_string())?;
    let told = |error: h2::Error| error.to_string();
    let mut sender = sender.clone().ready().await.map_err(told)?;
    let (answer, mut stream) = sender.send_request(request, false).map_err(told)?;
    stream.send_data(body.into(), true).map_err(told)?;
    let (head, mut body) = answer.await.map_err(told)?.into_parts();
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(told)?;
        body.flow_control().release_capacity(chunk.len()).map_err(told)?;
        all.extend_from_slice(&chunk);
    }
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: all })
}
