//! Calls whose messages come, and go, compressed.
//!
//! Owns that their work keeps no thread of the network: tonic inflates and deflates where it is polled, and what a few
//! bytes inflate to can take as long as the largest message does.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::http::v2::wire::off_the_reactor;

/// What is polled where it may take its time: other tasks of the thread go on elsewhere meanwhile.
#[derive(Debug)]
pub(super) struct Aside<T>(pub(super) T);

impl<F: Future + Unpin> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        off_the_reactor(usize::MAX, || Pin::new(&mut self.0).poll(context))
    }
}

impl http_body::Body for Aside<Body> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        off_the_reactor(usize::MAX, || Pin::new(&mut self.0).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_of_the_same_thread_go_on() {
        let ((begin, begun), (tell, told)) = (channel(), channel());
        let work = async move {
            begin.send(()).unwrap();
            told.recv_timeout(Duration::from_secs(20)).is_ok()
        };
        let work = tokio::spawn(Aside(Box::pin(work)));
        begun.recv().unwrap();
        tokio::spawn(async move { tell.send(()).unwrap() });
        assert!(work.await.unwrap(), "another task has run while this one was at work");
    }
}
