//! Random histories of two or three nodes and one store, with everything going wrong that can.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::nodes::record::Stamp;

const PLACES: [&str; 2] = ["rollout", "blue-green blue"];

/// What happens, to one of the nodes.
#[derive(Clone, Debug)]
enum Step {
    /// It reads the store.
    Look,
    /// It begins a command: reads, and changes what it knows. Others may come between this and the put.
    Begin { place: u8 },
    /// It ends its command: the change is in the store and acknowledged, or it has to begin anew.
    Commit,
    /// It puts what the store has not.
    Reconcile,
    /// It cannot reach the store any more, or can again.
    Cut(bool),
    /// It ends, and begins with what is on its disk.
    Restart,
    /// The store loses everything.
    Wipe,
    /// The store goes back to what it had before: a replica took over that was behind.
    FallBack,
    /// Somebody writes something else there.
    Scribble,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        4 => Just(Step::Look),
        6 => (0..3_u8).prop_map(|place| Step::Begin { place }),
        6 => Just(Step::Commit),
        4 => Just(Step::Reconcile),
        2 => any::<bool>().prop_map(Step::Cut),
        1 => Just(Step::Restart),
        1 => Just(Step::Wipe),
        1 => Just(Step::FallBack),
        1 => Just(Step::Scribble),
    ];
    (0..3_usize, step)
}

/// A command that was acknowledged.
struct Done {
    place: Option<&'static str>,
    stamp: Stamp,
    value: String,
}

struct Node {
    share: Share,
    disk: Record,
    is_cut: bool,
    /// A command that is under way: what was known before, and what it changes.
    under_way: Option<(Record, Option<&'static str>)>,
    /// The highest revision that it knew.
    revision: u64,
}

struct World {
    nodes: Vec<Node>,
    store: Option<String>,
    before: Option<String>,
    done: Vec<Done>,
    now: u64,
}

impl World {
    fn new(nodes: usize) -> Self {
        let node = || Node {
            share: Share::default(),
            disk: Record::default(),
            is_cut: false,
            under_way: None,
            revision: 0,
        };
        Self { nodes: (0..nodes).map(|_| node()).collect(), store: None, before: None, done: vec![], now: 0 }
    }

    fn look(&mut self, at: usize) {
        let stored = self.store.clone();
        let node = &mut self.nodes[at];
        if !node.is_cut {
            let _garbage = node.share.hear(stored);
        }
    }

    /// The store's compare-and-set.
    fn put(&mut self, at: usize) -> bool {
        let Some(put) = self.nodes[at].share.to_put(&at.to_string()) else {
            return false;
        };
        if self.nodes[at].is_cut || self.store.clone().unwrap_or_default().into_bytes() != put.expected {
            return false;
        }
        self.before = self.store.replace(put.wanted.clone());
        self.nodes[at].share.has_put(put);
        true
    }

    fn begin(&mut self, at: usize, place: Option<&'static str>) {
        if self.nodes[at].under_way.is_some() {
            return;
        }
        self.look(at);
        let (id, now) = (at.to_string(), self.now);
        let node = &mut self.nodes[at];
        node.under_way = Some((node.share.record().clone(), place));
        match place {
            None => node.share.record_mut().set_policy(Some(format!("{id}:{now}")), &id, now),
            Some(place) => {
                node.share.record_mut().set_move(place, Some(json!(format!("{id}:{now}"))), &id, now)
            }
        }
    }

    fn commit(&mut self, at: usize) {
        let Some((before, place)) = self.nodes[at].under_way.take() else {
            return;
        };
        // A node that cannot reach the store takes the command by itself.
        if !self.nodes[at].is_cut && !self.put(at) {
            // It is told what stands there instead.
            let stored = self.store.clone();
            let _garbage = self.nodes[at].share.hear(stored);
            self.nodes[at].share.take_back(before);
            return;
        }
        let node = &mut self.nodes[at];
        node.disk = node.share.record().clone();
        let (stamp, value) = match place {
            None => (node.disk.policy.stamp.clone(), node.disk.policy.value.clone().unwrap()),
            Some(place) => {
                let part = &node.disk.moves[place];
                (part.stamp.clone(), part.value.as_ref().unwrap().as_str().unwrap().to_owned())
            }
        };
        self.done.push(Done { place, stamp, value });
    }

    fn apply(&mut self, at: usize, step: &Step) {
        let at = at % self.nodes.len();
        self.now += 1;
        match step {
            Step::Look if self.nodes[at].under_way.is_none() => self.look(at),
            Step::Begin { place } => self.begin(at, PLACES.get(usize::from(*place)).copied()),
            Step::Commit => self.commit(at),
            Step::Reconcile if self.nodes[at].under_way.is_none() => {
                self.look(at);
                self.put(at);
                self.nodes[at].disk = self.nodes[at].share.record().clone();
            }
            Step::Cut(cut) => self.nodes[at].is_cut = *cut,
            Step::Restart => {
                let node = &mut self.nodes[at];
                node.under_way = None;
                node.share = Share::knowing(node.disk.clone());
                node.revision = node.disk.revision;
            }
            Step::Wipe => self.store = None,
            Step::FallBack => self.store = self.before.clone(),
            Step::Scribble => self.store = Some("7 x {\"format\":1,\"pol".to_owned()),
            Step::Look | Step::Reconcile => {}
        }
        for node in &mut self.nodes {
            assert!(node.share.record().revision >= node.revision, "revisions never go back");
            node.revision = node.share.record().revision;
        }
    }

    fn heal(&mut self) {
        for at in 0..self.nodes.len() {
            self.nodes[at].is_cut = false;
            self.commit(at);
        }
        for _ in 0..3 {
            for at in 0..self.nodes.len() {
                self.look(at);
                self.put(at);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nodes_converge_and_nothing_acknowledged_is_lost(
        nodes in 2..4_usize, steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(nodes);
        for (at, step) in &steps {
            world.apply(*at, step);
        }
        world.heal();
        let last = world.nodes[0].share.record().clone();
        for node in &world.nodes {
            prop_assert_eq!(node.share.record(), &last, "they have one record");
            prop_assert!(node.share.is_shared() && node.share.to_put("x").is_none(), "and are at rest");
        }
        for done in &world.done {
            let (stamp, value) = match done.place {
                None => (&last.policy.stamp, last.policy.value.clone()),
                Some(place) => {
                    let part = &last.moves[place];
                    (&part.stamp, part.value.as_ref().map(|value| value.as_str().unwrap().to_owned()))
                }
            };
            prop_assert!(*stamp >= done.stamp, "{stamp:?} is before {:?}", done.stamp);
            prop_assert!(*stamp > done.stamp || value.as_deref() == Some(done.value.as_str()));
        }
    }
}

#[test]
fn of_two_commands_at_once_one_has_to_begin_anew() {
    let mut world = World::new(2);
    world.begin(0, None);
    world.begin(1, None);
    world.commit(0);
    world.commit(1);
    assert_eq!(world.done.len(), 1, "the second was put in the place of what it had not read");
    world.begin(1, None);
    world.commit(1);
    let (first, second) = (&world.done[0], &world.done[1]);
    assert!(second.stamp > first.stamp && second.value.starts_with("1:"));
}

#[test]
fn what_a_text_begins_with_tells_it_from_all_others() {
    assert_eq!(mark(b"12 ab {\"x\": 1}"), b"12 ab");
    for (odd, same) in [("", ""), ("12", "12"), ("12 ", "12 "), (" ", " "), ("12 ab", "12 ab")] {
        assert_eq!(mark(odd.as_bytes()), same.as_bytes());
    }
    assert_eq!(mark(&[b'x'; 100]).len(), LONGEST_MARK);
}

#[test]
fn a_later_hosts_record_is_left_alone() {
    let mut share = Share::default();
    share.record_mut().set_policy(Some("x".to_owned()), "a", 1);
    assert_eq!(share.to_put("a"), None, "nothing is put before the store was looked at");
    assert!(share.hear(Some("9 x {\"format\": 99}".to_owned())).is_err());
    assert_eq!(share.to_put("a"), None);
    assert!(share.hear(Some("rubbish".to_owned())).is_err());
    assert_eq!(share.to_put("a").unwrap().expected, b"rubbish", "which is overwritten");
}

#[test]
fn what_is_no_text_is_overwritten_and_what_nobody_could_read_is_not_put() {
    let mut share = Share::default();
    share.record_mut().set_policy(Some("x".to_owned()), "a", 1);
    assert!(share.hear(Some(vec![0xff, 0xfe])).is_err());
    assert_eq!(share.to_put("a").unwrap().expected, [0xff, 0xfe], "what stands there, byte by byte");
    share.record_mut().set_policy(Some("x".repeat(LONGEST)), "a", 2);
    assert_eq!(share.to_put("a"), None);
    assert!(!share.is_shared());
}

#[test]
fn only_a_record_that_stands_there_as_it_is_known_is_taken_out() {
    let mut share = Share::default();
    share.record_mut().set_policy(Some("x".to_owned()), "a", 1);
    assert_eq!(share.to_remove(), None, "the store was not looked at");
    share.hear(None::<String>).unwrap();
    assert_eq!(share.to_remove(), Some([].as_slice()));
    let put = share.to_put("a").unwrap();
    let text = put.wanted.clone().into_bytes();
    share.has_put(put);
    assert_eq!(share.to_remove(), Some(text.as_slice()));
    share.record_mut().use_on(7);
    assert_eq!(share.to_remove(), None, "it is known that somebody uses it");
    assert!(share.hear(Some("rubbish".to_owned())).is_err());
    assert_eq!(share.to_remove(), None);
}
