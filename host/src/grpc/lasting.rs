//! The body of a call that may last: it fails once nothing has come or gone for too long, or when the server stops.
//!
//! Owns those two ends. How long a single message may take is not its business.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::failure;
use crate::error::{Error, ErrorCode};
use crate::http::Lasting;

type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the module.
pub(super) struct LastingBody {
    inner: Body,
    call: Lasting,
    /// How long nothing may come or go.
    idle: Duration,
    /// The server stops; `None` for a call that looks at that itself.
    stop: Option<Stop>,
    /// Made when it is first waited for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl LastingBody {
    pub(super) fn new(inner: Body, call: Lasting, idle: Duration, stop: Option<Stop>) -> Self {
        Self { inner, call, idle, stop, sleep: None }
    }

    /// Ready with the reason once nothing more is waited for.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        if let Some(stop) = &mut self.stop
            && stop.as_mut().poll(context).is_ready()
        {
            self.stop = None;
            return Poll::Ready(Error::new(
                ErrorCode::Unavailable,
                "the server is stopping; ask another one",
            ));
        }
        loop {
            let due = self.call.waits_since().unwrap_or_else(Instant::now) + self.idle;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if sleep.deadline() < due {
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if self.call.waits_since().is_some_and(|since| since.elapsed() >= self.idle) {
                let message =
                    "nothing was asked on this stream for too long (server.idle_timeout); begin another";
                return Poll::Ready(Error::new(ErrorCode::Unavailable, message));
            }
        }
    }
}

impl http_body::Body for LastingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.call.touch();
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| Status::from_error(error.into()))));
        }
        self.poll_end(context).map(|error| Some(Err(failure::status(&error, None))))
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
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    const IDLE: Duration = Duration::from_secs(75);

    /// A body with one frame, after which its client says nothing.
    fn silent(stop: Option<Stop>) -> (Lasting, LastingBody) {
        let first = stream::once(async { Ok::<_, axum::Error>(Frame::data(Bytes::from("ab"))) });
        let body = Body::new(StreamBody::new(first.chain(stream::pending())));
        let call = Lasting::default();
        (call.clone(), LastingBody::new(body, call, IDLE, stop))
    }

    async fn failed(body: &mut LastingBody) -> Status {
        body.frame().await.unwrap().unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_work_and_answers_do_not() {
        let (call, mut body) = silent(None);
        assert!(body.frame().await.unwrap().is_ok());
        let began = Instant::now();
        let work = call.work();
        let works = async {
            tokio::time::sleep(IDLE * 3).await;
            drop(work);
            tokio::time::sleep(IDLE / 2).await;
            call.touch();
        };
        let (status, ()) = tokio::join!(failed(&mut body), works);
        assert!(status.message().contains("server.idle_timeout"), "{status}");
        assert_eq!(began.elapsed().as_secs(), (IDLE * 3 + IDLE / 2 + IDLE).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_stops_first() {
        let (_call, mut body) = silent(Some(Box::pin(tokio::time::sleep(Duration::from_secs(2)))));
        assert!(body.frame().await.unwrap().is_ok());
        let began = Instant::now();
        assert!(failed(&mut body).await.message().contains("is stopping"));
        assert_eq!(began.elapsed().as_secs(), 2);
    }
}
