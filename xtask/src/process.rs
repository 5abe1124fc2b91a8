//! Owns how other programs are run: quietly, with their last lines in the error, or in the open.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How much of a failed program's output an error shows.
const SHOWN_LINES: usize = 20;

/// The cargo that started this program, or the one on the path.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs it to its end without a word and returns what it wrote to standard output.
///
/// # Errors
/// It cannot be started, or ends with a failure: then with the last lines it wrote.
pub(crate) fn quiet(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!("`{}` ended with {}:\n{}", shown(command), output.status, last_lines(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs it to its end, its output going where ours goes.
///
/// # Errors
/// It cannot be started or ends with a failure.
pub(crate) fn open(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs it to its end, its output going where ours goes, and returns its exit code.
///
/// # Errors
/// It cannot be started.
pub(crate) fn exit_code(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| cannot_start(command))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// Whether it ends with success within `limit`; killed past that. Its output is thrown away.
pub(crate) fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            _ => {
                // Gone already, or about to be: either way it did not succeed.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// The program's full path if one of that name is on the path.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The command line as a person would type it, for messages.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", shown(command))
}

fn last_lines(output: &Output) -> String {
    let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::{on_path, quiet, succeeds_within};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_comes_back() {
        assert_eq!(quiet(&mut shell("echo yes")).unwrap(), "yes\n");
    }

    #[test]
    fn a_failure_shows_the_last_lines_and_the_status() {
        let error = quiet(&mut shell("seq 1 100 >&2; exit 3")).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("\n99\n100") && !error.contains("\n80\n"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = quiet(&mut Command::new("no-such-program-of-nuke")).unwrap_err().to_string();
        assert!(error.contains("cannot start `no-such-program-of-nuke`"), "{error}");
        assert_eq!(on_path("no-such-program-of-nuke"), None);
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped() {
        assert!(!succeeds_within(&mut shell("sleep 600"), Duration::from_millis(10)));
        assert!(succeeds_within(&mut shell("true"), Duration::from_secs(60)));
        assert!(!succeeds_within(&mut shell("false"), Duration::from_secs(60)));
    }
}
