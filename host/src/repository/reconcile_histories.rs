//! Random histories of a folder and of commands, with a clock of their own, through the real scanner and the
//! reconciler.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::fingerprint::Fingerprint;
use super::super::manifest::Manifest;
use super::super::scan::Scanner;
use super::*;
use crate::config::ModelConfig;

#[path = "reconcile_steps.rs"]
mod steps;

use steps::{Step, step};

const QUIET: Duration = Duration::from_millis(1000);
const STEP: Duration = Duration::from_millis(300);

/// What a version's two files say when they are whole and belong together; `bad` ones load as failures.
fn content(number: u32, bad: bool) -> String {
    format!("{}{number:04}end", if bad { "bad" } else { "fit" })
}

fn is_whole(text: &str) -> bool {
    text.len() == 10 && text.ends_with("end")
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
    /// Versions for which somebody has waited, or their model: only those may be loaded if they are lazy.
    wished: BTreeSet<Key>,
    /// Models that a command waits for: until it has its answer they are brought back, whoever puts them to rest.
    callers: BTreeSet<String>,
    /// Loads on demand fail now and then, or there is no room for them.
    flaky: bool,
}

/// A generation: what it was loaded from, and the settings that it has now.
#[derive(Clone, Debug, PartialEq)]
struct Serving {
    content: String,
    loaded: Arc<Candidate>,
    settings: ModelConfig,
    /// It is not in memory.
    asleep: bool,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("models")).unwrap();
        let plugins = folder.path().join("plugins");
        let scanner =
            Scanner::new(folder.path().join("models"), plugins, Vec::new(), std::sync::Arc::default(), QUIET);
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
            wished: BTreeSet::new(),
            callers: BTreeSet::new(),
            flaky: true,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn version(&self, model: u8, version: u8) -> PathBuf {
        self.path("models").join(format!("m{model}")).join(version.to_string())
    }

    /// What a loader would find: whole files that belong together, or a reason.
    fn load(candidate: &Candidate) -> Result<String, String> {
        candidate.source.settings.clone()?;
        let folder = &candidate.source.path;
        if let Some((manifest, _)) = Manifest::read(folder)? {
            manifest.verify(folder).map_err(|mismatches| format!("{mismatches:?}"))?;
        }
        // The folder may be away just now.
        let model = fs::read_to_string(folder.join("model.onnx")).map_err(|error| error.to_string())?;
        let labels = fs::read_to_string(folder.join("labels.txt")).unwrap_or_default();
        if model.starts_with("bad") { Err("bad".to_owned()) } else { Ok(format!("{model}|{labels}")) }
    }

    fn start(&mut self, works: Vec<Work>) {
        for work in works {
            let key = work.candidate.key();
            assert!(!self.loads.iter().any(|(other, ..)| other.candidate.key() == key), "two loads of one");
            assert!(!self.held.contains(&key.0), "a load of what is held");
            let awake = self.serving.get(&key).filter(|serving| !serving.asleep);
            let same = awake.is_some_and(|serving| work.candidate.has_content_of(&serving.loaded));
            let applies = work.task == Task::Apply;
            assert_eq!(applies, same, "loads what serves, or applies to what does not: {key:?}");
            assert!(
                work.task != Task::Check || awake.is_none(),
                "something that is in memory is loaded anew"
            );
            let on_demand = work.task == Task::Load && work.candidate.is_lazy() && awake.is_none();
            let is_asked_for = self.wished.contains(&key) || self.callers.contains(&key.0);
            assert!(!on_demand || is_asked_for, "loaded without being asked for: {key:?}");
            let mut found = Self::load(&work.candidate);
            self.count += 1;
            if on_demand && self.flaky && self.count.is_multiple_of(5) {
                let refused = Outcome::Refused("no room".to_owned());
                let (publish, works) = self.reconciler.finished(self.now, &work, refused);
                assert!(!publish);
                self.start(works);
                self.let_go();
                continue;
            }
            if on_demand && self.flaky && self.count % 5 == 1 {
                found = Err("no threads".to_owned());
            }
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
            self.answer_callers();
        }
    }

    fn answer_callers(&mut self) {
        let reconciler = &mut self.reconciler;
        self.callers.retain(|model| reconciler.answer(model).is_none());
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
                self.publish(&candidate, work.task, found.unwrap());
            }
            self.start(works);
            self.let_go();
        }
    }

    fn publish(&mut self, candidate: &Arc<Candidate>, task: Task, content: String) {
        let key = candidate.key();
        let settings = candidate.source.settings.clone().unwrap();
        assert!(!self.held.contains(&key.0), "what is held is published");
        if task == Task::Apply {
            let serving = self.serving.get_mut(&key).expect("settings are applied to what serves");
            assert_eq!(serving.content, content, "settings of one content are applied to another");
            assert!(!serving.asleep, "settings are applied to what is not in memory");
            serving.settings = settings;
            return;
        }
        let (model, labels) = content.split_once('|').unwrap();
        assert!(is_whole(model) && model == labels, "a partial version serves: {content}");
        let asleep = task == Task::Check;
        if !asleep {
            self.wished.remove(&key);
        }
        self.serving.insert(key, Serving { content, loaded: Arc::clone(candidate), settings, asleep });
    }

    /// A request comes for a version, and waits if it is not in memory.
    fn request(&mut self, key: &Key) {
        if self.serving.get(key).is_some_and(|serving| serving.asleep) {
            self.wished.insert(key.clone());
        }
        let works = self.reconciler.wake(key, self.now);
        self.start(works);
    }

    /// Somebody else needs the room.
    fn rest(&mut self, key: &Key) {
        let could = self.reconciler.rest(key);
        let serving = self.serving.get_mut(key);
        let is_lazy = serving.as_ref().is_some_and(|serving| serving.settings.on_demand.is_lazy());
        assert!(!could || is_lazy, "what is eager was put to rest");
        if let Some(serving) = serving {
            serving.asleep |= could;
        }
        self.let_go();
    }

    fn let_go(&mut self) {
        for (key, standing) in self.reconciler.changes() {
            match standing {
                Standing::Ready | Standing::Outdated(_) => {}
                // Settings are in effect without a work.
                Standing::Standby(_) => self.adopt(&key),
                // What could not be woken has its next try.
                Standing::Failed(_) if self.reconciler.serving(&key).is_some() => {}
                Standing::Failed(_) | Standing::Loading | Standing::Unloaded(_) | Standing::Gone => {
                    self.serving.remove(&key);
                }
            }
        }
        let asleep: Vec<Key> =
            self.serving.iter().filter(|(_, serving)| serving.asleep).map(|(key, _)| key.clone()).collect();
        asleep.iter().for_each(|key| self.adopt(key));
    }

    fn adopt(&mut self, key: &Key) {
        let now = self.reconciler.serving(key);
        if let (Some(serving), Some(now)) = (self.serving.get_mut(key), now) {
            assert!(!serving.asleep || now.has_files_of(&serving.loaded), "{key:?} became another");
            serving.settings = now.source.settings.clone().unwrap();
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

    /// All that can be in memory is.
    fn check_awake(&self) {
        for (key, serving) in &self.serving {
            assert!(!serving.asleep, "{key:?} sleeps though it was asked for");
        }
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

    /// Still for long enough for the waits and the loads; then nothing else goes wrong, for longer than it takes
    /// until the slowest load that failed is tried again (nine times what it took) and has ended.
    fn settle(&mut self) {
        self.pass(30);
        self.flaky = false;
        self.pass(50);
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
        world.check_awake();
        world.check_answers();
        for model in 0..2 {
            world.run(&Step::Rest { model });
            world.run(&Step::Request { model });
        }
        world.settle();
        world.check_settled();
        world.check_awake();
    }
}
