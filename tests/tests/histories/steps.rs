//! What may happen to a model's folder, step by step: what people and their tools do, at any pace.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use nuke_tests::{marks, nuke, root};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::QUIET;
use crate::registry::{Between, Content};
use crate::world::{Held, Policy, World};

/// Versions that a model may have.
const VERSIONS: usize = 4;
/// Pauses of a copy that goes on, in milliseconds: well below the quiet time.
const PAUSE: usize = 80;

impl World<'_> {
    /// Does something, and takes note of what is to be served afterwards.
    pub(crate) fn step(&mut self) {
        let version = u32::try_from(self.chance.below(VERSIONS) + 1).unwrap();
        let what = match self.chance.below(22) {
            0..=3 => self.rename(version),
            4..=6 => self.copy(version),
            7..=8 => self.sealed_copy(version),
            9..=10 => self.in_place(version),
            11..=12 => self.remove(version),
            13..=14 => self.link(version),
            15 => self.touch(version),
            16..=17 => self.settings(),
            18 => self.droppings(version),
            19 => self.hide_model(),
            _ => {
                let wait = self.chance.moment(2 * QUIET.as_millis() as usize);
                sleep(wait);
                format!("wait {wait:?}")
            }
        };
        self.history.push(format!("{version}: {what}"));
        sleep(self.chance.moment(PAUSE));
    }

    /// Moves whatever is at a version's place out of sight.
    fn clear(&mut self, version: u32) {
        let (place, trash) = (self.place(version), self.shared.beside("trash"));
        self.act(|| {
            fs::create_dir_all(self.folder()).unwrap();
            // There may be nothing.
            let _ = fs::rename(place, trash);
        });
        self.there.remove(&version);
    }

    fn hold(&mut self, version: u32, content: Option<Content>) {
        self.there.insert(version, Held { content, is_sealed: false, is_plain: true });
    }

    /// A whole bundle is renamed into place: a good one, or one that cannot be served.
    fn rename(&mut self, version: u32) -> String {
        let (content, fresh) = (self.fresh(), self.shared.beside("fresh"));
        self.write_bundle(&fresh, content);
        let spoilt = self.chance.one_in(4).then(|| self.spoil(&fresh));
        let times = self.chance.one_in(3).then(|| self.other_times(&fresh));
        self.clear(version);
        if spoilt.is_none() {
            self.allow(version, content);
        }
        self.act(|| fs::rename(&fresh, self.place(version)).unwrap());
        self.hold(version, spoilt.is_none().then_some(content));
        format!("renamed into place {content:?}, spoilt {spoilt:?}, times {times:?}")
    }

    /// Makes a bundle one that cannot be served.
    fn spoil(&mut self, folder: &Path) -> &'static str {
        let model = folder.join("model.onnx");
        let kind = *self.chance.pick(&[
            "truncated",
            "operator",
            "plugin",
            "sample",
            "outside",
            "key",
            "pipe",
            "folder",
        ]);
        match kind {
            "truncated" => {
                let bytes = fs::read(&model).unwrap();
                let length = self.chance.below(bytes.len());
                fs::write(&model, &bytes[..length]).unwrap();
            }
            "operator" => {
                fs::copy(root().join("tests/fixtures/bad-models/wrong-op.onnx"), &model).unwrap();
            }
            "plugin" => fs::write(folder.join("plugin.wasm"), "text").unwrap(),
            "sample" => fs::remove_file(folder.join("sample")).unwrap(),
            "outside" => {
                let elsewhere = self.shared.beside("elsewhere");
                fs::rename(&model, &elsewhere).unwrap();
                symlink(elsewhere, &model).unwrap();
            }
            "pipe" => {
                let (pipe, mode) = (folder.join("labels.txt"), Mode::RUSR | Mode::WUSR);
                mknodat(CWD, pipe, FileType::Fifo, mode, 0).unwrap();
            }
            "folder" => {
                fs::remove_file(&model).unwrap();
                fs::create_dir(&model).unwrap();
            }
            _ => fs::write(folder.join("bundle.yaml"), "warmups: [sample]\n").unwrap(),
        }
        kind
    }

    /// Gives all files of a folder times of long ago or of years to come.
    fn other_times(&mut self, folder: &Path) -> &'static str {
        let years = Duration::from_secs(3600 * 24 * 365);
        let (word, time) = match self.chance.below(3) {
            0 => ("past", SystemTime::now() - 20 * years),
            1 => ("future", SystemTime::now() + 20 * years),
            _ => ("zero", SystemTime::UNIX_EPOCH),
        };
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            // Opening a pipe would wait for somebody who reads it.
            if path.is_file()
                && let Ok(file) = File::options().append(true).open(&path)
            {
                file.set_modified(time).unwrap();
            }
        }
        word
    }

    /// `cp -r`, file by file and part by part; perhaps it is never finished.
    fn copy(&mut self, version: u32) -> String {
        let content = self.fresh();
        let mut files = self.files(content);
        self.chance.shuffle(&mut files);
        let files_copied = if self.chance.one_in(4) { self.chance.below(files.len()) } else { files.len() };
        self.clear(version);
        let place = self.place(version);
        self.act(|| fs::create_dir(&place).unwrap());
        // Nothing of it is to be served until the model is there.
        self.hold(version, None);
        self.allow(version, content);
        let mut between: Option<Between> = None;
        let mut copied = Vec::new();
        for (name, bytes) in files.iter().take(files_copied) {
            copied.push(*name);
            let has = |name: &str| copied.contains(&name);
            let can_load = has("model.onnx") && (!has("bundle.yaml") || has("sample"));
            if can_load && !has("plugin.wasm") && between.is_none() {
                let without = Content { plugin: None, ..content };
                // Before it is there: the host may be quicker than this thread.
                between = Some(self.shared.registry.enter(&self.model, &version.to_string(), without));
            }
            self.write_slowly(&place.join(name), bytes, &mut between);
            sleep(self.chance.moment(PAUSE));
        }
        let has = |name: &str| copied.contains(&name);
        let can_load = has("model.onnx") && (!has("bundle.yaml") || has("sample"));
        let plugin = content.plugin.filter(|_| has("plugin.wasm"));
        // If it ends here, what is there is what is meant.
        self.hold(version, can_load.then_some(Content { plugin, ..content }));
        format!("copied {copied:?} of {content:?}")
    }

    /// Writes a file in parts. The first of them ends what was between.
    fn write_slowly(&mut self, path: &Path, bytes: &[u8], between: &mut Option<Between>) {
        let parts = self.chance.below(3) + 1;
        let mut file = self.act(|| File::create(path).unwrap());
        between.iter_mut().for_each(Between::goes_on);
        let ends = path.ends_with("plugin.wasm");
        if let Some(before) = between.take_if(|_| ends) {
            self.shared.registry.leave(before);
        }
        for part in bytes.chunks(bytes.len().div_ceil(parts)) {
            if parts > 1 {
                sleep(self.chance.moment(PAUSE));
            }
            self.act(|| file.write_all(part).unwrap());
            between.iter_mut().for_each(Between::goes_on);
        }
    }

    /// A published version is copied, its manifest first. It may take as long as it likes: nothing is to be
    /// served until it is whole. Perhaps something in it is not as it was published.
    fn sealed_copy(&mut self, version: u32) -> String {
        let (content, source, staging) =
            (self.fresh(), self.shared.beside("source"), self.shared.beside("staging"));
        self.write_bundle(&source, content);
        fs::create_dir(&staging).unwrap();
        let mut publish = nuke();
        publish.arg("publish").arg(&source).arg(&staging).args(["--model", "m", "--version", "1"]);
        let output = publish.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let published = staging.join("m/1");
        let is_altered = self.chance.one_in(3);
        if is_altered {
            fs::write(published.join("model.onnx"), marks::tiny(self.shared.number() as f32)).unwrap();
        }
        let mut files = self.files(content);
        self.chance.shuffle(&mut files);
        self.clear(version);
        if !is_altered {
            self.allow(version, content);
        }
        let place = self.place(version);
        self.act(|| fs::create_dir(&place).unwrap());
        let names = std::iter::once("manifest.json").chain(files.iter().map(|(name, _)| *name));
        for name in names {
            let bytes = fs::read(published.join(name)).unwrap();
            self.write_slowly(&place.join(name), &bytes, &mut None);
            sleep(self.chance.moment(QUIET.as_millis() as usize));
        }
        self.there.insert(
            version,
            Held { content: (!is_altered).then_some(content), is_sealed: true, is_plain: true },
        );
        format!("copied published {content:?}, altered {is_altered}")
    }

    /// Model and plugin are written again where they lie.
    fn in_place(&mut self, version: u32) -> String {
        let held = self.there.get(&version).copied();
        let Some(Held { content: Some(before), is_sealed, .. }) = held else {
            return self.rename(version);
        };
        let (content, place) = (self.fresh(), self.place(version));
        let first = Content { plugin: before.plugin, ..content };
        if !is_sealed {
            self.allow(version, content);
        }
        let files = [
            ("model.onnx", marks::tiny(content.model as f32)),
            ("plugin.wasm", self.shared.plugins.marked(content.plugin.unwrap())),
        ];
        let version_name = version.to_string();
        // Before the model is there: the host may be quicker than this thread.
        let mut between = (!is_sealed).then(|| self.shared.registry.enter(&self.model, &version_name, first));
        self.write_slowly(&place.join("model.onnx"), &files[0].1, &mut between);
        sleep(self.chance.moment(PAUSE));
        self.write_slowly(&place.join("plugin.wasm"), &files[1].1, &mut between);
        // A published version that was changed is none any more.
        let held = Held { content: (!is_sealed).then_some(content), ..held.unwrap() };
        self.there.insert(version, held);
        format!("written in place {content:?} over {before:?}, published {is_sealed}")
    }

    /// A version is deleted: at once, or file by file.
    fn remove(&mut self, version: u32) -> String {
        let held = self.there.get(&version).copied();
        let is_slow = self.chance.one_in(2);
        let Some(Held { content: Some(content), is_sealed: false, is_plain: true }) =
            held.filter(|_| is_slow)
        else {
            self.clear(version);
            return "removed".to_owned();
        };
        let place = self.place(version);
        let mut names = ["model.onnx", "plugin.wasm", "sample", "bundle.yaml"];
        self.chance.shuffle(&mut names);
        let mut between: Option<Between> = None;
        for (at, name) in names.iter().enumerate() {
            if *name == "plugin.wasm" && !names[..at].contains(&"model.onnx") {
                let without = Content { plugin: None, ..content };
                // Before it is gone: the host may be quicker than this thread.
                between = Some(self.shared.registry.enter(&self.model, &version.to_string(), without));
            }
            // Not every version has every file.
            let _ = self.act(|| fs::remove_file(place.join(name)));
            between.iter_mut().for_each(Between::goes_on);
            if let Some(before) = between.take_if(|_| *name == "model.onnx") {
                self.shared.registry.leave(before);
            }
            sleep(self.chance.moment(PAUSE));
        }
        self.clear(version);
        format!("removed file by file: {names:?}")
    }

    /// The version becomes a link to a hidden folder, or to another one if it is a link already; or to what
    /// must not be served.
    fn link(&mut self, version: u32) -> String {
        let (content, place) = (self.fresh(), self.place(version));
        let kind = *self.chance.pick(&["inside", "inside", "inside", "outside", "nowhere"]);
        let hidden = format!(".store{}", content.model);
        let target = match kind {
            "outside" => self.shared.beside("store"),
            _ => self.folder().join(&hidden),
        };
        if kind != "nowhere" {
            self.act(|| self.write_bundle(&target, content));
        }
        if self.there.get(&version).is_some_and(|held| held.is_plain) {
            self.clear(version);
        }
        if kind == "inside" {
            self.allow(version, content);
        }
        let next = self.folder().join(".next");
        self.act(|| {
            fs::create_dir_all(self.folder()).unwrap();
            let target = if kind == "outside" { target } else { hidden.into() };
            symlink(target, &next).unwrap();
            fs::rename(&next, &place).unwrap();
        });
        let content = (kind == "inside").then_some(content);
        if kind == "nowhere" {
            // What leads nowhere is no folder, and so no version.
            self.there.remove(&version);
        } else {
            self.there.insert(version, Held { content, is_sealed: false, is_plain: false });
        }
        format!("linked {kind} {content:?}")
    }

    /// Only times change.
    fn touch(&mut self, version: u32) -> String {
        let place = self.place(version);
        let here = self.shared;
        let _gate = here.gate.read().unwrap();
        format!("times {}", self.other_times(&place))
    }

    /// model.yaml is written, in two parts, or removed.
    fn settings(&mut self) -> String {
        let file = self.folder().join("model.yaml");
        let only = vec![1, u32::try_from(self.chance.below(3) + 2).unwrap()];
        self.policy = match self.chance.below(5) {
            0 => Policy::All,
            1 => Policy::Latest(2),
            2 => Policy::Only(only),
            _ => Policy::Latest(1),
        };
        let text = self.policy.text();
        self.act(|| {
            fs::create_dir_all(self.folder()).unwrap();
            fs::write(&file, &text[..self.policy.text().len() / 2]).unwrap();
        });
        sleep(self.chance.moment(PAUSE));
        self.act(|| fs::write(&file, &text).unwrap());
        if self.policy == Policy::Latest(1) && self.chance.one_in(2) {
            self.act(|| fs::remove_file(&file).unwrap());
        }
        format!("model.yaml: {text}")
    }

    /// What editors, copying tools and uploads leave behind.
    fn droppings(&mut self, version: u32) -> String {
        let (folder, place) = (self.folder(), self.place(version));
        let content = self.fresh();
        self.act(|| {
            fs::create_dir_all(&folder).unwrap();
            for name in ["7.tmp", ".8", "9.part", "v3", "notes"] {
                let upload = folder.join(name);
                if name == "notes" || name == "v3" {
                    fs::create_dir_all(&upload).unwrap();
                } else {
                    self.write_bundle(&upload, content);
                }
            }
            fs::write(folder.join("6"), "a file, no folder").unwrap();
            for name in [".hidden", "model.onnx~", ".model.onnx.swp", "model.onnx.tmp", "x.part"] {
                // The version may not be there.
                let _ = fs::write(place.join(name), "x");
            }
        });
        "droppings".to_owned()
    }

    /// The model's folder is renamed to a hidden name for a while.
    fn hide_model(&mut self) -> String {
        let (folder, hidden) = (self.folder(), self.shared.models().join(format!(".{}", self.model)));
        if self.act(|| fs::rename(&folder, &hidden)).is_err() {
            return "nothing to hide".to_owned();
        }
        let wait = self.chance.moment(3 * QUIET.as_millis() as usize);
        sleep(wait);
        self.act(|| fs::rename(&hidden, &folder).unwrap());
        format!("hidden for {wait:?}")
    }
}
