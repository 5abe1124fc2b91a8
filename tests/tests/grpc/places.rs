//! Which address serves gRPC, to whom, and which version answers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use nuke_tests::{Repository, Server, eventually, refused};
use serde_json::{Value, json};

use crate::call::{PERMISSION_DENIED, call, client, connect, field, framed, identity_message};

/// The address that a key of the line `listening` has.
fn address(server: &Server, key: &str) -> SocketAddr {
    let lines = server.logs();
    let listening = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut addresses = listening.filter_map(|line| line[key].as_str()?.parse().ok());
    addresses.next().unwrap_or_else(|| panic!("no {key} address in the log"))
}

pub(crate) fn grpc_address(server: &Server) -> SocketAddr {
    address(server, "grpc")
}

fn identity() -> Repository {
    Repository::new().model("identity_fp32", "1", "identity_fp32")
}

#[test]
fn with_an_address_of_its_own_each_serves_its_own_protocol() {
    let repository = identity();
    let server = Server::builder().repository(&repository).set("server.grpc", "127.0.0.1:0").start();
    client(async {
        let (sender, _connection) = connect(grpc_address(&server)).await;
        let answer = call(&sender, "ModelInfer", &[], framed(&identity_message(2))).await;
        assert_eq!((answer.code, answer.messages.len()), (0, 1), "{answer:?}");
    });
    let other = format!("http://{}", grpc_address(&server));
    let answer = nuke_tests::Client::new(&other).request("GET", "/v2/health/live").send();
    refused(&answer, 415, &["only gRPC is served at this address"]);
    let answer = server.post("/inference.GRPCInferenceService/ServerLive", "application/grpc", vec![0; 5]);
    refused(&answer, 415, &["gRPC is not served at this address"]);
}

#[test]
fn grpc_needs_http_2() {
    let repository = identity();
    let server = Server::builder().repository(&repository).start();
    let answer = server.post("/inference.GRPCInferenceService/ServerLive", "application/grpc", vec![0; 5]);
    refused(&answer, 415, &["gRPC needs HTTP/2"]);
}

#[test]
fn loading_is_an_operators_on_grpc_too() {
    let repository = identity();
    let server = Server::builder().repository(&repository).set("server.admin", "127.0.0.1:0").start();
    let load = framed(&field(2, b"identity_fp32"));
    client(async {
        let (everyone, _connection) = connect(server.address()).await;
        for method in ["RepositoryModelLoad", "RepositoryModelUnload"] {
            let answer = call(&everyone, method, &[], load.clone()).await;
            assert_eq!(answer.code, PERMISSION_DENIED, "{answer:?}");
            assert!(answer.message.contains("is not served at this address; ask at"), "{answer:?}");
        }
        let (operator, _connection) = connect(address(&server, "admin")).await;
        let answer = call(&operator, "RepositoryModelLoad", &[], load.clone()).await;
        assert_eq!(answer.code, 0, "{answer:?}");
        let stranger = [("origin", "http://evil.example")];
        let answer = call(&operator, "RepositoryModelLoad", &stranger, load).await;
        assert_eq!(answer.code, PERMISSION_DENIED, "{answer:?}");
    });
}

#[test]
fn calls_are_counted_and_told_in_the_log() {
    let repository = identity();
    let server = Server::builder().repository(&repository).start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let id = [("x-request-id", "mine-1")];
        let good = call(&sender, "ModelInfer", &id, framed(&identity_message(2))).await;
        assert_eq!(good.headers["x-request-id"], "mine-1");
        let bad = call(&sender, "ModelInfer", &id, framed(&field(1, b"nobody"))).await;
        assert_eq!(bad.headers["x-request-id"], "mine-1");
    });
    let metrics = server.metrics();
    assert_eq!(metrics.sum("nuke_grpc_responses_total", &[("code", "OK")]), 1.0);
    assert_eq!(metrics.sum("nuke_grpc_responses_total", &[("code", "NOT_FOUND")]), 1.0);
    assert_eq!(metrics.sum("nuke_requests_total", &[("endpoint", "grpc"), ("outcome", "ok")]), 1.0);
    let lines = || server.log_lines("access");
    eventually("both have a line", || {
        lines().iter().filter(|line| line["request_id"] == "mine-1").count() >= 2
    });
    let lines = lines();
    let of = |status: &str| lines.iter().find(|line| line["grpc_status"] == status).cloned().unwrap();
    assert_eq!(
        (of("OK")["model"].as_str(), of("OK")["version"].as_str()),
        (Some("identity_fp32"), Some("1"))
    );
    assert_eq!((of("OK")["request_id"].as_str(), of("OK")["status"].as_u64()), (Some("mine-1"), Some(200)));
    let failed = of("NOT_FOUND");
    assert_eq!(failed["code"], "not_found");
    assert_eq!(failed["error"], "Request for unknown model: 'nobody' is not found");
}

#[test]
fn traffic_gives_a_user_the_same_version_as_on_http() {
    let repository = identity().model("identity_fp32", "2", "identity_fp32").model_yaml(
        "versions: all\ntraffic: {strategy: split, weights: {\"1\": 50, \"2\": 50}, sticky: header:x-user}\n",
    );
    let server = Server::builder().repository(&repository).start();
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}]});
    let (mut versions, http) = (BTreeSet::new(), server.client());
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        for number in 0..20 {
            let user = format!("user-{number}");
            let asked = http.request("POST", "/v2/models/identity_fp32/infer");
            let http_answer = asked.header("x-user", &user).body(body.to_string()).send();
            let grpc = call(&sender, "ModelInfer", &[("x-user", &user)], framed(&identity_message(2))).await;
            for name in ["x-nuke-model-version", "x-nuke-traffic-arm"] {
                assert_eq!(http_answer.header(name), grpc.headers[name].to_str().ok(), "{user}: {grpc:?}");
            }
            versions.insert(grpc.headers["x-nuke-model-version"].clone());
        }
    });
    assert_eq!(versions.len(), 2, "all of twenty users got one version");
}
