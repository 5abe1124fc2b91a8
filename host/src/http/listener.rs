//! Accepting connections, and letting go of them in order.
//!
//! Owns the number of connections, the time a client may take with its headers, and the drain: stop
//! accepting, let what is in flight finish, then close.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::HeaderValue;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_service::Service as _;

use super::connection::{GuardedBody, InFlight, TimedStream};
use super::door::Door;
use super::peer::Peer;
use super::request_body;
use crate::auth::Origin;
use crate::telemetry::Metrics;

/// Streams of one HTTP/2 connection at once.
const H2_STREAMS: u32 = 256;
/// Bytes that one HTTP/2 stream may send ahead.
const H2_WINDOW: u32 = 1 << 20;
/// A wait after an accept that failed, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of a listener.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Open connections at once; more wait to be accepted.
    pub max_connections: usize,
    /// How long a client may take to send a request's headers.
    pub header_timeout: Duration,
    /// How long a connection may lie unused, or an answer unread.
    pub idle_timeout: Duration,
    /// How long requests in flight may take to finish once the server is to stop.
    pub drain_timeout: Duration,
}

/// A bound address that has not accepted yet.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    options: ListenerOptions,
    metrics: Arc<Metrics>,
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn bind(
        (host, port): (&str, u16),
        options: ListenerOptions,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        Ok(Self { tcp: TcpListener::bind((host, port)).await?, options, metrics })
    }

    /// The address, with the port that the system chose if 0 was asked for.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `stop` completes, then drains. Returns whether all connections ended in time.
    pub async fn serve(self, door: Door, stop: impl Future<Output = ()>) -> bool {
        let mut stop = pin!(stop);
        let slots = Arc::new(Semaphore::new(self.options.max_connections));
        let graceful = GracefulShutdown::new();
        let server = Arc::new(connection_builder(&self.options));
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = accept(&self.tcp, &slots) => accepted,
            };
            let (stream, address, slot) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (server, watcher) = (Arc::clone(&server), graceful.watcher());
            let (metrics, in_flight) = (Arc::clone(&self.metrics), InFlight::default());
            let (idle, head) = (self.options.idle_timeout, self.options.header_timeout);
            let stream = TimedStream::new(stream, in_flight.clone(), idle, head);
            let origin = Origin { address: address.ip(), certificate: None };
            let service = service(door.clone(), origin, in_flight);
            tokio::spawn(async move {
                let _slot = slot;
                let _open = Open::new(metrics);
                let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%error, "a connection broke off");
                }
            });
        }
        drop(self.tcp);
        tokio::time::timeout(self.options.drain_timeout, graceful.shutdown()).await.is_ok()
    }
}

async fn accept(
    tcp: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(Peer, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, address) = tcp.accept().await?;
    stream.set_nodelay(true)?;
    Ok((Peer::new(stream), address, slot))
}

/// The door as hyper calls it, with each request counted as in flight until its answer is sent.
fn service(
    door: Door,
    origin: Origin,
    in_flight: InFlight,
) -> impl hyper::service::Service<
    http::Request<hyper::body::Incoming>,
    Response = http::Response<GuardedBody<Body>>,
    Error = Infallible,
    Future: Send,
> {
    hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let guard = in_flight.begin();
        let is_http1 = request.version() < http::Version::HTTP_2;
        let (mut head, incoming) = request.into_parts();
        head.extensions.insert(origin.clone());
        let (body, rest) = request_body::share(incoming, head.headers.contains_key(http::header::EXPECT));
        let answer = door.clone().call(http::Request::from_parts(head, Body::new(body)));
        async move {
            let mut response = answer.await?;
            if is_http1 && !rest.discard().await {
                response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| GuardedBody::new(body, guard)))
        }
    })
}

fn connection_builder(options: &ListenerOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(options.idle_timeout)
        .max_concurrent_streams(H2_STREAMS)
        .initial_stream_window_size(H2_WINDOW)
        .initial_connection_window_size(H2_WINDOW * 4);
    builder
}

/// An open connection, counted.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.connection(1);
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connection(-1);
    }
}
