//! Several nodes with one rate: random arrivals, delays, words that are lost, a store that is away.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;
use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use super::cell::{Cell, Use};

/// One step of a simulation.
const STEP: Duration = Duration::from_millis(10);

/// The script's: use of the last half second counts as spread over it, in microseconds.
const LAG: u64 = 500_000;

/// What the script in Redis does, in Rust: see `auth/shared/usage.lua`.
#[derive(Default)]
struct Central {
    paid_at: u64,
    counted: HashMap<usize, u64>,
}

impl Central {
    fn exchange(&mut self, now: u64, node: usize, said: Use) -> u64 {
        let counted = self.counted.get(&node).copied().filter(|counted| *counted <= said.used);
        let known = counted.unwrap_or(0).max(said.told);
        let paid_at = self.paid_at.max(now.saturating_sub(LAG)) + said.used.saturating_sub(known);
        self.paid_at = paid_at.min(now + said.most);
        self.counted.insert(node, said.used);
        self.paid_at.saturating_sub(now)
    }
}

struct Node {
    cell: Cell<FakeRelativeClock>,
    /// What was said, what came back, and the step at which that arrives.
    under_way: Option<(Use, Option<u64>, usize)>,
    losses: usize,
}

/// What becomes of one exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answered,
    Lost,
    AnswerLost,
}

struct World {
    clock: FakeRelativeClock,
    central: Central,
    nodes: Vec<Node>,
    step: usize,
}

impl World {
    fn new(nodes: usize, rate: u32, burst: u32) -> Self {
        let clock = FakeRelativeClock::default();
        let quota = Quota::with_period(Duration::from_secs(1) / rate).unwrap();
        let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap());
        let node = |_| Node { cell: Cell::new(quota, clock.clone()), under_way: None, losses: 0 };
        Self { nodes: (0..nodes).map(node).collect(), clock, central: Central::default(), step: 0 }
    }

    fn ask(&self, node: usize, requests: u32) -> u64 {
        (0..requests).filter(|_| self.nodes[node].cell.take(NonZeroU32::MIN).is_ok()).count() as u64
    }

    fn begin(&mut self, node: usize, fate: Fate, delay: usize) {
        let (now, at) = (self.step as u64 * 10_000, &mut self.nodes[node]);
        if at.under_way.is_some() {
            return;
        }
        let said = at.cell.own_use();
        // Nobody loses word for longer than it is kept.
        let fate = if at.losses >= 2 { Fate::Answered } else { fate };
        at.losses = if fate == Fate::Answered { 0 } else { at.losses + 1 };
        let answer = (fate != Fate::Lost).then(|| self.central.exchange(now, node, said));
        at.under_way = Some((said, answer.filter(|_| fate == Fate::Answered), self.step + delay));
    }

    fn end(&mut self) {
        for node in &mut self.nodes {
            if let Some((said, Some(ahead), _)) = node.under_way.take_if(|(_, _, at)| *at <= self.step) {
                node.cell.agreed(said, ahead);
            }
        }
        self.step += 1;
        self.clock.advance(STEP);
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Answered), 1 => Just(Fate::Lost), 1 => Just(Fate::AnswerLost)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// All together let in what one may, and what each of the others can let in while it has not heard.
    #[test]
    fn all_nodes_together_keep_to_the_rate(
        nodes in 1..5_usize, rate in 20..500_u32, burst in 1..200_u32, interval in 10..25_usize,
        arrivals in prop::collection::vec((0..4_usize, 0..12_u32), 400..900),
        fates in prop::collection::vec((fate(), 0..6_usize), 16..40),
    ) {
        let mut world = World::new(nodes, rate, burst);
        let (mut admitted, mut exchanges) = (0, 0);
        for (step, (node, requests)) in arrivals.iter().enumerate() {
            admitted += world.ask(node % nodes, *requests);
            for node in (0..nodes).filter(|node| (step + node * 5) % interval == 0) {
                let (fate, delay) = fates[exchanges % fates.len()];
                exchanges += 1;
                world.begin(node, fate, delay);
            }
            world.end();
            let seconds = (step + 1) as f64 * STEP.as_secs_f64();
            // An exchange, two that are lost, the one under way, and its delay.
            let unheard = (5 * interval + 6) as f64 * STEP.as_secs_f64();
            let (rate, burst, others) = (f64::from(rate), f64::from(burst), (nodes - 1) as f64);
            let most = rate * (seconds + unheard) + burst + others * (burst + rate * unheard) + nodes as f64;
            prop_assert!(admitted as f64 <= most, "{admitted} of {most} after {seconds} s");
        }
    }

    /// Nothing of a rate is lost to nodes that want all of it, nor to those that want nothing.
    #[test]
    fn a_rate_is_used_up_whoever_wants_it(
        nodes in 1..5_usize, busy in 1..5_usize, rate in 50..500_u32, burst in 5..100_u32, delay in 0..5_usize,
    ) {
        let busy = busy.min(nodes);
        let mut world = World::new(nodes, rate, burst);
        let steps = 1_000_usize;
        let mut admitted = 0;
        for step in 0..steps {
            for node in 0..busy {
                admitted += world.ask(node, 10);
            }
            for node in (0..nodes).filter(|node| (step + node * 5) % 20 == 0) {
                world.begin(node, Fate::Answered, delay);
            }
            world.end();
        }
        let all = f64::from(rate) * steps as f64 * STEP.as_secs_f64();
        prop_assert!(admitted as f64 >= 0.9 * all, "{admitted} of {all}");
    }
}

#[test]
fn what_was_let_in_while_the_store_was_away_is_not_held_against_anybody() {
    let mut world = World::new(2, 100, 20);
    let mut run = |from: usize, to: usize, is_there: bool| {
        let mut admitted = 0;
        for step in from..to {
            admitted += world.ask(0, 5) + world.ask(1, 5);
            for node in (0..2).filter(|node| (step + node * 5) % 20 == 0) {
                if is_there {
                    world.begin(node, Fate::Answered, 1);
                } else {
                    let cell = &world.nodes[node].cell;
                    cell.forget(cell.own_use());
                }
            }
            world.end();
        }
        admitted
    };
    let shared = run(0, 1_000, true);
    let alone = run(1_000, 7_000, false);
    let shared_again = run(7_000, 7_300, true);
    assert!((900..1_200).contains(&shared), "{shared}");
    assert!(alone > 11_500, "each has its own full rate meanwhile: {alone}");
    assert!((200..500).contains(&shared_again), "nobody is shut out afterwards: {shared_again}");
}

#[test]
fn a_wrong_word_ends_by_itself() {
    let world = World::new(1, 100, 10);
    let cell = &world.nodes[0].cell;
    cell.agreed(cell.own_use(), u64::MAX);
    assert!(cell.take(NonZeroU32::MIN).is_err());
    let wait = cell.take(NonZeroU32::MIN).unwrap_err().unwrap();
    assert!(wait <= Duration::from_secs(11), "{wait:?}");
    world.clock.advance(wait);
    assert!(cell.take(NonZeroU32::MIN).is_ok());
    // A word from before this node's own use changes nothing of that.
    let before = cell.own_use();
    world.clock.advance(Duration::from_secs(60));
    assert_eq!((0..20).filter(|_| cell.take(NonZeroU32::MIN).is_ok()).count(), 10);
    cell.agreed(before, 0);
    assert!(cell.take(NonZeroU32::MIN).is_err());
}
