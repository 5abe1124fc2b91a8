//! One connection, from its first byte to its end.
//!
//! Owns the handshake, within its time and number, and how a connection is served and ended. Whatever a
//! client does here costs nobody else: each connection is a task of its own.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;

use super::held::Held;
use super::in_flight::{GuardedBody, InFlight};
use super::lasting::Lasting;
use super::peer::Peer;
use super::request::RequestLimits;
use super::request_body;
use super::seats::Seats;
use super::stream::{Clocks, FLOOD, TimedStream};
use crate::auth::Origin;
use crate::http::open::is_health;
use crate::telemetry::Metrics;
use crate::tls::{Certificates, PeerCertificate};

/// How much of an answer is handed over at once: what an HTTP/2 client leaves unread lies in the stream's own
/// buffer, of which there may be many; HTTP/1.1 has one, and fewer parts are faster.
const PART_H2: usize = 16 << 10;
const PART_H1: usize = 256 << 10;
/// What a TLS client sends first: a record of the kind `handshake`.
const TLS_HANDSHAKE: u8 = 0x16;
/// For who speaks plain HTTP where TLS is spoken.
const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 87\r\n\
    connection: close\r\n\r\n{\"error\":\"this address speaks TLS; ask for it with https://\",\
    \"code\":\"invalid_argument\"}";
/// How long a connection that is refused in words may take to read them.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A service as it is served here.
pub trait Serve:
    tower_service::Service<
        http::Request<Body>,
        Response = http::Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<S> Serve for S where
    S: tower_service::Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// What all connections of a listener have in common.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) server: auto::Builder<TokioExecutor>,
    pub(super) clocks: Clocks,
    pub(super) limits: RequestLimits,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tls: Option<Handshakes>,
}

/// How handshakes are made.
#[derive(Debug)]
pub(super) struct Handshakes {
    pub(super) certificates: Certificates,
    pub(super) timeout: Duration,
    pub(super) seats: Seats,
}

/// Who is at the other end: the extensions of each request.
#[derive(Clone, Debug)]
struct Client {
    origin: Origin,
    certificate: Option<Arc<PeerCertificate>>,
}

/// Serves a connection to its end.
pub(super) async fn serve(
    door: Arc<Door>,
    tcp: TcpStream,
    address: SocketAddr,
    in_flight: InFlight,
    service: impl Serve,
) {
    match &door.tls {
        None => serve_stream(&door, Peer::new(tcp), Client::new(address, None), &in_flight, service).await,
        Some(handshakes) => match handshakes.shake(tcp, address, &in_flight).await {
            Ok(stream) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let certificate = certificates.and_then(|chain| PeerCertificate::read(chain.first()?));
                let client = Client::new(address, certificate);
                serve_stream(&door, stream, client, &in_flight, service).await;
            }
            Err(reason) => in_flight.note(reason),
        },
    }
    if let Some(reason) = in_flight.reason() {
        door.metrics.front().ended(reason);
        tracing::debug!(%address, reason, "a connection was ended");
    }
}

impl Client {
    fn new(address: SocketAddr, certificate: Option<PeerCertificate>) -> Self {
        let subject =
            certificate.as_ref().and_then(|certificate| certificate.subject.as_deref()).map(Into::into);
        let origin = Origin { address: address.ip(), certificate: subject };
        Self { origin, certificate: certificate.map(Arc::new) }
    }
}

impl Handshakes {
    /// Makes the handshake, or says why there is none.
    async fn shake(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        in_flight: &InFlight,
    ) -> Result<TlsStream<Peer>, &'static str> {
        let shake = async {
            let taken = self.seats.take(address.ip(), in_flight, "handshake_crowded").await;
            let _seat = taken.map_err(|_| "handshake_crowded")?;
            if !speaks_tls(&tcp).await {
                return Err(refuse_plain(tcp).await);
            }
            let shaken = self.certificates.acceptor().accept(Peer::new(tcp)).await;
            shaken.map_err(|error| {
                tracing::debug!(%address, %error, "a TLS handshake failed");
                "handshake_failed"
            })
        };
        tokio::select! {
            shaken = tokio::time::timeout(self.timeout, shake) => shaken.unwrap_or(Err("handshake_timeout")),
            () = in_flight.told() => Err("handshake_ended"),
        }
    }
}

/// Whether the first byte is one of TLS. A connection that ends before it counts as such.
async fn speaks_tls(tcp: &TcpStream) -> bool {
    let mut first = [TLS_HANDSHAKE];
    !matches!(tcp.peek(&mut first).await, Ok(1) if first != [TLS_HANDSHAKE])
}

async fn refuse_plain(mut tcp: TcpStream) -> &'static str {
    let say = async {
        tcp.write_all(PLAIN_ANSWER).await?;
        tcp.shutdown().await?;
        // What the client still sends is read, so that the answer is not lost in a reset.
        tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await
    };
    let _said = tokio::time::timeout(LAST_WORDS, say).await;
    "plain_at_tls"
}

async fn serve_stream<S>(door: &Door, stream: S, client: Client, in_flight: &InFlight, service: impl Serve)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = client.origin.address;
    let stream = TimedStream::new(stream, in_flight.clone(), door.clocks);
    let service =
        requests(service, (door.limits.clone(), Arc::clone(&door.metrics)), client, in_flight.clone());
    let connection = door.server.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = in_flight.told() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // The library's own bounds: resets before a request was looked at, heads without an end.
        if format!("{error:?}").contains("ENHANCE_YOUR_CALM") {
            in_flight.note(FLOOD);
        }
        tracing::debug!(%address, %error, "a connection broke off");
    }
}

/// The service as hyper calls it, with each request counted as in flight until its answer is sent.
fn requests(
    service: impl Serve,
    (limits, metrics): (RequestLimits, Arc<Metrics>),
    client: Client,
    in_flight: InFlight,
) -> impl hyper::service::Service<
    http::Request<hyper::body::Incoming>,
    Response = http::Response<GuardedBody>,
    Error = Infallible,
    Future: Send,
> {
    let turns = Arc::new(Semaphore::new(1));
    hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let mut guard = in_flight.begin();
        let is_http1 = request.version() < http::Version::HTTP_2;
        let (mut head, incoming) = request.into_parts();
        // Nobody keeps a seat for what anybody may ask.
        if is_health(head.uri.path()) {
            guard.is_open_to_all();
        }
        let (body, rest) = request_body::share(incoming, head.headers.contains_key(http::header::EXPECT));
        let admitted = limits.admit(&head).map(|memory| memory.map(|memory| guard.keep(memory)));
        let turns = (!is_http1).then(|| Arc::clone(&turns));
        let (mut service, client, metrics) = (service.clone(), client.clone(), Arc::clone(&metrics));
        async move {
            if let Err(refusal) = admitted {
                refusal.settle(&metrics).leave(&mut head.extensions);
            }
            head.extensions.insert(client.origin);
            client.certificate.map(|certificate| head.extensions.insert(certificate));
            poll_fn(|context| service.poll_ready(context)).await?;
            let request = http::Request::from_parts(head, Body::new(body));
            let mut response = in_turn(turns.as_deref(), service.call(request)).await?;
            let is_shed = response.status() == StatusCode::SERVICE_UNAVAILABLE;
            if is_http1 && !rest.discard(is_shed).await {
                response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
            }
            if let Some(call) = response.extensions_mut().remove::<Lasting>() {
                guard.lasts(call);
            }
            let part = if is_http1 { PART_H1 } else { PART_H2 };
            let held = Held::take(response.extensions_mut());
            Ok(response.map(|body| GuardedBody::new(body, part, guard, held)))
        }
    })
}

/// Runs a request, up to where it first waits for something, when it is its turn on its connection. So a
/// connection with hundreds of requests is not hundreds of tasks before those of others.
async fn in_turn<T>(turns: Option<&Semaphore>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let turn = match turns {
        Some(turns) => turns.acquire().await.ok(),
        None => None,
    };
    let first = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
    drop(turn);
    match first {
        Poll::Ready(done) => done,
        Poll::Pending => work.await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;

    use super::{PLAIN_ANSWER, in_turn};

    #[tokio::test]
    async fn one_of_a_connection_begins_at_a_time_and_many_may_wait() {
        let (turns, begun, gate) = (Semaphore::new(1), Mutex::new(0), Semaphore::new(0));
        let one = || {
            in_turn(Some(&turns), async {
                assert_eq!(turns.available_permits(), 0, "it is its turn");
                *begun.lock().unwrap() += 1;
                gate.acquire().await.unwrap().forget();
            })
        };
        let all = futures_util::future::join_all((0..100).map(|_| one()));
        let release = async {
            while *begun.lock().unwrap() < 100 {
                tokio::task::yield_now().await;
            }
            gate.add_permits(100);
        };
        let both = async { tokio::join!(all, release) };
        tokio::time::timeout(std::time::Duration::from_secs(60), both)
            .await
            .expect("none waits for another's end");
        assert_eq!(turns.available_permits(), 1);
    }

    #[test]
    fn the_answer_to_plain_http_is_as_long_as_it_says() {
        let text = std::str::from_utf8(PLAIN_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body["error"].as_str().unwrap().contains("https://"));
    }
}
