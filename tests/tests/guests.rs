//! The same little plugin in C, JavaScript and Rust: the contract has no language's shape if nobody can
//! tell the three apart.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::thread;

use nuke_tests::{Answer, Repository, Server, eventually, guest};
use serde_json::{Value, json};

/// Each language is a version of one model, so that not even the model's name differs.
const LANGUAGES: [(&str, &str); 3] = [("1", "c"), ("2", "js"), ("3", "rust")];

fn start() -> Server {
    let repository = LANGUAGES.iter().fold(Repository::new(), |repository, (version, language)| {
        let component = std::fs::read(guest(language)).unwrap();
        repository.model("digits", version, "digits").plugin(component)
    });
    let repository = repository.model_yaml("versions: all\nqueue: {timeout: 60s}\n");
    Server::builder().repository(&repository).set("plugins.time", "20s").start()
}

fn predict(server: &Server, version: &str, body: &[u8]) -> Answer {
    server.post(&format!("/predict/digits/{version}?a=b"), "text/csv", body)
}

/// 64 numbers, another picture for each seed.
fn picture(seed: usize) -> Vec<f32> {
    (0..64).map(|pixel| ((pixel * (seed + 3) + pixel / 8 * seed) % 17) as f32).collect()
}

fn csv(values: &[f32]) -> String {
    values.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}

/// What the model itself says, without a plugin.
fn digit(server: &Server, values: &[f32]) -> usize {
    let body = json!({"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 64], "data": values}]});
    let answer = server.post_json("/v2/models/digits/versions/1/infer", &body).expect(200).json();
    let output =
        answer["outputs"].as_array().unwrap().iter().find(|output| output["name"] == "probabilities");
    let probabilities: Vec<f64> =
        output.unwrap()["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    (0..10).max_by(|&left, &right| probabilities[left].total_cmp(&probabilities[right])).unwrap()
}

/// Bodies of every kind that the three might read in different ways.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let zeros = |first: &str| format!("{first}{}", ",0".repeat(63)).into_bytes();
    vec![
        ("spaces and lines", csv(&picture(1)).replace(',', " ,\r\n\t").into_bytes()),
        ("signs, points and powers", format!("+1.5e1, -.5, 2., 1E-3{}", ",0".repeat(60)).into_bytes()),
        ("a number of 40 bytes", zeros("0000000000000000000000000000000000000007")),
        ("a number of 41 bytes", zeros("00000000000000000000000000000000000000007")),
        ("a number that rounds", zeros("0.1000000014901161193847656250000001")),
        ("a number that overflows", zeros("1e39")),
        ("a number that overflows a double", zeros("1e999")),
        ("an empty body", Vec::new()),
        ("a comma", b",".to_vec()),
        ("no number", zeros("seven")),
        ("a word that Rust and C read as a number", zeros("inf")),
        ("another", zeros("nan")),
        ("a hexadecimal number", zeros("0x10")),
        ("two points", zeros("1.2.3")),
        ("an exponent without digits", zeros("1e")),
        ("bytes beyond ASCII", zeros("\u{fc}\u{1f600}")),
        ("bytes that are no text", b"1,\xff\xfe\x00\x01,2".to_vec()),
        ("63 numbers", csv(&picture(2)[..63]).into_bytes()),
        ("65 numbers", (csv(&picture(2)) + ",0").into_bytes()),
        ("too few, and none is one", b"a,b".to_vec()),
    ]
}

#[test]
fn all_three_give_the_same_answers_byte_for_byte() {
    let server = start();
    let digits: Vec<_> = (0..12).map(|seed| ("a digit", csv(&picture(seed)).into_bytes())).collect();
    let mut statuses = Vec::new();
    for (what, body) in digits.into_iter().chain(bodies()) {
        let [c, js, rust] = LANGUAGES.map(|(version, _)| predict(&server, version, &body));
        for (language, other) in [("JavaScript", &js), ("Rust", &rust)] {
            let (left, right) = ((c.status, c.text_without_id()), (other.status, other.text_without_id()));
            assert_eq!(left, right, "{what}: C and {language} differ");
            assert_eq!(
                c.header("content-type"),
                other.header("content-type"),
                "{what}: C and {language} differ"
            );
        }
        statuses.push(c.status);
    }
    for status in [200, 400, 500] {
        assert!(statuses.contains(&status), "no body was answered with {status}: {statuses:?}");
    }
}

#[test]
fn the_answer_is_the_models() {
    let server = start();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..12 {
        let values = picture(seed);
        let expected = digit(&server, &values);
        seen.insert(expected);
        for (version, language) in LANGUAGES {
            let answer = predict(&server, version, csv(&values).as_bytes()).expect(200);
            assert_eq!(answer.text(), format!("{{\"digit\":{expected},\"values\":64}}"), "{language}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{language}");
            assert_eq!(answer.header("x-nuke-model-version"), Some(version), "{language}");
        }
    }
    assert!(seen.len() > 1, "all pictures are the same digit: {seen:?}");
}

#[test]
fn an_error_in_order_names_the_value_and_carries_its_detail() {
    let server = start();
    for (version, language) in LANGUAGES {
        let body = predict(&server, version, b"1,2, three ,4").expect(400).json();
        assert_eq!(body["error"], "value 2 is no number: 'three'", "{language}");
        assert_eq!(body["code"], "invalid_argument", "{language}");
        assert_eq!(body["details"], json!({"index": "2"}), "{language}");
        // It was an error in order: the instance serves on.
        predict(&server, version, csv(&picture(0)).as_bytes()).expect(200);
    }
    let broken = server.metrics().sum("nuke_plugin_instances_broken_total", &[("model", "digits")]);
    assert_eq!(broken, 0.0);
}

#[test]
fn a_log_line_has_its_field_its_model_and_its_version() {
    let server = start();
    for (version, language) in LANGUAGES {
        predict(&server, version, csv(&picture(0)).as_bytes()).expect(200);
        let line = |server: &Server| -> Option<Value> {
            server.log_lines("plugin").into_iter().find(|line| line["version"] == version)
        };
        eventually("the plugin's line", || line(&server).is_some());
        let line = line(&server).unwrap();
        assert_eq!(line["message"], "parsed", "{language}: {line}");
        assert_eq!(line["level"], "INFO", "{language}: {line}");
        assert_eq!(line["model"], "digits", "{language}: {line}");
        assert_eq!(line["fields"], "values=64", "{language}: {line}");
    }
}

#[test]
fn many_requests_at_a_time_are_kept_apart() {
    let server = start();
    let expected: Vec<String> = (0..8)
        .map(|seed| format!("{{\"digit\":{},\"values\":64}}", digit(&server, &picture(seed))))
        .collect();
    thread::scope(|scope| {
        for (thread, (version, language)) in LANGUAGES.iter().cycle().take(6).enumerate() {
            let (server, expected) = (&server, &expected);
            scope.spawn(move || {
                for round in 0..100 {
                    let seed = (round + thread) % expected.len();
                    let answer = predict(server, version, csv(&picture(seed)).as_bytes()).expect(200);
                    assert_eq!(answer.text(), expected[seed], "{language}");
                }
            });
        }
    });
}
