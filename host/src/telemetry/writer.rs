//! Where log lines go: a buffer that one thread empties onto standard error.
//!
//! Owns the moment of writing. A line costs its writer a copy into memory, and wakes the thread only if
//! the buffer was empty; the thread writes what came in the next moment together. A request never waits
//! for a slow terminal or disk: beyond the buffer's limit lines are dropped, and a line says how many.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long lines are gathered before they are written, unless one is a warning or an error.
const GATHER: Duration = Duration::from_millis(50);
/// Bytes that may wait to be written.
const MOST: usize = 16 << 20;
/// Bytes from which on they are written at once.
const MANY: usize = 256 << 10;

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    dropped: u64,
    urgent: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    changed: Condvar,
}

impl Shared {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, line: &[u8], urgent: bool) {
        let mut buffer = self.buffer();
        let was_empty = buffer.bytes.is_empty();
        if buffer.bytes.len() + line.len() > MOST {
            buffer.dropped += 1;
            return;
        }
        buffer.bytes.extend_from_slice(line);
        let wake = was_empty || (!buffer.urgent && (urgent || buffer.bytes.len() >= MANY));
        buffer.urgent |= urgent || buffer.bytes.len() >= MANY;
        drop(buffer);
        if wake {
            self.changed.notify_one();
        }
    }

    /// Waits for lines and takes them all; `None` once closed and empty.
    fn take(&self) -> Option<(Vec<u8>, u64)> {
        let idle = |buffer: &mut Buffer| buffer.bytes.is_empty() && buffer.dropped == 0 && !buffer.closed;
        let buffer = self.changed.wait_while(self.buffer(), idle).unwrap_or_else(PoisonError::into_inner);
        let calm = |buffer: &mut Buffer| !buffer.urgent && !buffer.closed;
        let gathered = self.changed.wait_timeout_while(buffer, GATHER, calm);
        let (mut buffer, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        if buffer.bytes.is_empty() && buffer.dropped == 0 {
            return None;
        }
        buffer.urgent = false;
        Some((std::mem::take(&mut buffer.bytes), std::mem::take(&mut buffer.dropped)))
    }
}

/// Makes a writer for each line.
#[derive(Clone, Debug)]
pub(super) struct LineWriter(Arc<Shared>);

/// Keeps the thread alive; dropped, it waits until all lines are written.
#[derive(Debug)]
pub(super) struct WriterGuard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread that writes to `out`.
///
/// # Errors
/// When the thread cannot be started.
pub(super) fn start(mut out: impl Write + Send + 'static) -> io::Result<(LineWriter, WriterGuard)> {
    let shared = Arc::new(Shared::default());
    let taken = Arc::clone(&shared);
    let thread = std::thread::Builder::new().name("nuke-log".to_owned()).spawn(move || {
        while let Some((bytes, dropped)) = taken.take() {
            // A log that nobody reads any more must not stop the host.
            let _closed = out.write_all(&bytes);
            if dropped > 0 {
                let _closed = writeln!(
                    out,
                    "nuke: {dropped} log lines were dropped: they came faster than they could be written"
                );
            }
        }
        let _closed = out.flush();
    })?;
    Ok((LineWriter(Arc::clone(&shared)), WriterGuard { shared, thread: Some(thread) }))
}

impl Drop for WriterGuard {
    fn drop(&mut self) {
        self.shared.buffer().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked: it only writes.
            let _ended = thread.join();
        }
    }
}

/// One line on its way into the buffer.
#[derive(Debug)]
pub(super) struct Line {
    shared: Arc<Shared>,
    urgent: bool,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.append(line, self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { shared: Arc::clone(&self.0), urgent: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        Line { shared: Arc::clone(&self.0), urgent: *metadata.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_lines_are_written_in_order_before_the_guard_is_gone() {
        let sink = Sink::default();
        let (writer, guard) = start(sink.clone()).unwrap();
        for number in 0..1000 {
            writeln!(writer.make_writer(), "{number}").unwrap();
        }
        drop(guard);
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(written, expected);
    }

    #[test]
    fn lines_beyond_the_limit_are_counted() {
        let shared = Shared::default();
        shared.append(&vec![b'x'; MOST], false);
        shared.append(b"one more\n", false);
        let (bytes, dropped) = shared.take().unwrap();
        assert_eq!((bytes.len(), dropped), (MOST, 1));
    }
}
