//! What a host has written, in memory for the tests and in a file for whoever looks into a failed one.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::paths;

/// The lines of both outputs, in the order in which they came. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    path: PathBuf,
}

impl Log {
    /// An empty log with a file of its own.
    pub(crate) fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}.jsonl", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = paths::scratch("logs").join(name);
        File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { lines: Arc::default(), path }
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes in what comes from one of the host's two outputs.
    pub(crate) fn follow(&self, output: Option<impl Read + Send + 'static>) -> JoinHandle<()> {
        let log = self.clone();
        thread::spawn(move || {
            let mut file = File::options().append(true).open(&log.path).expect("the file has been made");
            let Some(output) = output else {
                return;
            };
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else {
                    return;
                };
                let line = String::from_utf8_lossy(&line).into_owned();
                // The copy in memory is what tests read; a full disk must not end them.
                let _ = writeln!(file, "{line}");
                log.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        })
    }
}
