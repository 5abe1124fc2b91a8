//! What `--print-config` prints gives the same configuration again.

use proptest::prelude::*;

use super::super::{BundleConfig, ModelConfig, ServerConfig};
use super::variables;

fn yaml_of(pairs: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        let (section, key) = key.split_once('.').expect("two levels");
        let heading = format!("{section}:\n");
        if !text.contains(&format!("\n{heading}")) && !text.starts_with(&heading) {
            text.push_str(&heading);
        }
        text.push_str(&format!("  {key}: {value}\n"));
    }
    text
}

prop_compose! {
    fn server_text()(
        port in any::<u16>(), connections in 1..1_000_000_u32, millis in 1..3_600_000_u32, bytes in 1..1_u64 << 32,
        folder in "[^'\\x00-\\x1f\u{7f}-\u{9f}\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}]{1,20}", arena in any::<bool>(),
        pooling in prop::sample::select(vec!["auto", "on", "off"]),
        headers in prop::sample::subsequence(vec!["Accept", "x-user", "authorization", "on", "1"], 0..=5),
        models in prop::collection::vec(("[a-zA-Z0-9_-]{1,8}", "[a-z0-9./ :#-]{1,12}", 1..9_u32), 0..4),
    ) -> String {
        let mut text = yaml_of(&[
            ("server.http", format!("'[::1]:{port}'")),
            ("server.max_connections", connections.to_string()),
            ("server.idle_timeout", format!("{millis}ms")),
            ("server.max_body", bytes.to_string()),
            ("repository.models", format!("'{folder}'")),
            ("log.access", arena.to_string()),
            ("runtime.ort_lib", if arena { "null".into() } else { "lib.so".to_owned() }),
            ("plugins.pooling", pooling.to_owned()),
            ("predict.headers", format!("[{}]", headers.join(", "))),
        ]);
        text.push_str("models:\n");
        for (index, (name, path, version)) in models.iter().enumerate() {
            text.push_str(&format!("- {{name: '{name}{index}', path: '{path}', version: {version}.0, max_workers: 2}}\n"));
        }
        text
    }
}

proptest! {
    #[test]
    fn the_server(text in server_text()) {
        let loaded = ServerConfig::from_text("config.yaml", &text).unwrap();
        let printed = loaded.report.to_yaml();
        let again = ServerConfig::from_text("config.yaml", &printed).unwrap();
        prop_assert_eq!(loaded.value, again.value);
        let values = |yaml: &str| yaml.lines().map(|line| line.split("  # ").next().map(str::to_owned)).collect::<Vec<_>>();
        prop_assert_eq!(values(&printed), values(&again.report.to_yaml()));
    }

    #[test]
    fn a_bundle(pairs in prop::collection::btree_map("[\\PC\n]{0,12}", "[\\PC\n\t]{0,12}", 0..5)) {
        let mut text = "settings:\n".to_owned();
        for (key, value) in &pairs {
            let (key, value) = (super::super::yaml_text::scalar(key), super::super::yaml_text::scalar(value));
            text.push_str(&format!("  {key}: [{value}, {{{key}: 1, thirteen_long: [true, null, x]}}]\n"));
        }
        let loaded = BundleConfig::from_text("bundle.yaml", &text).unwrap();
        let again = BundleConfig::from_text("bundle.yaml", &loaded.report.to_yaml()).unwrap();
        prop_assert_eq!(loaded.value, again.value);
    }
}

#[test]
fn the_defaults_of_each_file() {
    let environment = variables(&[("HOME", "/home/some one")]);
    let server = ServerConfig::from_sources("config.yaml", "", &environment, &[]).unwrap();
    let again = ServerConfig::from_text("config.yaml", &server.report.to_yaml()).unwrap();
    assert_eq!(server.value, again.value);
    for text in ["", "versions: all", "versions: [1, '2.0']", "versions: {latest: 3}"] {
        let model = ModelConfig::from_text("model.yaml", text).unwrap();
        let again = ModelConfig::from_text("model.yaml", &model.report.to_yaml()).unwrap();
        assert_eq!(model.value, again.value);
    }
}
