//! Clients of every version of TLS and HTTP, and what becomes of those who trust somebody else.

use nuke_tests::eventually;
use serde_json::{Value, json};

use super::*;

#[test]
fn curl_is_answered_in_every_version_of_both() {
    let repository = vectors();
    let server = builder(&repository).start();
    let at = server.also_at("https");
    let body =
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}).to_string();
    for tls in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        for (http, spoken) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let url = url(at, "/v2/models/vector/infer");
            let trusted = ["--cacert", &file("ca.pem"), http, "--json", &body, &url];
            let answer = curl(&[tls, &trusted].concat());
            assert_eq!(
                (answer.exit, answer.status, answer.http.as_str()),
                (0, 200, spoken),
                "{tls:?}: {answer:?}"
            );
            let answer: Value = serde_json::from_str(&answer.text).unwrap();
            assert_eq!(answer["outputs"][0]["shape"], json!([2]));
        }
    }
    // Both at once: the plain listener serves on.
    assert_eq!(server.get("/v2/health/ready").status, 200);
    let is_told = |line: &Value| line["http"] == "HTTP/2.0" && line["path"] == "/v2/models/vector/infer";
    eventually("the log says so", || server.log_lines("access").iter().any(is_told));
}

#[test]
fn who_trusts_another_authority_gets_no_answer() {
    let repository = vectors();
    let server = builder(&repository).start();
    let url = url(server.also_at("https"), "/v2");
    for distrust in [&["--cacert", &file("other-ca.pem")][..], &[]] {
        let refused = curl(&[distrust, &[url.as_str()]].concat());
        assert_eq!((refused.exit, refused.status), (UNTRUSTED, 0), "{refused:?}");
    }
    assert_eq!(curl(&["--insecure", &url]).status, 200);
}

#[test]
fn the_oldest_version_is_as_it_is_set() {
    let repository = vectors();
    let server = builder(&repository).set("tls.min_version", "1.3").start();
    let (url, ca) = (url(server.also_at("https"), "/v2"), file("ca.pem"));
    let old = curl(&["--cacert", &ca, "--tls-max", "1.2", &url]);
    assert_eq!(old.exit, HANDSHAKE, "{old:?}");
    assert_eq!(curl(&["--cacert", &ca, &url]).status, 200);
}

#[test]
fn python_agrees_on_what_is_offered() {
    let repository = vectors();
    let server = builder(&repository).start();
    let port = server.also_at("https").port().to_string();
    let told: Value =
        serde_json::from_str(&script("tls_client.py", &["agree", &port, &file("ca.pem")])).unwrap();
    assert_eq!(told["h2,http/1.1"], json!(["TLSv1.3", "h2"]));
    assert_eq!(told["http/1.1"], json!(["TLSv1.3", "http/1.1"]));
    assert_eq!(told[""], json!(["TLSv1.3", null]), "a client that knows no ALPN is served HTTP/1.1");
    assert_eq!(told["1.2"], json!(["TLSv1.2", "h2"]));
    assert_eq!(told["status"], json!(200));
    assert_eq!(told["1.1"], json!("refused"));
    assert_eq!(told["spdy/3"], json!("refused"), "nothing is agreed on in silence");
}

#[test]
fn plain_http_at_the_tls_port_is_told_so_and_tls_at_the_plain_one_fails() {
    let repository = vectors();
    let server = builder(&repository).start();
    let plain = curl(&["-i", &format!("http://{}/v2", server.also_at("https"))]);
    assert_eq!((plain.exit, plain.status), (0, 400), "{plain:?}");
    assert!(plain.text.contains("https://"), "{plain:?}");
    let big = [0_u8; 100_000];
    let posted = Repository::new();
    let path = posted.models().join("big");
    std::fs::write(&path, big).unwrap();
    let data = format!("@{}", path.display());
    let posted = curl(&["--data-binary", &data, &format!("http://{}/v2", server.also_at("https"))]);
    assert_eq!(posted.status, 400, "{posted:?}");
    let tls = curl(&["--insecure", &url(server.address(), "/v2")]);
    assert_eq!((tls.exit, tls.status), (HANDSHAKE, 0), "{tls:?}");
    assert!(server.metrics().sum("nuke_http_connections_ended_total", &[("reason", "plain_at_tls")]) >= 2.0);
}

#[test]
fn clients_are_sent_to_tls_but_for_health() {
    let repository = vectors();
    let server = builder(&repository).set("server.redirect", "true").start();
    let (plain, secure) = (server.address().port(), server.also_at("https").port());
    let answer = curl(&["-i", &format!("http://localhost:{plain}/v2/models/vector?a=b")]);
    assert_eq!(answer.status, 308, "{answer:?}");
    let location = format!("location: https://localhost:{secure}/v2/models/vector?a=b");
    assert!(answer.text.contains(&location), "{answer:?}");
    assert_eq!(server.get("/v2/health/live").status, 200);
    // 308: the body goes there too.
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}).to_string();
    let at = format!("http://localhost:{plain}/v2/models/vector/infer");
    let followed = curl(&["--location", "--cacert", &file("ca.pem"), "--json", &body, &at]);
    assert_eq!(followed.status, 200, "{followed:?}");
    let strange = curl(&["-H", "host: a b", &format!("http://localhost:{plain}/v2")]);
    assert_eq!(strange.status, 400);
}

#[test]
fn files_that_cannot_be_used_stop_the_start_by_name_and_an_open_key_is_warned_of() {
    let repository = vectors();
    let folder = tempfile::tempdir().unwrap();
    let start = |cert: &str, key: &str| {
        let builder = Server::builder().repository(&repository).set("server.https", "127.0.0.1:0");
        builder.set("tls.cert", cert).set("tls.key", key).try_start()
    };
    let key = folder.path().join("key.pem");
    std::fs::copy(file("server.key"), &key).unwrap();
    let secret = std::fs::read_to_string(&key).unwrap();
    for (cert, key, needle) in [
        (file("server.pem"), file("server-2.key"), "is not the key of"),
        (file("server.pem"), "/no/such/key.pem".to_owned(), "'/no/such/key.pem' cannot be read"),
        (file("make.sh"), file("server.key"), "has no certificate"),
    ] {
        let ended = start(&cert, &key).unwrap_err();
        assert_eq!(ended.status.code(), Some(64), "{ended}");
        assert!(ended.to_string().contains(needle), "{ended}");
        assert!(!ended.to_string().contains(secret.lines().nth(1).unwrap()), "a key is shown: {ended}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = start(&file("server.pem"), &key.display().to_string()).unwrap();
    assert!(server.logs().iter().any(|line| line.contains("tls.key: ") && line.contains("mode 644")));
    assert!(!server.logs().iter().any(|line| line.contains(secret.lines().nth(1).unwrap())));
}
