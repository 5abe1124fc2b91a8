//! One model's folder, and what of it should be served.
//!
//! Owns the folder: nobody else writes there. It keeps beside it what each step left, so that the desired
//! set is known without looking at the disk or asking the host. The steps are in `steps.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use nuke_tests::marks::{self, Plugins};

use crate::chance::Chance;
use crate::registry::{Content, Registry};

/// What all worlds share.
pub(crate) struct Shared {
    /// The folder with `models` in it, and room beside that.
    pub(crate) root: PathBuf,
    pub(crate) plugins: Plugins,
    pub(crate) registry: Registry,
    /// Held for reading while a file is touched, for writing while the models folder is away.
    pub(crate) gate: RwLock<()>,
    pub(crate) numbers: AtomicU32,
}

impl Shared {
    pub(crate) fn number(&self) -> u32 {
        self.numbers.fetch_add(1, SeqCst) + 1
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// A path in the same file system that nobody looks at, and that is not there.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}-{}", self.number()))
    }
}

/// What lies in a version's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// What it is to serve; `None` if it cannot.
    pub(crate) content: Option<Content>,
    /// It has a manifest.
    pub(crate) is_sealed: bool,
    /// A folder with its files, not a link.
    pub(crate) is_plain: bool,
}

/// Which versions model.yaml asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Latest(usize),
    All,
    Only(Vec<u32>),
}

impl Policy {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Latest(count) => format!("versions: {{latest: {count}}}\n"),
            Self::All => "versions: all\n".to_owned(),
            Self::Only(names) => format!("versions: {names:?}\n"),
        }
    }
}

/// See the module.
pub(crate) struct World<'a> {
    pub(crate) model: String,
    pub(crate) shared: &'a Shared,
    pub(crate) chance: Chance,
    pub(crate) there: BTreeMap<u32, Held>,
    pub(crate) policy: Policy,
    pub(crate) history: Vec<String>,
}

impl<'a> World<'a> {
    pub(crate) fn new(model: String, shared: &'a Shared, seed: u64) -> Self {
        let chance = Chance::new(seed);
        Self { model, shared, chance, there: BTreeMap::new(), policy: Policy::Latest(1), history: Vec::new() }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.shared.models().join(&self.model)
    }

    pub(crate) fn place(&self, version: u32) -> PathBuf {
        self.folder().join(version.to_string())
    }

    /// Touches files; never while the models folder is away.
    pub(crate) fn act<T>(&self, act: impl FnOnce() -> T) -> T {
        let _here = self.shared.gate.read().unwrap();
        act()
    }

    pub(crate) fn allow(&self, version: u32, content: Content) {
        self.shared.registry.allow(&self.model, &version.to_string(), content);
    }

    /// Numbers that no content has had.
    pub(crate) fn fresh(&self) -> Content {
        let number = self.shared.number();
        Content { model: number, plugin: Some(number) }
    }

    /// The files of a bundle.
    pub(crate) fn files(&self, content: Content) -> Vec<(&'static str, Vec<u8>)> {
        let mut files = vec![
            ("model.onnx", marks::tiny(content.model as f32)),
            ("bundle.yaml", b"warmup: [sample]\n".to_vec()),
            ("sample", marks::infer_body()),
        ];
        if let Some(plugin) = content.plugin {
            files.push(("plugin.wasm", self.shared.plugins.marked(plugin)));
        }
        files
    }

    pub(crate) fn write_bundle(&self, folder: &Path, content: Content) {
        fs::create_dir_all(folder).unwrap();
        for (name, bytes) in self.files(content) {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }

    /// The versions that are to be served, those without a folder too.
    pub(crate) fn wanted(&self) -> Vec<u32> {
        let there: Vec<u32> = self.there.keys().copied().collect();
        match &self.policy {
            Policy::All => there,
            Policy::Latest(count) => there[there.len().saturating_sub(*count)..].to_vec(),
            // Without a folder of the model there is nobody to ask for anything.
            Policy::Only(names) => names.clone(),
        }
    }

    /// Every wanted version can be served.
    pub(crate) fn is_whole(&self) -> bool {
        self.wanted().iter().all(|version| self.there.get(version).is_some_and(|held| held.content.is_some()))
    }
}
