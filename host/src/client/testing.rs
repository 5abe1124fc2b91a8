//! A small HTTP server in this process, for the tests of this module.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::host::Host;

/// A server on a free port of 127.0.0.1, on a thread of its own, speaking HTTP/1.1 and h2. It ends
/// when this is dropped.
pub(super) struct TestServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl TestServer {
    /// Serves each request by `handler`, with the body read whole.
    pub(super) fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Request<Bytes>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        Self::start_with(move |stream| {
            let handler = Arc::clone(&handler);
            async move {
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let handler = Arc::clone(&handler);
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                        Ok::<_, Infallible>(handler(Request::from_parts(head, body)).await)
                    }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        })
    }

    /// Writes `answer` to each connection once something came, and closes it.
    pub(super) fn start_raw(answer: &'static [u8]) -> Self {
        Self::start_with(move |mut stream| async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        })
    }

    fn start_with<H, F>(serve: H) -> Self
    where
        H: Fn(tokio::net::TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let accept = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream));
            }
        };
        let thread = thread::spawn(move || {
            block_on(async move {
                tokio::select! { () = accept => {}, _ = stopped => {} }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub(super) fn host(&self) -> Host {
        format!("http://{}", self.address).parse().unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// An answer without headers.
pub(super) fn respond(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

/// A host at whose port nobody listens.
pub(super) fn refused_host() -> Host {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    // Kept as long as this process lives: nobody else is given the port.
    std::mem::forget(socket);
    format!("http://{address}").parse().unwrap()
}

/// Runs a future on a runtime of this thread.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
