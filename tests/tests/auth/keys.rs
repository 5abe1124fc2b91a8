//! API keys from their making to their end, with `nuke keys` and a host that runs.

use std::time::{Duration, Instant};

use nuke_tests::eventually;
use serde_json::json;

use super::{Setup, infer, infer_as, keys, unauthenticated};

#[test]
fn a_key_is_made_rotated_and_revoked_while_a_host_runs() {
    let setup = Setup::new();
    let server = setup.start("");
    let file = setup.path("keys.yaml");
    let made = keys(&file, &["create", "ci", "--scope", "predict:slow", "--expires", "90d"]);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    eventually("the key is known", || infer(&server.client(), ("x-api-key", key)).status == 200);
    infer_as(&server.client(), key).expect(200);
    let refused =
        server.client().request("GET", "/v2/models/other").header("x-api-key", key).send().expect(403);
    let challenge = refused.header("www-authenticate").unwrap();
    assert_eq!(challenge, "Bearer realm=\"nuke\", error=\"insufficient_scope\", scope=\"predict:other\"");

    let rotated = keys(&file, &["rotate", "ci", "--grace", "1h"]);
    let new = rotated["key"].as_str().unwrap();
    assert_eq!(rotated["name"], "ci");
    eventually("the new key is known", || infer(&server.client(), ("x-api-key", new)).status == 200);
    infer(&server.client(), ("x-api-key", key)).expect(200);

    keys(&file, &["revoke", id]);
    let revoked = Instant::now();
    eventually("the old key is refused", || infer(&server.client(), ("x-api-key", key)).status == 401);
    // Not a measurement: a host that does not look would never refuse it.
    assert!(revoked.elapsed() < Duration::from_secs(30));
    unauthenticated(&infer(&server.client(), ("x-api-key", key)));
    infer(&server.client(), ("x-api-key", new)).expect(200);

    let listed = keys(&file, &["list"]);
    let states: Vec<_> =
        listed.as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["revoked", "valid"]);
    assert!(!std::fs::read_to_string(&file).unwrap().contains(&key[18..]), "the file holds no key");
    server.terminate();
    let listed = keys(&file, &["list"]);
    assert!(listed[1]["last_used"].is_string(), "{listed}");
}

#[test]
fn a_key_ends_by_itself() {
    let setup = Setup::new();
    let made = keys(&setup.path("keys.yaml"), &["create", "ci", "--scope", "predict:*", "--expires", "0s"]);
    let server = setup.start("");
    unauthenticated(&infer(&server.client(), ("x-api-key", made["key"].as_str().unwrap())));
}

#[test]
fn a_file_that_is_broken_or_gone_keeps_the_keys_of_before() {
    let setup = Setup::new();
    let file = setup.path("keys.yaml");
    let made = keys(&file, &["create", "ci", "--scope", "predict:*"]);
    let key = made["key"].as_str().unwrap();
    let server = setup.start("log: {audit: audit.jsonl}\n");
    let told = || server.logs().iter().filter(|line| line.contains("API keys cannot be read")).count();
    setup.replace("keys.yaml", "keys:\n- {id: x}\n");
    eventually("it is told", || told() == 1);
    std::fs::remove_file(&file).unwrap();
    eventually("it is told again", || told() == 2);
    infer(&server.client(), ("x-api-key", key)).expect(200);
    setup.replace("keys.yaml", "keys: []\n");
    eventually("it is back, and empty", || infer(&server.client(), ("x-api-key", key)).status == 401);
    // What was taken, and what was not, is in the audit log.
    let lines = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(setup.path("audit.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    eventually("all three are told", || lines().len() == 3);
    let lines = lines();
    let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["refused", "refused", "done"], "{lines:?}");
    assert!(lines.iter().all(|line| line["action"] == "keys" && line["subject"] == "api_keys"), "{lines:?}");
    assert!(lines[0]["reason"].as_str().unwrap().contains("keys.yaml"), "{lines:?}");
    assert_eq!(lines[2]["change"], format!("removed {}", made["id"].as_str().unwrap()));
}

#[test]
fn the_command_line_says_what_is_wrong() {
    let setup = Setup::new();
    let file = setup.path("keys.yaml");
    let run = |arguments: &[&str]| {
        let output =
            nuke_tests::nuke().arg("keys").args(arguments).arg("--file").arg(&file).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (arguments, code, expected) in [
        (["list"].as_slice(), 1, "cannot be read"),
        (&["create", "ci"], 64, "--scope"),
        (&["create", "ci", "--scope", "root"], 64, "expected admin"),
        (&["create", "ci", "--scope", "admin", "--expires", "soon"], 64, "no time"),
        (&["revoke", "nobody"], 1, "no key 'nobody'"),
    ] {
        let (status, text) = run(arguments);
        assert!(status == Some(code) && text.contains(expected), "{arguments:?}: {status:?} {text}");
    }
    std::fs::write(&file, "keys:\n- {id: 1, nam: x}\n").unwrap();
    let (status, text) = run(&["list"]);
    assert!(status == Some(64) && text.contains("keys.yaml:2:"), "{text}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(keys(&file, &["create", "a", "--scope", "metrics"])["scopes"], json!(["metrics"]));
}
