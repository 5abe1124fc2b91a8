//! An operator at work: every change to the folders that swaps something, one after the other, each
//! followed until it answers.
//!
//! Owns what lies in the folders and what of it is to answer. Each content has numbers of its own. What is
//! not to answer is in `bad.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nuke_tests::marks::{self, Marks, Plugins};
use nuke_tests::{Repository, Server, eventually, nuke};

use crate::ledger::Ledger;
use crate::{NAMED, OWN, QUIET};

/// One kind of swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Swap {
    /// The model's file is replaced in place.
    Model,
    /// The bundle's own plugin is replaced in place.
    Plugin,
    /// Both, one after the other within the quiet time.
    Both,
    /// A version's folder is renamed into place, and one before the last is deleted.
    Version,
    /// The latest version is deleted: the one before it answers again.
    Deletion,
    /// A version that is a link (`current -> v2`) is pointed elsewhere.
    Link,
    /// `nuke publish`, with a manifest.
    Publish,
    /// The models folder vanishes, and comes back with a new version in it.
    Away,
    /// A newer plugin in the plugins folder, for a bundle that refers to it.
    SharedPlugin,
    /// The newest plugin of the plugins folder is deleted.
    SharedPluginDeletion,
    /// The model's file of that bundle.
    ModelByReference,
    /// Both, within the quiet time.
    SharedPluginAndModel,
    /// Traffic is pinned to the version before, which has to be loaded for it, and given back to the latest one.
    Traffic,
}

/// All of them.
pub(crate) const SWAPS: [Swap; 13] = [
    Swap::Model,
    Swap::Plugin,
    Swap::Both,
    Swap::Version,
    Swap::Deletion,
    Swap::Link,
    Swap::Publish,
    Swap::Away,
    Swap::SharedPlugin,
    Swap::SharedPluginDeletion,
    Swap::ModelByReference,
    Swap::SharedPluginAndModel,
    Swap::Traffic,
];

/// A version that lies in the folder.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) marks: Marks,
    /// It has a manifest: what is changed in it makes it a bad one.
    pub(crate) is_sealed: bool,
    is_link: bool,
}

/// See the module.
pub(crate) struct Operator<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) server: &'a Server,
    pub(crate) ledger: &'a Ledger,
    pub(crate) plugins: Plugins,
    /// The versions of [`OWN`], latest last.
    pub(crate) own: Vec<Version>,
    /// The one version of [`NAMED`].
    pub(crate) named: Marks,
    /// Version `1.N.0` of the shared plugin, and its number.
    pub(crate) shared: Vec<(u32, u32)>,
    last_number: u32,
    pub(crate) times: Vec<(Swap, Duration)>,
}

impl<'a> Operator<'a> {
    /// Fills the folders before the host starts.
    pub(crate) fn fill(repository: &Repository) -> Plugins {
        let plugins = Plugins::new();
        let first = Marks { model: 1, plugin: 1 };
        write_bundle(&repository.models().join(OWN).join("1"), &plugins, first);
        let named = repository.models().join(NAMED).join("1");
        write_bundle(&named, &plugins, first);
        fs::remove_file(named.join("plugin.wasm")).unwrap();
        fs::write(named.join("bundle.yaml"), "plugin: mark@^1\nwarmup: [sample]\n").unwrap();
        for model in [OWN, NAMED] {
            // A machine that stands still for a moment lets nobody down.
            fs::write(repository.models().join(model).join("model.yaml"), "queue: {timeout: 60s}\n").unwrap();
        }
        let shared = repository.plugins().join("mark/1.0.0");
        fs::create_dir_all(&shared).unwrap();
        fs::write(shared.join("plugin.wasm"), plugins.marked(1)).unwrap();
        plugins
    }

    pub(crate) fn new(
        repository: &'a Repository,
        server: &'a Server,
        ledger: &'a Ledger,
        plugins: Plugins,
    ) -> Self {
        let first = Marks { model: 1, plugin: 1 };
        ledger.announce(OWN, "1", first);
        ledger.announce(NAMED, "1", first);
        let own = vec![Version { number: 1, marks: first, is_sealed: false, is_link: false }];
        let (shared, times) = (vec![(0, 1)], Vec::new());
        Self { repository, server, ledger, plugins, own, named: first, shared, last_number: 1, times }
    }

    /// Makes one swap and waits until it answers.
    pub(crate) fn swap(&mut self, kind: Swap) {
        let is_in_place = matches!(kind, Swap::Model | Swap::Plugin | Swap::Both);
        if is_in_place && self.own.last().unwrap().is_sealed {
            self.swap(Swap::Version);
        }
        if matches!(kind, Swap::Deletion | Swap::Traffic) && self.own.len() < 2 {
            self.swap(Swap::Version);
        }
        if kind == Swap::SharedPluginDeletion && self.shared.len() < 2 {
            self.swap(Swap::SharedPlugin);
        }
        let began = match kind {
            Swap::Model => self.own_in_place(true, false),
            Swap::Plugin => self.own_in_place(false, true),
            Swap::Both => self.own_in_place(true, true),
            Swap::Version => self.version(),
            Swap::Deletion => self.deletion(),
            Swap::Link => self.link(),
            Swap::Publish => self.publish(),
            Swap::Away => self.away(),
            Swap::SharedPlugin => self.by_reference(false, true),
            Swap::ModelByReference => self.by_reference(true, false),
            Swap::SharedPluginAndModel => self.by_reference(true, true),
            Swap::SharedPluginDeletion => self.shared_deletion(),
            Swap::Traffic => self.traffic(),
        };
        self.times.push((kind, began.elapsed()));
    }

    /// Numbers that no content has had.
    pub(crate) fn fresh(&mut self) -> Marks {
        self.last_number += 1;
        Marks { model: self.last_number, plugin: self.last_number }
    }

    pub(crate) fn own_folder(&self, version: u32) -> PathBuf {
        self.repository.models().join(OWN).join(version.to_string())
    }

    /// Waits until this content answers; from then on none before it may.
    fn seen(&self, model: &str, version: u32, marks: Marks, ordinal: u64) {
        let mut last = String::new();
        let wanted = format!("{model} answers with version {version} and {marks:?}");
        eventually(&wanted, || {
            let answer = self.server.post(&format!("/predict/{model}"), "", "x");
            let found = marks::of_prediction(&answer);
            let is_there = answer.header("x-nuke-model-version") == Some(version.to_string().as_str())
                && found == Ok(marks);
            last = format!("{} {found:?}", answer.status);
            is_there
        });
        self.ledger.confirm(model, ordinal);
    }

    /// Changes files of a version, of which only all together may answer, unless so much time passed between
    /// them that the host may have taken what was there.
    fn together(&self, model: &str, version: u32, all: Marks, between: Option<Marks>, act: impl FnOnce()) {
        let name = version.to_string();
        let between = between.map(|marks| self.ledger.announce(model, &name, marks));
        let ordinal = self.ledger.announce(model, &name, all);
        let began = Instant::now();
        act();
        if let Some(between) = between.filter(|_| began.elapsed() < QUIET / 2) {
            self.ledger.withdraw(model, between);
        }
        self.seen(model, version, all, ordinal);
    }

    fn own_in_place(&mut self, model: bool, plugin: bool) -> Instant {
        let (fresh, began) = (self.fresh(), Instant::now());
        let (version, before) = (self.own.last().unwrap().number, self.own.last().unwrap().marks);
        let marks = chosen(before, fresh, model, plugin);
        let between = (model && plugin).then_some(Marks { plugin: marks.plugin, ..before });
        let (folder, component) = (self.own_folder(version), self.plugins.marked(marks.plugin));
        self.together(OWN, version, marks, between, || {
            if plugin {
                replace(&folder.join("plugin.wasm"), &component);
            }
            if model {
                replace(&folder.join("model.onnx"), &marks::tiny(marks.model as f32));
            }
        });
        self.own.last_mut().unwrap().marks = marks;
        began
    }

    fn by_reference(&mut self, model: bool, plugin: bool) -> Instant {
        let (fresh, began, before) = (self.fresh(), Instant::now(), self.named);
        let marks = chosen(before, fresh, model, plugin);
        let between = (model && plugin).then_some(Marks { plugin: marks.plugin, ..before });
        let minor = self.shared.last().unwrap().0 + 1;
        let component = self.plugins.marked(marks.plugin);
        self.together(NAMED, 1, marks, between, || {
            if plugin {
                let hidden = self.repository.plugins().join(".fresh");
                fs::create_dir_all(&hidden).unwrap();
                fs::write(hidden.join("plugin.wasm"), component).unwrap();
                fs::rename(hidden, self.shared_folder(minor)).unwrap();
            }
            if model {
                let file = self.repository.models().join(NAMED).join("1/model.onnx");
                replace(&file, &marks::tiny(marks.model as f32));
            }
        });
        if plugin {
            self.shared.push((minor, marks.plugin));
        }
        self.named = marks;
        began
    }

    pub(crate) fn shared_folder(&self, minor: u32) -> PathBuf {
        self.repository.plugins().join("mark").join(format!("1.{minor}.0"))
    }

    fn shared_deletion(&mut self) -> Instant {
        let (minor, _) = self.shared.pop().unwrap();
        let (marks, began) = (Marks { plugin: self.shared.last().unwrap().1, ..self.named }, Instant::now());
        self.together(NAMED, 1, marks, None, || self.discard(&self.shared_folder(minor)));
        self.named = marks;
        began
    }

    /// Renames a new version into place. What lies there besides it and the one before is deleted.
    fn version(&mut self) -> Instant {
        let (number, marks) = (self.next_version(), self.fresh());
        let fresh = self.beside("fresh");
        write_bundle(&fresh, &self.plugins, marks);
        let began = Instant::now();
        let place = self.own_folder(number);
        self.together(OWN, number, marks, None, || fs::rename(fresh, place).unwrap());
        self.keep(Version { number, marks, is_sealed: false, is_link: false });
        began
    }

    fn publish(&mut self) -> Instant {
        let (number, marks) = (self.next_version(), self.fresh());
        let source = self.beside("source");
        write_bundle(&source, &self.plugins, marks);
        let began = Instant::now();
        self.together(OWN, number, marks, None, || {
            let name = number.to_string();
            publish(&source, &self.repository.models(), &["--model", OWN, "--version", &name]);
        });
        self.keep(Version { number, marks, is_sealed: true, is_link: false });
        began
    }

    fn deletion(&mut self) -> Instant {
        let gone = self.own.pop().unwrap();
        let back = self.own.last().unwrap().clone();
        let began = Instant::now();
        let place = self.own_folder(gone.number);
        self.together(OWN, back.number, back.marks, None, || self.discard(&place));
        began
    }

    /// The version is a link to a hidden folder: another one is made, and the link is replaced in one step.
    fn link(&mut self) -> Instant {
        let (is_link, marks) = (self.own.last().unwrap().is_link, self.fresh());
        let number = if is_link { self.own.last().unwrap().number } else { self.next_version() };
        let (place, hidden) = (self.own_folder(number), format!(".v{}", marks.model));
        write_bundle(&place.with_file_name(&hidden), &self.plugins, marks);
        let began = Instant::now();
        self.together(OWN, number, marks, None, || {
            let next = place.with_file_name(".next");
            symlink(&hidden, &next).unwrap();
            fs::rename(next, &place).unwrap();
        });
        if is_link {
            self.own.pop();
        }
        self.keep(Version { number, marks, is_sealed: false, is_link: true });
        began
    }

    fn away(&mut self) -> Instant {
        let (number, marks) = (self.next_version(), self.fresh());
        let (models, away) = (self.repository.models(), self.beside("away"));
        fs::rename(&models, &away).unwrap();
        let readable = || self.server.metrics().sum("nuke_repository_readable", &[]);
        eventually("the host misses its folder", || readable() == 0.0);
        write_bundle(&away.join(OWN).join(number.to_string()), &self.plugins, marks);
        let began = Instant::now();
        self.together(OWN, number, marks, None, || fs::rename(away, models).unwrap());
        self.keep(Version { number, marks, is_sealed: false, is_link: false });
        began
    }

    fn traffic(&mut self) -> Instant {
        let began = Instant::now();
        let [.., before, latest] = self.own.as_slice() else { panic!("there are two versions") };
        let (client, path) = (self.server.client(), format!("/admin/models/{OWN}/traffic"));
        let policy = format!("{{strategy: pinned, version: '{}'}}", before.number);
        self.together(OWN, before.number, before.marks, None, || {
            client.request("PUT", &path).body(policy).send().expect(200);
        });
        self.together(OWN, latest.number, latest.marks, None, || {
            client.request("DELETE", &path).send().expect(200);
        });
        began
    }

    pub(crate) fn next_version(&self) -> u32 {
        self.own.last().unwrap().number + 1
    }

    /// Deletes old versions, while requests that they answer may still be on their way.
    fn keep(&mut self, latest: Version) {
        self.own.push(latest);
        while self.own.len() > 2 {
            let old = self.own.remove(0);
            self.discard(&self.own_folder(old.number));
        }
    }

    /// A path in the same file system that nobody looks at.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.repository.models().with_file_name(name)
    }

    /// Takes a folder away in one step.
    pub(crate) fn discard(&self, place: &Path) {
        let target = fs::read_link(place).ok().map(|link| place.with_file_name(link));
        let trash = self.beside("trash");
        fs::rename(place, &trash).unwrap();
        if let Some(target) = target {
            fs::remove_file(&trash).unwrap();
            fs::remove_dir_all(target).unwrap();
        } else {
            fs::remove_dir_all(&trash).unwrap();
        }
    }
}

fn chosen(before: Marks, fresh: Marks, model: bool, plugin: bool) -> Marks {
    Marks {
        model: if model { fresh.model } else { before.model },
        plugin: if plugin { fresh.plugin } else { before.plugin },
    }
}

/// Writes a whole bundle with a plugin of its own.
pub(crate) fn write_bundle(folder: &Path, plugins: &Plugins, marks: Marks) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("model.onnx"), marks::tiny(marks.model as f32)).unwrap();
    fs::write(folder.join("plugin.wasm"), plugins.marked(marks.plugin)).unwrap();
    fs::write(folder.join("bundle.yaml"), "warmup: [sample]\n").unwrap();
    fs::write(folder.join("sample"), "x").unwrap();
}

/// Replaces one file whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) {
    let next = path.with_extension("tmp");
    fs::write(&next, bytes).unwrap();
    fs::rename(next, path).unwrap();
}

/// Runs `nuke publish`; the source is gone afterwards.
pub(crate) fn publish(source: &Path, models: &Path, more: &[&str]) {
    let output = nuke().arg("publish").arg(source).arg(models).args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_dir_all(source).unwrap();
}
