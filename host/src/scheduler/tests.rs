//! The compute layer against real models: every answer goes to its asker, once, whole, and is the answer that
//! the request would get alone.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::examine::{Verdict, examine};
use super::testing::{series, session};
use super::*;
use crate::error::{Error, ErrorCode};
use crate::haste::Haste;
use crate::model::tensor::{DataType, Tensor, push_bytes_element};

fn limits(max_size: Option<usize>) -> SchedulerLimits {
    SchedulerLimits {
        queue_size: 1024,
        queue_timeout: Duration::from_secs(60),
        priorities: 3,
        batching: BatchLimits { max_size: max_size.and_then(NonZeroUsize::new), ..BatchLimits::default() },
    }
}

fn options(workers: usize, limits: SchedulerLimits, budget: &Arc<Budget>) -> SchedulerOptions {
    let patience = Duration::from_secs(3600);
    SchedulerOptions {
        model: "m".to_owned(),
        limits,
        tolerance: 1e-4,
        metrics: series(),
        workers: WorkerRange { min: workers, max: workers, wait: patience, idle: patience },
        opener: None,
        budget: Arc::clone(budget),
        haste: Haste::Now,
        on_given_up: Arc::default(),
    }
}

fn start(model: &str, workers: usize, limits: SchedulerLimits) -> Scheduler {
    let options = options(workers, limits, &Budget::new(2));
    Scheduler::start((0..workers).map(|_| session(model)).collect(), options).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn what_a_model_makes_of_batches_is_found_out() {
    let found = |model| examine(&mut session(model), 1e-4).verdict;
    for model in ["items", "tiny", "two_inputs", "identity_fp32", "all_types", "gather", "vector_fp32"] {
        assert_eq!(found(model), Verdict::Proven, "{model}");
    }
    for (model, why) in [
        ("fixed", "the first dimension of input 'x' of shape [2, 3] is not open"),
        ("scalar", "input 'x'"),
        ("slow", "input 'n'"),
        ("across", "output 'y' of an item depends on the other items"),
        ("flattened", "output 'y' has shape [4] for a batch of 2 items"),
    ] {
        let verdict = found(model);
        assert!(matches!(&verdict, Verdict::Never(reason) if reason.contains(why)), "{model}: {verdict}");
    }
}

#[test]
fn a_number_does_not_make_batches_of_what_cannot_share_runs() {
    assert_eq!(start("across", 1, limits(Some(8))).batch_limit(), 1);
    assert_eq!(start("items", 1, limits(Some(8))).batch_limit(), 8);
    assert_eq!(start("items", 1, limits(Some(1))).batch_limit(), 1);
}

/// One request for `items`.
#[derive(Clone, Debug)]
struct Asked {
    rows: usize,
    width: usize,
    /// Fails the run that it is in.
    bad: bool,
    wanted: Vec<usize>,
    /// The asker leaves after so many turns.
    leaves: Option<usize>,
    priority: u64,
    tag: u32,
}

impl Asked {
    fn inputs(&self) -> Vec<Tensor> {
        let number = |at: usize| (self.tag * 1000) as f32 + at as f32;
        let x: Vec<u8> = (0..self.rows * self.width).flat_map(|at| number(at).to_le_bytes()).collect();
        let index = |row: usize| if self.bad && row == self.rows - 1 { 99_i64 } else { (row % 4) as i64 };
        let index: Vec<u8> = (0..self.rows).flat_map(|row| index(row).to_le_bytes()).collect();
        let mut text = Vec::new();
        for row in 0..self.rows * 2 {
            push_bytes_element(&mut text, "é".repeat(row % 3).as_bytes()).unwrap();
            text.extend_from_slice(&[]);
        }
        vec![
            Tensor::new("x", DataType::Fp32, vec![self.rows, self.width], x).unwrap(),
            Tensor::new("index", DataType::Int64, vec![self.rows], index).unwrap(),
            Tensor::new("text", DataType::Bytes, vec![self.rows, 2], text).unwrap(),
        ]
    }

    fn expected(&self) -> Vec<Tensor> {
        let inputs = self.inputs();
        let squares: Vec<u8> =
            (0..self.rows).flat_map(|row| ((row % 4).pow(2) as f32).to_le_bytes()).collect();
        let all = [
            Tensor { name: "y".to_owned(), ..inputs[0].clone() },
            Tensor::new("square", DataType::Fp32, vec![self.rows], squares).unwrap(),
            Tensor { name: "echo".to_owned(), ..inputs[2].clone() },
        ];
        self.wanted.iter().map(|&position| all[position].clone()).collect()
    }

    fn is_answered_by(&self, outcome: Result<InferOutcome, Error>) -> Result<(), TestCaseError> {
        if self.bad {
            let error = outcome.map(|outcome| outcome.outputs).unwrap_err();
            prop_assert!(error.message.contains("the model failed"), "{}", error);
            return Ok(());
        }
        let outcome = outcome.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(outcome.outputs, self.expected());
        Ok(())
    }
}

prop_compose! {
    fn asked()(
        rows in 1_usize..6,
        width in 1_usize..3,
        bad in prop::bool::weighted(0.1),
        wanted in Just(vec![0_usize, 1, 2]).prop_shuffle(),
        count in 1_usize..4,
        leaves in prop::option::weighted(0.2, 0_usize..4),
        priority in 0_u64..5,
    ) -> Asked {
        let wanted = wanted.into_iter().take(count).collect();
        Asked { rows, width, bad, wanted, leaves, priority, tag: 0 }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_answer_goes_to_its_asker_and_is_that_of_the_request_alone(
        mut all in prop::collection::vec(asked(), 1..60),
        workers in 1_usize..3,
        max_size in 1_usize..9,
        split in any::<bool>(),
        pauses in prop::collection::vec(0_u8..4, 60),
    ) {
        let mut limits = limits(Some(max_size));
        limits.batching.oversize = if split { Oversize::Split } else { Oversize::Run };
        let scheduler = Arc::new(start("items", workers, limits));
        for (one, tag) in all.iter_mut().zip(1..) {
            one.tag = tag;
        }
        let answered = runtime().block_on(async {
            let mut asking = JoinSet::new();
            for (one, pause) in all.iter().cloned().zip(pauses) {
                let scheduler = Arc::clone(&scheduler);
                asking.spawn(async move {
                    let terms = Terms { deadline: soon(), priority: Some(one.priority) };
                    let infer = scheduler.infer(one.inputs(), one.wanted.clone(), terms);
                    let outcome = match one.leaves {
                        None => Some(infer.await),
                        Some(turns) => tokio::select! {
                            biased;
                            outcome = infer => Some(outcome),
                            () = async { for _ in 0..turns { tokio::task::yield_now().await } } => None,
                        },
                    };
                    (one, outcome)
                });
                for _ in 0..pause {
                    tokio::task::yield_now().await;
                }
            }
            asking.join_all().await
        });
        prop_assert_eq!(answered.len(), all.len());
        for (one, outcome) in answered {
            match outcome {
                Some(outcome) => one.is_answered_by(outcome)?,
                None => prop_assert!(one.leaves.is_some()),
            }
        }
        prop_assert_eq!(scheduler.waiting(), 0);
    }
}

fn one(tag: u32, rows: usize) -> Asked {
    Asked { rows, width: 2, bad: false, wanted: vec![0, 1, 2], leaves: None, priority: 0, tag }
}

/// Sends requests that come to a run together: they are held back until the last one has arrived.
fn together(all: &[Asked]) -> (Vec<Result<InferOutcome, Error>>, Arc<crate::telemetry::ComputeSeries>) {
    let rows = all.iter().map(|one| one.rows).sum();
    let mut limits = limits(Some(rows));
    limits.batching.max_delay = Duration::from_secs(50);
    let metrics = series();
    let options = SchedulerOptions {
        tolerance: 0.0,
        metrics: Arc::clone(&metrics),
        ..options(1, limits, &Budget::new(1))
    };
    let scheduler = Scheduler::start(vec![session("items")], options).unwrap();
    let outcomes = runtime().block_on(async {
        let mut waits = Vec::new();
        for one in all {
            waits.push(Box::pin(scheduler.infer(one.inputs(), one.wanted.clone(), soon())));
        }
        let mut outcomes: Vec<Option<_>> = all.iter().map(|_| None).collect();
        std::future::poll_fn(|context| {
            for (wait, outcome) in
                waits.iter_mut().zip(&mut outcomes).filter(|(_, outcome)| outcome.is_none())
            {
                if let std::task::Poll::Ready(ready) = wait.as_mut().poll(context) {
                    *outcome = Some(ready);
                }
            }
            if outcomes.iter().all(Option::is_some) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        outcomes.into_iter().flatten().collect()
    });
    (outcomes, metrics)
}

#[test]
fn one_bad_item_fails_alone() {
    let mut all = [one(1, 2), one(2, 1), one(3, 4)];
    let (good, metrics) = together(&all);
    assert!(good.into_iter().zip(&all).all(|(outcome, one)| one.is_answered_by(outcome).is_ok()));
    assert_eq!(metrics.retried.get(), 0);
    all[1].bad = true;
    let (mixed, metrics) = together(&all);
    for (outcome, one) in mixed.into_iter().zip(&all) {
        assert_eq!(outcome.is_err(), one.bad);
        one.is_answered_by(outcome).unwrap();
    }
    assert_eq!(metrics.retried.get(), 1);
}

fn turns(count: i64) -> Vec<Tensor> {
    vec![Tensor::new("n", DataType::Int64, vec![1], count.to_le_bytes().to_vec()).unwrap()]
}

#[test]
fn a_run_that_nobody_waits_for_is_ended() {
    // Half an hour of work, if it were let run.
    let endless = || turns(2_000_000);
    let scheduler = start("slow", 1, limits(None));
    runtime().block_on(async {
        let deadline = Instant::now() + Duration::from_millis(100);
        let error = scheduler.infer(endless(), vec![0], deadline).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::DeadlineExceeded);
        let left =
            tokio::time::timeout(Duration::from_millis(100), scheduler.infer(endless(), vec![0], soon()));
        assert!(left.await.is_err());
        scheduler.infer(turns(1), vec![0], soon()).await.unwrap();
    });
}

#[test]
fn one_that_is_too_large_is_run_cut_or_refused() {
    let large = one(7, 11);
    for oversize in [Oversize::Run, Oversize::Split, Oversize::Refuse] {
        let mut limits = limits(Some(4));
        limits.batching.oversize = oversize;
        let scheduler = start("items", 2, limits.clone());
        let ask = || runtime().block_on(scheduler.infer(large.inputs(), large.wanted.clone(), soon()));
        if oversize == Oversize::Refuse {
            let error = ask().unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument);
            assert!(error.message.contains("11 items") && error.message.contains("takes 4"), "{error}");
        } else {
            large.is_answered_by(ask()).unwrap();
        }
        // So large that each item is a run of its own.
        limits.batching.max_elements = NonZeroUsize::new(1);
        scheduler.apply(limits.clone());
        match oversize {
            Oversize::Refuse => assert!(ask().unwrap_err().message.contains("takes 1 of this size")),
            _ => large.is_answered_by(ask()).unwrap(),
        }
        limits.batching.max_elements = None;
        // Limits change while it serves.
        limits.batching.max_size = NonZeroUsize::new(16);
        limits.queue_size = 2;
        scheduler.apply(limits.clone());
        large.is_answered_by(ask()).unwrap();
        limits.batching.max_size = NonZeroUsize::new(2);
        scheduler.apply(limits);
        if oversize == Oversize::Split {
            let error = ask().unwrap_err();
            assert!(error.message.contains("takes 4"), "{error}");
            // So many pieces of nothing would take more memory than there is.
            let nothing = Tensor {
                name: "x".into(),
                datatype: DataType::Fp32,
                shape: vec![1 << 60, 0],
                data: bytes::Bytes::new(),
            };
            let asked = scheduler.infer(vec![nothing], large.wanted.clone(), soon());
            assert!(runtime().block_on(asked).unwrap_err().message.contains("takes 4"));
        }
    }
}

#[test]
fn workers_come_and_go_but_for_the_last() {
    let scheduler = start("items", 1, limits(Some(4)));
    assert!(!scheduler.remove_worker());
    scheduler.add_worker(session("items")).unwrap();
    assert_eq!(scheduler.workers().0, 2);
    assert!(scheduler.remove_worker() && !scheduler.remove_worker());
    assert_eq!(scheduler.workers(), (1, 0));
    let asked = one(1, 3);
    let outcome = runtime().block_on(scheduler.infer(asked.inputs(), asked.wanted.clone(), soon()));
    asked.is_answered_by(outcome).unwrap();
}

/// Looks again until it is so: what it waits for has no other sign.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}");
}

#[test]
fn a_worker_comes_when_requests_wait_and_goes_when_it_is_not_needed() {
    let metrics = series();
    // Longer than a busy machine keeps those who ask from their turn.
    let (wait, idle) = (Duration::from_millis(1), Duration::from_secs(3));
    let scaling = SchedulerOptions {
        metrics: Arc::clone(&metrics),
        workers: WorkerRange { min: 1, max: 9, wait, idle },
        opener: Some(SessionOpener::new(|| Ok(session("slow")))),
        ..options(1, limits(None), &Budget::new(2))
    };
    let scheduler = Scheduler::start(vec![session("slow")], scaling).unwrap();
    assert_eq!(scheduler.workers().0, 1);
    let busy = AtomicUsize::new(1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while busy.load(SeqCst) == 1 {
                    runtime().block_on(scheduler.infer(turns(5), vec![0], soon())).unwrap();
                }
            });
        }
        eventually("a second worker comes", || scheduler.workers().0 == 2);
        busy.store(0, SeqCst);
    });
    eventually("it goes again", || scheduler.workers().0 == 1 && metrics.ended.get() > 0);
    assert_eq!((metrics.added.get(), metrics.ended.get()), (1, 1));
    let two = WorkerRange { min: 2, max: 2, wait, idle };
    assert!(scheduler.scale_within(two.clone(), None));
    eventually("there are two at once", || scheduler.workers().0 == 2);
    scheduler.stop();
    assert!(!start("tiny", 1, limits(None)).scale_within(two, None));
}

#[test]
fn a_worker_that_cannot_be_opened_changes_nothing() {
    let range = |min| WorkerRange { min, max: 2, wait: Duration::ZERO, idle: Duration::from_secs(60) };
    let tried = Arc::new(AtomicUsize::new(0));
    let opener = Arc::clone(&tried);
    let scaling = SchedulerOptions {
        workers: range(1),
        opener: Some(SessionOpener::new(move || match opener.fetch_add(1, SeqCst) {
            0 => Err("no memory".to_owned().into()),
            _ => panic!("a bug"),
        })),
        ..options(1, limits(None), &Budget::new(2))
    };
    let scheduler = Scheduler::start(vec![session("tiny")], scaling).unwrap();
    for times in 1..3 {
        scheduler.scale_within(range(2), None);
        eventually("opening was tried", || tried.load(SeqCst) == times);
    }
    assert_eq!(scheduler.workers().0, 1);
}

#[test]
fn a_hot_model_starves_no_other() {
    let budget = Budget::new(2);
    let start = |workers: usize| {
        let sessions = (0..workers).map(|_| session("slow")).collect();
        Scheduler::start(sessions, options(workers, limits(None), &budget)).unwrap()
    };
    let (hot, cold) = (start(4), start(1));
    runtime().block_on(async {
        let hot = Arc::new(hot);
        let mut asking = JoinSet::new();
        for _ in 0..200 {
            let hot = Arc::clone(&hot);
            // So much work that it is not done, however late the others come to their turn.
            asking.spawn(async move { hot.infer(turns(100), vec![0], soon()).await.map(drop) });
        }
        tokio::task::yield_now().await;
        for _ in 0..5 {
            cold.infer(turns(1), vec![0], soon()).await.unwrap();
        }
        assert!(hot.waiting() > 0, "the cold model waited for the hot one");
        asking.abort_all();
    });
}
