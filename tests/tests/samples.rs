//! The sample models as they are in `models/`, served together: both forecasters of CO2 against Python's
//! onnxruntime, and the classifier in 8-bit integers against the one in floats.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use nuke_tests::{Server, photo, plugins, root};
use serde_json::Value;

/// What onnxruntime 1.31.1 in Python makes of the sample, by version, in ppm.
const FORECASTS: [(&str, [f64; 13]); 2] = [
    (
        "1",
        [
            371.63, 371.75, 371.88, 372.13, 372.23, 372.45, 372.61, 372.90, 373.15, 373.36, 373.64, 373.95,
            374.20,
        ],
    ),
    (
        "2",
        [
            371.73, 371.86, 371.93, 372.17, 372.27, 372.54, 372.82, 372.91, 373.29, 373.46, 373.84, 374.09,
            374.42,
        ],
    ),
];
/// Half of the last digit that is written, and what processors differ by.
const TOLERANCE: f64 = 0.015;

fn start() -> Server {
    let server = Server::builder().models(root().join("models")).plugins(plugins());
    // The time of the slowest photo on the busiest machine.
    server.set("plugins.time", "30s").start()
}

fn sample() -> Vec<u8> {
    std::fs::read(root().join("models/co2-forecast/1/samples/mauna-loa.csv")).unwrap()
}

#[test]
fn every_sample_is_ready() {
    let index = start().post("/v2/repository/index", "", "").expect(200).json();
    let versions = index.as_array().unwrap().iter().map(|entry| {
        assert_eq!(entry["state"], "READY", "{entry}");
        format!("{} {}", entry["name"].as_str().unwrap(), entry["version"].as_str().unwrap())
    });
    let expected =
        ["co2-forecast 1", "co2-forecast 2", "digits 1", "image-classifier 1", "image-classifier 2"];
    assert_eq!(versions.collect::<Vec<_>>(), expected);
}

#[test]
fn both_forecasters_answer_as_onnxruntime_does_in_python() {
    let server = start();
    for (version, expected) in FORECASTS {
        let path = format!("/predict/co2-forecast/{version}");
        let answer = server.post(&path, "text/csv", sample()).expect(200).json();
        assert_eq!(answer["unit"], "ppm");
        let weeks = answer["forecast"].as_array().unwrap();
        assert_eq!(weeks.len(), expected.len());
        for (week, expected) in weeks.iter().zip(expected) {
            let value = week["co2"].as_f64().unwrap();
            assert!((value - expected).abs() < TOLERANCE, "version {version}: {week}, expected {expected}");
        }
        assert_eq!((&weeks[0]["date"], &weeks[12]["date"]), (&"2002-01-05".into(), &"2002-03-30".into()));
    }
}

#[test]
fn a_series_that_is_not_whole_is_refused() {
    let server = start();
    let text = String::from_utf8(sample()).unwrap();
    let without = |week: &str| -> String {
        text.lines().filter(|line| !line.starts_with(week)).flat_map(|line| [line, "\n"]).collect()
    };
    for (body, words) in [
        (without("2001-06-16"), "the week of 2001-06-16 is missing"),
        (without("2001-12-29"), "52 weekly values are expected, got 51"),
        (text.replace("371.5", "n/a"), "'n/a' is no number"),
        (text.replace("371.5", "NaN"), "NaN is no concentration"),
        (String::new(), "the body is empty"),
    ] {
        let message = server.post("/predict/co2-forecast", "text/csv", body).expect(400).error();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(server.metrics().sum("nuke_plugin_instances_broken_total", &[]), 0.0);
}

#[test]
fn the_classifier_in_integers_says_what_the_one_in_floats_does() {
    let server = start();
    // The photos whose first two labels lie well apart in version 1.
    for name in ["coffee.png", "camera.png", "rocket.jpg"] {
        let best = |version: &str| -> Value {
            let path = format!("/predict/image-classifier/{version}?k=1");
            server.post(&path, "", photo(name)).expect(200).json()["predictions"][0].clone()
        };
        let (floats, integers) = (best("1"), best("2"));
        assert_eq!(floats["label"], integers["label"], "{name}: {floats} and {integers}");
        let apart = floats["probability"].as_f64().unwrap() - integers["probability"].as_f64().unwrap();
        assert!(apart.abs() < 0.15, "{name}: {floats} and {integers}");
    }
}
