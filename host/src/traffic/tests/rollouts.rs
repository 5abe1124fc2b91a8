//! A canary's way, told event by event.

use std::time::Duration;

use super::super::{Command, Event, EventKind, Outcome, ReadyVersion, Remembered, Traffic};
use super::{at, policy, ready, traffic};
use crate::config::Labels;

const NAMED: &str = "{strategy: rollout, stable: '1', canary: '2', steps: [10%, 50%, 100%], hold: 10s}";
const UNNAMED: &str = "{strategy: rollout, steps: [10%, 50%, 100%], hold: 10s}";

/// Sends requests through for some seconds, a tick after each; `bad` is the version that fails, always.
fn run(traffic: &Traffic, seconds: std::ops::Range<u64>, each: u64, bad: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for second in seconds {
        for number in 0..each {
            let random = super::super::plan::mix(second * 1_000_003 + number);
            let choice = traffic.choose(None, random).unwrap();
            let outcome = if **choice.arm.version() == *bad { Outcome::Failed } else { Outcome::Answered };
            choice.arm.finished(outcome, Duration::from_micros(1000 + random % 200));
        }
        events.extend(traffic.tick(at(second)));
    }
    events
}

fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind).collect()
}

fn share(traffic: &Traffic, arm: &str) -> f64 {
    let status = traffic.status();
    status.arms.iter().find(|one| one.name == arm).map_or(0.0, |arm| arm.share)
}

#[test]
fn a_good_canary_reaches_the_whole() {
    use EventKind::{Promoted, SteppedUp};
    let traffic = traffic(NAMED, &["1", "2"]);
    assert_eq!(share(&traffic, "canary"), 0.1);
    let events = run(&traffic, 1..60, 2000, "none");
    assert_eq!(kinds(&events), [SteppedUp, SteppedUp, Promoted], "{events:?}");
    assert_eq!((share(&traffic, "canary"), traffic.status().rollout.unwrap().phase), (1.0, "promoted"));
    // Taken back by command, even now.
    assert_eq!(traffic.command(Command::Abort, at(61)).unwrap().kind, EventKind::RolledBack);
    assert_eq!(share(&traffic, "stable"), 1.0);
}

#[test]
fn a_bad_one_is_rolled_back_and_stays_so() {
    let traffic = traffic(NAMED, &["1", "2"]);
    let events = run(&traffic, 1..60, 2000, "2");
    assert_eq!(kinds(&events), [EventKind::RolledBack]);
    assert!(events[0].reason.starts_with("error rate 100.00% is above max_error_rate 1% ("), "{events:?}");
    let status = traffic.status().rollout.unwrap();
    assert_eq!((status.phase, &status.reason), ("rolled_back", &events[0].reason));
    assert!(traffic.command(Command::Promote, at(60)).unwrap_err().contains("retry it first"));
    // Away and back, and over a restart, with the same content.
    traffic.versions_changed(&ready(&["1"]), at(61));
    assert_eq!(traffic.versions_changed(&ready(&["1", "2"]), at(62)), []);
    let memory: Remembered =
        serde_json::from_str(&serde_json::to_string(&traffic.remembered()).unwrap()).unwrap();
    let again = Traffic::new("m", policy(NAMED), Labels::new(), Some(memory));
    assert_eq!(again.versions_changed(&ready(&["1", "2"]), at(63)), []);
    assert_eq!(share(&again, "stable"), 1.0);
    // Other content begins anew, and so does a command.
    let mut other = ready(&["1", "2"]);
    other[1].digest = "b".into();
    assert_eq!(kinds(&again.versions_changed(&other, at(64))), [EventKind::Started]);
    assert_eq!(traffic.command(Command::Retry, at(64)).unwrap().kind, EventKind::Started);
    assert_eq!((share(&again, "canary"), share(&traffic, "canary")), (0.1, 0.1));
}

#[test]
fn a_slow_one_is_rolled_back() {
    let traffic = traffic(NAMED, &["1", "2"]);
    let mut events = Vec::new();
    for second in 1..30 {
        for number in 0..4000_u64 {
            let choice = traffic.choose(None, super::super::plan::mix(second << 20 | number)).unwrap();
            let slow = if &**choice.arm.version() == "2" { 2 } else { 1 };
            choice.arm.finished(Outcome::Answered, Duration::from_micros(slow * (1000 + number % 100)));
        }
        events.extend(traffic.tick(at(second)));
    }
    assert_eq!(kinds(&events), [EventKind::RolledBack]);
    assert!(events[0].reason.starts_with("latency at p95 is "), "{events:?}");
}

#[test]
fn without_enough_requests_a_step_waits_and_says_so() {
    let traffic = traffic(NAMED, &["1", "2"]);
    assert_eq!(run(&traffic, 1..30, 10, "none"), []);
    let status = traffic.status().rollout.unwrap();
    assert!(status.reason.starts_with("100 requests of each version (canary "), "{status:?}");
    assert_eq!((status.step, status.steps), (1, 3));
    assert_eq!(run(&traffic, 30..1000, 10, "none").len(), 3);
}

#[test]
fn who_is_away_stops_the_clock() {
    let traffic = traffic(NAMED, &["1", "2"]);
    run(&traffic, 1..9, 2000, "none");
    traffic.versions_changed(&ready(&["1"]), at(9));
    assert_eq!(share(&traffic, "stable"), 1.0);
    assert!(traffic.status().rollout.unwrap().reason.contains("version 2, which is not ready"));
    run(&traffic, 9..40, 2000, "none");
    traffic.versions_changed(&ready(&["1", "2"]), at(40));
    assert_eq!(run(&traffic, 40..49, 2000, "none"), []);
    assert_eq!(kinds(&run(&traffic, 49..52, 2000, "none")), [EventKind::SteppedUp]);
    // Without the stable one the canary serves everything, and does not go up.
    traffic.versions_changed(&ready(&["2"]), at(52));
    assert_eq!((share(&traffic, "canary"), run(&traffic, 52..100, 2000, "none")), (1.0, vec![]));
    traffic.versions_changed(&ready(&["1", "2"]), at(100));
    assert_eq!(share(&traffic, "canary"), 0.5);
}

#[test]
fn without_names_each_new_version_is_rolled_out() {
    use EventKind::{Promoted, RolledBack, Started, SteppedUp, Superseded};
    let traffic = traffic(UNNAMED, &["1"]);
    assert_eq!(share(&traffic, "stable"), 1.0);
    assert_eq!(kinds(&traffic.versions_changed(&ready(&["1", "2"]), at(1))), [Started]);
    assert_eq!(kinds(&run(&traffic, 1..60, 2000, "none")), [SteppedUp, SteppedUp, Promoted]);
    assert_eq!(traffic.resolve("stable").as_deref(), Some("2"));
    assert_eq!(kinds(&traffic.versions_changed(&ready(&["1", "2", "3"]), at(60))), [Started]);
    // Another one comes before it is through, fails, and is not followed by the one before it.
    let superseded = traffic.versions_changed(&ready(&["1", "2", "3", "4"]), at(61));
    assert_eq!(kinds(&superseded), [Superseded, Started]);
    assert_eq!(kinds(&run(&traffic, 61..90, 2000, "4")), [RolledBack]);
    assert_eq!((traffic.resolve("stable").as_deref(), share(&traffic, "stable")), (Some("2"), 1.0));
    // An earlier one is no canary.
    assert_eq!(traffic.versions_changed(&ready(&["0", "2", "4"]), at(91)), []);
    // The promoted one goes: what is left of those that did not fail stands in.
    traffic.versions_changed(&ready(&["1", "4"]), at(92));
    assert_eq!(traffic.choose(None, 1).unwrap().arm.version().as_ref(), "1");
}

#[test]
fn a_canary_that_is_left_alone_takes_over_after_a_hold() {
    let traffic = traffic(UNNAMED, &["1"]);
    traffic.versions_changed(&ready(&["1", "2"]), at(1));
    traffic.versions_changed(&ready(&["2"]), at(2));
    assert_eq!(share(&traffic, "canary"), 1.0);
    assert_eq!(run(&traffic, 3..12, 10, "none"), []);
    let events = run(&traffic, 12..14, 10, "none");
    assert_eq!(events[0].reason, "version 1 is gone, there is nothing to compare with");
    assert_eq!(
        (kinds(&events), traffic.resolve("stable").as_deref()),
        (vec![EventKind::Promoted], Some("2"))
    );
}

#[test]
fn a_restart_goes_on_with_the_step() {
    let traffic = traffic(UNNAMED, &["1"]);
    traffic.versions_changed(&ready(&["1", "2"]), at(0));
    assert_eq!(run(&traffic, 1..15, 2000, "none").len(), 1);
    let memory = traffic.remembered();
    for steps in ["[10%, 50%, 100%]", "[5%, 50%, 70%, 100%]"] {
        let text = UNNAMED.replace("[10%, 50%, 100%]", steps);
        let again = Traffic::new("m", policy(&text), Labels::new(), Some(memory.clone()));
        // The versions load one by one, in any order.
        again.versions_changed(&ready(&["2"]), at(1000));
        assert_eq!(again.versions_changed(&ready(&["1", "2"]), at(1001)), []);
        assert_eq!(share(&again, "canary"), 0.5);
        assert_eq!(run(&again, 1001..1005, 2000, "none"), []);
    }
    // In the last step there would be nothing to compare with.
    assert_eq!(run(&traffic, 15..30, 2000, "none").len(), 1);
    assert_eq!(share(&traffic, "canary"), 1.0);
    let again = Traffic::new("m", policy(UNNAMED), Labels::new(), Some(traffic.remembered()));
    again.versions_changed(&ready(&["1", "2"]), at(31));
    assert_eq!(share(&again, "canary"), 0.5);
}

#[test]
fn other_steps_never_give_more_than_the_present_one() {
    let traffic = traffic(NAMED, &["1", "2"]);
    run(&traffic, 1..15, 2000, "none");
    assert_eq!(share(&traffic, "canary"), 0.5);
    traffic.reconfigure(policy(&NAMED.replace("[10%, 50%, 100%]", "[20%, 100%]")), Labels::new(), at(16));
    assert_eq!(share(&traffic, "canary"), 0.2);
    traffic.reconfigure(policy(&NAMED.replace("[10%, 50%, 100%]", "[30%, 100%]")), Labels::new(), at(17));
    assert_eq!(share(&traffic, "canary"), 0.3);
}

#[test]
fn one_step_compares_with_what_was_before() {
    let traffic = traffic("{strategy: pinned, version: '1'}", &["1", "2"]);
    let text = "{strategy: rollout, stable: '1', canary: '2', steps: [100%], hold: 10s}";
    traffic.reconfigure(policy(text), Labels::new(), at(0));
    assert_eq!(share(&traffic, "canary"), 1.0);
    assert_eq!(kinds(&run(&traffic, 1..20, 500, "none")), [EventKind::Promoted]);
    let swapped = ReadyVersion { name: "2".into(), digest: "b".into() };
    traffic.versions_changed(&[ready(&["1"]).remove(0), swapped], at(20));
    assert_eq!(kinds(&run(&traffic, 21..40, 500, "2")), [EventKind::RolledBack]);
}

#[test]
fn commands_that_do_not_fit_say_why() {
    let traffic = traffic(UNNAMED, &["1"]);
    for command in [Command::Promote, Command::Abort, Command::Retry] {
        assert_eq!(traffic.command(command, at(1)).unwrap_err(), "there is no canary that is ready");
    }
    assert!(traffic.command(Command::Switch(None), at(1)).unwrap_err().contains("not blue-green"));
    traffic.versions_changed(&ready(&["1", "2"]), at(1));
    assert!(traffic.command(Command::Retry, at(1)).unwrap_err().contains("was not rolled back"));
    assert_eq!(traffic.command(Command::Promote, at(1)).unwrap().kind, EventKind::Promoted);
    assert_eq!(traffic.resolve("stable").as_deref(), Some("2"));
}
