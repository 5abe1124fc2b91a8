//! `bundle.yaml`: what one version of a model consists of.

use std::fmt;
use std::path::Path;

use semver::VersionReq;

use super::json_text;
use super::names::{Capability, Name};
use super::section::Section;
use super::setting::{At, Setting, Text, Wrong};
use super::tree::{Node, Value};
use super::yaml_text;

/// What one version of a model consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleConfig {
    /// `plugin`, default none: the plugin that reads requests and writes answers. Without it the
    /// bundle's own `plugin.wasm` is used if there is one, else none.
    pub plugin: Option<PluginRef>,
    /// `capabilities`, default logging and bundle: what the plugin may import. Those two are
    /// always in it; name those that come on top. Each must be allowed by the operator as well.
    pub capabilities: Vec<Capability>,
    /// `settings`, default none: pairs for the plugin in the file's order; scalars as text, lists
    /// and maps as JSON.
    pub settings: Vec<(String, String)>,
    /// `warmup`, default none: files of the bundle that are sent through it before it serves. Each
    /// costs its time at load, and saves it for the first request.
    pub warmup: Vec<BundlePath>,
    /// `model`, default model.onnx: the model's file.
    pub model: BundlePath,
    /// `labels`, default none: for outputs by name, the file of the bundle that has a label for each of their
    /// elements, one a line. Clients that ask for classification get them.
    pub labels: Vec<(String, BundlePath)>,
}

impl Default for BundleConfig {
    /// What is in effect without a `bundle.yaml`.
    fn default() -> Self {
        Self {
            plugin: None,
            capabilities: ALWAYS.to_vec(),
            settings: Vec::new(),
            warmup: Vec::new(),
            model: BundlePath("model.onnx".to_owned()),
            labels: Vec::new(),
        }
    }
}

/// The capabilities that need not be named.
const ALWAYS: [Capability; 2] = [Capability::Logging, Capability::Bundle];

/// Outputs that may have labels.
const MAX_LABELED: usize = 64;

/// Decodes the whole file.
pub(super) fn decode(section: &mut Section<'_>) -> BundleConfig {
    let default = BundleConfig::default();
    BundleConfig {
        plugin: section.take("plugin", default.plugin),
        capabilities: section.take("capabilities", Capabilities(default.capabilities)).0,
        settings: settings(section),
        warmup: section.take("warmup", default.warmup),
        model: section.take("model", default.model),
        labels: section.named_values("labels", 0..=MAX_LABELED, |_, _| Ok(())),
    }
}

fn settings(section: &mut Section<'_>) -> Vec<(String, String)> {
    const KEY: &str = "settings";
    let path = section.path().key(KEY);
    let node = section.claim(KEY);
    let place = node.as_ref().map(|node| node.place.clone());
    let entries = match node {
        Some(Node { value: Value::Mapping(entries), .. }) => entries,
        Some(node) if !node.is_null() => {
            section.problem(KEY, &node.place, format!("expected a map of keys, got {}", node.describe()));
            Vec::new()
        }
        _ => Vec::new(),
    };
    if entries.is_empty() {
        section.record_raw(path.clone(), "{}".to_owned(), place.as_ref());
    }
    let mut pairs = Vec::with_capacity(entries.len());
    for entry in entries {
        let (text, yaml) = match &entry.value.value {
            Value::Scalar { text, .. } => (text.clone(), yaml_text::scalar(text)),
            _ => {
                let json = json_text::of(&entry.value);
                (json.clone(), json)
            }
        };
        section.record_raw(path.key(&entry.key), yaml, Some(&entry.value.place));
        pairs.push((entry.key, text));
    }
    pairs
}

/// What `capabilities` grants: the named ones and those that need not be.
struct Capabilities(Vec<Capability>);

impl Setting for Capabilities {
    fn expected() -> String {
        Vec::<Capability>::expected()
    }

    fn read(node: &Node, at: &mut At<'_>) -> Option<Self> {
        let mut all = ALWAYS.to_vec();
        all.extend(Vec::<Capability>::read(node, at)?);
        all.sort_unstable();
        all.dedup();
        Some(Self(all))
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

/// Which plugin a bundle wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginRef {
    /// A file of the bundle.
    File(BundlePath),
    /// One of the plugins folder.
    Named {
        /// The plugin's name.
        name: String,
        /// Which of its versions will do; the newest of them is taken.
        versions: VersionReq,
    },
}

impl fmt::Display for PluginRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Named { name, versions } => write!(f, "{name}@{versions}"),
        }
    }
}

impl Text for PluginRef {
    fn expected() -> String {
        "a file of the bundle like plugin.wasm, or a plugin and its versions like image-classify@^1"
            .to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let Some((name, versions)) = text.split_once('@') else {
            let path = BundlePath::parse(text)?;
            return if path.0.ends_with(".wasm") { Ok(Self::File(path)) } else { Err(Wrong::Form) };
        };
        let Name(name) = Name::parse(name)?;
        let because = |error: semver::Error| Wrong::Because(format!("the versions are wrong: {error}"));
        Ok(Self::Named { name, versions: VersionReq::parse(versions).map_err(because)? })
    }

    fn show(&self) -> String {
        yaml_text::word(&self.to_string())
    }
}

/// The path of a file inside a bundle: relative, with `/` between its parts, none of them `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundlePath(String);

/// The longest path inside a bundle, in bytes.
const MAX_PATH: usize = 1024;

impl BundlePath {
    /// The path with `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path, to be joined to the bundle's folder.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for BundlePath {
    fn expected() -> String {
        "the path of a file in the bundle like samples/photo.jpg, neither absolute nor with '..'".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let parts: Vec<&str> = text.split('/').filter(|part| *part != ".").collect();
        let bad = |part: &&str| matches!(*part, "" | "..") || part.contains(['\\', '\0']);
        if parts.is_empty() || parts.iter().any(bad) || text.len() > MAX_PATH || text.ends_with("/.") {
            return Err(Wrong::Form);
        }
        Ok(Self(parts.join("/")))
    }

    fn show(&self) -> String {
        yaml_text::word(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(BundlePath::parse("./samples/./a.jpg"), Ok(BundlePath("samples/a.jpg".into())));
        for text in
            ["", ".", "/", "/etc/passwd", "..", "../a", "a/../../b", "a//b", "a/", "a/.", "a\\b", "a\0"]
        {
            assert_eq!(BundlePath::parse(text), Err(Wrong::Form), "{text:?}");
        }
    }

    #[test]
    fn plugins_by_file_and_by_name() {
        assert_eq!(PluginRef::parse("./plugin.wasm").unwrap().to_string(), "plugin.wasm");
        let named = PluginRef::parse("image-classify@^1").unwrap();
        assert_eq!(named.to_string(), "image-classify@^1");
        assert!(matches!(named, PluginRef::Named { name, .. } if name == "image-classify"));
        for text in ["image-classify", "image-classify@", "@1", "a/b@1", "a@one", "../p.wasm", "a@1@2"] {
            assert!(PluginRef::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_keep_order_and_text() {
        let text =
            "settings:\n  z: 5\n  a: '1.0'\n  list: [1, two, '3', true, null, {k: -1.5e3}]\n  on: true\n";
        let loaded = BundleConfig::from_text("bundle.yaml", text).unwrap();
        let expected =
            [("z", "5"), ("a", "1.0"), ("list", r#"[1,"two","3",true,null,{"k":-1.5e3}]"#), ("on", "true")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(loaded.value.settings, expected);
    }

    proptest! {
        #[test]
        fn no_path_leads_out(text in "[a./\\\\\\PC]{0,16}") {
            if let Ok(path) = BundlePath::parse(&text) {
                prop_assert!(path.as_path().components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(BundlePath::parse(path.as_str()), Ok(path));
            }
        }
    }
}
