//! Clients that show certificates, and those that should have.

use nuke_tests::eventually;

use super::*;

/// Whether curl is answered with this client's pair, or without one.
fn is_answered(server: &Server, client: Option<&str>, more: &[&str]) -> bool {
    let (url, ca) = (url(server.also_at("https"), "/v2"), file("ca.pem"));
    let mut arguments = vec!["--cacert".to_owned(), ca, url];
    if let Some(name) = client {
        arguments.extend(["--cert".to_owned(), file(&format!("{name}.pem"))]);
        arguments.extend(["--key".to_owned(), file(&format!("{name}.key"))]);
    }
    arguments.extend(more.iter().map(|&one| one.to_owned()));
    let answer = curl(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    match (answer.exit, answer.status) {
        (0, 200) => true,
        // curl has many codes for an alert that comes after the client thinks that it is done; but that nobody
        // listens, or time ran out, is no refusal.
        (exit, 0) if exit != UNREACHABLE && exit != LATE => false,
        _ => panic!("{client:?}: {answer:?}"),
    }
}

const VERSIONS: [&[&str]; 4] = [
    &["--tls-max", "1.2", "--http1.1"],
    &["--tls-max", "1.2", "--http2"],
    &["--tlsv1.3", "--http1.1"],
    &["--tlsv1.3", "--http2"],
];

#[test]
fn where_a_certificate_is_required_only_a_good_one_is_answered() {
    let repository = vectors();
    let server = builder(&repository)
        .set("tls.client_ca", &file("ca.pem"))
        .set("tls.client_crl", &file("ca.crl"))
        .start();
    for version in VERSIONS {
        assert!(is_answered(&server, Some("client"), version), "{version:?}");
        for refused in [None, Some("client-expired"), Some("client-other"), Some("client-revoked")] {
            assert!(!is_answered(&server, refused, version), "{refused:?} {version:?}");
        }
        // A certificate of a server is none of a client.
        assert!(!is_answered(&server, Some("server"), version), "{version:?}");
    }
    let of_client =
        |line: &&serde_json::Value| line["client"].as_str().is_some_and(|client| client.contains("camera-7"));
    let named = || server.log_lines("access").iter().filter(of_client).count();
    eventually("each of them is named in the log", || named() >= VERSIONS.len());
    assert_eq!(named(), VERSIONS.len());
    assert_eq!(server.get("/v2/health/live").status, 200, "the plain listener asks for none");
    let failed = server.metrics().sum("nuke_http_connections_ended_total", &[("reason", "handshake_failed")]);
    assert!(failed >= 16.0, "{failed}");
}

#[test]
fn where_a_certificate_is_optional_none_is_answered_and_a_bad_one_is_not() {
    let repository = vectors();
    let server =
        builder(&repository).set("tls.client_ca", &file("ca.pem")).set("tls.client_auth", "optional").start();
    for version in VERSIONS {
        assert!(is_answered(&server, None, version));
        assert!(is_answered(&server, Some("client"), version));
        assert!(is_answered(&server, Some("client-revoked"), version), "there is no list");
        assert!(!is_answered(&server, Some("client-expired"), version));
        assert!(!is_answered(&server, Some("client-other"), version));
    }
    let nameless = |line: &&serde_json::Value| !line["client"].is_string();
    eventually("the log has those without a name", || {
        server.log_lines("access").iter().filter(nameless).count() >= VERSIONS.len()
    });
}

#[test]
fn the_admin_listener_speaks_tls_if_it_is_told_to() {
    let repository = vectors();
    let server = builder(&repository)
        .set("server.admin", "127.0.0.1:0")
        .set("tls.admin", "true")
        .set("tls.client_ca", &file("ca.pem"))
        .start();
    let url = format!("https://localhost:{}/admin/models", server.also_at("admin").port());
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let answer = curl(&["--cacert", &ca, "--cert", &cert, "--key", &key, &url]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(curl(&["--cacert", &ca, &url]).status, 0);
    assert_eq!(server.get("/admin/models").status, 403);
}

#[test]
fn the_subject_of_a_certificate_is_who_it_is() {
    let repository = vectors();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let text = "auth: {certificates: [{subject: 'C=DE, O=Acme, CN=camera-*', scopes: ['predict:vector']}]}\n\
                tls: {client_auth: optional}\n";
    std::fs::write(&config, text).unwrap();
    let server =
        builder(&repository).arg("--config").arg(&config).set("tls.client_ca", &file("ca.pem")).start();
    let at = server.also_at("https");
    let ask = |client: Option<&str>, path: &str| {
        let (url, ca) = (url(at, path), file("ca.pem"));
        let (cert, key) = (
            client.map(|name| file(&format!("{name}.pem"))),
            client.map(|name| file(&format!("{name}.key"))),
        );
        let pair = cert.iter().flat_map(|cert| ["--cert", cert.as_str()]);
        let pair = pair.chain(key.iter().flat_map(|key| ["--key", key.as_str()]));
        curl(&["--cacert", &ca, &url].into_iter().chain(pair).collect::<Vec<_>>()).status
    };
    assert_eq!(ask(Some("client"), "/v2/models/vector"), 200);
    assert_eq!(ask(Some("client"), "/metrics"), 403, "its scope is another");
    assert_eq!(
        ask(Some("client-revoked"), "/v2/models/vector"),
        401,
        "a good certificate of nobody who is named"
    );
    assert_eq!(ask(None, "/v2/models/vector"), 401);
    assert_eq!(ask(None, "/v2/health/live"), 200);
}
