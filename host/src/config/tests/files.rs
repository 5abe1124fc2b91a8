//! `model.yaml`, `bundle.yaml`, files on disk, and the manual.

use std::time::Duration;

use super::super::section::Section;
use super::super::setting::{Text, Wrong};
use super::super::tree::Node;
use super::super::{
    BundleConfig, Capability, Loaded, ModelConfig, Report, ServerConfig, VersionPolicy, file, later, reader,
};
use super::lines;

fn model(text: &str) -> Loaded<ModelConfig> {
    ModelConfig::from_text("model.yaml", text).unwrap()
}

#[test]
fn a_model_without_a_file_has_the_defaults() {
    assert_eq!(model("").value, ModelConfig::default());
    assert_eq!(BundleConfig::from_text("bundle.yaml", "# nothing\n").unwrap().value, BundleConfig::default());
}

#[test]
fn versions_in_three_forms() {
    assert_eq!(model("versions: {latest: 2}").value.versions, VersionPolicy::Latest(2));
    assert_eq!(model("versions: all").value.versions, VersionPolicy::All);
    let named = VersionPolicy::Only(vec!["1".into(), "1.0".into(), "beta".into()]);
    assert_eq!(model("versions: [1, 1.0, 'beta']").value.versions, named);
    assert_eq!(model("versions:\n").value.versions, VersionPolicy::Latest(1));
    let wrong = |text: &str| lines(ModelConfig::from_text("model.yaml", text)).join("\n");
    let expected = "model.yaml:1:11: versions: expected {latest: 2}, all, or a list [1, 3], got 'newest'";
    assert_eq!(wrong("versions: newest"), expected);
    assert!(wrong("versions: []").contains("versions: names no version"));
    assert!(wrong("versions: {latest: 0}").contains("versions.latest: expected 1 to 1000, got 0"));
    assert!(wrong("versions: {newest: 1}").contains("versions.newest: unknown key"));
    assert!(wrong("versions: [../x]").contains("versions[0]: expected a name"));
}

#[test]
fn a_whole_model_file() {
    let config = model("workers: {max: 4}\nqueue: {size: 0, timeout: 50ms}\n").value;
    assert_eq!((config.workers.max, config.queue.size), (Some(4), 0));
    assert_eq!(config.queue.timeout, Duration::from_millis(50));
}

#[test]
fn a_whole_bundle_file() {
    let text = "plugin: image-classify@^1\ncapabilities: [image]\nsettings: {top_k: 5}\nwarmup: [samples/coffee.jpg]\n\
                model: net.onnx\nlabels: {scores: names/labels.txt}\n";
    let config = BundleConfig::from_text("bundle.yaml", text).unwrap().value;
    assert_eq!(config.plugin.unwrap().to_string(), "image-classify@^1");
    assert_eq!(config.capabilities, Capability::ALL);
    assert_eq!(config.settings, [("top_k".to_owned(), "5".to_owned())]);
    assert_eq!(config.warmup[0].as_str(), "samples/coffee.jpg");
    assert_eq!(config.model.as_str(), "net.onnx");
    assert_eq!((config.labels[0].0.as_str(), config.labels[0].1.as_str()), ("scores", "names/labels.txt"));
    let wrong = "plugin: ../p.wasm\nwarmup: [/etc/passwd, ok.jpg, a/../../b]\nmodel: ''\nsettings: 5\n\
                 labels: {y: ../l.txt, z: l.txt}\n";
    let found = lines(BundleConfig::from_text("bundle.yaml", wrong));
    let keys = ["plugin", "warmup[0]", "warmup[2]", "model", "settings", "labels.y"];
    assert_eq!(found.len(), keys.len(), "{found:?}");
    assert!(
        keys.iter().zip(&found).all(|(key, line)| line.contains(&format!(": {key}: expected"))),
        "{found:?}"
    );
}

#[test]
fn files_are_read_from_disk() {
    let folder = std::env::temp_dir().join(format!("nuke-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("config.yaml");
    std::fs::write(&path, "\u{feff}server:\r\n  http: 127.0.0.1:9\r\nrepository: {models: m}\r\n").unwrap();
    let loaded = ServerConfig::load(Some(&path), [], &[]).unwrap();
    assert_eq!(loaded.value.server.http.port(), 9);
    assert_eq!(loaded.value.repository.models, folder.join("m"));
    assert_eq!(loaded.file.as_deref(), Some(path.as_path()));
    std::fs::write(&path, "workers: {max: 2}\n").unwrap();
    assert_eq!(ModelConfig::load(&path).unwrap().value.workers.max, Some(2));
    std::fs::remove_dir_all(&folder).unwrap();
    let missing = lines(ServerConfig::load(Some(&path), [], &[]));
    assert!(missing[0].contains("config.yaml: cannot be read: "), "{missing:?}");
}

/// A value that must not be shown.
#[derive(Debug)]
struct Secret(String);

impl Text for Secret {
    const SECRET: bool = true;

    fn expected() -> String {
        "at least four characters".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.len() < 4 { Err(Wrong::Form) } else { Ok(Self(text.to_owned())) }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

fn with_secret(text: &str) -> Result<((String, Vec<Secret>), Report), super::Problems> {
    let root = file::decode(text.as_bytes(), "x.yaml", &mut Vec::new()).unwrap_or_else(Node::empty);
    let read = |section: &mut Section<'_>| {
        let one = section.take_if("one", Secret("unset".to_owned()), |secret| match secret.0.as_str() {
            "forbidden" => Err(format!("{} is taken", secret.0)),
            _ => Ok(()),
        });
        (one.0, section.take("many", Vec::new()))
    };
    reader::Reader::new("x.yaml", later::BUNDLE, Vec::new()).decode(root, read)
}

#[test]
fn secrets_are_never_shown() {
    let ((one, many), report) = with_secret("one: hunter22\nmany: [hunter23]\n").unwrap();
    assert_eq!((one.as_str(), many[0].0.as_str()), ("hunter22", "hunter23"));
    assert!(report.iter().all(|line| line.value == "\"***\"") && !report.to_yaml().contains("hunter"));
    let problems = with_secret("one: bad\nmany: ugh\n").unwrap_err().to_string();
    assert!(
        problems.contains("got '***'") && !problems.contains("bad") && !problems.contains("ugh"),
        "{problems}"
    );
    let problems = with_secret("one: forbidden\n").unwrap_err().to_string();
    assert_eq!(problems, "x.yaml:1:6: one: the secret is out of range");
}

const MANUAL: &str = include_str!("../../../../docs/configuration.md");

/// The part of the manual about one file.
fn chapter(file: &str) -> &'static str {
    let heading = format!("\n## {file}");
    let start = MANUAL.find(&heading).unwrap_or_else(|| panic!("no chapter {file}")) + 1;
    let end = MANUAL[start..].find("\n## ").map_or(MANUAL.len(), |length| start + length);
    &MANUAL[start..end]
}

#[test]
fn every_key_is_in_the_manual() {
    let entry = "models: [{name: a, path: b, version: '1', max_workers: 1, gpu_id: 0}]\n\
                 auth: {jwt: {keys: [{algorithm: HS256, file: k, kid: a}]}, certificates: [{subject: a, scopes: [admin]}]}";
    let server = ServerConfig::from_text("config.yaml", entry).unwrap().report;
    let bundle = BundleConfig::from_text("bundle.yaml", "").unwrap().report;
    let files = [("config.yaml", server, later::SERVER), ("model.yaml", model("").report, later::MODEL)];
    for (name, report, later) in files.into_iter().chain([("bundle.yaml", bundle, later::BUNDLE)]) {
        let keys = report.iter().map(|line| line.path.pattern());
        for key in keys.chain(later.iter().map(|later| later.pattern.to_owned())) {
            assert!(chapter(name).contains(&format!("`{key}`")), "{key} is not in the chapter on {name}");
        }
    }
}

#[test]
fn every_default_is_in_the_manual() {
    // Those that depend on the machine are described instead.
    let machine =
        ["plugins.instances", "plugins.threads", "plugins.compile_cache", "repository.validation.verdicts"];
    let reports = [
        ("config.yaml", ServerConfig::from_text("config.yaml", "").unwrap().report),
        ("model.yaml", model("").report),
        ("bundle.yaml", BundleConfig::from_text("bundle.yaml", "").unwrap().report),
    ];
    for (name, report) in reports {
        for line in report.iter().filter(|line| !machine.contains(&line.path.to_string().as_str())) {
            let row = format!("| `{}` | `{}` |", line.path, line.value);
            assert!(chapter(name).contains(&row), "no row {row} in the chapter on {name}");
        }
    }
}

#[test]
fn the_examples_of_the_manual_are_valid() {
    let example = |file: &str| {
        let start = chapter(file).find("```yaml\n").expect("an example") + "```yaml\n".len();
        chapter(file)[start..].split("```").next().unwrap_or_default().to_owned()
    };
    assert_eq!(lines(ServerConfig::from_text("config.yaml", &example("config.yaml"))), [""; 0]);
    assert_eq!(lines(ModelConfig::from_text("model.yaml", &example("model.yaml"))), [""; 0]);
    assert_eq!(lines(BundleConfig::from_text("bundle.yaml", &example("bundle.yaml"))), [""; 0]);
}
