//! tritonclient over TLS, for HTTP and gRPC: all checks of conformance, with a pair that `nuke tls self-signed` made,
//! and gRPC at an address of its own with certificates of clients.

use nuke_tests::{eventually, nuke};

use super::*;

/// A pair that `nuke tls self-signed` makes into a folder: certificate and key.
fn self_signed(folder: &Path) -> (String, String) {
    let out = folder.join("tls").display().to_string();
    let made = nuke().args(["tls", "self-signed", "--host", "localhost", "--out", &out]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (format!("{out}/cert.pem"), format!("{out}/key.pem"))
}

/// How many of a script's checks passed.
fn passed(told: &str) -> usize {
    told.lines().filter(|line| line.starts_with("ok ")).count()
}

fn localhost(address: SocketAddr) -> String {
    format!("localhost:{}", address.port())
}

#[test]
fn tritonclient_gets_what_the_protocol_says_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = self_signed(folder.path());
    let server = Server::builder()
        .models(root().join("tests/fixtures/models"))
        .set("server.https", "127.0.0.1:0")
        .set("tls.cert", &cert)
        .set("tls.key", &key)
        .start();
    let secure = localhost(server.also_at("https"));
    let told = script("client_conformance.py", &[&format!("https://{secure}"), "--ca", &cert]);
    assert!(passed(&told) > 100, "{told}");
    // By ALPN at the same address, HTTP/2 is there for gRPC.
    let told = script("grpc_conformance.py", &[&server.url(), &secure, "--ca", &cert]);
    assert!(passed(&told) > 45, "{told}");
}

/// Refuses whom no authority knows, and lets the certificate's subject do what it may.
#[test]
fn grpc_at_its_own_address_knows_its_clients_by_their_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let text =
        "auth: {certificates: [{subject: 'C=DE, O=Acme, CN=camera-*', scopes: ['predict:identity_*']}]}\n";
    std::fs::write(&config, text).unwrap();
    let server = Server::builder()
        .models(root().join("tests/fixtures/models"))
        .arg("--config")
        .arg(&config)
        .set("server.grpc", "127.0.0.1:0")
        .set("tls.grpc", "true")
        .set("tls.cert", &file("server.pem"))
        .set("tls.key", &file("server.key"))
        .set("tls.client_ca", &file("ca.pem"))
        .start();
    let at = localhost(server.also_at("grpc"));
    let told = script("grpc_tls.py", &[&at, &root().join("tests/fixtures/tls").display().to_string()]);
    assert_eq!(told.trim(), "ok");
    let is_known =
        |line: &&serde_json::Value| line["client"].as_str().is_some_and(|one| one.contains("camera-7"));
    eventually("the log names the client", || {
        server.log_lines("access").iter().filter(is_known).count() >= 4
    });
}
