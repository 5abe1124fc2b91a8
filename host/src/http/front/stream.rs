//! The time that a client may take on a connection.
//!
//! Owns the clocks of one connection. Nothing is in flight: a client may send nothing for the idle timeout,
//! then has the header timeout from the first byte of a request to the end of its head. A request is in
//! flight: reading is the handler's business, writing must make progress within the idle timeout, and each
//! part of an answer must be taken within the write timeout. An HTTP/2 connection sends frames between
//! requests: they do not count, and it is asked to go before it is ended.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::frames::Frames;
use super::in_flight::InFlight;

/// How every HTTP/2 connection begins.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Why a connection was ended, as it is counted.
const IDLE_REASON: &str = "idle";
const SLOW_HEAD: &str = "slow_head";
const UNREAD: &str = "unread_answer";
pub(super) const FLOOD: &str = "flood";

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// To send anything, with nothing in flight; to take anything, with an answer on its way.
    pub(super) idle: Duration,
    /// From the first byte of a request to the end of its head.
    pub(super) head: Duration,
    /// To take each part of an answer.
    pub(super) write: Duration,
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
    /// The end, which it was asked for.
    Leaving,
}

/// A stream that fails once its client takes too long, or sends what only costs.
#[derive(Debug)]
pub(super) struct TimedStream<S> {
    inner: S,
    in_flight: InFlight,
    clocks: Clocks,
    phase: Phase,
    begun: Vec<u8>,
    /// The account of an HTTP/2 connection.
    frames: Option<Box<Frames>>,
    flooded: bool,
    read_deadline: Pin<Box<Sleep>>,
    answer_deadline: Option<Pin<Box<Sleep>>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(inner: S, in_flight: InFlight, clocks: Clocks) -> Self {
        Self {
            inner,
            in_flight,
            clocks,
            phase: Phase::Idle,
            begun: Vec::with_capacity(H2_PREFACE.len()),
            frames: None,
            flooded: false,
            read_deadline: Box::pin(tokio::time::sleep(clocks.idle)),
            answer_deadline: None,
            write_deadline: None,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let is_short = matches!(phase, Phase::Head | Phase::Leaving);
        let patience = if is_short { self.clocks.head } else { self.clocks.idle };
        self.read_deadline.as_mut().reset(Instant::now() + patience);
    }

    /// Looks at bytes that came: tells HTTP/2 from HTTP/1.1 by the first of them, and keeps the account of
    /// its frames.
    fn note(&mut self, bytes: &[u8]) {
        let answered = self.in_flight.answered();
        if let Some(frames) = &mut self.frames {
            self.flooded |= !frames.read(bytes, answered);
            return;
        }
        if self.begun.len() == H2_PREFACE.len() {
            return;
        }
        let missing = H2_PREFACE.len() - self.begun.len();
        let (first, rest) = bytes.split_at(missing.min(bytes.len()));
        self.begun.extend_from_slice(first);
        if self.begun == H2_PREFACE {
            let mut frames = Box::new(Frames::new());
            frames.read(H2_PREFACE, answered);
            self.flooded |= !frames.read(rest, answered);
            self.frames = Some(frames);
        }
    }

    /// Bytes came while no request was in flight.
    fn received(&mut self) {
        match (self.phase, self.frames.is_some()) {
            (Phase::Head, true) => self.enter(Phase::Idle),
            (Phase::Idle | Phase::Serving, false) => self.enter(Phase::Head),
            _ => {}
        }
    }

    /// Ready with the reason once the client has taken too long, or the connection is to end.
    fn poll_end(&mut self, context: &mut Context<'_>, serving: bool) -> Poll<io::Error> {
        if self.flooded {
            self.in_flight.note(FLOOD);
            let message = "the client sends frames that ask for nothing";
            return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, message));
        }
        if self.in_flight.has_ended() && !self.in_flight.holds_seat() {
            let message = "the connection makes room for others";
            return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, message));
        }
        if serving {
            return self.poll_answers(context);
        }
        loop {
            ready!(self.read_deadline.as_mut().poll(context));
            // A client of HTTP/2 may be about to ask: it is told first that it is too late.
            if self.frames.is_none() || self.phase == Phase::Leaving {
                break;
            }
            self.in_flight.retire();
            self.enter(Phase::Leaving);
        }
        self.in_flight.note(if self.phase == Phase::Head { SLOW_HEAD } else { IDLE_REASON });
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client sends no request"))
    }

    /// Ready once an answer has waited for too long.
    fn poll_answers(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        while let Some(since) = self.in_flight.waits_since() {
            let due = since + self.clocks.write;
            if due <= Instant::now() {
                self.in_flight.note(UNREAD);
                let message = "the client does not take its answer";
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            let deadline =
                self.answer_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if deadline.deadline() != due {
                deadline.as_mut().reset(due);
            }
            ready!(deadline.as_mut().poll(context));
        }
        Poll::Pending
    }

    fn poll_write_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let idle = self.clocks.idle;
        let deadline = self.write_deadline.get_or_insert_with(|| {
            self.in_flight.writes(true);
            Box::pin(tokio::time::sleep(idle))
        });
        ready!(deadline.as_mut().poll(context));
        self.in_flight.note(UNREAD);
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer"))
    }

    /// Fails a write that has been pending for too long; any progress starts the time anew.
    fn watch_write<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            if self.write_deadline.take().is_some() {
                self.in_flight.writes(false);
            }
            return outcome;
        }
        self.poll_write_deadline(context).map(Err)
    }

    fn wrote(&mut self, outcome: &Poll<io::Result<usize>>) {
        if let (Poll::Ready(Ok(count)), Some(frames)) = (outcome, &mut self.frames) {
            frames.sent(*count);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        self.in_flight.register(context);
        let serving = self.in_flight.any();
        match (serving, self.phase) {
            (true, _) => self.phase = Phase::Serving,
            (false, Phase::Serving) => self.enter(Phase::Idle),
            (false, Phase::Idle | Phase::Head | Phase::Leaving) => {}
        }
        let outcome = Pin::new(&mut self.inner).poll_read(context, buffer);
        let received = &buffer.filled()[before..];
        if outcome.is_ready() && !received.is_empty() {
            self.note(received);
            if !serving {
                self.received();
            }
        }
        if outcome.is_ready() && !self.flooded {
            return outcome;
        }
        self.poll_end(context, serving).map(Err)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.wrote(&outcome);
        self.watch_write(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.wrote(&outcome);
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
        let outcome = Pin::new(&mut self.inner).poll_shutdown(context);
        self.watch_write(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::Held;
    use super::super::in_flight::GuardedBody;
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const IDLE: Duration = Duration::from_secs(60);
    const HEAD: Duration = Duration::from_secs(5);
    const WRITE: Duration = Duration::from_secs(30);
    const CLOCKS: Clocks = Clocks { idle: IDLE, head: HEAD, write: WRITE };

    #[tokio::test(start_paused = true)]
    async fn silence_ends_after_the_idle_timeout_and_half_a_head_after_the_header_timeout() {
        let (mut client, server) = tokio::io::duplex(1024);
        let mut server = TimedStream::new(server, InFlight::default(), CLOCKS);
        let started = Instant::now();
        client.write_all(b"GET / HT").await.unwrap();
        let mut bytes = Vec::new();
        let error = server.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed().as_secs()), (io::ErrorKind::TimedOut, HEAD.as_secs()));

        let (_client, server) = tokio::io::duplex(1024);
        let mut server = TimedStream::new(server, InFlight::default(), CLOCKS);
        let started = Instant::now();
        assert!(server.read(&mut [0; 8]).await.is_err());
        assert_eq!(started.elapsed().as_secs(), IDLE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_flight_stops_the_clock_and_its_end_starts_it_anew() {
        let (_client, server) = tokio::io::duplex(1024);
        let in_flight = InFlight::default();
        let mut server = TimedStream::new(server, in_flight.clone(), CLOCKS);
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
    async fn frames_of_http2_are_no_sign_of_life() {
        let (mut client, server) = tokio::io::duplex(1024);
        let in_flight = InFlight::default();
        let mut server = TimedStream::new(server, in_flight.clone(), CLOCKS);
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let started = Instant::now();
        let pings = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if client.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).await.is_err() {
                    break;
                }
            }
        });
        let mut bytes = Vec::new();
        let error = server.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(in_flight.has_retired(), "it is asked to go first");
        assert_eq!(started.elapsed().as_secs(), (IDLE + HEAD).as_secs());
        drop(server);
        pings.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_frames_ends_the_connection() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let in_flight = InFlight::default();
        let mut server = TimedStream::new(server, in_flight.clone(), CLOCKS);
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let _request = in_flight.begin();
        for _ in 0..10_000 {
            client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        }
        let error = server.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!((error.kind(), in_flight.reason()), (io::ErrorKind::ConnectionAborted, Some(FLOOD)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_which_nothing_is_taken_ends_the_connection() {
        let (_client, server) = tokio::io::duplex(1024);
        let in_flight = InFlight::default();
        let mut server = TimedStream::new(server, in_flight.clone(), CLOCKS);
        let body = GuardedBody::new(axum::body::Body::from("abc"), 1, in_flight.begin(), Held::default());
        let started = Instant::now();
        let error = server.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!((error.kind(), in_flight.reason()), (io::ErrorKind::TimedOut, Some(UNREAD)));
        assert_eq!(started.elapsed().as_secs(), WRITE.as_secs());
        drop(body);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_to_end_does_at_once_unless_a_request_has_come() {
        let (_client, server) = tokio::io::duplex(1024);
        let in_flight = InFlight::default();
        let mut server = TimedStream::new(server, in_flight.clone(), CLOCKS);
        let request = in_flight.begin();
        in_flight.end("test");
        let waits = tokio::time::timeout(Duration::from_secs(1), server.read(&mut [0; 8])).await;
        assert!(waits.is_err());
        drop(request);
        assert!(server.read(&mut [0; 8]).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_to_end_writes_what_it_has_begun() {
        let (mut client, server) = tokio::io::duplex(4);
        let in_flight = InFlight::default();
        let mut server = TimedStream::new(server, in_flight.clone(), CLOCKS);
        let slow = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        });
        let mut writing = Box::pin(server.write_all(b"an answer"));
        assert!(tokio::time::timeout(Duration::from_millis(500), &mut writing).await.is_err());
        in_flight.end("test");
        assert!(in_flight.holds_seat());
        writing.await.unwrap();
        assert!(!in_flight.holds_seat());
        assert!(server.read(&mut [0; 8]).await.is_err());
        drop(server);
        assert_eq!(slow.await.unwrap(), "an answer");
    }
}
