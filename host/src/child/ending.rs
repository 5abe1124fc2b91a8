//! How a child ended, in words.
//!
//! Owns the names of signals and the marks of missing memory. It never decides what becomes of it.

use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// Characters of standard error that a reason may quote.
const QUOTED: usize = 300;
/// Bytes of standard error that are kept, from its end.
pub(crate) const LAST_WORDS: usize = 4096;

/// Reads standard error to its end, and keeps the last of it.
pub(crate) fn last_bytes(mut errors: impl Read) -> Vec<u8> {
    let (mut kept, mut piece) = (Vec::new(), [0; LAST_WORDS]);
    while let Ok(length) = errors.read(&mut piece) {
        if length == 0 {
            break;
        }
        kept.extend_from_slice(piece.get(..length).unwrap_or_default());
        kept.drain(..kept.len().saturating_sub(LAST_WORDS));
    }
    kept
}

/// What a status says, to go after "the process".
pub(crate) fn told(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("ended without a verdict (exit code {})", status.code().unwrap_or_default());
    };
    match name(signal) {
        Some((name, meaning)) => format!("was ended by {name} ({meaning})"),
        None => format!("was ended by signal {signal}"),
    }
}

/// The signals that end a process which has gone wrong. Their numbers are those of Linux and macOS alike.
fn name(signal: i32) -> Option<(&'static str, &'static str)> {
    use rustix::process::Signal;

    let names = [
        (Signal::SEGV, "SIGSEGV", "it crashed"),
        (Signal::BUS, "SIGBUS", "it crashed"),
        (Signal::ILL, "SIGILL", "it crashed"),
        (Signal::FPE, "SIGFPE", "it divided by zero"),
        (Signal::TRAP, "SIGTRAP", "it crashed"),
        (Signal::SYS, "SIGSYS", "it made a system call of another machine"),
        (Signal::ABORT, "SIGABRT", "it gave up"),
        (Signal::KILL, "SIGKILL", "from outside; was the machine out of memory?"),
        (Signal::TERM, "SIGTERM", "from outside"),
        (Signal::INT, "SIGINT", "from outside"),
        (Signal::XCPU, "SIGXCPU", "it used up its time on the processor"),
        (Signal::XFSZ, "SIGXFSZ", "it tried to write to a file"),
    ];
    let found = names.into_iter().find(|(known, _, _)| known.as_raw() == signal)?;
    Some((found.1, found.2))
}

/// The last words, on one line.
pub(crate) fn quote(errors: &str) -> String {
    let words: Vec<&str> = errors.split_whitespace().collect();
    let text = words.join(" ");
    let skipped = text.chars().count().saturating_sub(QUOTED);
    let tail: String = text.chars().skip(skipped).filter(|character| !character.is_control()).collect();
    let tail = tail.trim_end_matches('.');
    if skipped > 0 { format!("…{tail}") } else { tail.to_owned() }
}

/// Whether a library or a runtime says that it got no memory: ONNX Runtime's arena, C++, and Rust.
pub(crate) fn lacks_memory(reason: &str) -> bool {
    const MARKS: [&str; 5] = [
        "Failed to allocate memory",
        "bad_alloc",
        "bad allocation",
        "memory allocation of",
        "Cannot allocate memory",
    ];
    MARKS.iter().any(|mark| reason.contains(mark))
}
