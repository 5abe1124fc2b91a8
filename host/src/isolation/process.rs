//! A worker's process, as its host sees it: started, put under its limits, ended, and waited for.
//!
//! Owns that none is left behind. A process ends with the thread that started it, so all are started by one
//! thread that never ends.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::IsolationOptions;
use super::cgroup::Cgroup;
use super::worker::{COMMAND, WorkerArgs};
use crate::child;

/// From a process's last word to its end: its memory has to be freed.
const LAST_STEPS: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5000 });

/// How a process has ended.
#[derive(Debug)]
pub(super) struct End {
    /// In words, to go after "the process"; the last it wrote to standard error included.
    pub(super) told: String,
    /// Its memory ran out.
    pub(super) lacked_memory: bool,
    /// Somebody else ended it by SIGKILL.
    pub(super) was_killed: bool,
}

/// A process that does not outlive this.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    errors: Option<JoinHandle<Vec<u8>>>,
    group: Option<Cgroup>,
    ended: bool,
}

impl Process {
    /// Starts a worker on its end of a socket.
    ///
    /// # Errors
    /// It cannot be started, with the remedy.
    pub(super) fn start(options: &IsolationOptions, socket: OwnedFd) -> Result<Self, String> {
        let group = options.memory.map(Cgroup::create);
        let (group, limit) = match group {
            None => (None, None),
            Some(Ok(group)) => (Some(group), None),
            Some(Err(reason)) => {
                tracing::debug!(
                    reason,
                    "no cgroup for a worker: its memory is limited by the process's own limit"
                );
                (None, options.memory)
            }
        };
        let args = WorkerArgs { memory: limit, parent: std::process::id(), ort_lib: options.library.clone() };
        let child = on_lasting_thread(move || spawn(&args, socket));
        let mut child = child.map_err(|error| {
            format!(
                "a process for a worker cannot be started: {error}; grant the host processes and its own program \
                 file, or set workers.isolation to thread"
            )
        })?;
        let errors = child.stderr.take().and_then(|errors| {
            thread::Builder::new().name("worker-errors".to_owned()).spawn(|| child::last_bytes(errors)).ok()
        });
        let process = Self { child, errors, group, ended: false };
        if let Some(group) = &process.group {
            group.take_in(process.id())?;
        }
        Ok(process)
    }

    /// A process that a test has started.
    #[cfg(test)]
    pub(super) fn of(child: Child) -> Self {
        Self { child, errors: None, group: None, ended: false }
    }

    /// Its number in the system.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How its memory is limited, for the log.
    pub(super) fn limited_by(&self) -> &'static str {
        if self.group.is_some() { "cgroup" } else { "rlimit" }
    }

    /// Ends it, if it has not ended, and tells how it ended. `by_itself` if it has closed its end of the socket:
    /// it is about to end then.
    pub(super) fn end(&mut self, by_itself: bool) -> End {
        let by_itself = by_itself && self.ends_within(LAST_STEPS);
        let status = self.kill();
        let words = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let ran_out = self.group.as_ref().is_some_and(Cgroup::ran_out);
        let mut told = status.map_or_else(|| "ended".to_owned(), child::told);
        if ran_out {
            told.push_str(" for its memory (workers.memory)");
        }
        let quoted = child::quote(&words);
        if !quoted.is_empty() {
            told.push_str(", saying: ");
            told.push_str(&quoted);
        }
        let kill = rustix::process::Signal::KILL.as_raw();
        let was_killed = by_itself && status.is_some_and(|status| status.signal() == Some(kill));
        End {
            told,
            lacked_memory: ran_out || child::lacks_memory(&words),
            was_killed: was_killed && !ran_out,
        }
    }

    fn ends_within(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return true;
            }
            thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn kill(&mut self) -> Option<ExitStatus> {
        self.ended = true;
        // One that is stopped or hangs does not go otherwise.
        let _gone = self.child.kill();
        self.child.wait().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
        }
        if let Some(errors) = self.errors.take() {
            let _words = errors.join();
        }
    }
}

fn spawn(args: &WorkerArgs, socket: OwnedFd) -> std::io::Result<Child> {
    let mut command = child::command(COMMAND)?;
    command.args(args.to_arguments());
    command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn()
}

type Job = Box<dyn FnOnce() + Send>;

/// Does something on the one thread that lives as long as the host: the system ends a child when the thread ends
/// that started it.
fn on_lasting_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    static THREAD: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();

    let none = || std::io::Error::other("no thread can be started");
    let thread = THREAD.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        let thread = thread::Builder::new().name("starts-workers".to_owned());
        thread.spawn(move || jobs.into_iter().for_each(|job| job())).ok().map(|_| sender)
    });
    let (answer, answered) = mpsc::channel();
    let job = move || {
        // Whoever asked waits.
        let _sent = answer.send(work());
    };
    thread.as_ref().ok_or_else(none)?.send(Box::new(job)).map_err(|_| none())?;
    answered.recv().map_err(|_| none())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_on_the_lasting_thread_is_answered() {
        let names: Vec<_> = (0..2)
            .map(|_| on_lasting_thread(|| Ok(thread::current().name().map(str::to_owned))).unwrap())
            .collect();
        assert_eq!(names, [Some("starts-workers".to_owned()), Some("starts-workers".to_owned())]);
        let failed = on_lasting_thread(|| Err::<(), _>(std::io::Error::other("no")));
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }
}
