//! The reconciler's rules one by one, without folders.

use std::path::PathBuf;
use std::time::Duration;

use super::super::fingerprint::Fingerprint;
use super::*;

const QUIET: Duration = Duration::from_millis(1000);

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
    Work { candidate: Arc::clone(&candidate.1), task: Task::Load }
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
    assert_eq!(works, [Work { candidate: Arc::clone(&other.1), task: Task::Apply }]);
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
    let apply = Work { candidate: Arc::clone(&other.1), task: Task::Apply };
    assert_eq!(reconciler.finished(now, &loads[0], Outcome::Loaded), (true, vec![apply.clone()]));
    // Taken out and asked for meanwhile: there is nothing left to apply them to.
    assert!(reconciler.hold("m", now));
    reconciler.call("m", now);
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
    reconciler.call("m", now);
    assert_eq!(reconciler.answer("m"), None);
    let loads = reconciler.observe(now, &scan_of(&[&next]));
    assert_eq!(loads, [load(&next)]);
    // Taken out again while it loads: what comes of it does not serve.
    reconciler.hold("m", now);
    assert_eq!(reconciler.finished(now, &loads[0], Outcome::Loaded), (false, vec![]));
    reconciler.call("m", now);
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

#[test]
fn what_was_loaded_and_is_no_longer_wanted_does_not_serve() {
    let (one, next) = (candidate("1", "one"), candidate("1", "next"));
    let mut reconciler = Reconciler::new(QUIET);
    let now = Instant::now();
    let loads = reconciler.observe(now, &Scan { old: [one.0.clone()].into(), ..scan_of(&[&one]) });
    reconciler.observe(now, &scan_of(&[&next]));
    assert_eq!(reconciler.finished(now, &loads[0], Outcome::Loaded), (false, vec![]));
    assert_eq!(reconciler.standing(&one.0), Standing::Loading);
}

/// The same, loaded on demand.
fn lazy(candidate: &(Key, Arc<Candidate>)) -> (Key, Arc<Candidate>) {
    let mut other = Candidate::clone(&candidate.1);
    other.source.settings.as_mut().unwrap().on_demand.load = Some(crate::config::LoadPolicy::Lazy);
    (candidate.0.clone(), Arc::new(other))
}

fn check(candidate: &(Key, Arc<Candidate>)) -> Work {
    Work { candidate: Arc::clone(&candidate.1), task: Task::Check }
}

fn old(candidate: &(Key, Arc<Candidate>)) -> Scan {
    Scan { old: [candidate.0.clone()].into(), ..scan_of(&[candidate]) }
}

/// A reconciler for which a lazy candidate is on standby.
fn standby(candidate: &(Key, Arc<Candidate>)) -> (Reconciler, Instant) {
    let (mut reconciler, now) = (Reconciler::new(QUIET), Instant::now());
    assert_eq!(reconciler.observe(now, &old(candidate)), [check(candidate)]);
    assert_eq!(reconciler.waited_for(true), 1);
    assert_eq!(reconciler.finished(now, &check(candidate), Outcome::Loaded), (true, vec![]));
    assert_eq!(reconciler.changes(), [(candidate.0.clone(), Standing::Standby(None))]);
    assert_eq!((reconciler.waited_for(true), reconciler.next_wake()), (0, None));
    (reconciler, now)
}

#[test]
fn a_lazy_version_is_loaded_once_somebody_waits_for_it_and_may_rest_again() {
    let one = lazy(&candidate("1", "one"));
    let (mut reconciler, now) = standby(&one);
    assert_eq!(reconciler.observe(now + QUIET, &scan_of(&[&one])), []);
    assert_eq!(reconciler.wake(&one.0, now), [load(&one)]);
    assert_eq!(reconciler.wake(&one.0, now), [], "one load for all who wait");
    assert!(!reconciler.rest(&one.0), "it is not there yet");
    assert_eq!(reconciler.finished(now, &load(&one), Outcome::Loaded), (true, vec![]));
    assert_eq!(reconciler.changes(), [(one.0.clone(), Standing::Ready)]);
    assert_eq!(reconciler.wake(&one.0, now), []);
    assert!(reconciler.rest(&one.0) && !reconciler.rest(&one.0));
    assert_eq!(reconciler.changes(), [(one.0.clone(), Standing::Standby(None))]);
    // What is eager is never put to rest.
    let (mut reconciler, _) = serving(&candidate("1", "one"));
    assert!(!reconciler.rest(&one.0));
}

#[test]
fn what_cannot_be_woken_has_its_reason_until_the_next_try_which_somebody_has_to_ask_for() {
    let one = lazy(&candidate("1", "one"));
    let (mut reconciler, mut now) = standby(&one);
    let mut waits = Vec::new();
    for _ in 0..3 {
        assert_eq!(reconciler.wake(&one.0, now), [load(&one)]);
        let failed = Outcome::Failed("no threads".to_owned());
        assert_eq!(reconciler.finished(now, &load(&one), failed), (false, vec![]));
        assert!(matches!(&reconciler.changes()[..], [(_, Standing::Failed(_))]));
        assert_eq!(reconciler.wake(&one.0, now), [], "not before its time");
        let retry = reconciler.next_wake().unwrap();
        waits.push((retry - now).as_secs());
        now = retry;
        assert_eq!(reconciler.observe(now, &scan_of(&[&one])), [], "nobody waits");
        assert_eq!(reconciler.changes(), [(one.0.clone(), Standing::Standby(None))]);
    }
    assert_eq!(waits, [1, 2, 4]);
    // A refusal is no failure.
    reconciler.wake(&one.0, now);
    reconciler.finished(now, &load(&one), Outcome::Refused("no room".to_owned()));
    assert_eq!(reconciler.changes(), []);
    assert_eq!(reconciler.wake(&one.0, now), [load(&one)]);
}

#[test]
fn new_content_and_settings_of_what_sleeps_are_checked_and_not_loaded() {
    let one = lazy(&candidate("1", "one"));
    let (mut reconciler, mut now) = standby(&one);
    let other = with_queue(&one, 5);
    for _ in 0..2 {
        now += QUIET;
        assert_eq!(reconciler.observe(now, &scan_of(&[&other])), [], "settings need no work");
    }
    assert_eq!(reconciler.serving(&one.0), Some(&other.1));
    let next = lazy(&candidate("1", "next"));
    reconciler.observe(now, &scan_of(&[&next]));
    assert_eq!(reconciler.wake(&one.0, now), [], "what slept is gone");
    now += QUIET;
    // Somebody waits: it is loaded.
    assert_eq!(reconciler.observe(now, &scan_of(&[&next])), [load(&next)]);
    reconciler.finished(now, &load(&next), Outcome::Failed("bad".to_owned()));
    assert!(matches!(reconciler.standing(&one.0), Standing::Failed(_)));
    // Eager from now on: it is loaded, whoever waits.
    let (mut reconciler, mut now) = standby(&one);
    let eager = candidate("1", "one");
    reconciler.observe(now, &scan_of(&[&eager]));
    now += QUIET;
    assert_eq!(reconciler.observe(now, &scan_of(&[&eager])), [load(&eager)]);
}

#[test]
fn the_version_before_can_be_woken_until_the_next_one_is_checked() {
    let (one, two) = (lazy(&candidate("1", "one")), lazy(&candidate("2", "two")));
    let (mut reconciler, mut now) = standby(&one);
    let superseded = Scan { superseded: [one.0.clone()].into(), ..scan_of(&[&two]) };
    assert_eq!(reconciler.observe(now, &superseded), []);
    now += QUIET;
    assert_eq!(reconciler.observe(now, &superseded), [check(&two)]);
    assert_eq!(reconciler.wake(&one.0, now), [load(&one)]);
    assert_eq!(reconciler.finished(now, &load(&one), Outcome::Loaded), (true, vec![]));
    assert_eq!(reconciler.standing(&one.0), Standing::Ready);
    assert!(reconciler.finished(now, &check(&two), Outcome::Loaded).0);
    assert_eq!(reconciler.standing(&one.0), Standing::Gone);
    assert_eq!(reconciler.standing(&two.0), Standing::Standby(None));
}

#[test]
fn a_command_loads_what_is_lazy_and_says_why_it_cannot() {
    let one = lazy(&candidate("1", "one"));
    let (mut reconciler, now) = standby(&one);
    reconciler.ask("m", now);
    assert_eq!(reconciler.answer("m"), Some(Ok(vec!["1".to_owned()])), "a look loads nothing");
    reconciler.call("m", now);
    assert_eq!(reconciler.observe(now, &scan_of(&[&one])), [load(&one)]);
    assert_eq!(reconciler.answer("m"), None);
    let refused = Outcome::Refused("no room".to_owned());
    assert_eq!(reconciler.finished(now, &load(&one), refused), (false, vec![]));
    assert_eq!(reconciler.answer("m"), Some(Err("version 1: no room".to_owned())));
    reconciler.call("m", now);
    let works = reconciler.observe(now, &scan_of(&[&one]));
    reconciler.finished(now, &works[0], Outcome::Loaded);
    assert_eq!(reconciler.answer("m"), Some(Ok(vec!["1".to_owned()])));
    assert!(reconciler.hold("m", now));
    assert_eq!(reconciler.wake(&one.0, now), []);
    assert!(!reconciler.rest(&one.0));
}
