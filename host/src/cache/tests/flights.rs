//! Whoever waits gets what came of it, whoever else comes, leaves or fails.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, sleep, timeout};

use super::key;
use crate::cache::flight::Flights;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Counts up at its start, and down when it ends or is dropped.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// One who asks.
#[derive(Clone, Debug)]
struct Passenger {
    comes: u64,
    /// How long it waits, at most.
    patience: u64,
    key: u8,
    /// How long the computation takes if it begins one.
    takes: u64,
    /// Whether that breaks down.
    panics: bool,
}

fn passenger() -> impl Strategy<Value = Passenger> {
    (0_u64..50, 1_u64..40, 0_u8..2, 0_u64..30, prop::bool::weighted(0.1))
        .prop_map(|(comes, patience, key, takes, panics)| Passenger { comes, patience, key, takes, panics })
}

/// What became of one: whether it led, what it got, and when it came and left.
struct Told {
    leads: bool,
    got: Result<Option<u64>, ()>,
    left: u64,
}

async fn travel(
    flights: Flights<u64>,
    passenger: Passenger,
    (began, begun, under_way): (Instant, Arc<AtomicUsize>, Arc<AtomicUsize>),
) -> Told {
    sleep(Duration::from_millis(passenger.comes * 2)).await;
    let Passenger { takes, panics, .. } = passenger;
    let number = Arc::clone(&begun);
    let mut seat = flights.board(key(passenger.key), move || {
        let number = number.fetch_add(1, SeqCst) as u64;
        let here = UnderWay::new(&under_way);
        async move {
            sleep(Duration::from_millis(takes * 2 + 1)).await;
            assert!(!panics, "it breaks down");
            drop(here);
            number
        }
    });
    let leads = seat.leads();
    let got = timeout(Duration::from_millis(passenger.patience * 2), seat.landed()).await.map_err(drop);
    let left = u64::try_from(began.elapsed().as_millis()).unwrap();
    Told { leads, got, left }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn everybody_gets_what_came_of_the_flight_or_leaves_in_time(all in prop::collection::vec(passenger(), 1..40)) {
        runtime().block_on(async {
            let flights = Flights::<u64>::default();
            let (begun, under_way) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let began = Instant::now();
            let tasks: Vec<_> = all.iter().cloned().map(|passenger| {
                let counts = (began, Arc::clone(&begun), Arc::clone(&under_way));
                tokio::spawn(travel(flights.clone(), passenger, counts))
            }).collect();
            let mut leaders = 0;
            for (passenger, task) in all.iter().zip(tasks) {
                let told = task.await.unwrap();
                leaders += usize::from(told.leads);
                let came = passenger.comes * 2;
                prop_assert!(told.left <= came + passenger.patience * 2 + 1, "nobody waits longer than it wants");
                if told.leads && !passenger.panics && passenger.takes < passenger.patience {
                    prop_assert!(matches!(told.got, Ok(Some(_))), "a leader that waits long enough has its answer");
                }
                if told.leads && passenger.panics {
                    prop_assert!(!matches!(told.got, Ok(Some(_))));
                }
                if let Ok(Some(number)) = told.got {
                    prop_assert!(number < begun.load(SeqCst) as u64);
                }
            }
            prop_assert_eq!(leaders, begun.load(SeqCst), "each flight begins for one passenger");
            sleep(Duration::from_millis(1)).await;
            prop_assert_eq!((flights.count(), under_way.load(SeqCst)), (0, 0), "nothing is left");
            Ok(())
        })?;
    }
}

#[test]
fn a_flight_goes_on_without_whom_it_began_for_and_ends_with_the_last() {
    runtime().block_on(async {
        let flights = Flights::<u64>::default();
        let under_way = Arc::new(AtomicUsize::new(0));
        let board = || {
            let here = Arc::clone(&under_way);
            flights.board(key(1), move || {
                let here = UnderWay::new(&here);
                async move {
                    sleep(Duration::from_secs(1)).await;
                    drop(here);
                    7
                }
            })
        };
        let leader = board();
        let mut follower = board();
        assert!(leader.leads() && !follower.leads());
        drop(leader);
        assert_eq!(timeout(Duration::from_secs(2), follower.landed()).await, Ok(Some(7)));
        drop(follower);

        let (first, second) = (board(), board());
        sleep(Duration::from_millis(10)).await;
        drop(first);
        sleep(Duration::from_millis(10)).await;
        assert_eq!((flights.count(), under_way.load(SeqCst)), (1, 1));
        drop(second);
        sleep(Duration::from_millis(1)).await;
        assert_eq!((flights.count(), under_way.load(SeqCst)), (0, 0), "nobody waits: it is ended");
    });
}

#[test]
fn flights_that_nobody_waits_for_are_few_and_last_to_their_end() {
    runtime().block_on(async {
        let flights = Flights::<u64>::default();
        let send = |number| {
            flights.send(key(number), || async {
                sleep(Duration::from_secs(1)).await;
                1
            })
        };
        assert!(send(0) && !send(0), "one of a key");
        let sent = (1..=255).filter(|&number| send(number)).count();
        assert_eq!(sent, super::super::flight::MOST_UNATTENDED - 1);
        // Who joins one and leaves does not end it.
        drop(flights.board(key(0), || async { 2 }));
        let mut seat = flights.board(key(0), || async { 2 });
        assert_eq!(seat.landed().await, Some(1));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(flights.count(), 0);
        assert!(send(1), "there is room again");
    });
}

/// Notes how many flights there are at the moment at which somebody is told of one's end.
struct Witness {
    flights: Flights<u64>,
    found: Mutex<Vec<usize>>,
}

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        self.found.lock().unwrap().push(self.flights.count());
    }
}

#[test]
fn who_is_told_of_a_flights_end_cannot_board_it_again() {
    for panics in [false, true] {
        runtime().block_on(async {
            let flights = Flights::<u64>::default();
            let mut seat = flights.board(key(1), move || async move {
                sleep(Duration::from_millis(1)).await;
                assert!(!panics, "it breaks down");
                7
            });
            let told = Arc::new(Witness { flights: flights.clone(), found: Mutex::default() });
            let waker = Waker::from(Arc::clone(&told));
            {
                let mut landed = pin!(seat.landed());
                assert!(landed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(*told.found.lock().unwrap(), [0], "panics: {panics}");
            assert_eq!(seat.landed().await, (!panics).then_some(7));
        });
    }
}

#[test]
fn a_runtime_that_is_gone_holds_nobody_up() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    let (done, ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _inside = handle.enter();
        let flights = Flights::<u64>::default();
        let seat = flights.board(key(1), || async { 7 });
        let sent = flights.send(key(2), || async { 7 });
        drop(seat);
        // The runtime ends in the background; what it had not begun is dropped then.
        while flights.count() > 0 {
            std::thread::yield_now();
        }
        done.send(sent).unwrap();
    });
    assert_eq!(ends.recv_timeout(Duration::from_secs(60)), Ok(true), "it hangs");
}
