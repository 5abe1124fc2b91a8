//! The time that a client may take on a connection.
//!
//! Owns the clock of one connection. Nothing is in flight: a client may send nothing for the idle
//! timeout, then has the header timeout from the first byte of a request to the end of its head. A
//! request is in flight: reading is the handler's business, and writing must make progress within the
//! idle timeout. An HTTP/2 connection sends frames between requests, so only the idle timeout holds.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How every HTTP/2 connection begins.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Requests in flight on one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    /// Whoever reads from the connection, to be woken when its clock has to start.
    reader: AtomicWaker,
}

impl InFlight {
    /// Counts a request until the guard is dropped.
    pub(super) fn begin(&self) -> RequestGuard {
        self.0.count.fetch_add(1, AcqRel);
        RequestGuard(self.clone())
    }

    fn any(&self) -> bool {
        self.0.count.load(Acquire) > 0
    }
}

/// A request that is in flight.
#[derive(Debug)]
pub(super) struct RequestGuard(InFlight);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.0.0.count.fetch_sub(1, AcqRel) == 1 {
            self.0.0.reader.wake();
        }
    }
}

/// What the connection waits for while no request is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// A request was in flight when this was last looked at.
    Serving,
}

/// A stream that fails with `TimedOut` once its client takes too long.
#[derive(Debug)]
pub(super) struct TimedStream<S> {
    inner: S,
    in_flight: InFlight,
    idle: Duration,
    head: Duration,
    phase: Phase,
    begun: Vec<u8>,
    is_h2: bool,
    read_deadline: Pin<Box<Sleep>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(inner: S, in_flight: InFlight, idle: Duration, head: Duration) -> Self {
        Self {
            inner,
            in_flight,
            idle,
            head,
            phase: Phase::Idle,
            begun: Vec::with_capacity(H2_PREFACE.len()),
            is_h2: false,
            read_deadline: Box::pin(tokio::time::sleep(idle)),
            write_deadline: None,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let patience = if phase == Phase::Head { self.head } else { self.idle };
        self.read_deadline.as_mut().reset(Instant::now() + patience);
    }

    /// Notes the first bytes of the connection, to tell HTTP/2 from HTTP/1.1.
    fn note(&mut self, bytes: &[u8]) {
        if self.is_h2 || self.begun.len() == H2_PREFACE.len() {
            return;
        }
        let missing = H2_PREFACE.len() - self.begun.len();
        self.begun.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        self.is_h2 = self.begun == H2_PREFACE;
    }

    /// Bytes came while no request was in flight.
    fn received(&mut self) {
        if self.is_h2 {
            self.enter(Phase::Idle);
        } else if self.phase != Phase::Head {
            self.enter(Phase::Head);
        }
    }

    fn poll_write_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let idle = self.idle;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer"))
    }

    /// Fails a write that has been pending for too long; any progress starts the time anew.
    fn watch_write<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write_deadline = None;
            return outcome;
        }
        self.poll_write_deadline(context).map(Err)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        self.in_flight.0.reader.register(context.waker());
        let serving = self.in_flight.any();
        match (serving, self.phase) {
            (true, _) => self.phase = Phase::Serving,
            (false, Phase::Serving) => self.enter(Phase::Idle),
            (false, Phase::Idle | Phase::Head) => {}
        }
        match Pin::new(&mut self.inner).poll_read(context, buffer) {
            Poll::Ready(outcome) => {
                let received = &buffer.filled()[before..];
                if !received.is_empty() {
                    self.note(received);
                    if !serving {
                        self.received();
                    }
                }
                Poll::Ready(outcome)
            }
            Poll::Pending if serving => Poll::Pending,
            Poll::Pending => {
                ready!(self.read_deadline.as_mut().poll(context));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client sends no request")))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch_write(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.watch_write(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.watch_write(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// A response's body that keeps its request in flight until it has been sent, or dropped.
#[derive(Debug)]
pub(super) struct GuardedBody<B> {
    inner: B,
    _guard: RequestGuard,
}

impl<B> GuardedBody<B> {
    pub(super) fn new(inner: B, guard: RequestGuard) -> Self {
        Self { inner, _guard: guard }
    }
}

impl<B: Body<Data: Buf> + Unpin> Body for GuardedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const IDLE: Duration = Duration::from_secs(60);
    const HEAD: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn silence_ends_after_the_idle_timeout_and_half_a_head_after_the_header_timeout() {
        let (mut client, server) = tokio::io::duplex(1024);
        let mut server = TimedStream::new(server, InFlight::default(), IDLE, HEAD);
        let started = Instant::now();
        client.write_all(b"GET / HT").await.unwrap();
        let mut bytes = Vec::new();
        let error = server.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed().as_secs()), (io::ErrorKind::TimedOut, HEAD.as_secs()));

        let (_client, server) = tokio::io::duplex(1024);
        let mut server = TimedStream::new(server, InFlight::default(), IDLE, HEAD);
        let started = Instant::now();
        assert!(server.read(&mut [0; 8]).await.is_err());
        assert_eq!(started.elapsed().as_secs(), IDLE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_flight_stops_the_clock_and_its_end_starts_it_anew() {
        let (_client, server) = tokio::io::duplex(1024);
        let in_flight = InFlight::default();
        let mut server = TimedStream::new(server, in_flight.clone(), IDLE, HEAD);
        let guard = in_flight.begin();
        let started = Instant::now();
        tokio::spawn(async move {
            tokio::time::sleep(IDLE * 10).await;
            drop(guard);
        });
        assert!(server.read(&mut [0; 8]).await.is_err(), "one read, pending all the while");
        assert_eq!(started.elapsed().as_secs(), (IDLE * 11).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn frames_of_http2_count_as_signs_of_life_only() {
        let (mut client, server) = tokio::io::duplex(1024);
        let mut server = TimedStream::new(server, InFlight::default(), IDLE, HEAD);
        client.write_all(H2_PREFACE).await.unwrap();
        let started = Instant::now();
        let mut bytes = Vec::new();
        assert!(server.read_to_end(&mut bytes).await.is_err());
        assert_eq!(started.elapsed().as_secs(), IDLE.as_secs());
    }
}
