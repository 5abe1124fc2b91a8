//! Requests that look alike and are not.

use nuke_tests::{Repository, Server};
use serde_json::{Value, json};

use super::{ask, host, is_hit};

const INFER: &str = "/v2/models/two_inputs/infer";

fn two_inputs() -> Repository {
    Repository::new().model("two_inputs", "1", "two_inputs").model_yaml("cache: {ttl: 1h}\n")
}

fn input(name: &str, rows: usize, first: f32) -> Value {
    let data: Vec<f32> = (0..rows * 4).map(|at| first + at as f32).collect();
    json!({"name": name, "datatype": "FP32", "shape": [rows, 4], "data": data})
}

/// The sum's first element: what it has to be is known of each request.
#[track_caller]
fn sum(server: &Server, body: &Value) -> (f64, bool) {
    let answer = ask(&server.client(), INFER, body, "").expect(200);
    let json = answer.json();
    let output = json["outputs"].as_array().unwrap().iter().find(|output| output["name"] == "SUM");
    (output.unwrap()["data"][0].as_f64().unwrap(), is_hit(&answer))
}

#[test]
fn each_component_of_a_request_makes_another_answer() {
    let host = host(two_inputs());
    let body = |a: Value, b: Value| json!({"inputs": [a, b]});
    let (a, b) = (input("A", 1, 1.0), input("B", 1, 10.0));
    assert_eq!(sum(&host, &body(a.clone(), b.clone())), (11.0, false));
    // The order in a request says nothing.
    assert_eq!(sum(&host, &body(b.clone(), a.clone())), (11.0, true));
    // The same bytes under each other's name: the sum is the same, the difference is not.
    let swapped = body(input("A", 1, 10.0), input("B", 1, 1.0));
    let answer = ask(&host.client(), INFER, &swapped, "").expect(200);
    assert!(!is_hit(&answer));
    let outputs = answer.json()["outputs"].clone();
    let diff = outputs.as_array().unwrap().iter().find(|output| output["name"] == "DIFF").unwrap().clone();
    assert_eq!(diff["data"][0], 9.0);
    // The same bytes cut another way: two rows and one of each.
    let long = body(input("A", 2, 1.0), input("B", 2, 10.0));
    assert_eq!(sum(&host, &long), (11.0, false));
    // A byte that differs, anywhere.
    for at in 0..4 {
        let mut changed = body(a.clone(), b.clone());
        changed["inputs"][1]["data"][at] = json!(11.5 + at as f32);
        assert!(!sum(&host, &changed).1, "element {at}");
    }
}

#[test]
fn the_outputs_that_are_wanted_are_part_of_the_question() {
    let host = host(two_inputs());
    let with = |outputs: Value| {
        let mut body = json!({"inputs": [input("A", 1, 1.0), input("B", 1, 10.0)]});
        body["outputs"] = outputs;
        let answer = ask(&host.client(), INFER, &body, "").expect(200);
        let json = answer.json();
        let names: Vec<String> = json["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        (names.join(" "), is_hit(&answer))
    };
    let (sum, diff) = (json!({"name": "SUM"}), json!({"name": "DIFF"}));
    for _ in 0..2 {
        let first = with(json!([sum]));
        assert_eq!(first.0, "SUM");
    }
    assert_eq!(with(json!([diff])), ("DIFF".to_owned(), false));
    assert_eq!(with(json!([sum, diff])), ("SUM DIFF".to_owned(), false));
    assert_eq!(with(json!([diff, sum])), ("DIFF SUM".to_owned(), false));
    assert_eq!(with(json!([diff, sum])), ("DIFF SUM".to_owned(), true));
    // How an output is sent, and what is made of it, is no part of it.
    let classes = json!({"name": "SUM", "parameters": {"classification": 1}});
    assert_eq!(with(json!([classes])), ("SUM".to_owned(), true));
}

#[test]
fn models_and_versions_do_not_share_answers() {
    let repository = Repository::new()
        .model("one", "1", "two_inputs")
        .model("one", "2", "two_inputs")
        .model_yaml("{versions: all, cache: {ttl: 1h}}\n")
        .model("other", "1", "two_inputs")
        .model_yaml("cache: {ttl: 1h}\n");
    let host = host(repository);
    let body = json!({"inputs": [input("A", 1, 1.0), input("B", 1, 10.0)]});
    for path in
        ["/v2/models/one/versions/1/infer", "/v2/models/one/versions/2/infer", "/v2/models/other/infer"]
    {
        let (first, second) = (ask(&host.client(), path, &body, ""), ask(&host.client(), path, &body, ""));
        assert!(!is_hit(&first.expect(200)) && is_hit(&second.expect(200)), "{path}");
    }
    assert!(
        is_hit(&ask(&host.client(), "/v2/models/one/infer", &body, "").expect(200)),
        "the latest is version 2"
    );
}
