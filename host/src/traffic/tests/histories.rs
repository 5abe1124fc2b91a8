//! Random histories of ready sets, policies, outcomes, commands and restarts.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{Command, EventKind, Outcome, ReadyVersion, Traffic};
use super::{at, policy};
use crate::config::{Colour, Labels, TrafficPolicy};

const POLICIES: [&str; 9] = [
    "{strategy: latest}",
    "{strategy: pinned, version: '2'}",
    "{strategy: split, weights: {'1': 5, '2': 3, '3': 1}}",
    "{strategy: ab, arms: {a: {version: '1'}, b: {version: '3'}}}",
    "{strategy: shadow, primary: '1', mirror: '2'}",
    "{strategy: blue-green, blue: '1', green: '2'}",
    "{strategy: bandit, arms: {a: {version: '1'}, b: {version: '2'}}, reward: errors}",
    "{strategy: rollout, stable: '1', canary: '2', hold: 5s, gates: {min_requests: 20}}",
    "{strategy: rollout, hold: 5s, steps: [10%, 50%, 100%], gates: {min_requests: 20}}",
];

#[derive(Clone, Debug)]
enum Step {
    Policy(usize),
    Ready(Vec<(u8, bool)>),
    Requests { count: u16, bad: u8 },
    Tick(u8),
    Command(u8),
    Feedback(u8, f64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..POLICIES.len()).prop_map(Step::Policy),
        3 => prop::collection::vec((1..5_u8, any::<bool>()), 0..4).prop_map(Step::Ready),
        4 => (1..400_u16, 0..5_u8).prop_map(|(count, bad)| Step::Requests { count, bad }),
        4 => (0..20_u8).prop_map(Step::Tick),
        1 => (0..5_u8).prop_map(Step::Command),
        1 => (0..5_u8, -1.0..2.0).prop_map(|(arm, reward)| Step::Feedback(arm, reward)),
        1 => Just(Step::Restart),
    ]
}

struct World {
    traffic: Traffic,
    policy: TrafficPolicy,
    ready: Vec<ReadyVersion>,
    now: u64,
    random: u64,
}

impl World {
    fn apply(&mut self, step: Step) -> Vec<super::super::Event> {
        match step {
            Step::Policy(index) => {
                self.policy = policy(POLICIES[index]);
                self.traffic.reconfigure(self.policy.clone(), Labels::new(), at(self.now))
            }
            Step::Ready(mut versions) => {
                versions.sort_unstable();
                versions.dedup_by_key(|(version, _)| *version);
                let digest = |other| if other { "b" } else { "a" }.to_owned();
                let of = |(version, other): (u8, bool)| ReadyVersion {
                    name: version.to_string(),
                    digest: digest(other),
                };
                self.ready = versions.into_iter().map(of).collect();
                self.traffic.versions_changed(&self.ready, at(self.now))
            }
            Step::Requests { count, bad } => {
                for _ in 0..count {
                    self.request(bad);
                }
                Vec::new()
            }
            Step::Tick(seconds) => {
                self.now += u64::from(seconds);
                self.traffic.tick(at(self.now))
            }
            Step::Command(number) => {
                let commands = [
                    Command::Promote,
                    Command::Abort,
                    Command::Retry,
                    Command::Switch(None),
                    Command::Switch(Some(Colour::Green)),
                ];
                self.traffic.command(commands[usize::from(number)], at(self.now)).into_iter().collect()
            }
            Step::Feedback(arm, reward) => {
                let name = ["a", "b", "1", "2", "stable"][usize::from(arm)];
                let _ = self.traffic.feedback(name, reward);
                Vec::new()
            }
            Step::Restart => {
                let memory = serde_json::to_string(&self.traffic.remembered()).unwrap();
                let memory = serde_json::from_str(&memory).unwrap();
                self.traffic = Traffic::new("m", self.policy.clone(), Labels::new(), Some(memory));
                self.traffic.versions_changed(&self.ready, at(self.now))
            }
        }
    }

    fn request(&mut self, bad: u8) {
        self.random = super::super::plan::mix(self.random);
        let Ok(choice) = self.traffic.choose(None, self.random) else {
            return;
        };
        let fails = **choice.arm.version() == *bad.to_string();
        let outcome = if fails { Outcome::Failed } else { Outcome::Answered };
        choice.arm.finished(outcome, Duration::from_micros(900 + self.random % 200));
    }

    /// Whatever happened, these hold.
    fn check(&self) {
        let is_ready = |version: &str| self.ready.iter().any(|ready| ready.name == version);
        let status = self.traffic.status();
        let total: f64 = status.arms.iter().map(|arm| arm.share).sum();
        match self.traffic.choose(None, self.random) {
            Ok(choice) => {
                assert!(is_ready(choice.arm.version()), "{status:?}");
                assert!(choice.mirror.is_none_or(|mirror| is_ready(mirror.arm().version())));
                assert!((total - 1.0).abs() < 1e-9, "{status:?}");
            }
            Err(reason) => assert!(total == 0.0 && !reason.reason.is_empty(), "{status:?}"),
        }
        if matches!(self.policy, TrafficPolicy::Latest) {
            assert_eq!(self.traffic.choose(None, 1).is_ok(), !self.ready.is_empty());
        }
        if let Some(rollout) = &status.rollout {
            let canary = status.arms.iter().find(|arm| arm.name == "canary");
            let share = canary.map_or(0.0, |arm| arm.share);
            assert!(
                rollout.phase != "rolled_back"
                    || rollout.canary != canary.map(|arm| arm.version.clone())
                    || share == 0.0,
                "{status:?}"
            );
        }
        serde_json::to_string(&status).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn only_what_is_ready_serves(steps in prop::collection::vec(step(), 1..50)) {
        let mut world = World { traffic: Traffic::new("m", TrafficPolicy::Latest, Labels::new(), None), policy: TrafficPolicy::Latest, ready: vec![], now: 0, random: 1 };
        for step in steps {
            world.apply(step);
            world.check();
        }
    }

    #[test]
    fn no_step_is_skipped_and_none_left_with_a_gate_that_is_not_kept(
        steps in prop::collection::vec((1..600_u16, 0.0..0.05_f64, 0..4_u8), 10..120), seed in any::<u64>(),
    ) {
        let traffic = Traffic::new("m", policy(POLICIES[7]), Labels::new(), None);
        let ready = super::ready(&["1", "2"]);
        traffic.versions_changed(&ready, at(0));
        let mut random = seed;
        let mut now = 0;
        for (requests, rate, seconds) in steps {
            for _ in 0..requests {
                random = super::super::plan::mix(random);
                let choice = traffic.choose(None, random).unwrap();
                let fails = &**choice.arm.version() == "2" && (random >> 20) as f64 / (1_u64 << 44) as f64 <= rate;
                choice.arm.finished(if fails { Outcome::Failed } else { Outcome::Answered }, Duration::from_millis(1));
            }
            let before = traffic.status().rollout.unwrap();
            now += u64::from(seconds);
            let events = traffic.tick(at(now));
            let after = traffic.status().rollout.unwrap();
            match events.first().map(|event| event.kind) {
                None => prop_assert_eq!((before.phase, before.step), (after.phase, after.step)),
                Some(EventKind::SteppedUp) => prop_assert_eq!(before.step + 1, after.step),
                Some(EventKind::Promoted) => prop_assert_eq!(before.step, before.steps),
                Some(EventKind::RolledBack) => prop_assert_eq!(after.phase, "rolled_back"),
                Some(other) => prop_assert!(false, "{:?}", other),
            }
            if after.step > before.step {
                prop_assert!(now >= before.next.unwrap() - at(0).duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
            }
        }
    }

    #[test]
    fn with_enough_requests_a_rollout_ends(rate in 0.0..0.03_f64, slower in 0..600_u64, seed in any::<u64>()) {
        let traffic = Traffic::new("m", policy(POLICIES[7]), Labels::new(), None);
        traffic.versions_changed(&super::ready(&["1", "2"]), at(0));
        let mut random = seed;
        let ended = (1..260).any(|second| {
            for _ in 0..2500 {
                random = super::super::plan::mix(random);
                let choice = traffic.choose(None, random).unwrap();
                let canary = &**choice.arm.version() == "2";
                let fails = canary && (random >> 20) as f64 / (1_u64 << 44) as f64 <= rate;
                let micros = 1000 + (random >> 8) % 500 + if canary { slower } else { 0 };
                choice.arm.finished(if fails { Outcome::Failed } else { Outcome::Answered }, Duration::from_micros(micros));
            }
            let events = traffic.tick(at(second));
            events.iter().any(|event| matches!(event.kind, EventKind::Promoted | EventKind::RolledBack))
        });
        prop_assert!(ended, "{:?}", traffic.status());
    }
}
