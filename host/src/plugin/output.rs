//! What a guest writes to its standard output and standard error.
//!
//! Owns the bounded buffer of one call. It never blocks a guest and never fails a write: what goes
//! over the budget is counted and dropped.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

/// One call's standard output and error, taken together. Clones share the buffer.
#[derive(Clone, Debug)]
pub(super) struct CapturedOutput {
    shared: Arc<Mutex<Captured>>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Captured {
    bytes: Vec<u8>,
    dropped: usize,
}

impl CapturedOutput {
    /// An empty buffer that keeps `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { shared: Arc::default(), limit }
    }

    fn append(&self, bytes: &[u8]) {
        let mut captured = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.limit.saturating_sub(captured.bytes.len()).min(bytes.len());
        let (kept, dropped) = bytes.split_at(room);
        captured.bytes.extend_from_slice(kept);
        captured.dropped += dropped.len();
    }

    /// What was written since the last time, as text, with a last line that says what was dropped.
    /// `None` if nothing was.
    pub(super) fn take(&self) -> Option<String> {
        let captured = std::mem::take(&mut *self.shared.lock().unwrap_or_else(PoisonError::into_inner));
        if captured.bytes.is_empty() && captured.dropped == 0 {
            return None;
        }
        let mut text = String::from_utf8_lossy(&captured.bytes).into_owned();
        if captured.dropped > 0 {
            text.push_str(&format!("\n[{} bytes more were dropped]", captured.dropped));
        }
        Some(text)
    }
}

impl IsTerminal for CapturedOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for CapturedOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn wasmtime_wasi::p2::OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for CapturedOutput {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl wasmtime_wasi::p2::Pollable for CapturedOutput {
    async fn ready(&mut self) {}
}

impl wasmtime_wasi::p2::OutputStream for CapturedOutput {
    fn write(&mut self, bytes: bytes::Bytes) -> wasmtime_wasi::p2::StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> wasmtime_wasi::p2::StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> wasmtime_wasi::p2::StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_over_the_budget_is_counted_and_dropped() {
        let output = CapturedOutput::new(4);
        output.append(b"abc");
        output.append(b"defg");
        assert_eq!(output.take().as_deref(), Some("abcd\n[3 bytes more were dropped]"));
        assert_eq!(output.take(), None);
    }
}
