//! Several hosts with the same model: who moves it, what the others take over, and what counts once.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{Counted, Event, EventKind, Moved, Outcome, Say, Stands, Traffic};
use super::{at, policy, ready, traffic};
use crate::config::Labels;

const ROLLOUT: &str = "{strategy: rollout, stable: '1', canary: '2', steps: [10%, 50%, 100%], hold: 5s, gates: {min_requests: 20}}";
const BANDIT: &str =
    "{strategy: bandit, arms: {a: {version: '1'}, b: {version: '2'}}, reward: errors, half_life: 1h}";

fn load(traffic: &Traffic, requests: u64, bad: Option<&str>) {
    for number in 0..requests {
        let choice = traffic.choose(None, super::super::plan::mix(number)).unwrap();
        let fails = bad == Some(&**choice.arm.version());
        choice
            .arm
            .finished(if fails { Outcome::Failed } else { Outcome::Answered }, Duration::from_millis(1));
    }
}

fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind).collect()
}

/// What one host has come to, as another one gets it.
fn sent(traffic: &Traffic) -> (String, Moved) {
    let (place, moved) = traffic.moved().unwrap();
    (place, serde_json::from_str(&serde_json::to_string(&moved).unwrap()).unwrap())
}

fn step(traffic: &Traffic) -> (&'static str, usize) {
    let status = traffic.status().rollout.unwrap();
    (status.phase, status.step)
}

#[test]
fn only_who_leads_steps_up_and_the_others_take_it_over() {
    let [leader, follower] = [(); 2].map(|()| traffic(ROLLOUT, &["1", "2"]));
    leader.set_say(Say::Leads);
    follower.set_say(Say::Follows);
    assert_eq!((leader.stands(), follower.stands()), (Some(Stands::Complete), Some(Stands::Complete)));
    assert!(leader.tick(at(0)).is_empty() && follower.tick(at(0)).is_empty());
    load(&leader, 400, None);
    load(&follower, 400, None);
    assert!(follower.tick(at(6)).is_empty(), "whatever it has counted itself");
    assert!(follower.rollout_status().unwrap().reason.contains("the host that moves"));
    assert_eq!(kinds(&leader.tick(at(6))), [EventKind::SteppedUp]);
    let (place, moved) = sent(&leader);
    assert_ne!(follower.moved().unwrap().1, moved);
    follower.adopt(&place, &moved, at(6));
    assert_eq!(step(&follower), ("running", 2));
    assert_eq!(follower.moved().unwrap().1, moved);
    // The lead passes on in the middle: the step goes on where it was.
    leader.set_say(Say::Follows);
    follower.set_say(Say::Leads);
    assert!(follower.tick(at(7)).is_empty());
    load(&follower, 400, None);
    assert_eq!(kinds(&follower.tick(at(12))), [EventKind::SteppedUp]);
    load(&follower, 400, None);
    assert_eq!(
        kinds(&follower.tick(at(18))),
        [EventKind::Promoted],
        "it knows the stable version from before"
    );
}

#[test]
fn who_takes_over_in_the_last_step_and_knows_nothing_of_those_before_repeats_one() {
    let [leader, other] = [(); 2].map(|()| traffic(ROLLOUT, &["1", "2"]));
    leader.set_say(Say::Leads);
    for (second, expected) in [(0, None), (6, Some(EventKind::SteppedUp)), (12, Some(EventKind::SteppedUp))] {
        assert_eq!(kinds(&leader.tick(at(second))), expected.into_iter().collect::<Vec<_>>());
        load(&leader, 400, None);
    }
    let (place, moved) = sent(&leader);
    other.adopt(&place, &moved, at(13));
    other.set_say(Say::Leads);
    assert_eq!(step(&other), ("running", 3));
    assert!(other.tick(at(13)).is_empty());
    assert_eq!(step(&other), ("running", 2), "there would be nothing to compare with");
}

#[test]
fn without_the_store_a_canary_that_fails_is_taken_back_and_one_that_does_well_waits() {
    for (bad, expected) in [(None, "running"), (Some("2"), "rolled_back")] {
        let traffic = traffic(ROLLOUT, &["1", "2"]);
        traffic.set_say(Say::CutOff);
        traffic.tick(at(0));
        load(&traffic, 400, bad);
        traffic.tick(at(6));
        assert_eq!(step(&traffic), (expected, 1));
    }
}

#[test]
fn what_others_have_counted_counts_once_and_only_from_when_they_were_heard_of() {
    let [leader, other] = [(); 2].map(|()| traffic(ROLLOUT, &["1", "2"]));
    leader.set_say(Say::Leads);
    load(&other, 1000, Some("2"));
    let say = || other.counted("other").unwrap();
    leader.learn("other", &say(), at(0));
    assert!(leader.tick(at(0)).is_empty());
    assert!(leader.tick(at(1)).is_empty(), "what was before the step says nothing about it");
    load(&other, 400, None);
    let (first, again) = (say(), say());
    load(&other, 400, None);
    for counted in [&say(), &first, &again, &say()] {
        leader.learn("other", counted, at(2));
    }
    leader.tick(at(2));
    let reason = leader.rollout_status().unwrap().reason;
    assert!(reason.contains("the end of the hold"), "{reason}");
    assert_eq!(kinds(&leader.tick(at(6))), [EventKind::SteppedUp], "without a request of its own");
}

#[test]
fn colours_are_taken_over_where_the_policy_is_the_same() {
    let text = "{strategy: blue-green, blue: '1', green: '2'}";
    let [one, two] = [(); 2].map(|()| traffic(text, &["1", "2"]));
    one.command(super::super::Command::Switch(None), at(1)).unwrap();
    let (place, moved) = sent(&one);
    two.adopt(&place, &moved, at(1));
    assert_eq!(&*two.main_version().unwrap(), "2");
    let other = traffic("{strategy: blue-green, blue: '1', green: '2', active: green}", &["1", "2"]);
    other.command(super::super::Command::Switch(None), at(1)).unwrap();
    other.adopt(&place, &moved, at(1));
    assert_eq!(&*other.main_version().unwrap(), "1", "another policy, another place");
}

/// Requests of each arm, and whether they count as failed, on one of three hosts.
#[derive(Clone, Debug)]
enum Happens {
    Requests {
        host: usize,
        count: u64,
        bad: bool,
    },
    /// What a host has counted reaches another one.
    Told {
        from: usize,
        to: usize,
    },
    /// It reaches it once more, later.
    Repeated(usize),
    Restart(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0..3_usize, 1..50_u64, any::<bool>()).prop_map(|(host, count, bad)| Happens::Requests { host, count, bad }),
        4 => (0..3_usize, 0..3_usize).prop_map(|(from, to)| Happens::Told { from, to }),
        1 => any::<usize>().prop_map(Happens::Repeated),
        1 => (0..3_usize).prop_map(Happens::Restart),
    ]
}

/// All that a host believes: what was earned and missed.
fn beliefs(traffic: &Traffic) -> Vec<(f64, f64)> {
    let arms = traffic.status().arms;
    arms.iter().map(|arm| arm.belief.map_or((0.0, 0.0), |belief| (belief.good, belief.bad))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_hosts_have_seen_of_a_bandits_arms_is_known_to_all_and_counts_once(
        history in prop::collection::vec(happens(), 1..60),
    ) {
        // All at one moment, so that nothing is forgotten; the clock only tells texts apart.
        let half_life = BANDIT.replace("1h", "2592000s");
        let mut hosts = [(); 3].map(|()| traffic(&half_life, &["1", "2"]));
        let mut names = [0_usize, 1, 2];
        let (mut sums, mut now, mut messages) = ([(0_u64, 0_u64); 2], 0_u64, Vec::new());
        for one in history {
            now += 1;
            match one {
                Happens::Requests { host, count, bad } => {
                    for number in 0..count {
                        let choice = hosts[host].choose(None, super::super::plan::mix(now * 100 + number)).unwrap();
                        let outcome = if bad { Outcome::Failed } else { Outcome::Answered };
                        choice.arm.finished(outcome, Duration::from_millis(1));
                        let sum = &mut sums[usize::from(&**choice.arm.name() == "b")];
                        if bad { sum.1 += 1 } else { sum.0 += 1 }
                    }
                    hosts[host].tick(at(now));
                }
                Happens::Told { from, to } if from != to => {
                    let counted: Counted = hosts[from].counted(&names[from].to_string()).unwrap();
                    let text = serde_json::to_string(&counted).unwrap();
                    hosts[to].learn(&names[from].to_string(), &counted, at(now));
                    messages.push((names[from], to, text));
                }
                Happens::Repeated(index) if !messages.is_empty() => {
                    let (from, to, text) = &messages[index % messages.len()];
                    hosts[*to].learn(&from.to_string(), &serde_json::from_str(text).unwrap(), at(now));
                }
                Happens::Restart(host) => {
                    let memory = serde_json::to_string(&hosts[host].remembered()).unwrap();
                    let memory = serde_json::from_str(&memory).unwrap();
                    hosts[host] = Traffic::new("m", policy(&half_life), Labels::new(), Some(memory));
                    hosts[host].versions_changed(&ready(&["1", "2"]), at(now));
                    names[host] += 3;
                }
                Happens::Told { .. } | Happens::Repeated(_) => {}
            }
        }
        for _ in 0..2 {
            for from in 0..3 {
                now += 1;
                hosts[from].tick(at(now));
                let counted = hosts[from].counted(&names[from].to_string()).unwrap();
                for (to, host) in hosts.iter().enumerate().filter(|(to, _)| *to != from) {
                    let _ = to;
                    host.learn(&names[from].to_string(), &counted, at(now));
                }
            }
        }
        for (index, host) in hosts.iter().enumerate() {
            host.tick(at(now + 1));
            for (belief, sum) in beliefs(host).iter().zip(&sums) {
                // What a host was told of another's time before that one's restart it knows; what it was not told, it cannot.
                prop_assert!(belief.0 <= sum.0 as f64 * 1.001 && belief.1 <= sum.1 as f64 * 1.001, "{index}: {belief:?} {sum:?}");
                let lost_nothing = names.iter().all(|name| *name < 3);
                prop_assert!(!lost_nothing || (belief.0 >= sum.0 as f64 * 0.999 && belief.1 >= sum.1 as f64 * 0.999), "{index}: {belief:?} {sum:?}");
            }
        }
    }

    #[test]
    fn nothing_that_comes_from_elsewhere_breaks_a_host(
        step in any::<usize>(), share in prop_oneof![Just(50.0), Just(-1.0), 0.0..1.0_f64], since in any::<u64>(), count in any::<u64>(),
        number in prop_oneof![Just(-1.0), Just(1e300), 0.0..1e6_f64],
    ) {
        let rollout = serde_json::json!({"rollout": {"promoted": "9", "attempts": [
            {"stable": "1", "canary": "2", "digest": "a", "step": step, "share": share, "since": since, "phase": "running"},
            {"stable": "1", "canary": "2", "digest": "b", "step": step, "share": share, "since": since, "phase": {"promoted": {"at": since}}}]}});
        let moved: Moved = serde_json::from_value(rollout).unwrap();
        let host = traffic(ROLLOUT, &["1", "2"]);
        host.set_say(Say::Leads);
        let counted = serde_json::json!({"arms": [{"serial": 1, "arm": "canary", "version": "2", "digest": "a",
            "answered": count, "failed": count, "refused": count, "latency": [[usize::MAX, count], [3, count], [3, count]]}]});
        for second in 0..3 {
            host.adopt(&host.place().unwrap(), &moved, at(second));
            host.learn("x", &serde_json::from_value(counted.clone()).unwrap(), at(second));
            host.learn("x", &serde_json::from_value(serde_json::json!({})).unwrap(), at(second));
            host.tick(at(second));
            let total: f64 = host.status().arms.iter().map(|arm| arm.share).sum();
            prop_assert!((total - 1.0).abs() < 1e-9);
            host.choose(None, since).unwrap();
        }
        let bandit = traffic(BANDIT, &["1", "2"]);
        let part = serde_json::json!({"part": {"at": since, "beliefs": [{"arm": "a", "version": "1", "digest": "a",
            "good": number, "bad": number, "count": number, "mean": number, "squares": number}]}});
        bandit.learn("x", &serde_json::from_value(part).unwrap(), at(1));
        bandit.tick(at(2));
        prop_assert!(bandit.status().arms.iter().all(|arm| arm.share > 0.0 && arm.share < 1.0));
    }
}
