//! The clients that users have, against the real binary: the checks are in Python
//! (`tests/python/grpc_conformance.py`).

use std::net::SocketAddr;
use std::process::Command;

use nuke_tests::{Server, python, root};

use crate::places::grpc_address;

/// Runs the checks whose name contains `only`; returns how many passed.
fn conform(server: &Server, address: SocketAddr, only: &str) -> usize {
    let output = Command::new(python())
        .arg(root().join("tests/python/grpc_conformance.py"))
        .args([&server.url(), &address.to_string(), "--only", only])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", python().display()));
    let text = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = text.lines().filter(|line| !line.starts_with("ok ")).collect();
    assert!(output.status.success(), "{}\n{}", failed.join("\n"), String::from_utf8_lossy(&output.stderr));
    text.lines().filter(|line| line.starts_with("ok ")).count()
}

#[test]
fn tritonclient_and_grpcio_get_what_the_protocol_says_at_the_address_of_rest() {
    let server = Server::builder().models(root().join("tests/fixtures/models")).start();
    let passed = conform(&server, server.address(), "");
    assert!(passed > 45, "only {passed} checks ran");
}

/// Runs a script and returns what it prints.
fn typed(what: &str, argument: &str) -> String {
    let script = root().join("tests/python/grpc_typed.py");
    let output = Command::new(python())
        .arg(script)
        .args([what, argument])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_datatype_comes_as_a_list_of_its_type_too() {
    let models = tempfile::tempdir().unwrap();
    typed("make", &models.path().display().to_string());
    let server = Server::builder().models(models.path()).start();
    let told = typed("ask", &server.address().to_string());
    assert_eq!(told.lines().count(), 12, "{told}");
}

#[test]
fn an_address_of_its_own_serves_the_same() {
    let models = root().join("tests/fixtures/models");
    let server = Server::builder().models(models).set("server.grpc", "127.0.0.1:0").start();
    assert!(conform(&server, grpc_address(&server), "stream") >= 3);
}
