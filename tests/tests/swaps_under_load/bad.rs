//! What an operator gets wrong: contents that must not answer. Each is left until the host says why it does
//! not serve it, and is then put right.

use std::fs;
use std::path::Path;

use nuke_tests::{components, eventually, root};

use crate::operator::{Operator, publish, replace, write_bundle};
use crate::{NAMED, OWN};

/// One kind of mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bad {
    /// The file of the model that serves is replaced by its first half.
    TruncatedModel,
    /// A new version whose model asks for an operator that there is not.
    WrongOperator,
    /// A new version whose plugin traps at its warm-up sample.
    TrappingPlugin,
    /// A new version whose plugin never returns.
    LoopingPlugin,
    /// The plugin of the version that serves is replaced by one that traps.
    TrappingInPlace,
    /// A published version whose model was changed after it was published.
    AlteredManifest,
    /// A newer shared plugin that is no component.
    SharedPluginIsText,
    /// The plugins folder vanishes, and comes back as it was.
    PluginsAway,
}

/// All of them.
pub(crate) const BAD: [Bad; 8] = [
    Bad::TruncatedModel,
    Bad::WrongOperator,
    Bad::TrappingPlugin,
    Bad::LoopingPlugin,
    Bad::TrappingInPlace,
    Bad::AlteredManifest,
    Bad::SharedPluginIsText,
    Bad::PluginsAway,
];

impl Operator<'_> {
    /// Makes one mistake, waits until the host says so, and puts it right.
    pub(crate) fn mistake(&mut self, kind: Bad) {
        match kind {
            Bad::TruncatedModel => {
                let good = fs::read(self.latest().join("model.onnx")).unwrap();
                self.in_place("model.onnx", &good[..good.len() / 2]);
            }
            Bad::TrappingInPlace => self.in_place("plugin.wasm", &components::build("trap")),
            Bad::WrongOperator => {
                let path = root().join("tests/fixtures/bad-models/wrong-op.onnx");
                self.bad_version(|folder| replace(&folder.join("model.onnx"), &fs::read(&path).unwrap()));
            }
            Bad::TrappingPlugin => self.bad_plugin("trap"),
            Bad::LoopingPlugin => self.bad_plugin("loop-forever"),
            Bad::AlteredManifest => self.altered(),
            Bad::SharedPluginIsText => {
                let folder = self.shared_folder(self.shared.last().unwrap().0 + 1);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("plugin.wasm"), "no component").unwrap();
                self.until_refused(NAMED, 1);
                self.discard(&folder);
                self.until_healed(NAMED, 1);
            }
            Bad::PluginsAway => {
                let (plugins, away) = (self.repository.plugins(), self.beside("away"));
                fs::rename(&plugins, &away).unwrap();
                self.until_refused(NAMED, 1);
                fs::rename(&away, &plugins).unwrap();
                self.until_healed(NAMED, 1);
            }
        }
    }

    fn latest(&self) -> std::path::PathBuf {
        self.own_folder(self.own.last().unwrap().number)
    }

    /// Puts something else into the version that serves, and what was there back.
    fn in_place(&self, file: &str, bad: &[u8]) {
        let (path, version) = (self.latest().join(file), self.own.last().unwrap().number);
        let good = fs::read(&path).unwrap();
        replace(&path, bad);
        self.until_refused(OWN, version);
        replace(&path, &good);
        self.until_healed(OWN, version);
    }

    fn bad_plugin(&mut self, fixture: &str) {
        let component = components::build(fixture);
        self.bad_version(|folder| replace(&folder.join("plugin.wasm"), &component));
    }

    /// A bundle that would be whole but for what `spoil` does to it, as the latest version.
    fn bad_version(&mut self, spoil: impl FnOnce(&Path)) {
        let (number, marks) = (self.next_version(), self.fresh());
        let fresh = self.beside("fresh");
        write_bundle(&fresh, &self.plugins, marks);
        spoil(&fresh);
        self.refused_version(&fresh, number);
    }

    fn altered(&mut self) {
        let (number, marks) = (self.next_version(), self.fresh());
        let (source, staging) = (self.beside("source"), self.beside("staging"));
        write_bundle(&source, &self.plugins, marks);
        fs::create_dir_all(&staging).unwrap();
        publish(&source, &staging, &["--model", OWN, "--version", "1"]);
        // A good model of the same size, but not the one that was published.
        let other = self.fresh();
        replace(&staging.join(OWN).join("1/model.onnx"), &nuke_tests::marks::tiny(other.model as f32));
        self.refused_version(&staging.join(OWN).join("1"), number);
    }

    fn refused_version(&self, folder: &Path, number: u32) {
        let place = self.own_folder(number);
        fs::rename(folder, &place).unwrap();
        self.until_refused(OWN, number);
        self.discard(&place);
        eventually("the bad version is gone", || self.entry(OWN, number).is_none());
    }

    fn until_refused(&self, model: &str, version: u32) {
        eventually(&format!("the index says why {model} {version} is not served"), || {
            self.entry(model, version).is_some_and(|reason| !reason.is_empty())
        });
    }

    fn until_healed(&self, model: &str, version: u32) {
        eventually(&format!("{model} {version} has healed"), || {
            self.entry(model, version).is_some_and(|reason| reason.is_empty())
        });
    }

    /// The reason that the index has for a version; `None` if it is not listed.
    fn entry(&self, model: &str, version: u32) -> Option<String> {
        let index = self.server.post("/v2/repository/index", "", "").expect(200).json();
        let version = version.to_string();
        let mut entries = index.as_array()?.iter();
        let entry = entries.find(|entry| entry["name"] == model && entry["version"] == version.as_str())?;
        Some(entry["reason"].as_str().unwrap_or_default().to_owned())
    }
}
