//! How long a request may take: by its body, by a header, by its model and by the server; the shortest counts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use nuke_tests::{Repository, Server, eventually, refused, slow_request};

const INFER: &str = "/v2/models/slow/infer";
/// Milliseconds of work that would take longer than any test waits.
const ENDLESS: u32 = 3_600_000;

fn start(model_yaml: &str) -> Server {
    let repository = Repository::new().model("slow", "1", "slow").model_yaml(model_yaml);
    Server::builder().repository(&repository).start()
}

#[test]
fn a_header_shortens_what_every_route_may_take() {
    let server = start("{}");
    let client = server.client();
    let body = slow_request(ENDLESS).to_string();
    for path in [INFER, "/predict/slow"] {
        let answer =
            client.request("POST", path).header("x-request-timeout", "200ms").body(body.clone()).send();
        refused(&answer, 504, &["ran out"]);
    }
    let rows = format!("{{\"instances\": [{ENDLESS}]}}");
    let answer = client
        .request("POST", "/v1/models/slow:predict")
        .header("x-request-timeout", "200ms")
        .body(rows)
        .send();
    refused(&answer, 504, &["ran out"]);
    for wrong in ["", "5", "0ms", "soon", "-1s"] {
        let answer =
            client.request("POST", INFER).header("x-request-timeout", wrong).body(body.clone()).send();
        refused(&answer, 400, &["x-request-timeout", "500ms"]);
    }
    client.post(INFER, "", slow_request(1).to_string()).expect(200);
}

#[test]
fn a_model_shortens_what_the_server_gives_and_neither_header_nor_body_lengthens_it() {
    let server = start("{timeout: 200ms}");
    let client = server.client();
    let body = slow_request(ENDLESS);
    let refuse = |request: nuke_tests::Request<'_>, body: &serde_json::Value| {
        refused(&request.body(body.to_string()).send(), 504, &["ran out"]);
    };
    refuse(client.request("POST", INFER), &body);
    refuse(client.request("POST", INFER).header("x-request-timeout", "1h"), &body);
    let mut patient = body.clone();
    patient["parameters"] = serde_json::json!({"timeout": 3_600_000_000_u64});
    refuse(client.request("POST", INFER), &patient);
    // A busy machine may need more than that even for a millisecond of work.
    eventually("a short one is served", || client.post(INFER, "", slow_request(1).to_string()).status == 200);
}
