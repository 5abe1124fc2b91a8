//! Each strategy by itself.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::{Command, EventKind, FeedbackError, Outcome, Traffic};
use super::{at, counts, labels, policy, policy_with, ready, traffic};
use crate::config::{Colour, Labels, Sticky, TrafficPolicy};

fn reason(traffic: &Traffic) -> String {
    traffic.choose(None, 1).unwrap_err().to_string()
}

fn version(traffic: &Traffic) -> String {
    traffic.choose(None, 1).unwrap().arm.version().to_string()
}

#[test]
fn latest_is_the_highest_number() {
    let traffic = traffic("{}", &["9", "10", "2.0.0"]);
    assert_eq!(version(&traffic), "10");
    traffic.versions_changed(&ready(&["9"]), at(1));
    assert_eq!(version(&traffic), "9");
    traffic.versions_changed(&[], at(2));
    assert_eq!(reason(&traffic), "no version is ready");
}

#[test]
fn pinned_serves_that_one_or_none() {
    let labels = labels(&[("prod", "2")]);
    let policy = policy_with("{strategy: pinned, version: prod}", &labels);
    let traffic = Traffic::new("m", policy, labels, None);
    traffic.versions_changed(&ready(&["1", "2", "3"]), at(0));
    assert_eq!(version(&traffic), "2");
    assert_eq!(traffic.resolve("prod").as_deref(), Some("2"));
    traffic.versions_changed(&ready(&["1", "3"]), at(1));
    assert_eq!(reason(&traffic), "version 2 (pinned), which traffic (pinned) goes to, is not ready");
}

#[test]
fn a_split_keeps_its_shares_and_its_clients() {
    let traffic =
        traffic("{strategy: split, weights: {'1': 90, '2': 10}, sticky: 'header:X-User'}", &["1", "2"]);
    assert_eq!(*traffic.sticky(), Sticky::Header("x-user".into()));
    let counts = counts(&traffic, 100_000);
    assert!((9_700..10_300).contains(&counts["2"]), "{counts:?}");
    for user in 0..1000_u32 {
        let of =
            |random| traffic.choose(Some(&user.to_le_bytes()), random).unwrap().arm.version().to_string();
        assert_eq!(of(1), of(2));
    }
}

#[test]
fn an_arm_that_is_not_ready_leaves_its_share_to_the_others() {
    let traffic = traffic("{strategy: split, weights: {'1': 60, '2': 20, '3': 20}}", &["1", "3"]);
    let counts = counts(&traffic, 40_000);
    assert!((9_600..10_400).contains(&counts["3"]) && !counts.contains_key("2"), "{counts:?}");
    traffic.versions_changed(&ready(&["2"]), at(1));
    assert_eq!(version(&traffic), "2");
    traffic.versions_changed(&ready(&["4"]), at(1));
    assert!(
        reason(&traffic)
            .contains("none of those that traffic (split) goes to is ready: version 1, version 2")
    );
}

#[test]
fn arms_of_a_test_count_by_name() {
    let text =
        "{strategy: ab, arms: {control: {version: '1'}, fast: {version: '2', weight: 3}}, sticky: body}";
    let traffic = traffic(text, &["1", "2"]);
    assert!(traffic.needs_body());
    let choice = traffic.choose(Some(b"x"), 0).unwrap();
    choice.arm.finished(Outcome::Answered, Duration::from_millis(3));
    choice.arm.finished(Outcome::Failed, Duration::from_millis(3));
    choice.arm.finished(Outcome::Neither, Duration::from_millis(3));
    traffic.feedback(choice.arm.name(), 0.25).unwrap();
    traffic.feedback(choice.arm.version(), 0.75).unwrap();
    let status = traffic.status();
    let arm = status.arms.iter().find(|arm| *arm.name == **choice.arm.name()).unwrap();
    assert_eq!((arm.answered, arm.failed, arm.neither), (1, 1, 1));
    assert_eq!(arm.rewards.unwrap().mean, 0.5);
    assert!((arm.latency.unwrap().p50 - 3e-3).abs() < 1e-4, "{:?}", arm.latency);
    assert_eq!(status.arms.iter().map(|arm| arm.share).sum::<f64>(), 1.0);
    assert!(serde_json::to_string(&status).unwrap().contains("\"strategy\":\"ab\""));
    // Statistics stay over changes that leave the arm as it is, and go with its content.
    traffic.reconfigure(policy(&text.replace("weight: 3", "weight: 1")), Labels::new(), at(1));
    assert_eq!(traffic.status().arms.iter().map(|arm| arm.answered).sum::<u64>(), 1);
    let mut other = ready(&["1", "2"]);
    other.iter_mut().for_each(|version| version.digest = "b".into());
    traffic.versions_changed(&other, at(2));
    assert_eq!(traffic.status().arms.iter().map(|arm| arm.answered).sum::<u64>(), 0);
}

#[test]
fn rewards_out_of_range_or_for_nobody_are_refused() {
    let text = "{strategy: ab, arms: {a: {version: '1'}, b: {version: '1'}, c: {version: '2'}}}";
    let traffic = traffic(text, &["1", "2"]);
    for reward in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(traffic.feedback("a", reward), Err(FeedbackError::OutOfRange(_))));
    }
    let refused = |arm: &str| traffic.feedback(arm, 1.0).unwrap_err().to_string();
    assert_eq!(refused("d\n"), "there is no arm 'd\\n'; arms: a, b, c");
    assert_eq!(refused("1"), "version 1 is behind several arms; name one");
    assert!(refused(&"x".repeat(10_000)).len() < 200);
    assert!(traffic.feedback("2", 1.0).is_ok());
    let policy = policy("{strategy: bandit, reward: errors, arms: {a: {version: '1'}, b: {version: '2'}}}");
    traffic.reconfigure(policy, Labels::new(), at(1));
    assert!(refused("a").contains("this bandit's reward is errors"));
}

#[test]
fn a_shadow_mirrors_within_its_bound() {
    let text = "{strategy: shadow, primary: '1', mirror: '2', share: 50%, max_in_flight: 2}";
    let traffic = traffic(text, &["1", "2"]);
    let choices: Vec<_> =
        (0..100).map(|number| traffic.choose(None, super::super::plan::mix(number)).unwrap()).collect();
    assert!(choices.iter().all(|choice| &**choice.arm.version() == "1"));
    let slots: Vec<_> = choices.iter().filter_map(|choice| choice.mirror.as_ref()).collect();
    assert_eq!(slots.len(), 2);
    assert!(slots.iter().all(|slot| &**slot.arm().version() == "2" && slot.tolerance() == 1e-3));
    let shadow = traffic.status().shadow.unwrap();
    assert!(shadow.copied == 2 && (20..70).contains(&shadow.skipped), "{shadow:?}");
    // The bound holds over changes of other things.
    traffic.versions_changed(&ready(&["1", "2", "3"]), at(1));
    assert!((0..100).all(|number| traffic.choose(None, number).unwrap().mirror.is_none()));
    drop(choices);
    traffic.versions_changed(&ready(&["1"]), at(2));
    assert!(traffic.choose(None, 1).unwrap().mirror.is_none() && traffic.status().shadow.is_none());
    traffic.versions_changed(&ready(&["2"]), at(3));
    assert_eq!(reason(&traffic), "version 1 (primary), which traffic (shadow) goes to, is not ready");
}

#[test]
fn blue_green_switches_and_remembers() {
    let text = "{strategy: blue-green, blue: '1', green: '2'}";
    let traffic = traffic(text, &["1"]);
    let refused = traffic.command(Command::Switch(Some(Colour::Green)), at(1)).unwrap_err();
    assert_eq!(refused, "version 2 (green) is not ready; nothing was switched");
    traffic.versions_changed(&ready(&["1", "2"]), at(1));
    let event = traffic.command(Command::Switch(None), at(2)).unwrap();
    assert_eq!((event.kind, &*event.version, version(&traffic).as_str()), (EventKind::Switched, "2", "2"));
    let memory = serde_json::to_string(&traffic.remembered()).unwrap();
    let again = |text: &str| {
        let memory = serde_json::from_str(&memory).unwrap();
        let traffic = Traffic::new("m", policy(text), Labels::new(), Some(memory));
        traffic.versions_changed(&ready(&["1", "2"]), at(3));
        version(&traffic)
    };
    assert_eq!(again(text), "2");
    // What model.yaml says after a change counts more than what was switched before it.
    traffic.reconfigure(
        policy("{strategy: blue-green, blue: '1', green: '2', active: green}"),
        Labels::new(),
        at(4),
    );
    traffic.reconfigure(policy(text), Labels::new(), at(5));
    assert_eq!(version(&traffic), "1");
    assert!(traffic.command(Command::Promote, at(6)).is_err());
}

#[test]
fn names_of_arms_lead_to_versions_and_labels_come_first() {
    let labels = labels(&[("green", "7")]);
    let traffic = Traffic::new("m", policy("{strategy: blue-green, blue: '1', green: '2'}"), labels, None);
    let of = |name: &str| traffic.resolve(name).map(|version| version.to_string());
    assert_eq!((of("blue"), of("green"), of("red")), (Some("1".into()), Some("7".into()), None));
}

#[test]
fn what_must_be_loaded() {
    let labels = labels(&[("old", "1"), ("new", "5")]);
    let wanted =
        policy_with("{strategy: split, weights: {new: 1, '3': 1}}", &labels).also_wanted(&labels, true);
    assert_eq!(wanted.names.into_iter().collect::<Vec<_>>(), ["1", "3", "5"]);
    let traffic = traffic("{strategy: rollout}", &["4"]);
    assert_eq!(policy("{strategy: rollout}").also_wanted(&Labels::new(), true).latest, 2);
    assert_eq!(traffic.remembered().promoted(), Some("4"), "which is loaded as well");
}

#[test]
fn nothing_that_is_remembered_is_nothing() {
    for text in ["{}", "{\"rollout\":{\"promoted\":null}}"] {
        assert_eq!(
            serde_json::from_str::<super::super::Remembered>(text).unwrap(),
            super::super::Remembered::default()
        );
    }
}

/// Requests choose while everything changes under them; each gets a version that was ready.
#[test]
fn choosing_goes_on_while_plans_change() {
    let traffic = traffic("{strategy: split, weights: {'1': 1, '2': 1}}", &["1", "2"]);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (traffic, done) = (&traffic, &done);
            scope.spawn(move || {
                let mut number = thread << 32;
                while !done.load(Ordering::Relaxed) {
                    number += 1;
                    let choice = traffic.choose(None, number).unwrap();
                    choice.arm.finished(Outcome::Answered, Duration::from_micros(5));
                }
            });
        }
        let policies: [TrafficPolicy; 3] = [
            policy("{strategy: latest}"),
            policy("{strategy: rollout, hold: 1s}"),
            policy("{strategy: bandit, arms: {a: {version: '1'}, b: {version: '2'}}}"),
        ];
        for round in 0..300 {
            traffic.reconfigure(policies[round % 3].clone(), Labels::new(), at(round as u64));
            traffic.versions_changed(
                &ready(if round % 2 == 0 { &["1"] } else { &["1", "2"] }),
                at(round as u64),
            );
            traffic.tick(at(round as u64));
            traffic.status();
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// How long a choice takes: `cargo test --release -- --ignored --nocapture choosing_is_cheap`.
#[test]
#[ignore = "a measurement"]
fn choosing_is_cheap() {
    let split = "{strategy: split, weights: {'1': 90, '2': 10}, sticky: 'header:x'}";
    let rollout = "{strategy: rollout, stable: '1', canary: '2'}";
    for (text, key) in [
        ("{}", None),
        ("{strategy: pinned, version: '1'}", None),
        (split, Some(b"user-1234")),
        (rollout, None),
    ] {
        let traffic = traffic(text, &["1", "2"]);
        let start = Instant::now();
        const ROUNDS: u32 = 5_000_000;
        for number in 0..u64::from(ROUNDS) {
            let choice = traffic.choose(key.map(|key| &key[..]), number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            std::hint::black_box(&choice);
        }
        eprintln!("{text}: {:?}", start.elapsed() / ROUNDS);
    }
    let traffic = traffic("{}", &["1"]);
    let arm = traffic.choose(None, 0).unwrap().arm;
    let start = Instant::now();
    (0..5_000_000_u32)
        .for_each(|number| arm.finished(Outcome::Answered, Duration::from_nanos(u64::from(number))));
    eprintln!("finished: {:?}", start.elapsed() / 5_000_000);
}

#[test]
fn a_bandit_that_is_left_and_come_back_to_goes_on_learning_from_nothing_twice() {
    let bandit = "{strategy: bandit, arms: {a: {version: '1'}, b: {version: '2'}}, half_life: 744h}";
    let traffic = traffic(bandit, &["1", "2"]);
    let posted = 300.0;
    for _ in 0..300 {
        traffic.feedback("a", 1.0).unwrap();
    }
    traffic.tick(at(1));
    traffic.reconfigure(policy("{strategy: pinned, version: '1'}"), Labels::new(), at(2));
    traffic.reconfigure(policy(bandit), Labels::new(), at(3));
    for _ in 0..20 {
        traffic.feedback("a", 1.0).unwrap();
        traffic.feedback("b", 0.0).unwrap();
    }
    traffic.tick(at(4));
    let status = traffic.status();
    let all: f64 =
        status.arms.iter().filter_map(|arm| arm.belief).map(|belief| belief.good + belief.bad).sum();
    assert!(all <= posted + 40.0 + 1e-6, "{status:?}");
    assert!(status.arms[0].share > 0.9, "{status:?}");
}
