//! One request, one whole answer, one deadline, over HTTP/1.1.
//!
//! Owns the connecting to a host. It keeps no connection: the load generator has its own channels.

use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::error::ClientError;
use super::host::Host;
use super::tls::HostStream;

/// The most of an answer that is kept: 1 GiB.
const ANSWER_LIMIT: usize = 1 << 30;

/// What every request says of who sends it.
pub(super) const AGENT: HeaderValue = HeaderValue::from_static(concat!("nuke/", env!("CARGO_PKG_VERSION")));

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    /// The method.
    pub(super) method: Method,
    /// Path and query string, without the host's prefix.
    pub(super) path: String,
    /// All but `host`, `user-agent` and `content-length`.
    pub(super) headers: HeaderMap,
    /// May be empty.
    pub(super) body: Bytes,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Any status.
    pub(super) status: StatusCode,
    /// All headers.
    pub(super) headers: HeaderMap,
    /// The whole body.
    pub(super) body: Bytes,
    /// From the sending to the last byte; connecting is not in it.
    pub(super) latency: Duration,
}

/// Opens a connection to `host`, with small writes sent at once, and under TLS if its URL says so.
pub(super) async fn connect(host: &Host, http2: bool) -> io::Result<TokioIo<HostStream>> {
    let stream = TcpStream::connect((host.name(), host.port())).await?;
    stream.set_nodelay(true)?;
    let stream = match host.tls() {
        Some(tls) => HostStream::Secure(Box::new(tls.connect(host.name(), http2, stream).await?)),
        None => HostStream::Plain(stream),
    };
    Ok(TokioIo::new(stream))
}

/// Sends one request and reads the whole answer, whatever its status, within `timeout`.
///
/// # Errors
/// [`ClientError::Unreachable`] if no connection is made, [`ClientError::NoAnswer`] if none is whole
/// within the time, [`ClientError::Usage`] if the path makes no request.
pub(super) async fn fetch(
    host: &Host,
    outgoing: Outgoing,
    timeout: Duration,
) -> Result<Incoming, ClientError> {
    let request = build(host, outgoing)?;
    let exchange = async {
        let io = connect(host, false).await.map_err(|error| unreachable_host(host, &error))?;
        exchange_on(io, request).await.map_err(|reason| no_answer(host, reason))
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(done) => done,
        Err(_) => Err(no_answer(host, format!("the time of {timeout:?} ran out; --timeout gives it more"))),
    }
}

/// [`ClientError::Unreachable`] with the system's reason; [`ClientError::NoAnswer`] with TLS's own.
pub(super) fn unreachable_host(host: &Host, error: &io::Error) -> ClientError {
    if host.is_secure() && matches!(error.kind(), io::ErrorKind::Other) {
        return no_answer(host, error.to_string());
    }
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    };
    ClientError::Unreachable { url: host.to_string(), reason }
}

fn no_answer(host: &Host, reason: String) -> ClientError {
    ClientError::NoAnswer { url: host.to_string(), reason }
}

fn build(host: &Host, outgoing: Outgoing) -> Result<Request<Full<Bytes>>, ClientError> {
    let unusable =
        |reason: String| ClientError::Usage(format!("cannot ask for '{}': {reason}", outgoing.path));
    let uri = host.target(&outgoing.path).parse().map_err(|error| unusable(format!("{error}")))?;
    let authority = HeaderValue::from_str(host.authority()).map_err(|error| unusable(error.to_string()))?;
    let mut request = Request::new(Full::new(outgoing.body));
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = outgoing.headers;
    request.headers_mut().entry(HOST).or_insert(authority);
    request.headers_mut().entry(USER_AGENT).or_insert(AGENT);
    Ok(request)
}

async fn exchange_on(io: TokioIo<HostStream>, request: Request<Full<Bytes>>) -> Result<Incoming, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|error| describe(&error))?;
    let work = async {
        let begin = Instant::now();
        let response = sender.send_request(request).await.map_err(|error| describe(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        Ok(Incoming { status: head.status, headers: head.headers, body, latency: begin.elapsed() })
    };
    drive(&mut Some(Box::pin(connection)), work).await
}

/// Runs `work` to its end while its connection makes progress in the same task. A connection that
/// comes to its own end is dropped at once: that is what tells `work` of requests it never sent.
pub(super) async fn drive<C, T>(connection: &mut Option<Pin<Box<C>>>, work: impl Future<Output = T>) -> T
where
    C: Future,
{
    tokio::pin!(work);
    if let Some(driver) = connection {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = driver.as_mut() => {}
        }
        *connection = None;
    }
    work.await
}

/// An error of hyper's with its cause, in one line.
pub(super) fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestServer, block_on, refused_host, respond};
    use super::*;

    fn get(path: &str) -> Outgoing {
        Outgoing { method: Method::GET, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    #[test]
    fn a_request_reaches_the_host_as_it_was_made_and_the_answer_comes_back() {
        let server = TestServer::start(|request| async move {
            let head = format!("{} {} {:?}", request.method(), request.uri(), request.headers().get("x"));
            respond(207, [head.as_bytes(), b" ", request.body()].concat())
        });
        let mut headers = HeaderMap::new();
        headers.insert("x", HeaderValue::from_static("y"));
        let outgoing = Outgoing { method: Method::POST, path: "/a?b=c".into(), headers, body: "body".into() };
        let answer = block_on(fetch(&server.host(), outgoing, Duration::from_secs(20))).unwrap();
        assert_eq!(answer.status, 207);
        assert_eq!(answer.body, "POST /a?b=c Some(\"y\") body");
    }

    #[test]
    fn nobody_listening_a_hang_and_a_bad_path_are_told_apart() {
        let refused = block_on(fetch(&refused_host(), get("/"), Duration::from_secs(20))).unwrap_err();
        assert!(matches!(refused, ClientError::Unreachable { .. }), "{refused}");

        let server = TestServer::start(|_| std::future::pending());
        let late = block_on(fetch(&server.host(), get("/"), Duration::from_millis(50))).unwrap_err();
        assert!(late.to_string().contains("--timeout"), "{late}");

        let bad = block_on(fetch(&server.host(), get("/a b"), Duration::from_secs(20))).unwrap_err();
        assert!(matches!(bad, ClientError::Usage(_)), "{bad}");
    }

    #[test]
    fn an_answer_that_breaks_off_is_no_answer() {
        let server = TestServer::start_raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
        let error = block_on(fetch(&server.host(), get("/"), Duration::from_secs(20))).unwrap_err();
        assert!(error.to_string().contains("broke off"), "{error}");
        let server = TestServer::start_raw(b"SSH-2.0-not-http\r\n");
        let error = block_on(fetch(&server.host(), get("/"), Duration::from_secs(20))).unwrap_err();
        assert!(matches!(error, ClientError::NoAnswer { .. }), "{error}");
    }
}
