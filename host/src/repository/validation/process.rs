//! A child's life: start it, feed it, wait for its end, and see that there is one.
//!
//! Owns the process, the pipes and the deadline. It never judges what comes back.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::ValidationOptions;
use super::child::ChildArgs;
use super::wire::{Job, Line};
use crate::child;

/// Bytes of standard output that are read; the lines of a child have a few hundred.
const OUTPUT: u64 = 1 << 20;
/// How much memory the files of a version may take, in multiples of their size: as they were read, as ONNX
/// Runtime parses them, as it keeps them, and as it arranges them for its kernels.
const COPIES: u64 = 5;
/// What became of a child.
#[derive(Debug)]
pub(super) struct Fate {
    /// How it ended; `None` if it had to be ended after its time.
    pub(super) status: Option<ExitStatus>,
    /// What it said.
    pub(super) lines: Vec<Line>,
    /// The last it wrote to standard error.
    pub(super) errors: String,
}

/// Validates a job in a child.
///
/// # Errors
/// No child can be started, with the remedy.
pub(super) fn run(job: &Job<'_>, library: &Path, options: &ValidationOptions) -> Result<Fate, String> {
    let impossible = |error: std::io::Error| {
        format!(
            "a process to validate the version in cannot be started: {error}; grant the host processes and \
             its own program file, or set repository.validation.enabled to false"
        )
    };
    let args = ChildArgs {
        memory: options.memory.saturating_add(job.size().saturating_mul(COPIES)),
        cpu: cpu_seconds(options.time),
        parent: std::process::id(),
        ort_lib: library.to_owned(),
    };
    let mut command = child::command(super::child::COMMAND).map_err(impossible)?;
    command.args(args.to_arguments());
    attend(command, options.time, |input| job.write(input)).map_err(impossible)
}

/// The deadline is the parent's; this is for a parent that is stopped. All cores count together.
fn cpu_seconds(time: Duration) -> u64 {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    (time.as_secs() + 1).saturating_mul(cores)
}

/// Runs a command to its end, or until its time is over.
fn attend(
    mut command: Command,
    time: Duration,
    feed: impl FnOnce(&mut std::process::ChildStdin) -> std::io::Result<()> + Send,
) -> std::io::Result<Fate> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let deadline = Instant::now() + time;
    let mut attended = Attended(command.spawn()?);
    let child = &mut attended.0;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(move |scope| {
        scope.spawn(move || {
            // A child that ends early does not read on; how it ended says why.
            let _closed = input.map(|mut input| feed(&mut input));
        });
        let (told, said) = mpsc::channel();
        scope.spawn(move || told.send(output.map(lines).unwrap_or_default()));
        let errors = scope.spawn(move || errors.map(child::last_bytes).unwrap_or_default());
        // A child's output ends with the child, or shortly before.
        let lines = said.recv_timeout(time);
        let status = if lines.is_ok() { attended.wait_until(deadline)? } else { None };
        attended.end()?;
        let lines = lines.or_else(|_| said.recv()).unwrap_or_default();
        let errors = errors.join().unwrap_or_default();
        Ok(Fate { status, lines, errors: String::from_utf8_lossy(&errors).into_owned() })
    })
}

/// A child that does not outlive this, and leaves no zombie.
struct Attended(Child);

impl Attended {
    fn wait_until(&mut self, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it, if it has not ended.
    fn end(&mut self) -> std::io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(|_| ())
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        // One that has ended and was waited for needs neither.
        let _ended = self.end();
    }
}

fn lines(output: impl Read) -> Vec<Line> {
    let mut text = Vec::new();
    // What was read before an error is as good as without.
    let _result = output.take(OUTPUT).read_to_end(&mut text);
    text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn shell(script: &str, time: Duration) -> Fate {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        attend(command, time, |input| input.write_all(&[b'x'; 1 << 20])).unwrap()
    }

    const LONG: Duration = Duration::from_secs(120);

    #[test]
    fn what_a_child_says_is_read_and_what_it_chatters_is_not() {
        let fate = shell("cat > /dev/null; echo hello; echo '{\"good\":[\"odd\"]}'; echo why >&2", LONG);
        assert_eq!(fate.lines, [Line::Good(vec!["odd".to_owned()])]);
        assert!(fate.status.unwrap().success());
        assert_eq!(fate.errors, "why\n");
    }

    #[test]
    fn a_child_that_does_not_read_or_floods_is_no_harm() {
        assert_eq!(shell("exit 3", LONG).status.unwrap().code(), Some(3));
        let fate = shell("yes | head -c 5000000; yes | head -c 5000000 >&2", LONG);
        assert!(fate.lines.is_empty() && fate.errors.len() == child::LAST_WORDS, "{}", fate.errors.len());
    }

    #[test]
    fn a_child_that_hangs_is_ended_with_what_it_said() {
        let said = "echo '{\"stage\":\"it slept\"}';";
        std::thread::scope(|scope| {
            for script in ["exec sleep 600", "exec >&-; exec sleep 600", "kill -STOP $$"] {
                scope.spawn(move || {
                    // Time enough to say it.
                    let fate = shell(&format!("{said} {script}"), Duration::from_secs(4));
                    assert!(fate.status.is_none(), "{script}");
                    assert_eq!(fate.lines, [Line::Stage("it slept".to_owned())], "{script}");
                });
            }
        });
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        assert!(attend(Command::new("/nowhere/nuke"), LONG, |_| Ok(())).is_err());
    }
}
