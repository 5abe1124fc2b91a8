//! Random histories of a folder and of commands, with a clock of their own, through the real scanner and the
//! reconciler.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::fingerprint::Fingerprint;
use super::super::manifest::{FileSum, MANIFEST_FILE, Manifest};
use super::super::scan::Scanner;
use super::*;
use crate::config::ModelConfig;

const QUIET: Duration = Duration::from_millis(1000);
const STEP: Duration = Duration::from_millis(300);

/// What a version's two files say when they are whole and belong together; `bad` ones load as failures.
fn content(number: u32, bad: bool) -> String {
    format!("{}{number:04}end", if bad { "bad" } else { "fit" })
}

fn is_whole(text: &str) -> bool {
    text.len() == 10 && text.ends_with("end")
}

#[derive(Clone, Debug)]
enum Step {
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

fn step() -> impl Strategy<Value = Step> {
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
        2 => place.prop_map(|(model, version)| Step::Remove { model, version }),
        1 => (0..2_u8, 0..5_u8).prop_map(|(model, policy)| Step::Policy { model, policy }),
        1 => Just(Step::Away),
        4 => (1..8_u8).prop_map(Step::Wait),
    ]
}

/// What is loaded, as a keeper would have it, and what would be in it.
struct World {
    folder: tempfile::TempDir,
    scanner: Scanner,
    reconciler: Reconciler,
    now: Instant,
    count: u32,
    /// Loads that go on, each with what was read at its start and the steps that it still takes.
    loads: Vec<(Work, Result<String, String>, u8)>,
    serving: BTreeMap<Key, Serving>,
    held: BTreeSet<String>,
}

/// A generation: what it was loaded from, and the settings that it has now.
#[derive(Clone, Debug, PartialEq)]
struct Serving {
    content: String,
    loaded: Arc<Candidate>,
    settings: ModelConfig,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("models")).unwrap();
        let plugins = folder.path().join("plugins");
        let scanner = Scanner::new(folder.path().join("models"), plugins, Vec::new(), Arc::default(), QUIET);
        let reconciler = Reconciler::new(QUIET);
        let now = Instant::now();
        Self {
            folder,
            scanner,
            reconciler,
            now,
            count: 0,
            loads: Vec::new(),
            serving: BTreeMap::new(),
            held: BTreeSet::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn version(&self, model: u8, version: u8) -> PathBuf {
        self.path("models").join(format!("m{model}")).join(version.to_string())
    }

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
                self.reconciler.unhold(&model);
                self.reconciler.ask(&model, self.now);
                self.held.remove(&model);
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

    fn run(&mut self, step: &Step) {
        self.command(step);
        let needs_folder =
            !matches!(step, Step::Away | Step::Wait(_) | Step::Load { .. } | Step::Unload { .. });
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
            Step::Unload { .. } | Step::Load { .. } => {}
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

    /// What a loader would find: whole files that belong together, or a reason.
    fn load(candidate: &Candidate) -> Result<String, String> {
        candidate.source.settings.clone()?;
        let folder = &candidate.source.path;
        if let Some((manifest, _)) = Manifest::read(folder)? {
            manifest.verify(folder).map_err(|mismatches| format!("{mismatches:?}"))?;
        }
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let (model, labels) = (read("model.onnx"), read("labels.txt"));
        if model.starts_with("bad") { Err("bad".to_owned()) } else { Ok(format!("{model}|{labels}")) }
    }

    fn start(&mut self, works: Vec<Work>) {
        for work in works {
            let key = work.candidate.key();
            assert!(!self.loads.iter().any(|(other, ..)| other.candidate.key() == key), "two loads of one");
            assert!(!self.held.contains(&key.0), "a load of what is held");
            let serving = self.serving.get(&key);
            let same = serving.is_some_and(|serving| work.candidate.has_content_of(&serving.loaded));
            assert_eq!(work.apply, same, "loads what serves, or applies to what does not: {key:?}");
            let found = Self::load(&work.candidate);
            self.count += 1;
            self.loads.push((work, found, u8::try_from(self.count % 4).unwrap()));
        }
    }

    fn pass(&mut self, steps: u8) {
        for _ in 0..steps {
            self.now += STEP;
            let before: Vec<Key> = self.serving.keys().cloned().collect();
            let scanned = self.scanner.scan();
            if let Ok(scan) = &scanned {
                let loads = self.reconciler.observe(self.now, scan);
                self.start(loads);
            }
            self.let_go();
            if scanned.is_err() {
                assert!(before.iter().all(|key| self.serving.contains_key(key)), "unloaded without a look");
            }
            self.finish_loads();
        }
    }

    fn finish_loads(&mut self) {
        let (done, running) =
            std::mem::take(&mut self.loads).into_iter().partition(|(_, _, left)| *left == 0);
        self.loads = running;
        self.loads.iter_mut().for_each(|(_, _, left)| *left -= 1);
        let done: Vec<(Work, Result<String, String>, u8)> = done;
        for (work, found, _) in done {
            let candidate = Arc::clone(&work.candidate);
            let after = Fingerprint::read(&candidate.source, &self.path("plugins"));
            let outcome = match &found {
                _ if after != candidate.fingerprint => Outcome::Moved,
                Ok(_) => Outcome::Loaded,
                Err(reason) => Outcome::Failed(reason.clone()),
            };
            let (publish, works) = self.reconciler.finished(self.now, &work, outcome);
            if publish {
                self.publish(&candidate, work.apply, found.unwrap());
            }
            self.start(works);
            self.let_go();
        }
    }

    fn publish(&mut self, candidate: &Arc<Candidate>, apply: bool, content: String) {
        let key = candidate.key();
        let settings = candidate.source.settings.clone().unwrap();
        assert!(!self.held.contains(&key.0), "what is held is published");
        if apply {
            let serving = self.serving.get_mut(&key).expect("settings are applied to what serves");
            assert_eq!(serving.content, content, "settings of one content are applied to another");
            serving.settings = settings;
            return;
        }
        let (model, labels) = content.split_once('|').unwrap();
        assert!(is_whole(model) && model == labels, "a partial version serves: {content}");
        self.serving.insert(key, Serving { content, loaded: Arc::clone(candidate), settings });
    }

    fn let_go(&mut self) {
        for (key, standing) in self.reconciler.changes() {
            if !matches!(standing, Standing::Ready | Standing::Outdated(_)) {
                self.serving.remove(&key);
            }
        }
    }

    /// What should serve once all is still: each wanted version with what is in its folder, where that is
    /// good, under its settings; and nothing that is held.
    fn check_settled(&mut self) {
        let scan = self.scanner.scan().unwrap();
        for (key, candidate) in scan.wanted.iter().filter(|(key, _)| !self.held.contains(&key.0)) {
            let serving = self.serving.get(key);
            match Self::load(candidate) {
                Ok(found) => {
                    assert_eq!(serving.map(|serving| &serving.content), Some(&found), "{key:?}");
                    let settings = serving.map(|serving| &serving.settings);
                    assert_eq!(settings, candidate.source.settings.as_ref().ok(), "{key:?}");
                }
                // An earlier content may serve, or nothing.
                Err(_) => assert!(serving.is_none_or(|serving| serving.content.starts_with("fit"))),
            }
        }
        for key in self.serving.keys() {
            assert!(!self.held.contains(&key.0), "{key:?} is held");
            let replaced_by_bad = scan.superseded.contains(key)
                && (scan.wanted.iter().any(|(other, one)| other.0 == key.0 && Self::load(one).is_err())
                    || scan.missing.keys().any(|other| other.0 == key.0));
            assert!(scan.wanted.contains_key(key) || replaced_by_bad, "{key:?} should be gone");
        }
        assert!(self.loads.is_empty());
    }

    /// What is asked for gets an answer, and the one that the folder gives.
    fn check_answers(&mut self) {
        for model in ["m0", "m1"] {
            let scan = self.scanner.scan().unwrap();
            let of_model = scan.wanted.iter().filter(|(key, _)| key.0 == model);
            let good = of_model.filter(|(_, candidate)| Self::load(candidate).is_ok());
            let good: Vec<String> = good.map(|(key, _)| key.1.clone()).collect();
            let answer = self.reconciler.answer(model).expect("no answer though all is still");
            assert_eq!(answer.unwrap_or_default(), good, "{model}");
        }
    }

    /// Still for long enough for the waits, the loads and the longest time to a retry that matters.
    fn settle(&mut self) {
        self.pass(30);
        if self.loads.iter().any(|(_, found, _)| found.is_err()) {
            // Retries go on for ever; let the one that runs end.
            while let Some(at) = self.loads.iter().position(|(_, found, _)| found.is_err()) {
                let (work, found, _) = self.loads.remove(at);
                let outcome = Outcome::Failed(found.unwrap_err());
                let (_, works) = self.reconciler.finished(self.now, &work, outcome);
                assert!(works.is_empty());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn once_things_are_still_the_loaded_set_is_the_desired_one(steps in prop::collection::vec(step(), 1..25)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.run(step));
        if !world.path("models").exists() {
            world.run(&Step::Away);
        }
        world.settle();
        world.check_settled();
        // And what was taken out comes back for whoever asks for it.
        for model in 0..2 {
            world.run(&Step::Load { model });
        }
        world.settle();
        world.check_settled();
        world.check_answers();
    }
}

fn candidate(version: &str, path: &str) -> (Key, Arc<Candidate>) {
    let source = super::super::layout::VersionSource {
        model: "m".to_owned(),
        version: version.to_owned(),
        path: PathBuf::from(path),
        settings: Ok(crate::config::ModelConfig::default()),
    };
    let candidate = Arc::new(Candidate { source, fingerprint: Fingerprint::default() });
    (candidate.key(), candidate)
}

fn load(candidate: &(Key, Arc<Candidate>)) -> Work {
    Work { candidate: Arc::clone(&candidate.1), apply: false }
}

/// The same content under other settings.
fn with_queue(candidate: &(Key, Arc<Candidate>), size: usize) -> (Key, Arc<Candidate>) {
    let mut other = Candidate::clone(&candidate.1);
    other.source.settings.as_mut().unwrap().queue.size = size;
    (candidate.0.clone(), Arc::new(other))
}

fn scan_of(candidates: &[&(Key, Arc<Candidate>)]) -> Scan {
    Scan { wanted: candidates.iter().map(|one| (*one).clone()).collect(), ..Scan::default() }
}

#[test]
fn what_fails_is_tried_later_each_time_and_new_content_at_once() {
    let (bad, good) = (candidate("1", "bad"), candidate("1", "good"));
    let mut reconciler = Reconciler::new(QUIET);
    let mut now = Instant::now();
    assert!(reconciler.observe(now, &scan_of(&[&bad])).is_empty());
    now += QUIET;
    assert_eq!(reconciler.observe(now, &scan_of(&[&bad])).len(), 1);
    let mut waits = Vec::new();
    for _ in 0..9 {
        reconciler.finished(now, &load(&bad), Outcome::Failed("no".to_owned()));
        let retry = reconciler.next_wake().unwrap();
        waits.push((retry - now).as_secs());
        assert!(reconciler.observe(retry - Duration::from_millis(1), &scan_of(&[&bad])).is_empty());
        now = retry;
        assert_eq!(reconciler.observe(now, &scan_of(&[&bad])).len(), 1);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    reconciler.finished(now, &load(&bad), Outcome::Failed("no".to_owned()));
    assert!(reconciler.observe(now, &scan_of(&[&good])).is_empty());
    now += QUIET;
    assert_eq!(reconciler.observe(now, &scan_of(&[&good])).len(), 1);
    assert!(reconciler.finished(now, &load(&good), Outcome::Loaded).0);
    assert_eq!(reconciler.changes(), [(good.0, Standing::Ready)]);
}

#[test]
fn the_version_before_serves_until_the_next_one_does() {
    let (one, two) = (candidate("1", "one"), candidate("2", "two"));
    let mut reconciler = Reconciler::new(QUIET);
    let mut now = Instant::now();
    let mut settle = |reconciler: &mut Reconciler, scan: &Scan| {
        reconciler.observe(now, scan);
        now += QUIET;
        (reconciler.observe(now, scan), now)
    };
    let (loads, at) = settle(&mut reconciler, &scan_of(&[&one]));
    assert_eq!(loads, [load(&one)]);
    assert!(reconciler.finished(at, &load(&one), Outcome::Loaded).0);
    reconciler.changes();
    let superseded = Scan { superseded: [one.0.clone()].into(), ..scan_of(&[&two]) };
    let (loads, at) = settle(&mut reconciler, &superseded);
    assert_eq!(loads, [load(&two)]);
    assert_eq!(reconciler.changes(), [(two.0.clone(), Standing::Loading)]);
    reconciler.finished(at, &load(&two), Outcome::Failed("no".to_owned()));
    assert!(matches!(&reconciler.changes()[..], [(key, Standing::Failed(_))] if *key == two.0));
    // The one before is removed: now it goes, for nothing is on its way any more.
    settle(&mut reconciler, &scan_of(&[&two]));
    assert!(reconciler.changes().contains(&(one.0.clone(), Standing::Gone)));
}

#[test]
fn a_model_that_cannot_be_looked_at_stays_as_it_is() {
    let one = candidate("1", "one");
    let mut reconciler = Reconciler::new(QUIET);
    let mut now = Instant::now();
    reconciler.observe(now, &Scan { old: [one.0.clone()].into(), ..scan_of(&[&one]) });
    assert!(
        reconciler.finished(now, &load(&one), Outcome::Loaded).0,
        "old files are loaded at the first look"
    );
    reconciler.changes();
    for _ in 0..5 {
        now += QUIET;
        reconciler.observe(now, &Scan { unreadable: ["m".to_owned()].into(), ..Scan::default() });
        assert_eq!((reconciler.changes(), reconciler.next_wake()), (Vec::new(), None));
    }
}

/// A reconciler for which a candidate serves.
fn serving(candidate: &(Key, Arc<Candidate>)) -> (Reconciler, Instant) {
    let (mut reconciler, now) = (Reconciler::new(QUIET), Instant::now());
    reconciler.observe(now, &Scan { old: [candidate.0.clone()].into(), ..scan_of(&[candidate]) });
    assert!(reconciler.finished(now, &load(candidate), Outcome::Loaded).0);
    reconciler.changes();
    (reconciler, now)
}

#[test]
fn settings_are_applied_to_what_serves_and_what_it_depends_on_is_loaded() {
    let one = candidate("1", "one");
    let (mut reconciler, mut now) = serving(&one);
    let other = with_queue(&one, 5);
    assert_eq!(reconciler.observe(now, &scan_of(&[&other])), [], "model.yaml may be half written");
    now += QUIET;
    let works = reconciler.observe(now, &scan_of(&[&other]));
    assert_eq!(works, [Work { candidate: Arc::clone(&other.1), apply: true }]);
    assert_eq!(reconciler.finished(now, &works[0], Outcome::Loaded), (true, vec![]));
    assert_eq!(reconciler.changes(), []);

    let mut warmed = Candidate::clone(&other.1);
    warmed.source.settings.as_mut().unwrap().warmup.batch_sizes.push(8);
    let warmed = (one.0.clone(), Arc::new(warmed));
    reconciler.observe(now, &scan_of(&[&warmed]));
    now += QUIET;
    assert_eq!(reconciler.observe(now, &scan_of(&[&warmed])), [load(&warmed)]);
}

#[test]
fn settings_that_change_during_a_load_are_applied_after_it() {
    let one = candidate("1", "one");
    let mut reconciler = Reconciler::new(QUIET);
    let mut now = Instant::now();
    let loads = reconciler.observe(now, &Scan { old: [one.0.clone()].into(), ..scan_of(&[&one]) });
    let other = with_queue(&one, 5);
    reconciler.observe(now, &scan_of(&[&other]));
    now += QUIET;
    assert_eq!(reconciler.observe(now, &scan_of(&[&other])), [], "one at a time");
    let apply = Work { candidate: Arc::clone(&other.1), apply: true };
    assert_eq!(reconciler.finished(now, &loads[0], Outcome::Loaded), (true, vec![apply.clone()]));
    // Taken out and asked for meanwhile: there is nothing left to apply them to.
    assert!(reconciler.hold("m", now));
    reconciler.unhold("m");
    assert_eq!(reconciler.finished(now, &apply, Outcome::Loaded), (false, vec![load(&other)]));
}

#[test]
fn a_complete_manifest_spares_the_wait_and_nothing_else_does() {
    let (one, next) = (candidate("1", "one"), candidate("1", "next"));
    let complete = |candidate: &(Key, Arc<Candidate>)| Scan {
        complete: [candidate.0.clone()].into(),
        ..scan_of(&[candidate])
    };
    let mut reconciler = Reconciler::new(QUIET);
    let now = Instant::now();
    let loads = reconciler.observe(now, &complete(&one));
    assert_eq!(loads, [load(&one)]);
    reconciler.finished(now, &loads[0], Outcome::Loaded);
    assert_eq!(reconciler.observe(now, &complete(&next)), [load(&next)]);
    reconciler.finished(now, &load(&next), Outcome::Loaded);
    // model.yaml is in no manifest: it may be half written.
    assert_eq!(reconciler.observe(now, &complete(&with_queue(&next, 5))), []);
    let mut broken = Candidate::clone(&next.1);
    broken.source.settings = Err("half written".to_owned());
    assert_eq!(Reconciler::new(QUIET).observe(now, &complete(&(next.0.clone(), Arc::new(broken)))), []);
    // Once a scan was not the first one, old files have to be still like all others, unless asked for.
    let old = |candidate: &(Key, Arc<Candidate>)| Scan {
        old: [candidate.0.clone()].into(),
        ..scan_of(&[candidate])
    };
    let (mut reconciler, now) = serving(&one);
    assert_eq!(reconciler.observe(now, &old(&next)), []);
    reconciler.ask("m", now);
    assert_eq!(reconciler.answer("m"), None);
    assert_eq!(reconciler.observe(now, &old(&next)), [load(&next)]);
}

#[test]
fn what_is_held_stays_out_until_it_is_asked_for() {
    let (one, next) = (candidate("1", "one"), candidate("1", "next"));
    let (mut reconciler, mut now) = serving(&one);
    assert!(!reconciler.hold("other", now), "there is none of that name");
    assert!(reconciler.hold("m", now));
    assert_eq!(reconciler.changes(), [(one.0.clone(), Standing::Unloaded(now))]);
    assert!(reconciler.answer("m").unwrap().unwrap_err().contains("unloaded"));
    let held_at = now;
    for content in [&one, &next, &next, &next] {
        now += QUIET;
        assert_eq!(reconciler.observe(now, &scan_of(&[content])), []);
        assert_eq!((reconciler.changes(), reconciler.waited_for(true)), (vec![], 0));
    }
    assert!(reconciler.hold("m", now), "twice is once");
    assert_eq!(reconciler.standing(&one.0), Standing::Unloaded(held_at));
    reconciler.unhold("m");
    reconciler.ask("m", now);
    assert_eq!(reconciler.answer("m"), None);
    let loads = reconciler.observe(now, &scan_of(&[&next]));
    assert_eq!(loads, [load(&next)]);
    // Taken out again while it loads: what comes of it does not serve.
    reconciler.hold("m", now);
    assert_eq!(reconciler.finished(now, &loads[0], Outcome::Loaded), (false, vec![]));
    reconciler.unhold("m");
    reconciler.ask("m", now);
    let loads = reconciler.observe(now, &scan_of(&[&next]));
    assert!(reconciler.finished(now, &loads[0], Outcome::Loaded).0);
    assert_eq!(reconciler.answer("m"), Some(Ok(vec!["1".to_owned()])));
    // Its folder goes while it is held: it leaves, and the next one of the name is held as well.
    reconciler.hold("m", now);
    for _ in 0..2 {
        reconciler.observe(now, &Scan::default());
        now += QUIET;
    }
    assert!(!reconciler.knows("m"));
    assert_eq!(reconciler.observe(now, &Scan { complete: [one.0.clone()].into(), ..scan_of(&[&one]) }), []);
}

#[test]
fn who_asks_gets_a_new_try_and_its_reason() {
    let bad = candidate("1", "bad");
    let mut reconciler = Reconciler::new(QUIET);
    let now = Instant::now();
    let loads = reconciler.observe(now, &Scan { old: [bad.0.clone()].into(), ..scan_of(&[&bad]) });
    reconciler.finished(now, &loads[0], Outcome::Failed("first".to_owned()));
    assert_eq!(reconciler.answer("m"), Some(Err("version 1: first".to_owned())));
    assert_eq!(reconciler.observe(now, &scan_of(&[&bad])), []);
    reconciler.ask("m", now);
    assert_eq!(reconciler.answer("m"), None);
    let loads = reconciler.observe(now, &scan_of(&[&bad]));
    assert_eq!(loads, [load(&bad)]);
    reconciler.finished(now, &loads[0], Outcome::Failed("second".to_owned()));
    assert_eq!(reconciler.answer("m"), Some(Err("version 1: second".to_owned())));
    assert!(reconciler.answer("other").unwrap().unwrap_err().contains("no model 'other'"));
    let blind = Scan { unreadable: ["m".to_owned()].into(), ..Scan::default() };
    reconciler.observe(now, &blind);
    assert!(reconciler.answer("m").unwrap().unwrap_err().contains("cannot be read"));
}
