//! Whose answers are whose.

use nuke_tests::{Answer, Server, nuke};
use serde_json::Value;

use super::{TINY, builder, is_hit, tiny_request, tiny_with};

fn new_key(file: &std::path::Path, name: &str) -> String {
    let mut command = nuke();
    command
        .args(["keys", "create", name, "--scope", "predict:*", "--expires", "1d", "--json", "--file"])
        .arg(file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    made["key"].as_str().unwrap().to_owned()
}

fn ask_as(server: &Server, key: &str) -> Answer {
    let client = server.client();
    let asking =
        client.request("POST", TINY).header("content-type", "application/json").header("x-api-key", key);
    asking.body(tiny_request(1).to_string()).send().expect(200)
}

#[test]
fn callers_see_each_others_answers_only_where_the_model_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let keys = ["a", "b"].map(|name| new_key(&file, name));
    for (scope, shared) in [("shared", true), ("caller", false)] {
        let repository = tiny_with(&format!("{{ttl: 1h, scope: {scope}}}"));
        let server = builder(&repository).set("auth.api_keys.file", file.to_str().unwrap()).start();
        assert!(!is_hit(&ask_as(&server, &keys[0])));
        assert_eq!(is_hit(&ask_as(&server, &keys[1])), shared, "{scope}");
        assert!(keys.iter().all(|key| is_hit(&ask_as(&server, key))));
    }
}
