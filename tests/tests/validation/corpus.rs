//! Every kind of bad model and bad plugin that we could think of, one after the other.

use nuke_tests::{Repository, components};

use super::{PATIENT, builder, neighbour, no_zombie_stays, reason_of, tiny, while_the_neighbour_answers};

/// A message of protobuf with one field that has a length.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut value in [number << 3 | 2, content.len() as u64] {
        while value >= 0x80 {
            bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    bytes.extend_from_slice(content);
    bytes
}

/// A graph in an attribute of a node in a graph, and so on.
fn nested(levels: usize) -> Vec<u8> {
    let graph = (0..levels).fold(Vec::new(), |graph, _| field(1, &field(5, &field(6, &graph))));
    field(7, &graph)
}

/// The fixtures of `bad-models`, with words that the reason has.
const FIXTURES: [(&str, &str); 17] = [
    ("bad-shape", "MatMul"),
    ("bad-type", "tensor(int64)"),
    ("cyclic", "model.onnx"),
    ("dangling-input", "nowhere"),
    ("duplicate-input", "x"),
    ("empty", "empty"),
    ("external-absolute", "/etc/passwd"),
    ("external-escape", "../../etc/passwd"),
    ("future-format", "version 99 of the ONNX format; this ONNX Runtime knows up to"),
    ("future-opset", "opset 9999 of domain ai.onnx; this ONNX Runtime knows up to"),
    ("gzip", "model.onnx"),
    ("huge-dimensions", "weights"),
    ("nameless-input", "input 1 has no name"),
    ("not-onnx", "ONNX"),
    ("ort-format", "model.onnx"),
    ("truncated", "cut short"),
    ("wrong-op", "NoSuchOperator"),
];

#[test]
fn every_bad_model_costs_a_reason_and_nothing_else() {
    let repository = FIXTURES.iter().fold(Repository::new(), |all, (name, _)| all.model(name, "1", name));
    let whole = tiny();
    let mut repository = repository.model("tiny", "1", "tiny").model_yaml(PATIENT);
    let cuts: Vec<usize> = (1..whole.len()).step_by(whole.len() / 12).collect();
    for cut in &cuts {
        repository = repository.empty_version(&format!("cut-{cut}"), "1").file("model.onnx", &whole[..*cut]);
    }
    for levels in [20, 100, 10_000] {
        let name = format!("nested-{levels}");
        repository = repository.empty_version(&name, "1").file("model.onnx", nested(levels));
    }
    let mut server = builder(&repository).start();
    while_the_neighbour_answers(&server, || {
        for (name, needle) in FIXTURES {
            let reason = reason_of(&server, name);
            assert!(
                reason.contains(needle) && reason.contains("model.onnx"),
                "{name}: {needle:?} is not in {reason:?}"
            );
            assert!(!reason.contains('\n') && !reason.ends_with('.'), "{name}: {reason:?}");
        }
        for cut in cuts {
            assert!(reason_of(&server, &format!("cut-{cut}")).contains("model.onnx"));
        }
        for levels in [100, 10_000] {
            assert!(reason_of(&server, &format!("nested-{levels}")).contains("deep"));
        }
        assert!(reason_of(&server, "nested-20").contains("model.onnx"));
    });
    assert!(server.is_running());
    no_zombie_stays(&server);
}

#[test]
fn a_model_that_needs_too_much_memory_is_told_from_one_that_takes_too_long() {
    let repository = Repository::new()
        .model("tiny", "1", "tiny")
        .model_yaml(PATIENT)
        .model("hungry", "1", "hungry")
        .model("endless", "1", "endless");
    let server = builder(&repository)
        .set("repository.validation.memory", "1GiB")
        // Memory runs out long before that, on a busy machine too.
        .set("repository.validation.time", "15s")
        .without_waiting()
        .start();
    nuke_tests::eventually("tiny serves", || neighbour(&server.client()).is_ok());
    while_the_neighbour_answers(&server, || {
        let reason = reason_of(&server, "hungry");
        assert!(reason.contains("1GiB") && reason.contains("repository.validation.memory"), "{reason}");
        let reason = reason_of(&server, "endless");
        let expected = "validation took longer than 15s and was ended while it ran the model on zeros";
        assert!(reason.contains(expected) && reason.contains("repository.validation.time"), "{reason}");
    });
}

#[test]
fn a_bad_plugin_costs_a_reason_and_nothing_else() {
    let bad = [
        ("core-module", "not a component"),
        ("not-wasm", "plugin.wasm"),
        ("truncated", "plugin.wasm"),
        ("wrong-version", "nuke:plugin"),
        ("wrong-world", "plugin.wasm"),
        ("uses-image", "capabilities"),
        ("loop-at-start", "plugins.time"),
        ("memory-at-start", "plugins.memory"),
        ("table-at-start", "plugin.wasm"),
    ];
    let repository = bad
        .iter()
        .fold(Repository::new().model("tiny", "1", "tiny").model_yaml(PATIENT), |all, (name, _)| {
            all.model(name, "1", "tiny").plugin(components::build(name))
        });
    let growing = components::build("grow-forever");
    let repository = repository
        .model("growing", "1", "tiny")
        .plugin(growing)
        .file("sample.bin", "x")
        .bundle_yaml("warmup: [sample.bin]\n")
        .model("healthy", "1", "tiny")
        .plugin(components::build("good"));
    let server = builder(&repository).start();
    while_the_neighbour_answers(&server, || {
        let others: Vec<String> = bad
            .iter()
            .map(|(name, needle)| (needle, reason_of(&server, name)))
            .filter(|(needle, reason)| !reason.contains(**needle))
            .map(|(needle, reason)| format!("{needle:?} is not in {reason:?}"))
            .collect();
        assert_eq!(others, [""; 0]);
        let reason = reason_of(&server, "growing");
        assert!(reason.contains("warm-up with sample.bin failed"), "{reason}");
    });
    assert_eq!(server.state("healthy", "1").0, "READY");
}
