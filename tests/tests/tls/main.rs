//! TLS, with the real binary and clients that are not ours: curl and Python's ssl.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod certificates;
mod clients;
mod commands;
mod load;
mod reload;
mod stalls;
mod triton;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use nuke_tests::{Repository, Server, ServerBuilder, python, root};

/// One of the files of `tests/fixtures/tls`.
fn file(name: &str) -> String {
    let path: PathBuf = root().join("tests/fixtures/tls").join(name);
    assert!(path.is_file(), "{} is missing: make.sh beside it makes it", path.display());
    path.display().to_string()
}

fn vectors() -> Repository {
    Repository::new().model("vector", "1", "vector_fp32")
}

/// A host that speaks TLS with the pair `server`.
fn builder(repository: &Repository) -> ServerBuilder {
    Server::builder()
        .repository(repository)
        .set("server.https", "127.0.0.1:0")
        .set("tls.cert", &file("server.pem"))
        .set("tls.key", &file("server.key"))
}

/// What curl came to.
#[derive(Debug)]
struct Curled {
    /// Its exit code; 0 is any answer.
    exit: i32,
    /// The answer's status, 0 if there is none.
    status: u16,
    /// The version of HTTP, as curl has it.
    http: String,
    /// The body, and with `-i` the head.
    text: String,
}

/// Runs curl with these arguments.
///
/// # Panics
/// If there is no curl.
fn curl(arguments: &[&str]) -> Curled {
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--max-time",
        "60",
        "--write-out",
        "\n%{http_code} %{http_version}",
    ]);
    let output = command.args(arguments).output();
    let output = output.expect("curl is needed by the tests of TLS (Debian: apt-get install curl)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (text, last) = text.rsplit_once('\n').unwrap_or(("", &text));
    let (status, http) = last.split_once(' ').unwrap_or(("0", ""));
    Curled {
        exit: output.status.code().unwrap_or(-1),
        status: status.parse().unwrap_or(0),
        http: http.to_owned(),
        text: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// curl's exit code for a handshake that fails.
const HANDSHAKE: i32 = 35;
/// For a host that cannot be reached, and for time that ran out.
const UNREACHABLE: i32 = 7;
const LATE: i32 = 28;
/// For a certificate that it does not trust.
const UNTRUSTED: i32 = 60;

fn url(address: SocketAddr, path: &str) -> String {
    format!("https://localhost:{}{path}", address.port())
}

/// Runs a script of `tests/python/tls` and returns what it prints.
///
/// # Panics
/// If it fails.
#[track_caller]
fn script(name: &str, arguments: &[&str]) -> String {
    let path = root().join("tests/python").join(name);
    let output = Command::new(python()).arg(&path).args(arguments).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}{error}", path.display());
    out.into_owned()
}

/// A new folder's files `cert.pem` and `key.pem`, as Kubernetes lays out a secret: links by way of `..data`.
fn secret(folder: &Path, pair: &str) -> (String, String) {
    point(folder, pair);
    for name in ["cert.pem", "key.pem"] {
        std::os::unix::fs::symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
    let path = |name: &str| folder.join(name).display().to_string();
    (path("cert.pem"), path("key.pem"))
}

/// Lets `..data` lead to a folder with another pair, in one step.
fn point(folder: &Path, pair: &str) {
    let at = (0..).map(|number| folder.join(format!("..{number}"))).find(|at| !at.exists()).unwrap();
    std::fs::create_dir(&at).unwrap();
    std::fs::copy(file(&format!("{pair}.pem")), at.join("cert.pem")).unwrap();
    std::fs::copy(file(&format!("{pair}.key")), at.join("key.pem")).unwrap();
    let fresh = folder.join("..data_tmp");
    std::os::unix::fs::symlink(at.file_name().unwrap(), &fresh).unwrap();
    std::fs::rename(&fresh, folder.join("..data")).unwrap();
}
