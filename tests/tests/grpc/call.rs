//! A client of gRPC that can do what no well-behaved one would: frames and messages byte for byte.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// What nothing that is waited for should take.
const GUARD: Duration = Duration::from_secs(90);

/// Runs a client; everything of it ends within the guard.
pub(crate) fn client<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(GUARD, work).await.expect("an answer in time") })
}

pub(crate) type Connection = JoinHandle<Result<(), h2::Error>>;

pub(crate) async fn connect(address: SocketAddr) -> (SendRequest<Bytes>, Connection) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// gRPC's number: 0 is OK.
    pub(crate) code: u32,
    pub(crate) message: String,
    pub(crate) headers: HeaderMap,
    /// The answers' messages, without their prefixes.
    pub(crate) messages: Vec<Vec<u8>>,
}

/// Numbers of gRPC's statuses.
pub(crate) const INVALID_ARGUMENT: u32 = 3;
pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
pub(crate) const PERMISSION_DENIED: u32 = 7;
pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
pub(crate) const UNAUTHENTICATED: u32 = 16;
pub(crate) const UNIMPLEMENTED: u32 = 12;
pub(crate) const UNAVAILABLE: u32 = 14;

/// A message with its prefix: not compressed, and its length.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    prefixed(0, u32::try_from(message.len()).unwrap(), message)
}

/// A message with a prefix that need not be true.
pub(crate) fn prefixed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![flag];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// Begins a call whose messages are yet to be sent.
pub(crate) async fn begin(
    sender: &SendRequest<Bytes>,
    method: &str,
    headers: &[(&'static str, &str)],
) -> (ResponseFuture, SendStream<Bytes>) {
    let path = if method.starts_with('/') {
        method.to_owned()
    } else {
        format!("/inference.GRPCInferenceService/{method}")
    };
    let mut request = Request::post(format!("http://127.0.0.1{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut ready = sender.clone().ready().await.unwrap();
    ready.send_request(request.body(()).unwrap(), false).unwrap()
}

/// Calls a method with a body as it is.
pub(crate) async fn call(
    sender: &SendRequest<Bytes>,
    method: &str,
    headers: &[(&'static str, &str)],
    body: Vec<u8>,
) -> Ended {
    let (answer, mut stream) = begin(sender, method, headers).await;
    // A host that has seen enough resets the stream: its answer is still to be read.
    let _ = stream.send_data(body.into(), true);
    ended(answer).await
}

/// A call of which something has come, and the bytes that have.
pub(crate) type Begun = (Response<RecvStream>, Vec<u8>);

/// Waits for the first of a call's answers; [`rest`] waits for the others.
pub(crate) async fn first(answer: ResponseFuture) -> Begun {
    let mut response = answer.await.unwrap();
    let body = response.body_mut();
    let chunk = body.data().await.expect("an answer").unwrap();
    let _ = body.flow_control().release_capacity(chunk.len());
    (response, chunk.to_vec())
}

/// Waits for the end of a call.
pub(crate) async fn ended(answer: ResponseFuture) -> Ended {
    rest((answer.await.unwrap(), Vec::new())).await
}

/// Waits for the end of a call of which something has come.
pub(crate) async fn rest((response, mut bytes): Begun) -> Ended {
    let (head, mut body) = response.into_parts();
    assert_eq!(head.status, 200, "{:?}", head.headers);
    assert_eq!(head.headers["content-type"], "application/grpc");
    let mut headers = head.headers;
    bytes.extend(read(&mut body).await);
    if let Ok(Some(trailers)) = body.trailers().await {
        headers.extend(trailers);
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let code = text("grpc-status").expect("a status").parse().unwrap();
    let message = text("grpc-message").unwrap_or_default();
    Ended { code, message: unescaped(&message), messages: messages(&bytes), headers }
}

async fn read(body: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
        all.extend_from_slice(&chunk);
    }
    all
}

fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some((prefix, rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        all.push(rest[..length].to_vec());
        bytes = &rest[length..];
    }
    all
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        let byte = escaped.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap()
}

/// A field of a protobuf message: its number, its length and its bytes.
pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(bytes);
    out
}

/// A request with one raw input.
pub(crate) fn infer_message(model: &str, input: &str, datatype: &str, shape: &[u8], raw: &[u8]) -> Vec<u8> {
    let tensor = [field(1, input.as_bytes()), field(2, datatype.as_bytes()), field(3, shape)].concat();
    [field(1, model.as_bytes()), field(5, &tensor), field(7, raw)].concat()
}

/// A request to `identity_fp32` of so many numbers.
pub(crate) fn identity_message(numbers: u8) -> Vec<u8> {
    infer_message("identity_fp32", "x", "FP32", &[1, numbers], &vec![0; 4 * usize::from(numbers)])
}

/// A request that keeps a worker of `slow` busy for about so many milliseconds.
pub(crate) fn slow_message(milliseconds: u32) -> Vec<u8> {
    infer_message("slow", "n", "INT64", &[1], &u64::from(milliseconds).to_le_bytes())
}
