//! Our own commands over TLS, and `nuke tls self-signed`.

use nuke_tests::nuke;

use super::*;

fn run(arguments: &[&str]) -> (i32, String) {
    let output = nuke().args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_self_signed_pair_serves_who_trusts_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("tls").display().to_string();
    let (exit, told) = run(&["tls", "self-signed", "--host", "localhost", "--out", &out]);
    assert_eq!(exit, 0, "{told}");
    assert!(told.contains("server: {https:") && told.contains("curl --cacert"), "{told}");
    let (cert, key) = (format!("{out}/cert.pem"), format!("{out}/key.pem"));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let repository = vectors();
    let server = Server::builder()
        .repository(&repository)
        .set("server.https", "127.0.0.1:0")
        .set("tls.cert", &cert)
        .set("tls.key", &key)
        .start();
    assert!(!server.logs().iter().any(|line| line.contains("can be read or changed by others")));
    let at = server.also_at("https");
    for http in ["--http1.1", "--http2"] {
        assert_eq!(curl(&["--cacert", &cert, http, &url(at, "/v2")]).status, 200);
    }
    let (exit, told) = run(&["tls", "self-signed", "--out", &out]);
    assert_eq!(exit, 1, "{told}");
    assert!(told.contains("--force"), "{told}");
    let (exit, told) = run(&["tls", "self-signed", "--host", "é", "--out", &out, "--force"]);
    assert_eq!(exit, 64, "{told}");
}

#[test]
fn the_commands_ask_hosts_with_tls() {
    let repository = vectors();
    let server = builder(&repository).set("tls.client_ca", &file("ca.pem")).start();
    let (url, ca) = (url(server.also_at("https"), ""), file("ca.pem"));
    let (cert, key) = (file("client.pem"), file("client.key"));
    let own = ["--cert", &cert, "--key", &key];
    let bench = |arguments: &[&str]| {
        run(&[&["bench", "--url", &url, "--infer", "vector", "--requests", "20"][..], arguments].concat())
    };
    for more in [&[][..], &["--http2", "--concurrency", "4"]] {
        let (exit, told) = bench(&[&["--ca", &ca][..], &own, more].concat());
        assert_eq!(exit, 0, "{told}");
        let (exit, told) = bench(&[&["--insecure"][..], &own, more].concat());
        assert_eq!(exit, 0, "{told}");
    }
    let (exit, told) = bench(&[&["--ca", &file("other-ca.pem")][..], &own].concat());
    assert_eq!((exit, told.contains("--ca")), (2, true), "{told}");
    let (exit, told) = bench(&["--ca", &ca]);
    assert_eq!(exit, 2, "{told}");
    let (exit, told) = bench(&["--ca", "/no/such/file"]);
    assert_eq!((exit, told.contains("'/no/such/file' cannot be read")), (2, true), "{told}");
    let traffic = ["traffic", "show", "vector", "--url", &url, "--ca", &ca];
    let (exit, told) = run(&[&traffic[..], &own].concat());
    assert_eq!(exit, 0, "{told}");
    // At the plain port nobody speaks TLS.
    let plain = format!("https://localhost:{}", server.address().port());
    let (exit, told) = run(&["traffic", "show", "vector", "--url", &plain, "--ca", &ca]);
    assert_eq!((exit, told.contains("http://")), (2, true), "{told}");
    let (exit, told) =
        run(&["bench", "--url", &server.url(), "--path", "/v2", "--insecure", "--requests", "1"]);
    assert_eq!((exit, told.contains("https://")), (2, true), "{told}");
}

#[test]
fn check_finds_files_that_do_not_go_together() {
    let repository = vectors();
    let models = repository.models().display().to_string();
    let check = |key: &str| {
        let settings = [
            "server.https=127.0.0.1:0".to_owned(),
            format!("tls.cert={}", file("server.pem")),
            format!("tls.key={}", file(key)),
        ];
        let set = settings.iter().flat_map(|setting| ["--set", setting.as_str()]);
        run(&["check", "--models", &models].into_iter().chain(set).collect::<Vec<_>>())
    };
    let (exit, told) = check("server-2.key");
    assert_eq!((exit, told.contains("is not the key of")), (1, true), "{told}");
    let (exit, told) = check("server.key");
    assert_eq!(exit, 0, "{told}");
}
