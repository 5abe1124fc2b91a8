//! Certificates that change while the host serves.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use nuke_tests::eventually;
use serde_json::Value;

use super::*;

/// The common name of the certificate that a new connection sees.
fn served(server: &Server) -> String {
    let answer = curl(&["--cacert", &file("ca.pem"), "--verbose", &url(server.also_at("https"), "/v2")]);
    let subject = answer.text.lines().find_map(|line| line.split("subject: CN=").nth(1));
    subject.unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// Puts a copy of a file in another's place, whole: nobody reads the half of it.
fn replace(from: &Path, to: &Path) {
    let next = to.with_extension("next");
    std::fs::copy(from, &next).unwrap();
    std::fs::rename(next, to).unwrap();
}

#[test]
fn a_pair_is_swapped_under_load_and_no_request_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = secret(folder.path(), "server");
    let repository = vectors();
    let server = Server::builder()
        .repository(&repository)
        .set("server.https", "127.0.0.1:0")
        .set("tls.cert", &cert)
        .set("tls.key", &key)
        .set("tls.reload", "100ms")
        .start();
    let port = server.also_at("https").port().to_string();
    let script = root().join("tests/python/tls_client.py");
    let mut command = Command::new(python());
    command.arg(script).args(["load", &port, &file("ca.pem")]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut load: Child = command.spawn().unwrap();
    // A line for each five answers to new connections and to kept ones: the last new connection's certificate.
    let mut lines = BufReader::new(load.stdout.take().unwrap()).lines().map_while(Result::ok);
    for round in 1..=6 {
        let (pair, name) = if round % 2 == 1 { ("server-2", "server two") } else { ("server", "server one") };
        point(folder.path(), pair);
        eventually("the other certificate is served", || served(&server) == name);
        assert!(lines.any(|line| line == name), "the load ends early");
    }
    let reloads = |outcome| server.metrics().sum("nuke_tls_reloads_total", &[("outcome", outcome)]);
    assert_eq!((reloads("ok"), reloads("failed")), (6.0, 0.0));
    // It ends when its input does.
    drop(load.stdin.take());
    let told: Value = serde_json::from_str(&lines.last().unwrap()).unwrap();
    assert!(load.wait().unwrap().success());
    assert_eq!(told["failed"], serde_json::json!([]), "{told}");
    assert!(told["new"].as_u64().unwrap() > 20 && told["kept"].as_u64().unwrap() > 20, "{told}");
    assert_eq!(told["reconnects"], 0, "a connection keeps what it began with: {told}");
    assert!(told["subjects"].as_array().unwrap().len() == 2, "{told}");
}

#[test]
fn a_pair_that_does_not_fit_leaves_the_one_before_and_is_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::copy(file("server.pem"), &cert).unwrap();
    std::fs::copy(file("server.key"), &key).unwrap();
    let repository = vectors();
    let server = Server::builder()
        .repository(&repository)
        .set("server.https", "127.0.0.1:0")
        .set("tls.cert", &cert.display().to_string())
        .set("tls.key", &key.display().to_string())
        .set("tls.reload", "100ms")
        .start();
    let expiry = || server.metrics().sum("nuke_tls_certificate_expiry_timestamp_seconds", &[]);
    assert!(expiry() > 4.0e9, "a hundred years");
    let failed = || server.metrics().sum("nuke_tls_reloads_total", &[("outcome", "failed")]);
    replace(Path::new(&file("server-2.pem")), &cert);
    eventually("the change is seen", || failed() >= 1.0);
    assert_eq!(served(&server), "server one");
    std::fs::write(&cert, "").unwrap();
    eventually("the empty file is seen", || failed() >= 2.0);
    std::fs::remove_file(&cert).unwrap();
    eventually("the missing file is seen", || failed() >= 3.0);
    assert_eq!(served(&server), "server one");
    let told = |needle: &str| server.logs().iter().filter(|line| line.contains(needle)).count();
    assert_eq!(told("is not the key of"), 1);
    replace(Path::new(&file("server-2.key")), &key);
    replace(Path::new(&file("server-2.pem")), &cert);
    eventually("the whole pair is served", || served(&server) == "server two");
    let secret = std::fs::read_to_string(file("server-2.key")).unwrap();
    assert_eq!(told(secret.lines().nth(1).unwrap()), 0, "no key in the log");
}
