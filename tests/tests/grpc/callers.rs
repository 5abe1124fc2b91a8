//! Who asks, on gRPC: keys in the metadata, scopes, and the audit log, as on HTTP.

use std::path::Path;

use nuke_tests::{Repository, Server, eventually, nuke};
use serde_json::Value;

use crate::call::{
    Ended, PERMISSION_DENIED, UNAUTHENTICATED, begin, call, client, connect, field, framed, identity_message,
};

/// A new key of this scope in `file`.
fn new_key(file: &Path, name: &str, scope: &str) -> String {
    let mut command = nuke();
    command.args(["keys", "create", name, "--scope", scope, "--expires", "1d", "--json", "--file"]).arg(file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    made["key"].as_str().unwrap().to_owned()
}

#[track_caller]
fn ended(answer: &Ended, code: u32, what: &str) {
    assert_eq!(answer.code, code, "{what}: {answer:?}");
}

#[test]
fn a_call_needs_the_scope_that_the_same_request_needs_on_http() {
    let folder = tempfile::tempdir().unwrap();
    let (file, audit) = (folder.path().join("keys.yaml"), folder.path().join("audit.jsonl"));
    let reader = new_key(&file, "reader", "predict:identity*");
    let stranger = new_key(&file, "stranger", "predict:other");
    let admin = new_key(&file, "admin", "admin");
    let repository = Repository::new().model("identity_fp32", "1", "identity_fp32");
    let builder = Server::builder().repository(&repository);
    let builder = builder.set("auth.api_keys.file", file.to_str().unwrap());
    let server = builder.set("log.audit", audit.to_str().unwrap()).start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let message = framed(&identity_message(2));
        let named = framed(&field(1, b"identity_fp32"));
        let ask = |method: &'static str, key: Option<&str>, body: &[u8]| {
            let headers: Vec<_> = key.map(|key| ("x-api-key", key.to_owned())).into_iter().collect();
            let (sender, body) = (sender.clone(), body.to_vec());
            async move {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                call(&sender, method, &headers, body).await
            }
        };
        for method in ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ModelInfer"] {
            let body = if method == "ModelInfer" { &message } else { &named };
            ended(&ask(method, Some(&reader), body).await, 0, method);
            let nobody = ask(method, None, body).await;
            ended(&nobody, UNAUTHENTICATED, method);
            assert_eq!(nobody.headers["www-authenticate"], "Bearer realm=\"nuke\"");
            ended(&ask(method, Some("nuke_wrong"), body).await, UNAUTHENTICATED, method);
            ended(&ask(method, Some(&stranger), body).await, PERMISSION_DENIED, method);
        }
        let bearer = format!("Bearer {reader}");
        let answer = call(&sender, "ModelInfer", &[("authorization", &bearer)], message.clone()).await;
        ended(&answer, 0, "as a bearer's");
        // In a stream the message fails, and tells why.
        let streamed = ask("ModelStreamInfer", Some(&stranger), &message).await;
        ended(&streamed, 0, "a stream");
        let told = String::from_utf8_lossy(&streamed.messages[0]).into_owned();
        assert!(told.contains("do not have the scope predict:identity_fp32"), "{told}");
        // Who sees nothing is told of nothing.
        let index = framed(&[]);
        assert!(ask("RepositoryIndex", Some(&stranger), &index).await.messages[0].is_empty());
        assert!(!ask("RepositoryIndex", Some(&reader), &index).await.messages[0].is_empty());
        assert!(ask("ModelStatistics", Some(&stranger), &index).await.messages[0].is_empty());
        ended(&ask("ServerReady", None, &index).await, 0, "health needs nobody's name");
        ended(&ask("/grpc.health.v1.Health/Check", None, &index).await, 0, "health needs nobody's name");
        ended(&ask("ServerMetadata", None, &index).await, UNAUTHENTICATED, "the rest does");
        let load = framed(&field(2, b"identity_fp32"));
        ended(&ask("RepositoryModelLoad", Some(&reader), &load).await, PERMISSION_DENIED, "a load");
        ended(&ask("RepositoryModelLoad", Some(&admin), &load).await, 0, "an operator's load");
    });
    let told = || std::fs::read_to_string(&audit).unwrap_or_default();
    eventually("the load is in the audit log", || {
        told()
            .lines()
            .any(|line| line.contains("RepositoryModelLoad identity_fp32") && line.contains("admin"))
    });
    assert!(told().contains("permission_denied"), "{}", told());
}

#[test]
fn a_key_that_is_revoked_ends_the_streams_that_it_has_begun() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let key = new_key(&file, "reader", "predict:*");
    let repository = Repository::new().model("identity_fp32", "1", "identity_fp32");
    let builder = Server::builder().repository(&repository);
    let server = builder.set("auth.api_keys.file", file.to_str().unwrap()).start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let shown = [("x-api-key", key.as_str())];
        let message = || framed(&identity_message(2));
        let (streamed, mut streaming) = begin(&sender, "ModelStreamInfer", &shown).await;
        streaming.send_data(message().into(), false).unwrap();
        let mut body = streamed.await.unwrap().into_body();
        assert!(!body.data().await.unwrap().unwrap().is_empty(), "the first message is answered");
        let mut revoke = nuke();
        revoke.args(["keys", "revoke", "reader", "--all", "--file"]).arg(&file);
        assert!(revoke.output().unwrap().status.success());
        while call(&sender, "ModelInfer", &shown, message()).await.code != UNAUTHENTICATED {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        streaming.send_data(message().into(), false).unwrap();
        assert!(body.data().await.is_none(), "the second is not");
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], UNAUTHENTICATED.to_string(), "{trailers:?}");
    });
}

#[test]
fn each_message_of_a_stream_counts_in_its_callers_rate() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let key = new_key(&file, "reader", "predict:*");
    let repository = Repository::new().model("identity_fp32", "1", "identity_fp32");
    let builder = Server::builder().repository(&repository);
    let builder = builder.set("auth.api_keys.file", file.to_str().unwrap());
    let server = builder.set("limits.identity.requests", "3/h").start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let six = framed(&identity_message(2)).repeat(6);
        let streamed = call(&sender, "ModelStreamInfer", &[("x-api-key", &key)], six).await;
        ended(&streamed, 0, "a stream");
        let told = streamed.messages.iter().map(|message| String::from_utf8_lossy(message));
        let refused: Vec<bool> = told.map(|message| message.contains("too many requests")).collect();
        assert_eq!(refused, [false, false, false, true, true, true]);
    });
}
