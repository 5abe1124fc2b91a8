//! Every route with every scope.

use nuke_tests::{Client, Server, refused, slow_request};
use serde_json::{Value, json};

use super::issuer::Issuer;
use super::{Setup, bearer};

fn status(client: &Client, (method, path): (&str, &str), token: Option<&str>) -> u16 {
    let body = if method == "GET" { String::new() } else { slow_request(1).to_string() };
    let request = client.request(method, path).body(if path.contains("load") { String::new() } else { body });
    let request = request.header("content-type", "application/json");
    match token {
        Some(token) => request.header("authorization", &bearer(token)).send().status,
        None => request.send().status,
    }
}

/// A path as it is written: other clients would tidy it up.
fn raw_get(server: &Server, path: &str, token: Option<&str>) -> u16 {
    let mut connection = server.connect();
    let credentials = token.map(|token| format!("authorization: {}\r\n", bearer(token))).unwrap_or_default();
    connection
        .send(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{credentials}\r\n").as_bytes())
        .unwrap();
    connection.read_answer().unwrap().status
}

#[test]
fn each_route_wants_its_scope_and_no_other_will_do() {
    let setup = Setup::new();
    let server = setup.start("");
    let client = server.client();
    let scopes = ["", "predict:slow", "predict:*", "predict:other", "metrics", "admin"];
    let tokens: Vec<String> =
        scopes.iter().map(|scope| Issuer::hs256().token(json!({"scope": scope}))).collect();
    let open = [("GET", "/v2/health/live"), ("GET", "/v2/health/ready")];
    let known = [
        ("GET", "/v2"),
        ("GET", "/v2/models"),
        ("GET", "/v2/models/stats"),
        ("GET", "/v1/models"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
    ];
    let of_model = [
        ("GET", "/v2/models/slow"),
        ("GET", "/v2/models/slow/ready"),
        ("GET", "/v2/models/slow/config"),
        ("GET", "/v2/models/slow/versions/1"),
        ("GET", "/v2/models/slow/versions/1/ready"),
        ("GET", "/v2/models/slow@1/config"),
        ("GET", "/v2/models/slow/stats"),
        ("GET", "/v2/models/slow/versions/1/stats"),
        ("GET", "/v1/models/slow"),
        ("GET", "/v1/models/slow/versions/1"),
        ("POST", "/v2/models/slow/infer"),
        ("POST", "/v2/models/slow/versions/1/infer"),
        ("POST", "/predict/slow"),
        ("POST", "/predict/slow/1"),
        ("GET", "/v2/models/%73low"),
    ];
    let of_operators = [
        ("GET", "/admin/models"),
        ("GET", "/admin/nodes"),
        ("GET", "/admin/models/slow"),
        ("GET", "/admin/models/slow/traffic"),
        ("GET", "/admin/cache"),
        ("GET", "/admin/models/slow/cache"),
        ("DELETE", "/admin/cache"),
        ("DELETE", "/admin/models/slow/cache"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/repository/models/slow/load"),
    ];
    for route in open {
        assert!(
            (0..scopes.len()).all(|which| status(&client, route, Some(&tokens[which])) == 200),
            "{route:?}"
        );
        assert_eq!(status(&client, route, None), 200);
    }
    for (routes, allowed) in [
        (known.as_slice(), scopes.as_slice()),
        (&of_model, &["predict:slow", "predict:*"]),
        (&of_operators, &["admin"]),
        (&[("GET", "/metrics")], &["metrics"]),
    ] {
        for route in routes {
            assert_eq!(status(&client, *route, None), 401, "{route:?}");
            for (scope, token) in scopes.iter().zip(&tokens) {
                let expected = if allowed.contains(scope) { 200 } else { 403 };
                assert_eq!(status(&client, *route, Some(token)), expected, "{route:?} with '{scope}'");
            }
        }
    }
}

#[test]
fn who_may_not_ask_for_a_model_does_not_learn_of_it() {
    let setup = Setup::new();
    let server = setup.start("");
    let token = Issuer::hs256().token(json!({"scope": "predict:slow"}));
    let get = |method: &str, path: &str| {
        server.client().request(method, path).header("authorization", &bearer(&token)).send()
    };
    let models = get("GET", "/v2/models").expect(200).json();
    assert_eq!(models["models"], json!(["slow"]));
    let index = get("POST", "/v2/repository/index").expect(200).json();
    assert!(index.as_array().unwrap().iter().all(|entry: &Value| entry["name"] == "slow"), "{index}");
    let (hidden, missing) = (get("GET", "/v2/models/other"), get("GET", "/v2/models/nowhere"));
    assert_eq!((hidden.status, missing.status), (403, 403));
    let (hidden, missing) = (hidden.text_without_id(), missing.text_without_id());
    assert_eq!(hidden.replace("other", "X"), missing.replace("nowhere", "X"));
    for path in ["/nothing", "/admin/nothing", "/v2/models/slow/nothing"] {
        assert_eq!(server.get(path).status, 401, "{path}");
        assert_eq!(get("GET", path).status, 404, "{path}");
    }
}

#[test]
fn paths_that_are_written_otherwise_lead_past_nothing() {
    let setup = Setup::new();
    let server = setup.start("");
    let token = Issuer::hs256().token(json!({"scope": "predict:slow"}));
    for path in [
        "/%61dmin/models",
        "//admin/models",
        "/admin//models",
        "/v2/health/live/../../../admin/models",
        "/v2/health/live/%2e%2e/models",
        "/ADMIN/models",
        "/v2/health/live%2f..%2fmodels",
        "/v2/models/slow%2f..%2fother",
        "/admin/models/",
        "/metrics/",
        "/v2/models/other%00slow",
    ] {
        let without = raw_get(&server, path, None);
        assert!([400, 401].contains(&without), "{path}: {without}");
        let with = raw_get(&server, path, Some(&token));
        assert!([400, 403, 404].contains(&with), "{path}: {with}");
    }
}

#[test]
fn what_operators_do_is_kept() {
    let setup = Setup::new();
    let server = setup.start("log: {audit: audit.jsonl}\n");
    let post = |path: &str, scope: &str| {
        let token = Issuer::hs256().token(json!({"sub": "op", "scope": scope}));
        server.client().request("POST", path).header("authorization", &bearer(&token)).send()
    };
    post("/v2/repository/models/slow/unload", "admin").expect(200);
    post("/v2/repository/models/slow/load", "admin").expect(200);
    post("/v2/repository/models/nowhere/load", "admin").expect(404);
    refused(&post("/v2/repository/models/slow/unload", "predict:*"), 403, &["scope admin"]);
    let text = std::fs::read_to_string(setup.path("audit.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["done", "done", "not_found", "permission_denied"]);
    assert!(
        lines
            .iter()
            .all(|line| line["subject"] == "op" && line["kind"] == "token" && line["address"] == "127.0.0.1")
    );
    assert_eq!(lines[0]["action"], "POST /v2/repository/models/slow/unload");
    nuke_tests::eventually("the log has them, too", || server.log_lines("audit").len() >= 4);
    assert_eq!(server.log_lines("audit").len(), 4);
}

#[test]
fn what_operators_do_is_kept_also_when_they_do_not_wait_for_the_answer() {
    let setup = Setup::new();
    let server = setup.start("log: {audit: audit.jsonl}\n");
    let token = Issuer::hs256().token(json!({"sub": "op", "scope": "admin"}));
    for number in 1..=20 {
        let mut connection = server.connect();
        let head = format!(
            "POST /v2/repository/models/slow/load HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\
             authorization: Bearer {token}\r\n\r\n"
        );
        connection.send(head.as_bytes()).unwrap();
        // Some leave at once, and some so late that a host under load has begun by then, too.
        std::thread::sleep(std::time::Duration::from_millis(5 * number));
    }
    // It may see that somebody has gone before it has begun anything.
    nuke_tests::eventually("what was begun has its line", || {
        let text = std::fs::read_to_string(setup.path("audit.jsonl")).unwrap_or_default();
        text.lines().filter(|line| line.contains("slow/load")).count() >= 10
    });
}

#[test]
fn where_operators_may_not_ask_it_is_kept_that_somebody_did() {
    let setup = Setup::new();
    std::fs::write(setup.path("keys.yaml"), "keys: []\n").unwrap();
    let server = setup
        .builder(
            "auth: {api_keys: {file: keys.yaml}, anonymous: ['predict:*']}\nlog: {audit: audit.jsonl}\n\
             limits: {trusted_proxies: [127.0.0.1]}\n",
        )
        .start();
    let client = server.client();
    client.request("GET", "/admin/models").header("x-forwarded-for", "9.9.9.9").send().expect(401);
    let elsewhere = setup.builder("server: {admin: '127.0.0.1:0'}\nlog: {audit: other.jsonl}\n").start();
    elsewhere.client().request("POST", "/v2/repository/models/slow/load").send().expect(403);
    let line = |name: &str| {
        let text = std::fs::read_to_string(setup.path(name)).unwrap();
        serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap()
    };
    let (first, second) = (line("audit.jsonl"), line("other.jsonl"));
    assert_eq!((&first["outcome"], &first["address"]), (&json!("unauthenticated"), &json!("9.9.9.9")));
    assert_eq!(second["outcome"], "permission_denied");
    assert!(second["reason"].as_str().unwrap().contains("not served at this address"), "{second}");
}

#[test]
fn a_verb_behind_the_models_name_is_no_part_of_the_name() {
    let setup = Setup::new();
    let server = setup.start("");
    let client = server.client();
    let ask = |scope: &str, path: &str| {
        let token = Issuer::hs256().token(json!({"scope": scope}));
        let request = client.request("POST", path).body(json!({"instances": [1]}).to_string());
        request.header("authorization", &bearer(&token)).send()
    };
    for path in ["/v1/models/slow:predict", "/v1/models/slow@1:predict", "/v1/models/slow/versions/1:predict"]
    {
        ask("predict:slow", path).expect(200);
        for scope in ["", "predict:other", "predict:slow:predict", "admin"] {
            ask(scope, path).expect(403);
        }
    }
    let token = Issuer::hs256().token(json!({"scope": "predict:other"}));
    for path in ["/v1/models", "/v2/models/stats"] {
        let seen = client.request("GET", path).header("authorization", &bearer(&token)).send().expect(200);
        assert!(!seen.text().contains("slow"), "{}", seen.text());
    }
    assert_eq!(server.get("/v1/models/slow").status, 401);
}
