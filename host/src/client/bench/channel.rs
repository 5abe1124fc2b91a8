//! What one request at a time goes through: an HTTP/1.1 connection of its own, or a stream of a
//! shared h2 connection.
//!
//! Owns connecting, reconnecting and reading an answer to its end. A connection on which a request
//! failed or ran out of time is never used again. It never repeats a request that may have arrived.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Mutex;

use super::super::cache_status;
use super::super::exchange::{connect, describe, drive};
use super::super::host::Host;
use super::super::tls::HostStream;
use super::request::Prepared;

/// How much of a refusal's body is kept, in bytes.
const QUOTED_BYTES: usize = 2048;
/// h2 flow control: what a stream and a connection may receive before the client must say more.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// A whole answer, of any status.
#[derive(Debug)]
pub(in crate::client) struct Answer {
    /// The status.
    pub(in crate::client) status: StatusCode,
    /// All headers.
    pub(in crate::client) headers: HeaderMap,
    /// The body's length in bytes.
    pub(super) received: u64,
    /// The beginning of the body, if the status is no success.
    pub(in crate::client) refusal: Option<Vec<u8>>,
    /// Whether it came from a cache, if it says so.
    pub(super) cached: Option<bool>,
}

/// Why there is no whole answer.
#[derive(Debug)]
pub(in crate::client) enum Fault {
    /// No connection.
    Connect(String),
    /// The time ran out.
    Timeout,
    /// The connection ended, or something else than HTTP came.
    Broken(String),
}

/// Why one attempt failed.
enum Miss {
    /// Nothing of the request was sent: it may be sent on another connection.
    Unsent(Box<Request<Full<Bytes>>>),
    Failed(Fault),
}

/// Carries one request at a time.
pub(in crate::client) enum Channel {
    /// A connection of its own, driven by the task that sends.
    Http1(Http1Channel),
    /// A stream of a shared connection.
    Http2(Http2Channel),
}

impl Channel {
    /// A channel that connects when it is first used.
    pub(in crate::client) const fn http1(host: Host) -> Self {
        Self::Http1(Http1Channel { host, link: None, connects: 0 })
    }

    /// `streams` channels over one connection, which is made when the first is used.
    pub(super) fn http2(host: &Host, streams: u32) -> Vec<Self> {
        let link = Arc::new(Mutex::new(None));
        let channel =
            || Http2Channel { host: host.clone(), shared: Arc::clone(&link), sender: None, connects: 0 };
        (0..streams).map(|_| Self::Http2(channel())).collect()
    }

    /// Connects now, so that the first request need not.
    pub(super) async fn open(&mut self, timeout: Duration) -> Result<(), Fault> {
        let open = async {
            match self {
                Self::Http1(channel) => channel.link().await.map(|_| ()),
                Self::Http2(channel) => channel.sender().await.map(|_| ()),
            }
        };
        tokio::time::timeout(timeout, open).await.unwrap_or(Err(Fault::Timeout))
    }

    /// Sends a request and reads the whole answer within `timeout`.
    pub(in crate::client) async fn exchange(
        &mut self,
        prepared: &Prepared,
        timeout: Duration,
    ) -> Result<Answer, Fault> {
        let done = tokio::time::timeout(timeout, self.try_twice(prepared.request())).await;
        let done = done.unwrap_or(Err(Fault::Timeout));
        if done.is_err() {
            self.forget();
        }
        done
    }

    /// How many connections were made.
    pub(super) const fn connects(&self) -> u64 {
        match self {
            Self::Http1(channel) => channel.connects,
            Self::Http2(channel) => channel.connects,
        }
    }

    /// A host may close an idle connection at any time: what was not sent is sent on a new one.
    async fn try_twice(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Fault> {
        let request = match self.attempt(request).await {
            Ok(answer) => return Ok(answer),
            Err(Miss::Failed(fault)) => return Err(fault),
            Err(Miss::Unsent(request)) => request,
        };
        self.forget();
        match self.attempt(*request).await {
            Ok(answer) => Ok(answer),
            Err(Miss::Failed(fault)) => Err(fault),
            Err(Miss::Unsent(_)) => Err(Fault::Broken("two connections were closed before use".to_owned())),
        }
    }

    async fn attempt(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Miss> {
        match self {
            Self::Http1(channel) => channel.attempt(request).await,
            Self::Http2(channel) => channel.attempt(request).await,
        }
    }

    fn forget(&mut self) {
        match self {
            Self::Http1(channel) => channel.link = None,
            // Only a closed connection is replaced: the other streams may be well.
            Self::Http2(channel) => channel.sender = None,
        }
    }
}

type Http1Sender = http1::SendRequest<Full<Bytes>>;
/// `None` once the connection has ended.
type Http1Driver = Option<Pin<Box<http1::Connection<TokioIo<HostStream>, Full<Bytes>>>>>;

/// An HTTP/1.1 connection. Its input and output are driven only while a request is under way, by
/// the task that sends it: no second task, no hand-over.
pub(in crate::client) struct Http1Channel {
    host: Host,
    link: Option<(Http1Sender, Http1Driver)>,
    connects: u64,
}

impl Http1Channel {
    async fn link(&mut self) -> Result<&mut (Http1Sender, Http1Driver), Fault> {
        if self.link.is_none() {
            let io = connect(&self.host, false).await.map_err(|error| Fault::Connect(error.to_string()))?;
            let made = http1::handshake(io).await.map_err(|error| Fault::Connect(describe(&error)))?;
            let (sender, connection) = made;
            self.link = Some((sender, Some(Box::pin(connection))));
            self.connects += 1;
        }
        self.link.as_mut().ok_or_else(|| Fault::Connect("no connection".to_owned()))
    }

    async fn attempt(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Miss> {
        let (sender, driver) = self.link().await.map_err(Miss::Failed)?;
        let work = async {
            if sender.ready().await.is_err() {
                return Err(Miss::Unsent(Box::new(request)));
            }
            finish(sender.try_send_request(request).await).await
        };
        let done = drive(driver, work).await;
        if driver.is_none() {
            self.link = None;
        }
        done
    }
}

type Http2Sender = http2::SendRequest<Full<Bytes>>;

/// A stream of an h2 connection, which a task of its own drives.
pub(in crate::client) struct Http2Channel {
    host: Host,
    shared: Arc<Mutex<Option<Http2Sender>>>,
    sender: Option<Http2Sender>,
    connects: u64,
}

impl Http2Channel {
    async fn sender(&mut self) -> Result<&mut Http2Sender, Fault> {
        if self.sender.as_ref().is_none_or(Http2Sender::is_closed) {
            let mut shared = self.shared.lock().await;
            let sender = match shared.as_ref().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender.clone(),
                None => {
                    self.connects += 1;
                    shared.insert(handshake_http2(&self.host).await?).clone()
                }
            };
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or_else(|| Fault::Connect("no connection".to_owned()))
    }

    async fn attempt(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Miss> {
        let sender = self.sender().await.map_err(Miss::Failed)?;
        if sender.ready().await.is_err() {
            return Err(Miss::Unsent(Box::new(request)));
        }
        finish(sender.try_send_request(request).await).await
    }
}

async fn handshake_http2(host: &Host) -> Result<Http2Sender, Fault> {
    let io = connect(host, true).await.map_err(|error| Fault::Connect(error.to_string()))?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(io)
        .await
        .map_err(|error| Fault::Connect(describe(&error)))?;
    // Its end is seen by the streams.
    tokio::spawn(connection);
    Ok(sender)
}

async fn finish(
    sent: Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>,
) -> Result<Answer, Miss> {
    match sent {
        Ok(response) => read(response).await.map_err(|error| Miss::Failed(Fault::Broken(describe(&error)))),
        Err(mut error) => Err(match error.take_message() {
            Some(request) => Miss::Unsent(Box::new(request)),
            None => Miss::Failed(Fault::Broken(describe(error.error()))),
        }),
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, mut body) = response.into_parts();
    let (status, headers) = (head.status, head.headers);
    let cached = cache_status::nearest_is_hit(&headers);
    let mut received = 0;
    let mut refusal = (!status.is_success()).then(Vec::new);
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let Some(data) = frame.data_ref() else { continue };
        received += data.len() as u64;
        if let Some(kept) = &mut refusal {
            kept.extend_from_slice(&data[..data.len().min(QUOTED_BYTES - kept.len())]);
        }
    }
    Ok(Answer { status, headers, received, refusal, cached })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use http::{HeaderMap, Method};

    use super::super::super::exchange::Outgoing;
    use super::super::super::testing::{TestServer, block_on, refused_host, respond};
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn prepared(host: &Host, http2: bool) -> Prepared {
        let body = Bytes::from_static(b"abc");
        let outgoing = Outgoing { method: Method::POST, path: "/x".into(), headers: HeaderMap::new(), body };
        Prepared::new(host, outgoing, http2).unwrap()
    }

    fn channel(host: &Host, http2: bool) -> Channel {
        if http2 { Channel::http2(host, 1).remove(0) } else { Channel::http1(host.clone()) }
    }

    #[test]
    fn one_connection_carries_many_requests() {
        let server = TestServer::start(|request| async move {
            let is_two = request.version() == http::Version::HTTP_2;
            respond(200, [&[b'0' + u8::from(is_two)], &request.body()[..]].concat())
        });
        for http2 in [false, true] {
            let (prepared, mut channel) = (prepared(&server.host(), http2), channel(&server.host(), http2));
            block_on(async {
                for _ in 0..20 {
                    let answer = channel.exchange(&prepared, LONG).await.unwrap();
                    assert_eq!((answer.status.as_u16(), answer.received), (200, 4));
                    assert!(answer.refusal.is_none());
                }
            });
            assert_eq!(channel.connects(), 1);
        }
    }

    #[test]
    fn a_connection_that_the_host_closed_is_replaced() {
        let server = TestServer::start_raw(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let (prepared, mut channel) = (prepared(&server.host(), false), channel(&server.host(), false));
        block_on(async {
            assert_eq!(channel.exchange(&prepared, LONG).await.unwrap().received, 0);
            for _ in 0..5 {
                // Mostly long enough for the close to arrive. If it is not, the request may be lost
                // with the connection, which is a fault of its own kind and never a hang.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let outcome = channel.exchange(&prepared, LONG).await;
                assert!(matches!(outcome, Ok(_) | Err(Fault::Broken(_))), "{outcome:?}");
            }
        });
        assert!(channel.connects() >= 2);
    }

    #[test]
    fn a_refusal_is_kept_in_part_and_the_faults_are_told_apart() {
        let count = AtomicU64::new(0);
        let server = TestServer::start(move |_| {
            let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if !is_first {
                    std::future::pending::<()>().await;
                }
                respond(503, vec![b'x'; 10_000])
            }
        });
        for http2 in [false, true] {
            let (prepared, mut channel) = (prepared(&server.host(), http2), channel(&server.host(), http2));
            if !http2 {
                let answer = block_on(channel.exchange(&prepared, LONG)).unwrap();
                assert_eq!((answer.received, answer.refusal.unwrap().len()), (10_000, QUOTED_BYTES));
                channel.forget();
            }
            let late = block_on(channel.exchange(&prepared, Duration::from_millis(50)));
            assert!(matches!(late, Err(Fault::Timeout)), "{late:?}");
            let refused = refused_host();
            let none = block_on(super::Channel::http1(refused.clone()).exchange(&prepared, LONG));
            assert!(matches!(none, Err(Fault::Connect(_))), "{none:?}");
        }
    }

    #[test]
    fn what_is_no_http_is_a_broken_connection() {
        let server = TestServer::start_raw(b"SSH-2.0-not-http\r\n");
        for http2 in [false, true] {
            let (prepared, mut channel) = (prepared(&server.host(), http2), channel(&server.host(), http2));
            let fault = block_on(channel.exchange(&prepared, LONG)).unwrap_err();
            assert!(matches!(fault, Fault::Broken(_) | Fault::Connect(_)), "{fault:?}");
        }
    }
}
