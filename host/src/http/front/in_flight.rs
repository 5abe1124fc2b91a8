//! The requests and answers of one connection.
//!
//! Owns who is in flight, since when nobody is, and which answers wait for their client to take the next
//! part. The clocks that act on it are `stream`'s.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::held::Held;
use super::lasting::Lasting;
use super::memory::Reservation;

/// Requests in flight on one connection, and its end.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    /// Those of them for which the connection keeps its seat.
    seated: AtomicUsize,
    /// Those that do so while they do not merely wait.
    lasting: Mutex<Vec<Lasting>>,
    /// Answers that were handed over whole.
    answered: AtomicU64,
    /// Something that was handed over waits for the network.
    writing: AtomicBool,
    /// Whoever reads from the connection, to be woken when its clock has to start.
    reader: AtomicWaker,
    /// Since when answers wait for their client to take a part, by a number of each answer.
    waiting: Mutex<BTreeMap<u64, Instant>>,
    next: AtomicU64,
    ended: AtomicBool,
    /// Told when the connection is to end, at once or in order.
    told: Notify,
    retired: AtomicBool,
    reason: OnceLock<&'static str>,
}

impl InFlight {
    /// Counts a request until the guard is dropped.
    pub(super) fn begin(&self) -> RequestGuard {
        self.0.count.fetch_add(1, AcqRel);
        self.0.seated.fetch_add(1, AcqRel);
        RequestGuard { in_flight: self.clone(), hold: Hold::Seat, _memory: None }
    }

    /// Whether any request is in flight.
    pub(super) fn any(&self) -> bool {
        self.0.count.load(Acquire) > 0
    }

    /// Whether the connection keeps its seat for anything that is in flight.
    pub(super) fn holds_seat(&self) -> bool {
        self.0.seated.load(Acquire) > 0
            || self.0.writing.load(Acquire)
            || self.lasting().iter().any(|call| !call.waits())
    }

    /// Whether something that was handed over waits for the network: an answer's end, say, after its request has
    /// ended here.
    pub(super) fn writes(&self, writing: bool) {
        self.0.writing.store(writing, Release);
        if !writing {
            self.0.reader.wake();
        }
    }

    /// How many answers were handed over whole.
    pub(super) fn answered(&self) -> u64 {
        self.0.answered.load(Relaxed)
    }

    /// Who reads from the connection, and wants to know when nothing is in flight or the end is due.
    pub(super) fn register(&self, context: &Context<'_>) {
        self.0.reader.register(context.waker());
    }

    /// Ends the connection as soon as possible, for a reason that is counted.
    pub(super) fn end(&self, reason: &'static str) {
        self.note(reason);
        self.0.ended.store(true, Relaxed);
        self.0.told.notify_one();
        self.0.reader.wake();
    }

    /// Ends the connection in order: no more requests.
    pub(super) fn retire(&self) {
        self.0.retired.store(true, Relaxed);
        self.0.told.notify_one();
    }

    /// Whether the connection is to end at once.
    pub(super) fn has_ended(&self) -> bool {
        self.0.ended.load(Relaxed)
    }

    /// Whether it is to end in order.
    pub(super) fn has_retired(&self) -> bool {
        self.0.retired.load(Relaxed)
    }

    /// Completes when the connection is to end, at once or in order.
    pub(super) async fn told(&self) {
        while !self.has_ended() && !self.has_retired() {
            self.0.told.notified().await;
        }
    }

    /// Notes why the connection ends; the first reason counts.
    pub(super) fn note(&self, reason: &'static str) {
        let _noted_before = self.0.reason.set(reason);
    }

    /// Why the connection was ended, if it was.
    pub(super) fn reason(&self) -> Option<&'static str> {
        self.0.reason.get().copied()
    }

    /// Since when the answer that has waited longest waits for its client.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.waiting().values().min().copied()
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lasting(&self) -> MutexGuard<'_, Vec<Lasting>> {
        self.0.lasting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request does for its connection's seat.
#[derive(Debug)]
enum Hold {
    /// It keeps it.
    Seat,
    /// It keeps it while it does not merely wait.
    Lasting(Lasting),
    /// Nothing.
    Nothing,
}

/// A request that is in flight.
#[derive(Debug)]
pub(super) struct RequestGuard {
    in_flight: InFlight,
    hold: Hold,
    _memory: Option<Reservation>,
}

impl RequestGuard {
    /// Keeps what the request takes of the memory until the guard is dropped.
    pub(super) fn keep(&mut self, memory: Reservation) {
        self._memory = Some(memory);
    }

    /// Anybody may ask for this, and wait for it: the connection keeps no seat for it.
    pub(super) fn is_open_to_all(&mut self) {
        self.let_go();
    }

    /// From now on the connection keeps its seat for this only while it does not merely wait.
    pub(super) fn lasts(&mut self, call: Lasting) {
        if matches!(self.hold, Hold::Seat) {
            self.let_go();
            self.in_flight.lasting().push(call.clone());
            self.hold = Hold::Lasting(call);
        }
    }

    /// A part of the answer has gone.
    fn touch(&self) {
        if let Hold::Lasting(call) = &self.hold {
            call.touch();
        }
    }

    fn let_go(&mut self) {
        match std::mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Seat => drop(self.in_flight.0.seated.fetch_sub(1, AcqRel)),
            Hold::Lasting(call) => self.in_flight.lasting().retain(|one| !one.is(&call)),
            Hold::Nothing => {}
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.let_go();
        let shared = &self.in_flight.0;
        if shared.count.fetch_sub(1, AcqRel) == 1 {
            shared.reader.wake();
        }
    }
}

/// A response's body that keeps its request in flight until it has been handed over, or dropped. It is handed
/// over in parts: what the client does not take stays here, where its time is measured.
#[derive(Debug)]
pub(super) struct GuardedBody {
    inner: Body,
    /// Of a part that is larger than may be handed over at once.
    rest: Bytes,
    part: usize,
    number: u64,
    guard: RequestGuard,
    _held: Held,
}

impl GuardedBody {
    /// `part`: how many bytes are handed over at once; `held` is kept as long as the body is.
    pub(super) fn new(inner: Body, part: usize, guard: RequestGuard, held: Held) -> Self {
        let number = guard.in_flight.0.next.fetch_add(1, Relaxed);
        let this = Self { inner, rest: Bytes::new(), part, number, guard, _held: held };
        if this.is_end_stream() {
            this.finished();
        } else {
            this.waits();
        }
        this
    }

    /// From now on it is the client's turn.
    fn waits(&self) {
        self.guard.in_flight.waiting().insert(self.number, Instant::now());
    }

    fn finished(&self) {
        self.guard.in_flight.0.answered.fetch_add(1, Relaxed);
    }

    fn split(&mut self) -> Bytes {
        self.rest.split_to(self.part.min(self.rest.len()))
    }
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Until the next part is there, it is the server's turn.
        self.guard.in_flight.waiting().remove(&self.number);
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.finished();
                    return Poll::Ready(None);
                }
            }
        }
        let part = self.split();
        self.guard.touch();
        if self.is_end_stream() {
            self.finished();
        }
        self.waits();
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.size_hint();
        let rest = self.rest.len() as u64;
        let (lower, upper) = (hint.lower(), hint.upper());
        if let Some(upper) = upper {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(lower + rest);
        hint
    }
}

impl Drop for GuardedBody {
    fn drop(&mut self) {
        self.guard.in_flight.waiting().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn guarded(in_flight: &InFlight, body: Body, part: usize) -> GuardedBody {
        GuardedBody::new(body, part, in_flight.begin(), Held::default())
    }

    #[tokio::test]
    async fn an_answer_comes_in_parts_and_whole() {
        let in_flight = InFlight::default();
        let mut body = guarded(&in_flight, Body::from("abcdefgh"), 3);
        let mut parts = Vec::new();
        assert_eq!(body.size_hint().exact(), Some(8));
        while let Some(frame) = body.frame().await {
            parts.push(frame.unwrap().into_data().unwrap());
            assert_eq!(
                body.size_hint().exact(),
                Some(8 - parts.iter().map(|part| part.len() as u64).sum::<u64>())
            );
            assert_eq!(body.is_end_stream(), parts.len() == 3);
        }
        assert_eq!(parts, ["abc", "def", "gh"]);
        assert!(in_flight.any());
        drop(body);
        assert!(!in_flight.any());
        assert_eq!(in_flight.waits_since(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_answer_whose_client_is_to_take_something_waits() {
        let in_flight = InFlight::default();
        let never =
            futures_util::stream::once(async { Ok::<_, axum::Error>(Frame::data(Bytes::from("ab"))) })
                .chain(futures_util::stream::pending());
        let mut body = guarded(&in_flight, Body::new(StreamBody::new(never)), 1);
        let start = Instant::now();
        assert_eq!(in_flight.waits_since(), Some(start), "it may be begun");
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        body.frame().await.unwrap().unwrap();
        assert_eq!(in_flight.waits_since(), Some(start + std::time::Duration::from_secs(1)));
        body.frame().await.unwrap().unwrap();
        let waits = tokio::time::timeout(std::time::Duration::from_secs(1), body.frame()).await;
        assert!(waits.is_err());
        assert_eq!(in_flight.waits_since(), None, "the server has nothing to send");
    }
}
