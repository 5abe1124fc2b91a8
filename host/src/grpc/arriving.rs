//! A call's body while it arrives.
//!
//! Owns what holds for it until a message is whole, as for a body on HTTP: its bytes count in the memory of all
//! requests as they come, it has to come at a pace, and to be there in time. On a stream that is so for each message; how
//! long the next one is waited for is the business of `lasting`. What does not fit into the memory is `ResourceExhausted`, as
//! gRPC's own documents have it for memory.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use super::call::too_late;
use super::failure;
use super::framing::Framing;
use super::message::WholeMessage;
use crate::error::{Error, ErrorCode};
use crate::http::pace::{Pace, not_in_time};
use crate::http::state::AppState;
use crate::http::{MemoryBudget, Reservation};

/// The account of a call's bytes. Cheap to clone: all clones are the same account.
#[derive(Clone, Debug)]
pub(super) struct Arriving(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: MemoryBudget,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    framing: Framing,
    /// For what has arrived and has not been handed over as a message.
    held: Reservation,
}

impl Arriving {
    /// An account of nothing.
    pub(super) fn new(memory: &MemoryBudget) -> Self {
        let account = Account { framing: Framing::default(), held: memory.nothing() };
        Self(Arc::new(Inner { memory: memory.clone(), account: Mutex::new(account) }))
    }

    /// The account of a call.
    pub(super) fn of(extensions: &tonic::Extensions, state: &AppState) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_else(|| Self::new(&state.bodies().memory))
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts bytes that came. Returns whether they end within a message.
    fn arrived(&self, bytes: &[u8]) -> Result<bool, Error> {
        let mut account = self.account();
        account.held.grow(bytes.len()).map_err(exhausted)?;
        let announced = account.framing.arrived(bytes);
        self.0.memory.check(announced).map_err(exhausted)?;
        Ok(account.framing.is_midway())
    }

    /// The next whole message, which counts from now on until the last part of it is dropped. One that came
    /// compressed counts with what it expanded to.
    ///
    /// # Errors
    /// `ResourceExhausted` if that does not fit.
    pub(super) fn handed_over(&self, message: WholeMessage) -> Result<WholeMessage, Error> {
        let mut held = {
            let mut account = self.account();
            let taken = account.framing.take().unwrap_or(0);
            account.held.split(taken)
        };
        held.grow_to(message.0.len()).map_err(exhausted)?;
        Ok(WholeMessage(held.hold(message.0)))
    }
}

/// Memory that is not there, as gRPC's clients have it told.
pub(super) fn exhausted(error: Error) -> Error {
    Error { code: ErrorCode::ResourceExhausted, ..error }
}

/// What holds for a call's body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// When the client is gone.
    pub(super) until: Option<Instant>,
    /// How long a message may take.
    pub(super) each: Duration,
    /// How long each portion of it may.
    pub(super) pace: Duration,
    /// Whether messages may come at any time.
    pub(super) is_stream: bool,
}

/// A body within its bounds; beyond them it fails.
pub(super) struct BoundedBody {
    inner: Body,
    arriving: Arriving,
    bounds: Bounds,
    /// The clocks of the message that is waited for, if one is.
    message: Option<Clocks>,
    /// Made when it is first waited for: most bodies are there with their head.
    sleep: Option<Pin<Box<Sleep>>>,
    waiting_since: Option<Instant>,
}

#[derive(Debug)]
struct Clocks {
    due: Instant,
    pace: Pace,
}

impl Clocks {
    fn start(bounds: &Bounds) -> Self {
        Self { due: Instant::now() + bounds.each, pace: Pace::new(bounds.pace) }
    }
}

impl BoundedBody {
    pub(super) fn new(inner: Body, arriving: Arriving, bounds: Bounds) -> Self {
        let message = (!bounds.is_stream).then(|| Clocks::start(&bounds));
        Self { inner, arriving, bounds, message, sleep: None, waiting_since: None }
    }

    /// Counts what came, and sets the clocks for what is to come.
    fn came(&mut self, frame: &Frame<Bytes>) -> Result<(), Error> {
        if let (Some(since), Some(clocks)) = (self.waiting_since.take(), &mut self.message) {
            clocks.pace.waited(since.elapsed());
        }
        let Some(bytes) = frame.data_ref() else {
            return Ok(());
        };
        let is_midway = self.arriving.arrived(bytes)?;
        if !self.bounds.is_stream || is_midway {
            let clocks = self.message.get_or_insert_with(|| Clocks::start(&self.bounds));
            clocks.pace.arrived(bytes.len());
        } else {
            self.message = None;
        }
        Ok(())
    }

    /// Until when more is waited for from now on, and what it is then.
    fn patience(&self, now: Instant) -> Option<(Instant, fn() -> Error)> {
        let late: Option<(Instant, fn() -> Error)> = self.bounds.until.map(|at| (at, too_late as _));
        let clocks = self.message.as_ref();
        let due: Option<(Instant, fn() -> Error)> = clocks.map(|clocks| (clocks.due, not_in_time as _));
        let slow: Option<(Instant, fn() -> Error)> =
            clocks.map(|clocks| (now + clocks.pace.left(), Pace::too_slow as _));
        [late, due, slow].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let Some((at, error)) = self.patience(since) else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
        if sleep.deadline() != at.into() {
            sleep.as_mut().reset(at.into());
        }
        sleep.as_mut().poll(context).map(|()| error())
    }
}

impl http_body::Body for BoundedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let refused = |error: &Error| Poll::Ready(Some(Err(failure::status(error, None))));
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => match self.came(&frame) {
                Ok(()) => Poll::Ready(Some(Ok(frame))),
                Err(error) => refused(&error),
            },
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Status::from_error(error.into())))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.wait(context) {
                Poll::Ready(error) => refused(&error),
                Poll::Pending => Poll::Pending,
            },
        }
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

    fn message(length: usize) -> WholeMessage {
        WholeMessage(vec![0; length].into())
    }

    fn prefix(length: u32) -> [u8; 5] {
        let [a, b, c, d] = length.to_be_bytes();
        [0, a, b, c, d]
    }

    #[test]
    fn bytes_count_from_when_they_arrive_until_their_message_is_dropped() {
        let memory = MemoryBudget::new(1000);
        let arriving = Arriving::new(&memory);
        assert!(arriving.arrived(&prefix(10)).unwrap());
        assert!(arriving.arrived(&[0; 4]).unwrap());
        assert_eq!(memory.used(), 9);
        // The end of the first, and a second that is empty.
        assert!(!arriving.arrived(&[&[0; 6][..], &prefix(0)].concat()).unwrap());
        assert_eq!(memory.used(), 20);
        let first = arriving.handed_over(message(10)).unwrap();
        let second = arriving.handed_over(message(0)).unwrap();
        assert_eq!(memory.used(), 15, "what is empty holds nothing");
        let part = first.0.slice(3..4);
        drop((first, second));
        assert_eq!(memory.used(), 15);
        drop(part);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_when_it_is_announced_when_it_comes_and_when_it_expands() {
        let memory = MemoryBudget::new(1000);
        let announced = Arriving::new(&memory).arrived(&prefix(2000)).unwrap_err();
        assert_eq!(announced.code, ErrorCode::ResourceExhausted);
        assert!(announced.message.contains("server.max_memory"));
        let other = memory.reserve(900).unwrap();
        let arriving = Arriving::new(&memory);
        assert!(arriving.arrived(&prefix(50)).unwrap());
        let more = memory.reserve(90).unwrap();
        assert_eq!(arriving.arrived(&[0; 50]).unwrap_err().code, ErrorCode::ResourceExhausted);
        drop((more, arriving));
        let arriving = Arriving::new(&memory);
        assert!(!arriving.arrived(&[&prefix(20)[..], &[0; 20]].concat()).unwrap());
        assert_eq!(arriving.handed_over(message(101)).unwrap_err().code, ErrorCode::ResourceExhausted);
        drop((arriving, other));
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn between_the_messages_of_a_stream_no_clock_runs() {
        let memory = MemoryBudget::new(1 << 20);
        let second = Duration::from_secs(1);
        let bounds = Bounds { until: None, each: second, pace: second, is_stream: true };
        let mut body = BoundedBody::new(Body::empty(), Arriving::new(&memory), bounds);
        let now = Instant::now();
        assert!(body.patience(now).is_none());
        body.came(&Frame::data(Bytes::copy_from_slice(&prefix(3)))).unwrap();
        assert!(body.patience(now).is_some());
        body.came(&Frame::data(Bytes::from_static(&[1, 2, 3]))).unwrap();
        assert!(body.patience(now).is_none());
        let bounds = Bounds { is_stream: false, ..bounds };
        let unary = BoundedBody::new(Body::empty(), Arriving::new(&memory), bounds);
        assert!(unary.patience(now).is_some(), "a single message is waited for from the head on");
    }
}
