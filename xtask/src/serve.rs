//! Owns `cargo xtask serve`: everything prepared, then this process becomes `nuke serve`, so that signals
//! and the exit code are the host's own. A second process waits for readiness and prints what to try.

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::wasm::Toolchain;
use crate::{onnxruntime, plugins, process, progress};

const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";
const SAMPLE_PHOTO: &str = "models/image-classifier/1/samples/coffee.png";

/// Prepares everything and becomes `nuke serve` with `arguments` added. Comes back only to tell why
/// it could not.
///
/// # Errors
/// A step failed, or the host cannot be started.
pub(crate) fn run(paths: &Paths, arguments: &[&str]) -> Result<ExitCode> {
    let address = flag_value(arguments, "--http").unwrap_or(DEFAULT_ADDRESS);
    // Else the other program's readiness would be taken for the host's.
    if TcpStream::connect(address).is_ok() {
        bail!("{address} is taken by another program; stop it, or pass `-- --http ADDRESS:PORT`");
    }
    let toolchain = Toolchain::prepare(paths)?;
    plugins::build(paths, &toolchain)?;
    let host = build_host(paths)?;
    let runtime = onnxruntime::ensure(paths, &host)?;
    start_announcer(address)?;
    let mut serve = Command::new(&host);
    serve
        .current_dir(&paths.root)
        .arg("serve")
        .args(["--models", "models", "--plugins"])
        .arg(paths.plugins());
    serve.args(arguments).env("NUKE_ORT_LIB", runtime);
    progress::note("nuke serve");
    let error = serve.exec();
    Err(error).with_context(|| format!("cannot start {}", host.display()))
}

/// Builds the host's binary, and says where it lies.
///
/// # Errors
/// The build failed.
pub(crate) fn build_host(paths: &Paths) -> Result<PathBuf> {
    progress::note("build the host in release mode (minutes the first time)");
    let mut cargo = Command::new(process::cargo());
    process::open(cargo.current_dir(&paths.root).args(["build", "--release", "--package", "nuke-host"]))?;
    Ok(paths.target.join("release/nuke"))
}

/// Starts this program again as `announce`. It ends by itself, with this process or when it has spoken.
fn start_announcer(address: &str) -> Result<()> {
    let myself = env::current_exe().context("cannot find this program")?;
    let mut announcer = Command::new(myself);
    announcer.args(["announce", address, &std::process::id().to_string()]).stdin(Stdio::null());
    announcer.spawn().context("cannot start this program again")?;
    Ok(())
}

/// Waits until the host, which is the process `parent`, is ready at `address`, then prints what to try.
///
/// # Errors
/// `parent` is no process id, or standard output is closed.
pub(crate) fn announce(paths: &Paths, address: &str, parent: &str) -> Result<()> {
    let parent: u32 = parent.parse().context("announce expects a process id")?;
    while parent_id() == parent {
        if is_ready(address) {
            let text = announcement(address, paths.root.join(SAMPLE_PHOTO).exists());
            return std::io::stdout().write_all(text.as_bytes()).context("standard output is closed");
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn announcement(address: &str, has_photo: bool) -> String {
    let photo = if has_photo { SAMPLE_PHOTO } else { "photo.jpg" };
    format!(
        "\nNuke is ready at http://{address}. Try, in another terminal, from this folder:\n\n  \
         curl --data-binary @{photo} 'http://{address}/predict/image-classifier?k=5'\n\n"
    )
}

fn is_ready(address: &str) -> bool {
    ask_ready(address).is_some_and(|answer| is_ok_status(&answer))
}

/// The first bytes of the answer to the readiness question.
fn ask_ready(address: &str) -> Option<[u8; 12]> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /v2/health/ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).ok()?;
    Some(start)
}

fn is_ok_status(start: &[u8]) -> bool {
    start.starts_with(b"HTTP/1.1 200")
}

/// The value of `--flag VALUE` or `--flag=VALUE`, the last one given.
fn flag_value<'a>(arguments: &[&'a str], flag: &str) -> Option<&'a str> {
    let joined = |word: &'a str| word.strip_prefix(flag)?.strip_prefix('=');
    let next = |at: usize| (arguments[at] == flag).then(|| arguments.get(at + 1).copied()).flatten();
    (0..arguments.len()).rev().find_map(|at| joined(arguments[at]).or_else(|| next(at)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::{announcement, flag_value, is_ready};

    fn answering(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer).unwrap();
        });
        address
    }

    #[test]
    fn only_200_is_ready() {
        assert!(is_ready(&answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")));
        assert!(!is_ready(&answering(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")));
        assert!(!is_ready(&answering(b"HTTP")));
        assert!(!is_ready("127.0.0.1:0"));
    }

    #[test]
    fn the_address_is_found_in_both_forms() {
        assert_eq!(flag_value(&["--http", "[::1]:9"], "--http"), Some("[::1]:9"));
        assert_eq!(flag_value(&["--http=a:1", "--x", "--http=b:2"], "--http"), Some("b:2"));
        assert_eq!(flag_value(&["--http"], "--http"), None);
        assert_eq!(flag_value(&["--https", "a"], "--http"), None);
    }

    #[test]
    fn the_curl_line_names_the_address() {
        let text = announcement("127.0.0.1:9", true);
        assert!(text.contains("curl --data-binary @models/image-classifier/1/samples/coffee.png"));
        assert!(text.contains("'http://127.0.0.1:9/predict/image-classifier?k=5'"));
    }
}
