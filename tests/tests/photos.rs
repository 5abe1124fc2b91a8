//! A photo in, labels out: both builds of the sample plugin against the reference that Python's onnxruntime
//! and Pillow computed (`tests/reference`), within the tolerance that is stated there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::thread;

use nuke_tests::{Answer, Repository, Server, photo, plugins, root};
use serde_json::Value;

/// The models: one for each build of the plugin.
const BUILDS: [&str; 2] = ["host-image", "wasm-decode"];
const CLASSES: usize = 1000;

/// The sample bundle as it is, and again with the plugin that decodes by itself and has no capability.
fn start() -> Server {
    let bundle = root().join("models/image-classifier/1");
    let [host, wasm] = BUILDS;
    let repository = Repository::new()
        .model(host, "1", &bundle)
        .model(wasm, "1", &bundle)
        .bundle_yaml("plugin: image-classify-wasm@^1\nsettings: {top_k: 5}\nwarmup: [samples/coffee.png]\n");
    // The time of the slowest photo on the busiest machine.
    Server::builder().repository(&repository).plugins(plugins()).set("plugins.time", "30s").start()
}

fn reference() -> Value {
    let path = root().join("tests/reference/reference.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn media_type(name: &str) -> &'static str {
    if name.ends_with(".png") { "image/png" } else { "image/jpeg" }
}

fn classify(server: &Server, build: &str, query: &str, name: &str) -> Answer {
    server.post(&format!("/predict/{build}{query}"), media_type(name), photo(name))
}

/// A label of an answer, or of the reference.
#[derive(Clone, Debug)]
struct Ranked {
    index: u64,
    label: String,
    probability: f64,
}

fn ranked(list: &Value) -> Vec<Ranked> {
    let entries = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    let entry = |entry: &Value| Ranked {
        index: entry["index"].as_u64().unwrap(),
        label: entry["label"].as_str().unwrap().to_owned(),
        probability: entry["probability"].as_f64().unwrap(),
    };
    entries.iter().map(entry).collect()
}

/// What is off with an answer's top 5 by the reference's rules; empty if nothing.
fn differences(found: &[Ranked], photo: &Value, tolerance: &Value) -> Vec<String> {
    let (top, candidates) = (ranked(&photo["top5"]), ranked(&photo["candidates"]));
    let (most, near) = (tolerance["log_probability"].as_f64().unwrap(), tolerance["rank"].as_f64().unwrap());
    let mut off = Vec::new();
    if found.len() != top.len() {
        off.push(format!("{} labels instead of {}", found.len(), top.len()));
    }
    for (place, (label, at_place)) in found.iter().zip(&top).enumerate() {
        let known = top.iter().chain(&candidates).find(|known| known.index == label.index);
        let Some(known) = known else {
            off.push(format!("{label:?} is not among the reference's"));
            continue;
        };
        if known.label != label.label {
            off.push(format!("{label:?} is called '{}'", known.label));
        }
        let error = (label.probability / known.probability).ln();
        if error.abs() > most {
            off.push(format!("{label:?}: ln is off by {error:.3} from {}", known.probability));
        }
        let distance = (known.probability / at_place.probability).ln();
        if distance.abs() > near {
            off.push(format!("{label:?} at place {place} instead of {at_place:?}"));
        }
    }
    off
}

#[test]
fn the_top_five_of_six_photos_are_the_references_for_both_builds() {
    let (server, reference) = (start(), reference());
    let photos = reference["photos"].as_array().unwrap();
    assert_eq!(photos.len(), 6);
    let mut off = Vec::new();
    for expected in photos {
        let name = expected["photo"].as_str().unwrap();
        for build in BUILDS {
            let answer = classify(&server, build, "", name).expect(200);
            assert_eq!(answer.header("content-type"), Some("application/json"), "{build}");
            let found = ranked(&answer.json()["predictions"]);
            let differences = differences(&found, expected, &reference["tolerance"]);
            off.extend(differences.into_iter().map(|difference| format!("{build}, {name}: {difference}")));
        }
    }
    assert!(off.is_empty(), "{}", off.join("\n"));
}

#[test]
fn the_tolerance_tells_wrong_preprocessing_apart() {
    let bundle = root().join("models/image-classifier/1");
    let wrong = [
        ("bgr", "channels: bgr"),
        ("mean", "mean: 0"),
        ("size", "resize: 224"),
        ("nearest", "filter: nearest"),
    ];
    let repository = wrong.iter().fold(Repository::new(), |repository, (name, setting)| {
        let text = format!("plugin: image-classify@^1\ncapabilities: [image]\nsettings: {{{setting}}}\n");
        repository.model(name, "1", &bundle).bundle_yaml(&text)
    });
    let server =
        Server::builder().repository(&repository).plugins(plugins()).set("plugins.time", "30s").start();
    let reference = reference();
    for (model, setting) in wrong {
        let found = reference["photos"].as_array().unwrap().iter().any(|expected| {
            let answer = classify(&server, model, "", expected["photo"].as_str().unwrap()).expect(200);
            !differences(&ranked(&answer.json()["predictions"]), expected, &reference["tolerance"]).is_empty()
        });
        assert!(found, "with '{setting}' all six photos are within the tolerance");
    }
}

#[test]
fn an_espresso_is_an_espresso() {
    let server = start();
    for (name, words) in [("coffee.png", "espresso"), ("camera.png", "tripod"), ("chelsea.png", "cat")] {
        for build in BUILDS {
            let best =
                ranked(&classify(&server, build, "?k=1", name).expect(200).json()["predictions"]).remove(0);
            assert!(best.label.contains(words), "{build}, {name}: {best:?}");
        }
    }
}

#[test]
fn both_builds_agree() {
    let server = start();
    for name in ["rocket.jpg", "astronaut.png"] {
        let [host, wasm] = BUILDS
            .map(|build| ranked(&classify(&server, build, "?k=5", name).expect(200).json()["predictions"]));
        for (host, wasm) in host.iter().zip(&wasm) {
            assert_eq!(host.index, wasm.index, "{name}");
            let apart = (host.probability / wasm.probability).ln().abs();
            assert!(apart < 0.02, "{name}: {host:?} and {wasm:?}");
        }
    }
}

#[test]
fn the_request_says_how_many_labels_it_wants() {
    let server = start();
    for build in BUILDS {
        for k in [1, 3, 17, CLASSES] {
            let answer = classify(&server, build, &format!("/1?k={k}"), "coffee.png").expect(200);
            let found = ranked(&answer.json()["predictions"]);
            assert_eq!(found.len(), k, "{build}");
            let falling = found.windows(2).all(|pair| pair[0].probability >= pair[1].probability);
            assert!(falling, "{build}: not by probability");
            let sum: f64 = found.iter().map(|label| label.probability).sum();
            assert!(sum < 1.001 && (k < CLASSES || sum > 0.999), "{build}: {k} labels sum up to {sum}");
        }
        assert_eq!(
            classify(&server, build, "", "coffee.png").json()["predictions"].as_array().unwrap().len(),
            5
        );
        for k in ["0", "1001", "-1", "five", "", "1.5", "99999999999999999999"] {
            let answer = classify(&server, build, &format!("?k={k}"), "coffee.png").expect(400);
            assert!(answer.error().contains("'k'"), "{build}, k={k}: {}", answer.error());
        }
    }
}

#[test]
fn a_body_that_is_no_picture_is_refused_by_what_it_says_it_is() {
    let server = start();
    let coffee = photo("coffee.png");
    let (half, rocket) = (&coffee[..coffee.len() / 2], photo("rocket.jpg"));
    let cases: [(&str, &[u8], u16, &str); 10] = [
        ("image/png", half, 400, "no picture"),
        ("image/jpeg", &rocket[..200], 400, "no picture"),
        ("image/jpeg", b"\xff\xd8\xff", 400, "no picture"),
        ("image/png", b"not a picture", 400, "no picture"),
        ("application/octet-stream", b"not a picture", 400, "no picture"),
        ("", b"not a picture", 400, "no picture"),
        ("image/png", b"", 400, "empty"),
        ("text/plain", b"not a picture", 415, "text/plain"),
        ("Application/JSON; charset=utf-8", b"{\"inputs\": []}", 415, "application/json"),
        ("image/gif", b"GIF89a\x01\x00\x01\x00", 400, "no picture"),
    ];
    for build in BUILDS {
        for (media_type, body, status, names) in cases {
            let answer = server.post(&format!("/predict/{build}"), media_type, body);
            assert_eq!(answer.status, status, "{build}, {media_type}: {}", answer.text());
            assert!(answer.error().contains(names), "{build}, {media_type}: {}", answer.error());
        }
        // A media type that is wrong about a picture does no harm.
        let answer = server.post(&format!("/predict/{build}"), "text/plain", coffee.clone());
        assert_eq!(ranked(&answer.expect(200).json()["predictions"])[0].label, "espresso", "{build}");
    }
    let broken = server.metrics().sum("nuke_plugin_instances_broken_total", &[]);
    assert_eq!(broken, 0.0, "a body that a client sent has broken an instance");
}

/// A PNG's signature with a header that claims this size, and no pixel.
fn header_of(side: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend([side.to_be_bytes(), side.to_be_bytes()].concat());
    header.extend([8, 2, 0, 0, 0]);
    let check = |bytes: &[u8]| {
        let shift = |check: u32, _| if check & 1 == 1 { check >> 1 ^ 0xedb8_8320 } else { check >> 1 };
        !bytes.iter().fold(u32::MAX, |check, byte| (0..8).fold(check ^ u32::from(*byte), shift))
    };
    let pixels = [b"\0\0\0\0IDAT".as_slice(), &check(b"IDAT").to_be_bytes()].concat();
    [b"\x89PNG\r\n\x1a\n\0\0\0\x0d".as_slice(), &header, &check(&header).to_be_bytes(), &pixels].concat()
}

#[test]
fn a_picture_of_too_many_pixels_is_refused_before_it_takes_memory() {
    let server = start();
    for build in BUILDS {
        classify(&server, build, "", "coffee.png").expect(200);
        let before = server.rss();
        let post = |side| server.post(&format!("/predict/{build}"), "image/png", header_of(side)).expect(413);
        let message = post(9000).error();
        assert!(message.contains("9000x9000") && message.contains("pixels"), "{build}: {message}");
        let message = post(65_500).error();
        assert!(message.contains("pixels") || message.contains("memory"), "{build}: {message}");
        let grown = server.rss().saturating_sub(before) >> 20;
        assert!(grown < 64, "{build}: {grown} MiB for two headers");
    }
    assert_eq!(server.metrics().sum("nuke_plugin_instances_broken_total", &[]), 0.0);
}

#[test]
fn photos_at_a_time_do_not_mix() {
    let server = start();
    let photos = ["coffee.png", "camera.png", "rocket.jpg"];
    let expected: Vec<String> =
        photos.iter().map(|name| classify(&server, BUILDS[0], "", name).text()).collect();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (server, expected) = (&server, &expected);
            scope.spawn(move || {
                for round in 0..6 {
                    let which = (thread + round) % photos.len();
                    let answer = classify(server, BUILDS[0], "", photos[which]).expect(200);
                    assert_eq!(answer.text(), expected[which], "{}", photos[which]);
                }
            });
        }
    });
}
