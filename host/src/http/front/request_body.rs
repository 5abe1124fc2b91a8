//! A request's body that outlives its handler.
//!
//! Owns what becomes of a body that the handler did not read to its end, as when the model is unknown or
//! the body too large: some of it is read away, so that a client that writes before it reads sees the
//! answer, and the connection can go on if that was all. If not, the answer says that the connection
//! closes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// Bytes that are read away for the sake of the answer, and how long that may take.
const KIND: (usize, Duration) = (8 << 20, Duration::from_millis(500));
/// The same where the server has too much to do already.
const BUSY: (usize, Duration) = (64 << 10, Duration::from_millis(50));

/// The handler's view of a body that [`Rest`] shares.
#[derive(Clone, Debug)]
pub(super) struct SharedBody(Arc<Mutex<Incoming>>);

impl SharedBody {
    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut *self.incoming()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming().size_hint()
    }
}

/// What the handler may leave of a body.
#[derive(Debug)]
pub(super) struct Rest(SharedBody, bool);

/// Splits a body into the handler's view and the rest. `awaits_leave`: the client sent
/// `Expect: 100-continue`.
pub(super) fn share(incoming: Incoming, awaits_leave: bool) -> (SharedBody, Rest) {
    let shared = SharedBody(Arc::new(Mutex::new(incoming)));
    (shared.clone(), Rest(shared, awaits_leave))
}

impl Rest {
    /// Reads away what is left, if it is little, and less of it if the server is busy. Returns whether the body has
    /// come to its end.
    pub(super) async fn discard(mut self, busy: bool) -> bool {
        if self.0.is_end_stream() {
            return true;
        }
        // The client waits for leave to send: the answer is the leave it does not get.
        if self.1 {
            return false;
        }
        let (most, patience) = if busy { BUSY } else { KIND };
        tokio::time::timeout(patience, self.read_away(most)).await.unwrap_or(false)
    }

    async fn read_away(&mut self, most: usize) -> bool {
        let mut left = most;
        while let Some(frame) = self.0.frame().await {
            let Ok(frame) = frame else {
                return false;
            };
            let length = frame.data_ref().map_or(0, Bytes::len);
            if length > left {
                return false;
            }
            left -= length;
        }
        true
    }
}
