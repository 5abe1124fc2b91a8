//! The queue alone, with items that are a few numbers: order, bounds, and that each item leaves once.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Item {
    id: usize,
    wanted: bool,
    items: usize,
    kind: u8,
    level: u32,
    expires: Option<Instant>,
}

fn item(id: usize) -> Item {
    Item { id, wanted: true, items: 1, kind: 0, level: 1, expires: None }
}

impl Waiting for Item {
    fn is_wanted(&self) -> bool {
        self.wanted
    }
    fn items(&self) -> usize {
        self.items
    }
    fn elements_of_item(&self) -> usize {
        10 * (1 + usize::from(self.kind))
    }
    fn joins(&self, other: &Self) -> bool {
        self.kind == other.kind && self.items > 0 && other.items > 0
    }
    fn level(&self) -> u32 {
        self.level
    }
    fn arrived(&self) -> Instant {
        Instant::now()
    }
    fn expires(&self) -> Instant {
        self.expires.unwrap_or_else(|| Instant::now() + Duration::from_secs(60))
    }
}

fn queue(size: usize, max_size: usize) -> Queue<Item> {
    Queue::new(
        size,
        BatchRules { max_size, max_elements: None, max_delay: Duration::ZERO, preferred: vec![] },
    )
}

fn push(queue: &Queue<Item>, item: Item) -> Result<(), PushError> {
    queue.push(std::iter::once(item))
}

fn ids(taken: &[Item]) -> Vec<usize> {
    taken.iter().map(|item| item.id).collect()
}

#[test]
fn it_is_bounded_and_in_order() {
    let queue = queue(2, 1);
    assert_eq!((push(&queue, item(1)), push(&queue, item(2))), (Ok(()), Ok(())));
    assert_eq!(push(&queue, item(3)), Err(PushError::Full(2)));
    assert_eq!(queue.waiting().0, 2);
    assert_eq!((ids(&queue.take().batch), ids(&queue.take().batch)), (vec![1], vec![2]));
    assert!(queue.take().batch.is_empty());
}

#[test]
fn several_come_in_together_or_not_at_all() {
    let queue = queue(3, 1);
    assert_eq!(queue.push((0..4).map(item)), Err(PushError::Full(3)));
    assert_eq!(queue.push((0..3).map(item)), Ok(()));
}

#[test]
fn a_queue_of_none_hands_over_to_a_worker_that_waits() {
    let queue = Arc::new(queue(0, 1));
    assert_eq!(push(&queue, item(1)), Err(PushError::Full(0)));
    let puller = std::thread::spawn({
        let queue = Arc::clone(&queue);
        move || (queue.ready(None), ids(&queue.take().batch))
    });
    while push(&queue, item(2)).is_err() {
        std::thread::yield_now();
    }
    assert_eq!(puller.join().unwrap(), (Signal::Work, vec![2]));
}

#[test]
fn what_nobody_waits_for_takes_no_place_and_is_not_handed_out() {
    let queue = queue(2, 8);
    push(&queue, Item { wanted: false, ..item(1) }).unwrap();
    push(&queue, item(2)).unwrap();
    assert_eq!(push(&queue, item(3)), Ok(()));
    assert_eq!(ids(&queue.take().batch), [2, 3]);
}

#[test]
fn what_is_too_late_is_told_apart() {
    let queue = queue(8, 8);
    let late = |id| Item { expires: Some(Instant::now()), ..item(id) };
    for one in [late(1), item(2), late(3), item(4)] {
        push(&queue, one).unwrap();
    }
    let taken = queue.take();
    assert_eq!((ids(&taken.batch), ids(&taken.expired)), (vec![2, 4], vec![1, 3]));
}

#[test]
fn the_urgent_go_first_and_equals_in_order() {
    let queue = queue(8, 1);
    for (id, level) in [(1, 2), (2, 2), (3, 1), (4, 3), (5, 1)] {
        push(&queue, Item { level, ..item(id) }).unwrap();
    }
    let order: Vec<_> = (0..5).flat_map(|_| ids(&queue.take().batch)).collect();
    assert_eq!(order, [3, 5, 1, 2, 4]);
}

#[test]
fn a_batch_counts_items_and_takes_only_what_is_alike() {
    let queue = queue(8, 4);
    for (id, items, kind) in [(1, 2, 0), (2, 1, 1), (3, 3, 0), (4, 2, 0), (5, 9, 0), (6, 0, 1)] {
        push(&queue, Item { items, kind, ..item(id) }).unwrap();
    }
    let batches: Vec<_> = (0..5).map(|_| ids(&queue.take().batch)).collect();
    assert_eq!(batches, [vec![1, 4], vec![2], vec![3], vec![5], vec![6]]);
}

#[test]
fn a_batch_of_large_items_has_fewer() {
    let max_elements = NonZeroUsize::new(40);
    let rules = BatchRules { max_size: 8, max_elements, max_delay: Duration::ZERO, preferred: vec![] };
    let queue = Queue::new(16, rules);
    // Of 10, 20 and 50 elements each.
    for (id, kind) in [0, 0, 0, 0, 0, 1, 1, 1, 4, 4].into_iter().enumerate() {
        push(&queue, Item { kind, ..item(id) }).unwrap();
    }
    let batches: Vec<_> = (0..6).map(|_| ids(&queue.take().batch)).collect();
    assert_eq!(batches, [vec![0, 1, 2, 3], vec![4], vec![5, 6], vec![7], vec![8], vec![9]]);
}

#[test]
fn a_delay_holds_back_until_enough_have_come_or_the_queue_is_closed() {
    let max_delay = Duration::from_secs(60);
    let rules = |preferred| BatchRules { max_size: 3, max_elements: None, max_delay, preferred };
    let queue = Arc::new(Queue::new(8, rules(vec![])));
    push(&queue, item(1)).unwrap();
    assert!(queue.take().batch.is_empty());
    let worker = std::thread::spawn({
        let queue = Arc::clone(&queue);
        move || (queue.ready(None), ids(&queue.take().batch))
    });
    queue.push((2..4).map(item)).unwrap();
    assert_eq!(worker.join().unwrap(), (Signal::Work, vec![1, 2, 3]));
    queue.push((4..6).map(item)).unwrap();
    assert!(queue.take().batch.is_empty());
    queue.set(8, rules(vec![2]));
    assert_eq!(ids(&queue.take().batch), [4, 5]);
    push(&queue, item(6)).unwrap();
    queue.close();
    assert_eq!(ids(&queue.take().batch), [6]);
}

#[test]
fn a_worker_waits_no_longer_than_it_wants() {
    let queue = queue(8, 1);
    assert_eq!(queue.ready(Some(Instant::now())), Signal::Idle);
    push(&queue, item(1)).unwrap();
    assert_eq!(queue.ready(Some(Instant::now())), Signal::Work);
}

#[test]
fn closing_hands_out_what_waits_and_ends_the_rest_and_one_may_be_asked_to_end() {
    let queue = Arc::new(queue(8, 1));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                let mut taken = 0;
                loop {
                    match queue.ready(None) {
                        Signal::Work => taken += queue.take().batch.len(),
                        end => return (taken, end),
                    }
                }
            })
        })
        .collect();
    queue.retire_one();
    while workers.iter().filter(|worker| worker.is_finished()).count() < 1 {
        std::thread::yield_now();
    }
    queue.push((0..5).map(item)).unwrap();
    queue.close();
    let ended: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    assert_eq!(ended.iter().map(|(taken, _)| taken).sum::<usize>(), 5);
    assert_eq!(ended.iter().filter(|(_, end)| *end == Signal::Retire).count(), 1);
    assert_eq!(push(&queue, item(9)), Err(PushError::Closed));
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let one = (any::<bool>(), 0_usize..6, 0_u8..3, 1_u32..4, any::<bool>());
    proptest::collection::vec(one, 0..60).prop_map(|all| {
        let made = |(id, (wanted, items, kind, level, late)): (usize, (bool, usize, u8, u32, bool))| Item {
            id,
            wanted,
            items,
            kind,
            level,
            expires: late.then(Instant::now),
        };
        all.into_iter().enumerate().map(made).collect()
    })
}

proptest! {
    #[test]
    fn each_item_that_is_wanted_leaves_once(all in items(), max_size in 1_usize..9, most in 0_usize..100) {
        let (max_elements, max_delay) = (NonZeroUsize::new(most), Duration::ZERO);
        let queue = Queue::new(100, BatchRules { max_size, max_elements, max_delay, preferred: vec![] });
        queue.push(all.clone().into_iter()).unwrap();
        let (mut run, mut expired) = (Vec::new(), Vec::new());
        loop {
            let taken = queue.take();
            if taken.batch.is_empty() && taken.expired.is_empty() {
                break;
            }
            let items: usize = taken.batch.iter().map(|item| item.items).sum();
            prop_assert!(taken.batch.len() <= 1 || items <= max_size);
            let elements = taken.batch.first().map_or(0, |item| items * item.elements_of_item());
            prop_assert!(taken.batch.len() <= 1 || most == 0 || elements <= most);
            prop_assert!(taken.batch.iter().all(|item| item.kind == taken.batch[0].kind));
            run.extend(ids(&taken.batch));
            expired.extend(ids(&taken.expired));
        }
        run.sort_unstable();
        expired.sort_unstable();
        let those = |late: bool| {
            let wanted = all.iter().filter(|item| item.wanted && item.expires.is_some() == late);
            wanted.map(|item| item.id).collect::<Vec<_>>()
        };
        prop_assert_eq!(run, those(false));
        prop_assert_eq!(expired, those(true));
        prop_assert_eq!(queue.waiting().0, 0);
    }
}
