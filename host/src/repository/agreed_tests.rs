//! Random histories of nodes whose traffic is one record: versions that come and go, commands, ticks, requests,
//! lost looks and restarts. In the end all nodes have come to the same, and none moves what another has.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Labels, TrafficPolicy};
use crate::traffic::{Command, Outcome, ReadyVersion, Say};

const POLICIES: [&str; 3] = [
    "{strategy: rollout, hold: 2s, steps: [10%, 50%, 100%], gates: {min_requests: 5}}",
    "{strategy: rollout, stable: '1', canary: '2', hold: 2s, gates: {min_requests: 5}}",
    "{strategy: blue-green, blue: '1', green: '2'}",
];

#[derive(Clone, Debug)]
enum Step {
    /// Looks, takes over, and puts what is new.
    Exchange,
    Command(u8),
    Ready(u8),
    Requests(u8, bool),
    Tick,
    Lead,
    Restart,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        6 => Just(Step::Exchange),
        2 => (0..4_u8).prop_map(Step::Command),
        2 => (1..5_u8).prop_map(Step::Ready),
        4 => (1..120_u8, any::<bool>()).prop_map(|(count, bad)| Step::Requests(count, bad)),
        6 => Just(Step::Tick),
        2 => Just(Step::Lead),
        1 => Just(Step::Restart),
    ];
    (0..3_usize, step)
}

struct Node {
    traffic: Traffic,
    agreed: Agreed,
    ready: Vec<ReadyVersion>,
}

struct World {
    nodes: Vec<Node>,
    store: Option<String>,
    policy: TrafficPolicy,
    now: u64,
}

fn versions(count: u8) -> Vec<ReadyVersion> {
    let version = |number: u8| ReadyVersion { name: number.to_string(), digest: "a".to_owned() };
    (1..=count).map(version).collect()
}

impl World {
    fn new(nodes: usize, policy: &str) -> Self {
        let policy = TrafficPolicy::from_text("t", policy, &Labels::new()).unwrap().value;
        let mut world = Self { nodes: Vec::new(), store: None, policy, now: 1_700_000_000 };
        for _ in 0..nodes {
            let ready = versions(2);
            let traffic = world.traffic(&ready);
            world.nodes.push(Node { traffic, agreed: Agreed::default(), ready });
        }
        world
    }

    fn at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.now)
    }

    fn traffic(&self, ready: &[ReadyVersion]) -> Traffic {
        let traffic = Traffic::new("m", self.policy.clone(), Labels::new(), None);
        traffic.set_say(Say::Follows);
        traffic.versions_changed(ready, self.at());
        traffic
    }

    /// What `Sharing` does with one model. Returns whether the put was taken, or there was none.
    fn exchange(&mut self, index: usize) -> bool {
        let (now, id) = (self.at(), index.to_string());
        let node = &mut self.nodes[index];
        node.agreed.share.hear(self.store.clone()).unwrap();
        node.agreed.sync(&node.traffic, &id, now);
        let Some(put) = node.agreed.share.to_put(&id) else {
            return true;
        };
        if self.store.clone().unwrap_or_default().into_bytes() != put.expected {
            return false;
        }
        self.store = Some(put.wanted.clone());
        node.agreed.share.has_put(put);
        true
    }

    fn apply(&mut self, index: usize, step: &Step) {
        let index = index % self.nodes.len();
        self.now += 1;
        let now = self.at();
        match step {
            Step::Exchange => assert!(self.exchange(index), "nobody came between"),
            Step::Command(number) => {
                let commands = [Command::Promote, Command::Abort, Command::Retry, Command::Switch(None)];
                assert!(self.exchange(index));
                let _ = self.nodes[index].traffic.command(commands[usize::from(*number)], now);
                assert!(self.exchange(index));
            }
            Step::Ready(count) => {
                let node = &mut self.nodes[index];
                node.ready = versions(*count);
                node.traffic.versions_changed(&node.ready, now);
            }
            Step::Requests(count, bad) => {
                for number in 0..u64::from(*count) {
                    let random = (self.now * 1000 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let Ok(choice) = self.nodes[index].traffic.choose(None, random) else { return };
                    let outcome = if *bad { Outcome::Failed } else { Outcome::Answered };
                    choice.arm.finished(outcome, Duration::from_millis(1));
                }
            }
            Step::Tick => drop(self.nodes[index].traffic.tick(now)),
            Step::Lead => {
                for (other, node) in self.nodes.iter().enumerate() {
                    node.traffic.set_say(if other == index { Say::Leads } else { Say::Follows });
                }
            }
            Step::Restart => {
                let disk = self.nodes[index].agreed.share.record().encode("x");
                let ready = self.nodes[index].ready.clone();
                let traffic = self.traffic(&ready);
                let agreed = Agreed::from_disk(Some(&disk), None, &index.to_string(), millis(now));
                self.nodes[index] = Node { traffic, agreed, ready };
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn all_nodes_come_to_the_same_and_are_at_rest(
        nodes in 2..4_usize, policy in 0..POLICIES.len(), steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(nodes, POLICIES[policy]);
        for (index, step) in &steps {
            world.apply(*index, step);
        }
        // The same versions on all of them in the end, and nobody moves anything.
        for index in 0..nodes {
            world.apply(index, &Step::Ready(4));
        }
        for _ in 0..4 {
            for index in 0..nodes {
                world.exchange(index);
            }
        }
        let (store, first) = (world.store.clone(), world.nodes[0].traffic.moved());
        for index in 0..nodes {
            prop_assert!(world.exchange(index));
            let moved = world.nodes[index].traffic.moved();
            prop_assert_eq!(&moved, &first);
            let part = |node: &Node| node.traffic.main_version().ok();
            prop_assert_eq!(part(&world.nodes[index]), part(&world.nodes[0]));
            prop_assert!(world.nodes[index].agreed.share.is_shared());
        }
        prop_assert_eq!(&world.store, &store, "nothing goes on between them");
    }

    #[test]
    fn an_operators_decision_stays_until_another_one(
        nodes in 2..4_usize, before in prop::collection::vec(step(), 0..40), after in prop::collection::vec(step(), 0..40),
        at in 0..3_usize,
    ) {
        let mut world = World::new(nodes, POLICIES[1]);
        for (index, step) in &before {
            world.apply(*index, step);
        }
        let at = at % nodes;
        world.apply(at, &Step::Ready(2));
        prop_assert!(world.exchange(at));
        // If there is nothing to abort, it was aborted before.
        let _ = world.nodes[at].traffic.command(Command::Abort, world.at());
        prop_assert!(world.exchange(at));
        for (index, step) in &after {
            if !matches!(step, Step::Command(_)) {
                world.apply(*index, step);
            }
        }
        for index in 0..nodes {
            world.apply(index, &Step::Ready(2));
            world.exchange(index);
        }
        for node in &world.nodes {
            let status = node.traffic.rollout_status().unwrap();
            prop_assert_eq!(status.phase, "rolled_back");
            prop_assert_eq!(&*node.traffic.main_version().unwrap(), "1");
        }
    }
}

#[test]
fn what_a_policy_had_come_to_counts_no_more_when_it_comes_back() {
    let mut world = World::new(2, POLICIES[1]);
    world.apply(0, &Step::Command(0));
    world.exchange(1);
    let phase = |world: &World, index: usize| world.nodes[index].traffic.rollout_status().unwrap().phase;
    assert_eq!((phase(&world, 0), phase(&world, 1)), ("promoted", "promoted"));
    let rollout = world.policy.clone();
    for policy in [TrafficPolicy::Latest, rollout] {
        for index in 0..2 {
            world.nodes[index].traffic.reconfigure(policy.clone(), Labels::new(), world.at());
            world.exchange(index);
        }
        world.exchange(0);
    }
    assert_eq!((phase(&world, 0), phase(&world, 1)), ("running", "running"));
}

/// A model that is released again and again, each time by a rollout that names both versions.
#[test]
fn what_nodes_come_to_is_shared_however_many_policies_there_were_before() {
    let mut world = World::new(2, POLICIES[1]);
    for number in 0..20_u32 {
        let text = format!("{{strategy: rollout, stable: '1', canary: '2', hold: {}s}}", number + 2);
        let text = text.replace("hold", &format!("steps: [{}%, 100%], hold", number + 1));
        let policy = TrafficPolicy::from_text("t", &text, &Labels::new()).unwrap().value;
        for policy in [TrafficPolicy::Latest, policy] {
            for index in 0..2 {
                world.nodes[index].traffic.reconfigure(policy.clone(), Labels::new(), world.at());
                world.exchange(index);
            }
            world.exchange(0);
        }
        world.apply(0, &Step::Command(0));
        world.exchange(1);
        let phase = |index: usize| world.nodes[index].traffic.rollout_status().unwrap().phase;
        assert_eq!((phase(0), phase(1)), ("promoted", "promoted"), "policy {number}");
    }
}
