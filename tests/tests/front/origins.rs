//! Web pages of other origins: what a browser is told before it asks, and after.

use nuke_tests::{Answer, Server};

use super::{models, one};

const PAGE: &str = "https://app.example.com";

fn preflight(server: &Server, path: &str, origin: &str) -> Answer {
    let client = server.client();
    let request = client.request("OPTIONS", path).header("origin", origin);
    request.header("access-control-request-method", "POST").send()
}

#[test]
fn without_origins_no_page_is_told_anything() {
    let server = Server::builder().repository(&models()).start();
    preflight(&server, "/v2/models/tiny/infer", PAGE).expect(405);
    let answer = server.client().request("GET", "/v2").header("origin", PAGE).send().expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn a_page_that_is_named_may_ask_and_no_other() {
    let server = Server::builder()
        .repository(&models())
        .set("server.cors.origins", &format!("{PAGE},http://localhost:3000"))
        .set("server.cors.max_age", "5m")
        .start();
    let path = "/v2/models/tiny/infer";
    let allowed = preflight(&server, path, PAGE).expect(204);
    assert_eq!(allowed.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(allowed.header("access-control-allow-methods"), Some("GET, POST"));
    assert_eq!(allowed.header("access-control-max-age"), Some("300"));
    let headers = allowed.header("access-control-allow-headers").unwrap();
    assert!(headers.contains("inference-header-content-length") && headers.contains("authorization"));
    assert!(allowed.header("vary").unwrap().contains("origin"));
    assert!(allowed.body.is_empty());
    for stranger in ["https://evil.example", "null", "https://app.example.com.evil.example"] {
        let refused = preflight(&server, path, stranger).expect(403);
        assert_eq!(refused.header("access-control-allow-origin"), None);
    }
    let client = server.client();
    let ask = |origin: &str| {
        client.request("POST", path).header("origin", origin).body(one().to_string()).send().expect(200)
    };
    let answer = ask(PAGE);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert!(answer.header("access-control-expose-headers").unwrap().contains("x-request-id"));
    assert_eq!(ask("https://evil.example").header("access-control-allow-origin"), None);
    // An error can be read by the page, too.
    let missing = client.request("GET", "/v2/models/nobody").header("origin", PAGE).send().expect(404);
    assert_eq!(missing.header("access-control-allow-origin"), Some(PAGE));
}

#[test]
fn what_is_for_operators_stays_closed_to_every_page() {
    let server = Server::builder().repository(&models()).set("server.cors.origins", "*").start();
    assert_eq!(
        preflight(&server, "/v1/models/tiny:predict", "null")
            .expect(204)
            .header("access-control-allow-origin"),
        Some("*")
    );
    for path in ["/admin/models", "/v2/logging", "/v2/repository/models/tiny/load", "/metrics"] {
        preflight(&server, path, PAGE).expect(403);
        let answer = server.client().request("GET", path).header("origin", PAGE).send();
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
}

#[test]
fn a_browser_that_asks_for_leave_shows_no_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.yaml");
    std::fs::write(&keys, "keys: []\n").unwrap();
    let server = Server::builder()
        .repository(&models())
        .set("server.cors.origins", PAGE)
        .set("auth.api_keys.file", keys.to_str().unwrap())
        .start();
    preflight(&server, "/v2/models/tiny/infer", PAGE).expect(204);
    let refused = server.client().request("GET", "/v2").header("origin", PAGE).send().expect(401);
    assert_eq!(refused.header("access-control-allow-origin"), Some(PAGE));
}

#[test]
fn a_page_can_read_what_the_door_refuses() {
    let server = Server::builder()
        .repository(&models())
        .set("server.cors.origins", PAGE)
        .set("server.max_header_size", "4KiB")
        .start();
    let client = server.client();
    let long = "y".repeat(5000);
    let asked = client.request("GET", "/v2").header("origin", PAGE).header("x-long", &long);
    let answer = asked.send().expect(431);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("ratelimit-policy") && exposed.contains("x-nuke-load-wait-ms"), "{exposed}");
    assert!(answer.header("x-request-id").is_some() && answer.json()["request_id"].is_string());
}
