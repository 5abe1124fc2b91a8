//! `PUT` and `DELETE /admin/models/{model}/traffic`: what is accepted, what survives, who may ask.

use std::fs;
use std::thread;

use nuke_tests::{Client, Server, eventually};
use serde_json::json;

use crate::{ask, builder, host, put_traffic, serve, shares, traffic, two_tinies, version};

const PIN_1: &str = "{strategy: pinned, version: '1'}";

#[test]
fn traffic_that_is_set_counts_at_once_and_after_a_restart_until_it_is_cleared() {
    let repository = two_tinies("traffic: {strategy: pinned, version: '2'}\n");
    let server = serve(&repository);
    assert_eq!(traffic(&server, "tiny")["source"], "model.yaml");
    put_traffic(&server, "tiny", PIN_1).expect(200);
    assert_eq!(shares(&server, 5).get("1"), Some(&5));
    assert_eq!(traffic(&server, "tiny")["source"], "admin");
    drop(server);

    let server = serve(&repository);
    assert_eq!(shares(&server, 5).get("1"), Some(&5), "it outlives the process");
    let cleared = server.client().request("DELETE", "/admin/models/tiny/traffic").send().expect(200);
    assert_eq!(cleared.json()["source"], "model.yaml");
    assert_eq!(shares(&server, 5).get("2"), Some(&5));
    drop(server);
    assert_eq!(shares(&serve(&repository), 5).get("2"), Some(&5));
}

#[test]
fn json_is_taken_as_well_as_yaml() {
    let server = host(two_tinies(""));
    let body = json!({"strategy": "split", "weights": {"1": 1, "2": 3}}).to_string();
    put_traffic(&server, "tiny", &body).expect(200);
    assert_eq!(traffic(&server, "tiny")["status"]["strategy"], "split");
}

#[test]
fn what_is_no_traffic_is_refused_with_its_line_and_changes_nothing() {
    let repository = two_tinies("traffic: {strategy: pinned, version: '2'}\n");
    let server = serve(&repository);
    let long = format!("{{strategy: pinned, version: '{}'}}", "9".repeat(2 << 20));
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    for (body, words) in [
        ("", "strategy"),
        ("{strategy: sometimes}", "sometimes"),
        ("{strategy: pinned}", "version"),
        ("strategy: split\nweights: {'1': -1}", ":2:"),
        ("strategy: split\nweights: {}", "weights"),
        ("{strategy: pinned, version: '1', versoin: 2}", "versoin"),
        ("{strategy: rollout, steps: [50%, 10%]}", "steps"),
        ("\u{0}\u{1}", ""),
        ("{strategy: *x}", ""),
        (deep.as_str(), ""),
    ] {
        let answer = put_traffic(&server, "tiny", body).expect(400);
        assert!(answer.error().contains(words), "{body:.60}: {}", answer.text());
    }
    assert_eq!(put_traffic(&server, "tiny", &long).status, 413);
    put_traffic(&server, "nobody", PIN_1).expect(404);
    put_traffic(&server, "..%2F..%2Fetc", PIN_1).expect(404);
    assert_eq!(shares(&server, 5).get("2"), Some(&5));
    assert!(!repository.models().join(".nuke/tiny.traffic.yaml").exists());
}

#[test]
fn a_policy_that_names_no_version_that_there_is_says_so() {
    let server = host(two_tinies(""));
    let answer = put_traffic(&server, "tiny", "{strategy: pinned, version: '9'}").expect(409);
    assert!(answer.error().contains('9'), "{}", answer.text());
    assert_eq!(shares(&server, 3).get("2"), Some(&3), "and changes nothing");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named_with_the_remedy() {
    let repository = two_tinies("");
    let file = repository.models().join("not-a-folder");
    fs::write(&file, "").unwrap();
    let server = builder(&repository).set("repository.state", &file.display().to_string()).start();
    let answer = put_traffic(&server, "tiny", PIN_1).expect(503);
    assert!(answer.error().contains("repository.state"), "{}", answer.text());
    assert_eq!(shares(&server, 3).get("2"), Some(&3), "what is not kept does not count");
}

#[test]
fn what_was_decided_and_is_broken_is_told_and_does_not_count() {
    let repository = two_tinies("");
    let state = repository.models().join(".nuke");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("tiny.traffic.yaml"), "{strategy: pinn").unwrap();
    fs::write(state.join("tiny.traffic.json"), "[1, 2").unwrap();
    fs::write(state.join("Übel.traffic.json"), "{}").unwrap();
    let server = serve(&repository);
    assert_eq!(shares(&server, 3).get("2"), Some(&3));
    server.tells("does not count", 2);
}

#[test]
fn the_admin_interface_is_only_where_it_was_put() {
    let repository = two_tinies("");
    let server = builder(&repository).set("server.admin", "127.0.0.1:0").start();
    let admin = admin(&server);
    assert_eq!(admin.get("/admin/models/tiny").expect(200).json()["name"], "tiny");
    let refused = server.get("/admin/models").expect(403);
    assert!(refused.error().contains("server.admin"), "{}", refused.text());
    server.post("/v2/repository/models/tiny/unload", "", "").expect(403);
    // Inference is not an operator's.
    ask(&admin, "/v2/models/tiny/infer", 0, &[]).expect(404);
    admin.get("/metrics").expect(200);
    admin.get("/v2/health/ready").expect(200);
}

#[test]
fn a_web_page_cannot_ask_through_an_operators_browser() {
    let server = host(two_tinies(""));
    let asking = server.client();
    let page =
        asking.request("POST", "/v2/repository/models/tiny/unload").header("origin", "http://evil.example");
    page.send().expect(403);
    ask(&asking, "/v2/models/tiny/infer", 0, &[("origin", "http://evil.example")]).expect(200);
}

#[test]
fn many_operators_at_once_leave_one_decision() {
    let server = host(two_tinies(""));
    thread::scope(|scope| {
        for operator in 0..8 {
            let server = &server;
            scope.spawn(move || {
                for turn in 0..10 {
                    let pin = format!("{{strategy: pinned, version: '{}'}}", 1 + (operator + turn) % 2);
                    put_traffic(server, "tiny", &pin).expect(200);
                    version(ask(&server.client(), "/v2/models/tiny/infer", turn, &[]));
                }
            });
        }
    });
    let pinned = traffic(&server, "tiny")["status"]["arms"][0]["version"].as_str().unwrap().to_owned();
    assert_eq!(shares(&server, 5).get(&pinned), Some(&5));
}

#[test]
fn loading_and_unloading_work_as_tritons_clients_use_them() {
    let server = host(two_tinies(""));
    let client = server.client();
    let load = |model: &str, body: &str| {
        client.post(&format!("/v2/repository/models/{model}/load"), "application/json", body)
    };
    let unload = |model: &str, body: &str| {
        client.post(&format!("/v2/repository/models/{model}/unload"), "application/json", body)
    };
    unload("tiny", r#"{"parameters": {"unload_dependents": true}}"#).expect(200);
    assert_ne!(ask(&client, "/v2/models/tiny/infer", 0, &[]).status, 200);
    assert_ne!(server.get("/v2/models/tiny/ready").status, 200);
    eventually("it is listed as unloaded", || server.state("tiny", "2").0 == "UNAVAILABLE");
    load("tiny", "").expect(200);
    assert_eq!(version(ask(&client, "/v2/models/tiny/infer", 0, &[])), "2");
    load("tiny", "{}").expect(200);
    let missing = load("nobody", "");
    assert!((400..500).contains(&missing.status) && missing.error().contains("nobody"), "{}", missing.text());
    let files = load("tiny", r#"{"parameters": {"config": "{}", "file:1/model.onnx": "QUJD"}}"#);
    assert_eq!(files.status, 501, "{}", files.text());
    for body in ["{", "[]", r#"{"parameters": 1}"#] {
        load("tiny", body).expect(400);
    }
}

/// A client of the admin listener, whose address the log tells.
fn admin(server: &Server) -> Client {
    let lines = server.logs();
    let line = lines.iter().find(|line| line.contains("listening")).expect("it listens");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    Client::new(&format!("http://{}", line["admin"].as_str().expect("an address")))
}
