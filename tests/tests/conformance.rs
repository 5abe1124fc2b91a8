//! The client that users have, tritonclient, against the real binary: the checks are in Python
//! (`tests/python/client_conformance.py`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::process::Command;

use nuke_tests::{Server, python, root};

#[test]
fn tritonclient_gets_what_the_protocol_says() {
    let server = Server::builder().models(root().join("tests/fixtures/models")).start();
    let output = Command::new(python())
        .arg(root().join("tests/python/client_conformance.py"))
        .arg(server.url())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", python().display()));
    let text = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = text.lines().filter(|line| !line.starts_with("ok ")).collect();
    assert!(output.status.success(), "{}\n{}", failed.join("\n"), String::from_utf8_lossy(&output.stderr));
    let passed = text.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(passed > 100, "only {passed} checks ran");
}
