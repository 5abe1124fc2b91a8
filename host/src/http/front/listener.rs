//! Accepting connections, and letting go of them in order.
//!
//! Owns the loop that accepts, and the drain: stop accepting, let what is in flight finish, then close.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};

use super::connection::{self, Door, Handshakes, Serve};
use super::in_flight::InFlight;
use super::lanes::Lanes;
use super::request::RequestLimits;
use super::seats::Seats;
use super::stream::Clocks;
use crate::telemetry::Metrics;
use crate::tls::Certificates;

/// Bytes that one HTTP/2 stream may send ahead.
const H2_WINDOW: u32 = 1 << 20;
/// Streams that a client reset before they were looked at.
const H2_RESET_BEFORE: usize = 20;
/// Streams that the server had to reset, for faults of the client.
const H2_RESET_AFTER: usize = 256;
/// How HTTP/2 counts a header beyond its name and value.
const H2_HEADER: usize = 32;
/// hyper's own count of headers, which costs no allocation.
const H1_HEADERS: usize = 100;
/// A wait after an accept that failed, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of a listener.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Open connections at once; one more ends those that are idle, or waits.
    pub max_connections: usize,
    /// Those of one address; 0 is no limit.
    pub max_connections_per_address: usize,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// How long a client may take to send a request's headers.
    pub header_timeout: Duration,
    /// How long a connection may lie unused, or an answer unread.
    pub idle_timeout: Duration,
    /// How long each part of an answer may lie unread.
    pub write_timeout: Duration,
    /// How long requests in flight may take to finish once the server is to stop.
    pub drain_timeout: Duration,
    /// The bounds of each request.
    pub requests: RequestLimits,
    /// TLS, if the listener speaks it.
    pub tls: Option<TlsOptions>,
    /// The threads that serve its connections.
    pub lanes: Lanes,
}

/// How a listener speaks TLS.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The settings in effect.
    pub certificates: Certificates,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Handshakes at once; one more ends the oldest.
    pub max_handshakes: usize,
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

    /// Serves until `stop` completes, then drains. Each request carries the extension
    /// [`Origin`](crate::auth::Origin). Returns whether all connections ended in time.
    pub async fn serve(self, service: impl Serve, stop: impl Future<Output = ()>) -> bool {
        let mut stop = pin!(stop);
        let seats = Seats::new(self.options.max_connections, self.options.max_connections_per_address);
        let door = Arc::new(door(&self.options, &self.metrics));
        loop {
            let next = async {
                let (stream, address) = self.tcp.accept().await?;
                stream.set_nodelay(true)?;
                // It is polled by the thread that will serve it.
                let stream = stream.into_std()?;
                let in_flight = InFlight::default();
                let seat = seats.take(address.ip(), &in_flight, "crowded").await;
                std::io::Result::Ok((stream, address, in_flight, seat))
            };
            let next = tokio::select! {
                () = &mut stop => break,
                next = next => next,
            };
            match next {
                Ok((stream, address, in_flight, Ok(seat))) => {
                    let (door, service) = (Arc::clone(&door), service.clone());
                    let open = Open::new(Arc::clone(&self.metrics));
                    let serve = async move {
                        match TcpStream::from_std(stream) {
                            Ok(stream) => connection::serve(door, stream, address, in_flight, service).await,
                            Err(error) => tracing::warn!(%error, "a connection could not be served"),
                        }
                        drop((open, seat));
                    };
                    self.options.lanes.spawn(serve);
                }
                Ok((_, _, _, Err(_too_many))) => self.metrics.front().ended("address"),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.tcp);
        seats.retire();
        tokio::time::timeout(self.options.drain_timeout, seats.empty()).await.is_ok()
    }
}

fn door(options: &ListenerOptions, metrics: &Arc<Metrics>) -> Door {
    Door {
        server: connection_builder(options),
        clocks: Clocks {
            idle: options.idle_timeout,
            head: options.header_timeout,
            write: options.write_timeout,
        },
        limits: options.requests.clone(),
        metrics: Arc::clone(metrics),
        tls: options.tls.as_ref().map(|tls| Handshakes {
            certificates: tls.certificates.clone(),
            timeout: tls.handshake_timeout,
            seats: Seats::new(tls.max_handshakes, 0),
        }),
    }
}

fn connection_builder(options: &ListenerOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let limits = &options.requests;
    let list = limits.max_header_size + limits.max_headers * H2_HEADER;
    // What is over a lower bound is refused by name, once it has been parsed.
    if limits.max_headers > H1_HEADERS {
        builder.http1().max_headers(limits.max_headers);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(options.idle_timeout)
        .max_concurrent_streams(options.max_streams)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(H2_RESET_BEFORE)
        .max_local_error_reset_streams(H2_RESET_AFTER)
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
