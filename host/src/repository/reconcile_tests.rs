//! Random histories of a folder, with a clock of their own, through the real scanner and the reconciler.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::fingerprint::Fingerprint;
use super::super::scan::Scanner;
use super::*;

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
        2 => place.prop_map(|(model, version)| Step::Remove { model, version }),
        1 => (0..2_u8, 0..3_u8).prop_map(|(model, policy)| Step::Policy { model, policy }),
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
    loads: Vec<(Arc<Candidate>, Result<String, String>, u8)>,
    serving: BTreeMap<Key, String>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("models")).unwrap();
        let plugins = folder.path().join("plugins");
        let scanner = Scanner::new(folder.path().join("models"), plugins, Vec::new(), QUIET);
        let reconciler = Reconciler::new(QUIET);
        let now = Instant::now();
        Self { folder, scanner, reconciler, now, count: 0, loads: Vec::new(), serving: BTreeMap::new() }
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

    fn run(&mut self, step: &Step) {
        if !self.path("models").exists() && !matches!(step, Step::Away | Step::Wait(_)) {
            return;
        }
        match *step {
            Step::Rename { model, version, bad } => {
                let (fresh, place) = (self.path("models/.fresh"), self.version(model, version));
                self.write_both(&fresh, bad);
                self.clear(&place);
                fs::rename(fresh, place).unwrap();
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
                let text = ["versions: all\n", "versions: {latest: 2}\n", "versions: [1, 2]\n"];
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
        let read = |name: &str| fs::read_to_string(candidate.source.path.join(name)).unwrap_or_default();
        let (model, labels) = (read("model.onnx"), read("labels.txt"));
        if model.starts_with("bad") { Err("bad".to_owned()) } else { Ok(format!("{model}|{labels}")) }
    }

    fn start(&mut self, candidates: Vec<Arc<Candidate>>) {
        for candidate in candidates {
            assert!(!self.loads.iter().any(|(other, ..)| other.key() == candidate.key()), "two loads of one");
            let found = Self::load(&candidate);
            self.count += 1;
            self.loads.push((candidate, found, u8::try_from(self.count % 4).unwrap()));
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
        let done: Vec<(Arc<Candidate>, Result<String, String>, u8)> = done;
        for (candidate, found, _) in done {
            let after = Fingerprint::read(&candidate.source, &self.path("plugins"));
            let outcome = match &found {
                _ if after != candidate.fingerprint => Outcome::Moved,
                Ok(_) => Outcome::Loaded,
                Err(reason) => Outcome::Failed(reason.clone()),
            };
            let (publish, loads) = self.reconciler.finished(self.now, &candidate, outcome);
            if publish {
                let found = found.unwrap();
                let (model, labels) = found.split_once('|').unwrap();
                assert!(is_whole(model) && model == labels, "a partial version serves: {found}");
                self.serving.insert(candidate.key(), found);
            }
            self.start(loads);
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        for (key, standing) in self.reconciler.changes() {
            if !matches!(standing, Standing::Ready | Standing::Outdated(_)) {
                self.serving.remove(&key);
            }
        }
    }

    /// What should serve once all is still: each wanted version with what is in its folder, where that is
    /// good.
    fn check_settled(&mut self) {
        let scan = self.scanner.scan().unwrap();
        for (key, candidate) in &scan.wanted {
            match Self::load(candidate) {
                Ok(found) => assert_eq!(self.serving.get(key), Some(&found), "{key:?}"),
                // An earlier content may serve, or nothing.
                Err(_) => assert!(self.serving.get(key).is_none_or(|found| found.starts_with("fit"))),
            }
        }
        for key in self.serving.keys() {
            let replaced_by_bad = scan.superseded.contains(key)
                && (scan.wanted.iter().any(|(other, one)| other.0 == key.0 && Self::load(one).is_err())
                    || scan.missing.keys().any(|other| other.0 == key.0));
            assert!(scan.wanted.contains_key(key) || replaced_by_bad, "{key:?} should be gone");
        }
        assert!(self.loads.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn once_things_are_still_the_loaded_set_is_the_desired_one(steps in prop::collection::vec(step(), 1..25)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.run(step));
        if !world.path("models").exists() {
            world.run(&Step::Away);
        }
        // Still for long enough for the waits, the loads and the longest time to a retry that matters.
        world.pass(30);
        if world.loads.iter().any(|(_, found, _)| found.is_err()) {
            // Retries go on for ever; let the one that runs end.
            world.loads.clear();
        }
        world.check_settled();
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
        reconciler.finished(now, &bad.1, Outcome::Failed("no".to_owned()));
        let retry = reconciler.next_wake().unwrap();
        waits.push((retry - now).as_secs());
        assert!(reconciler.observe(retry - Duration::from_millis(1), &scan_of(&[&bad])).is_empty());
        now = retry;
        assert_eq!(reconciler.observe(now, &scan_of(&[&bad])).len(), 1);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    reconciler.finished(now, &bad.1, Outcome::Failed("no".to_owned()));
    assert!(reconciler.observe(now, &scan_of(&[&good])).is_empty());
    now += QUIET;
    assert_eq!(reconciler.observe(now, &scan_of(&[&good])).len(), 1);
    assert!(reconciler.finished(now, &good.1, Outcome::Loaded).0);
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
    assert_eq!(loads, std::slice::from_ref(&one.1));
    assert!(reconciler.finished(at, &one.1, Outcome::Loaded).0);
    reconciler.changes();
    let superseded = Scan { superseded: [one.0.clone()].into(), ..scan_of(&[&two]) };
    let (loads, at) = settle(&mut reconciler, &superseded);
    assert_eq!(loads, std::slice::from_ref(&two.1));
    assert_eq!(reconciler.changes(), [(two.0.clone(), Standing::Loading)]);
    reconciler.finished(at, &two.1, Outcome::Failed("no".to_owned()));
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
    assert!(reconciler.finished(now, &one.1, Outcome::Loaded).0, "old files are loaded at the first look");
    reconciler.changes();
    for _ in 0..5 {
        now += QUIET;
        reconciler.observe(now, &Scan { unreadable: ["m".to_owned()].into(), ..Scan::default() });
        assert_eq!((reconciler.changes(), reconciler.next_wake()), (Vec::new(), None));
    }
}
