//! Keys at an `https://` URL, whose certificate is of an authority of the operator's own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use jsonwebtoken::Algorithm;
use nuke_tests::{Server, eventually, python, root};
use serde_json::json;

use super::issuer::Issuer;
use super::issuer_server::{Behaviour, KeyServer};
use super::jwks::rotates;
use super::{Setup, ask};

/// TLS in front of a server of keys.
struct TlsFront {
    process: Child,
    url: String,
}

impl TlsFront {
    fn start(keys: &KeyServer, address: &str) -> Self {
        let folder = root().join("tests");
        let pair = folder.join("fixtures/tls");
        let mut process = Command::new(python())
            .arg(folder.join("python/tls_front.py"))
            .args([pair.join("server.pem"), pair.join("server.key")])
            .args([address, &keys.port().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let host = if address == "127.0.0.1" { "localhost" } else { address };
        Self { process, url: format!("https://{host}:{}/keys.json", port.trim()) }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(setup: &Setup, front: &TlsFront, authority: &str) -> Server {
    let auth = format!(
        "auth: {{jwt: {{jwks: '{}', issuer: me, audience: nuke, refresh: 1h, cooldown: 100ms}}}}\n\
         log: {{audit: audit.jsonl}}\n",
        front.url
    );
    let trusted = root().join("tests/fixtures/tls").join(authority);
    setup.builder(&auth).env("SSL_CERT_FILE", trusted).env("SSL_CERT_DIR", "").start()
}

#[test]
fn keys_are_fetched_over_tls_and_rotate_while_the_host_runs() {
    let setup = Setup::new();
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::EdDSA));
    let keys = KeyServer::start(Behaviour::Keys(vec![old.jwk("old")]));
    let front = TlsFront::start(&keys, "127.0.0.1");
    let server = start(&setup, &front, "ca.pem");
    rotates(&server, &keys, &old, &new);
    // Each set that came to be in force is told of.
    eventually("the audit log has all three", || {
        let text = std::fs::read_to_string(setup.path("audit.jsonl")).unwrap_or_default();
        text.lines().filter(|line| line.contains("\"kind\":\"url\"")).count() == 3
    });
}

#[test]
fn a_server_that_is_not_known_to_be_who_it_says_is_not_believed() {
    let setup = Setup::new();
    let issuer = Issuer::new(Algorithm::ES256);
    let keys = KeyServer::start(Behaviour::Keys(vec![issuer.jwk("k")]));
    // Another authority than the one that is trusted; and a certificate that is for other names.
    for (address, authority) in [("127.0.0.1", "other-ca.pem"), ("127.0.0.2", "ca.pem")] {
        let front = TlsFront::start(&keys, address);
        let server = start(&setup, &front, authority);
        eventually("it has been tried", || {
            server.logs().iter().any(|line| line.contains("no TLS connection"))
        });
        assert_eq!(ask(&server, &issuer.token_of(Some("k"), json!({}))), 503);
    }
    assert_eq!(keys.asked(), 0, "nothing is asked of somebody unknown");
}
