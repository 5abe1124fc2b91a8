//! What operators and commands do to a repository, step by step.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::super::super::manifest::{FileSum, MANIFEST_FILE, Manifest};
use super::{World, content};

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A whole version is made under a hidden name and renamed into place.
    Rename {
        model: u8,
        version: u8,
        bad: bool,
    },
    /// A version is copied slowly: the second file comes some steps later.
    Copy {
        model: u8,
        version: u8,
        cut: usize,
    },
    /// A version with a manifest is renamed into place.
    Publish {
        model: u8,
        version: u8,
        bad: bool,
    },
    /// A version with a manifest is copied, with longer stalls than the quiet period; its manifest comes first
    /// or last.
    CopyPublished {
        model: u8,
        version: u8,
        first: bool,
        cut: usize,
    },
    /// As a ConfigMap is mounted: both files are links through one that is swapped.
    Mount {
        model: u8,
        version: u8,
    },
    /// The files' times are set to long ago or to the future.
    Skew {
        model: u8,
        version: u8,
        ahead: bool,
    },
    /// A command takes a model out.
    Unload {
        model: u8,
    },
    /// A command loads a model.
    Load {
        model: u8,
    },
    /// Requests come for all versions of a model.
    Request {
        model: u8,
    },
    /// All that can be put to rest is.
    Rest {
        model: u8,
    },
    /// A version is put beside the models, and the version's folder becomes a link to it.
    Link {
        model: u8,
        version: u8,
    },
    /// One file is written again in place, in two parts.
    InPlace {
        model: u8,
        version: u8,
    },
    Remove {
        model: u8,
        version: u8,
    },
    Policy {
        model: u8,
        policy: u8,
    },
    /// The models folder is moved away, or back.
    Away,
    /// Time passes.
    Wait(u8),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let place = (0..2_u8, 1..4_u8);
    prop_oneof![
        3 => (place.clone(), any::<bool>()).prop_map(|((model, version), bad)| Step::Rename { model, version, bad }),
        2 => (place.clone(), 0..10_usize).prop_map(|((model, version), cut)| Step::Copy { model, version, cut }),
        1 => place.clone().prop_map(|(model, version)| Step::Link { model, version }),
        1 => place.clone().prop_map(|(model, version)| Step::InPlace { model, version }),
        2 => (place.clone(), prop::bool::weighted(0.2))
            .prop_map(|((model, version), bad)| Step::Publish { model, version, bad }),
        2 => (place.clone(), any::<bool>(), 0..10_usize)
            .prop_map(|((model, version), first, cut)| Step::CopyPublished { model, version, first, cut }),
        1 => place.clone().prop_map(|(model, version)| Step::Mount { model, version }),
        1 => (place.clone(), any::<bool>())
            .prop_map(|((model, version), ahead)| Step::Skew { model, version, ahead }),
        1 => (0..2_u8).prop_map(|model| Step::Unload { model }),
        1 => (0..2_u8).prop_map(|model| Step::Load { model }),
        3 => (0..2_u8).prop_map(|model| Step::Request { model }),
        2 => (0..2_u8).prop_map(|model| Step::Rest { model }),
        2 => place.prop_map(|(model, version)| Step::Remove { model, version }),
        1 => (0..2_u8, 0..8_u8).prop_map(|(model, policy)| Step::Policy { model, policy }),
        1 => Just(Step::Away),
        4 => (1..8_u8).prop_map(Step::Wait),
    ]
}

impl World {
    /// Moves whatever is at a version's place out of sight, as an operator who replaces it would.
    fn clear(&mut self, place: &Path) {
        self.count += 1;
        let _nothing_there = fs::rename(place, self.path(&format!("old-{}", self.count)));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
    }

    fn write_both(&mut self, folder: &Path, bad: bool) {
        self.count += 1;
        fs::create_dir_all(folder).unwrap();
        for name in ["model.onnx", "labels.txt"] {
            fs::write(folder.join(name), content(self.count, bad)).unwrap();
        }
    }

    fn write_manifest(folder: &Path, text: &str) {
        let sum = FileSum::of(text.as_bytes());
        let files = ["model.onnx", "labels.txt"].map(|name| (name.to_owned(), sum)).into();
        fs::write(folder.join(MANIFEST_FILE), Manifest::new(files).unwrap().to_json()).unwrap();
    }

    fn copy_published(&mut self, place: &Path, first: bool, cut: usize) {
        self.clear(place);
        fs::create_dir(place).unwrap();
        self.count += 1;
        let text = content(self.count, false);
        // Files before their manifest look like a version without one: they must not stall.
        let stall = if first { 6 } else { 1 };
        if first {
            Self::write_manifest(place, &text);
            self.pass(stall);
        }
        fs::write(place.join("model.onnx"), &text).unwrap();
        self.pass(stall);
        fs::write(place.join("labels.txt"), &text[..cut]).unwrap();
        self.pass(stall);
        fs::write(place.join("labels.txt"), &text).unwrap();
        if !first {
            self.pass(stall);
            Self::write_manifest(place, &text);
        }
    }

    fn is_command(step: &Step) -> bool {
        matches!(step, Step::Load { .. } | Step::Unload { .. } | Step::Request { .. } | Step::Rest { .. })
    }

    fn command(&mut self, step: &Step) {
        match *step {
            Step::Unload { model } => {
                let model = format!("m{model}");
                if self.reconciler.hold(&model, self.now) {
                    self.held.insert(model.clone());
                }
                self.let_go();
                assert!(!self.held.contains(&model) || self.serving.keys().all(|key| key.0 != model));
            }
            Step::Load { model } => {
                let model = format!("m{model}");
                self.reconciler.call(&model, self.now);
                self.held.remove(&model);
                let all = (1..4_u8).map(|version| (model.clone(), version.to_string()));
                self.wished.extend(all);
                self.callers.insert(model);
            }
            Step::Request { model } => {
                (1..4_u8).for_each(|version| self.request(&(format!("m{model}"), version.to_string())));
            }
            Step::Rest { model } => {
                (1..4_u8).for_each(|version| self.rest(&(format!("m{model}"), version.to_string())));
            }
            _ => {}
        }
    }

    fn skew(&mut self, place: &Path, ahead: bool) {
        let day = Duration::from_secs(24 * 3600);
        let now = std::time::SystemTime::now();
        let time = if ahead { now + day } else { now - day };
        for name in ["model.onnx", "labels.txt"] {
            if let Ok(file) = fs::File::options().write(true).open(place.join(name)) {
                file.set_modified(time).unwrap();
            }
        }
    }

    fn mount(&mut self, place: &Path) {
        self.count += 1;
        let data = format!("..data-{}", self.count);
        if !place.join("..data").exists() {
            self.clear(place);
            fs::create_dir(place).unwrap();
        }
        self.write_both(&place.join(&data), false);
        symlink(&data, place.join("..next")).unwrap();
        fs::rename(place.join("..next"), place.join("..data")).unwrap();
        for name in ["model.onnx", "labels.txt"] {
            if !place.join(name).exists() {
                symlink(Path::new("..data").join(name), place.join(name)).unwrap();
            }
        }
    }

    pub(super) fn run(&mut self, step: &Step) {
        self.command(step);
        let needs_folder = !matches!(step, Step::Away | Step::Wait(_)) && !Self::is_command(step);
        if !self.path("models").exists() && needs_folder {
            return;
        }
        match *step {
            Step::Rename { model, version, bad } => {
                let (fresh, place) = (self.path("models/.fresh"), self.version(model, version));
                self.write_both(&fresh, bad);
                self.clear(&place);
                fs::rename(fresh, place).unwrap();
            }
            Step::Unload { .. } | Step::Load { .. } | Step::Request { .. } | Step::Rest { .. } => {}
            Step::Publish { model, version, bad } => {
                let (fresh, place) = (self.path("models/.fresh"), self.version(model, version));
                self.write_both(&fresh, bad);
                let text = fs::read_to_string(fresh.join("model.onnx")).unwrap();
                Self::write_manifest(&fresh, &text);
                self.clear(&place);
                fs::rename(fresh, place).unwrap();
            }
            Step::CopyPublished { model, version, first, cut } => {
                let place = self.version(model, version);
                self.copy_published(&place, first, cut);
            }
            Step::Mount { model, version } => {
                let place = self.version(model, version);
                self.mount(&place);
            }
            Step::Skew { model, version, ahead } => {
                let place = self.version(model, version);
                self.skew(&place, ahead);
            }
            Step::Copy { model, version, cut } => {
                let place = self.version(model, version);
                self.clear(&place);
                fs::create_dir(&place).unwrap();
                self.count += 1;
                let text = content(self.count, false);
                fs::write(place.join("model.onnx"), &text).unwrap();
                self.pass(1);
                fs::write(place.join("labels.txt"), &text[..cut]).unwrap();
                self.pass(2);
                fs::write(place.join("labels.txt"), &text).unwrap();
            }
            Step::Link { model, version } => {
                let place = self.version(model, version);
                let hidden = place.with_file_name(format!(".v{}", self.count));
                self.write_both(&hidden, false);
                self.clear(&place);
                symlink(hidden.file_name().unwrap(), &place).unwrap();
            }
            Step::InPlace { model, version } => {
                let place = self.version(model, version);
                if !place.join("model.onnx").exists() {
                    return;
                }
                self.count += 1;
                let text = content(self.count, false);
                fs::write(place.join("model.onnx"), &text[..6]).unwrap();
                self.pass(2);
                fs::write(place.join("model.onnx"), &text).unwrap();
                self.pass(1);
                fs::write(place.join("labels.txt"), &text).unwrap();
            }
            Step::Remove { model, version } => {
                let place = self.version(model, version);
                self.clear(&place);
            }
            Step::Policy { model, policy } => {
                let text = [
                    "versions: all\n",
                    "versions: {latest: 2}\n",
                    "versions: [1, 2]\n",
                    "queue: {size: 7}\nversions: all\n",
                    "warmup: {batch_sizes: [1, 4]}\nversions: {latest: 2}\n",
                    "load: lazy\n",
                    "load: lazy\nversions: all\n",
                    "queue: {size: 7}\nload: lazy\nversions: all\n",
                ];
                let folder = self.path("models").join(format!("m{model}"));
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("model.yaml"), &text[usize::from(policy)][..9]).unwrap();
                self.pass(1);
                fs::write(folder.join("model.yaml"), text[usize::from(policy)]).unwrap();
            }
            Step::Away => {
                let (here, there) = (self.path("models"), self.path("away"));
                let (from, to) = if here.exists() { (here, there) } else { (there, here) };
                fs::rename(from, to).unwrap();
            }
            Step::Wait(steps) => self.pass(steps),
        }
        self.pass(1);
    }
}
