//! Workers that die while they run requests, as scripts say: nobody who is innocent pays for it, and what goes on
//! dying is given up.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::testing::series;
use super::*;
use crate::error::{Error, ErrorCode};
use crate::isolation::scripted::{Script, Scripted};
use crate::isolation::{Executor, LossKind};
use crate::model::tensor::{DataType, Tensor};
use crate::model::{Signature, TensorSpec};
use crate::telemetry::ComputeSeries;

/// A first element that no worker survives.
const POISON: i64 = -666;

fn item(value: i64) -> Vec<Tensor> {
    vec![Tensor::new("x", DataType::Int64, vec![1, 1], value.to_le_bytes().to_vec()).unwrap()]
}

fn first(tensor: &Tensor) -> i64 {
    i64::from_le_bytes(*tensor.data.first_chunk().unwrap())
}

fn is_poison(requests: &[&[Tensor]]) -> bool {
    requests.iter().any(|request| first(&request[0]) == POISON)
}

fn executor(script: &Script) -> Executor {
    let spec =
        |name: &str| TensorSpec { name: name.to_owned(), datatype: DataType::Int64, shape: vec![-1, 1] };
    let signature = Arc::new(Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] });
    Executor::Scripted(Box::new(Scripted { signature, script: Arc::clone(script), lost: None }))
}

fn start(workers: usize, script: Script) -> (Scheduler, Arc<ComputeSeries>) {
    let metrics = series();
    let patience = Duration::from_secs(3600);
    let again = Arc::clone(&script);
    let options = SchedulerOptions {
        model: "m".to_owned(),
        limits: SchedulerLimits {
            queue_size: 1024,
            queue_timeout: Duration::from_secs(60),
            priorities: 1,
            batching: BatchLimits { max_size: NonZeroUsize::new(4), ..BatchLimits::default() },
        },
        tolerance: 1e-4,
        metrics: Arc::clone(&metrics),
        workers: WorkerRange { min: workers, max: workers, wait: patience, idle: patience },
        opener: Some(SessionOpener::new(move || Ok(executor(&again)))),
        budget: Budget::new(2),
        on_given_up: Arc::default(),
    };
    let sessions = (0..workers).map(|_| executor(&script)).collect();
    (Scheduler::start(sessions, options).unwrap(), metrics)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// What each value was answered.
type Answers = Vec<(i64, Result<i64, Error>)>;

/// Asks all at once; the answers, or the errors, by value.
fn ask(scheduler: Scheduler, values: &[i64]) -> (Answers, Scheduler) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scheduler = Arc::new(scheduler);
    let answers = runtime.block_on(async {
        let mut asking = JoinSet::new();
        for &value in values {
            let scheduler = Arc::clone(&scheduler);
            asking.spawn(async move {
                let outcome = scheduler.infer(item(value), vec![0], soon()).await;
                (value, outcome.map(|outcome| first(&outcome.outputs[0])))
            });
        }
        asking.join_all().await
    });
    (answers, Arc::into_inner(scheduler).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Poison among the innocent, and workers that are killed at random: each innocent gets its own answer.
    #[test]
    fn only_the_request_that_kills_fails(
        workers in 1_usize..4,
        innocent in 1_i64..40,
        poison in 0_usize..2,
        kills in proptest::collection::btree_set(0_usize..60, 0..3),
    ) {
        let (runs, kills) = (AtomicUsize::new(0), Mutex::new(kills));
        let script: Script = Arc::new(move |requests| {
            if is_poison(requests) {
                return Some(LossKind::Crashed);
            }
            let run = runs.fetch_add(1, SeqCst);
            kills.lock().unwrap().remove(&run).then_some(LossKind::Killed)
        });
        // What is run to get to know the model counts as well, and must not be killed: it is no request.
        let known = AtomicUsize::new(0);
        let (scheduler, _) = start(workers, Arc::new(move |requests: &[&[Tensor]]| {
            let asked = requests.iter().all(|request| first(&request[0]).abs() >= 100);
            if asked { script(requests) } else { known.fetch_add(1, SeqCst); None }
        }));
        let mut values: Vec<i64> = (100..100 + innocent).collect();
        (0..poison).for_each(|at| values.insert(at * values.len() / 2, POISON));
        let (answers, scheduler) = ask(scheduler, &values);
        prop_assert_eq!(answers.len(), values.len());
        for (value, answer) in answers {
            match answer {
                Ok(got) => prop_assert_eq!(got, value),
                Err(error) => {
                    prop_assert_eq!(value, POISON);
                    prop_assert_eq!(error.code, ErrorCode::Internal);
                    prop_assert!(error.message.contains("each worker that ran this request died"));
                }
            }
        }
        prop_assert!(scheduler.given_up().is_none());
        scheduler.stop();
    }
}

#[test]
fn a_model_that_kills_each_worker_is_given_up_and_says_why() {
    let (scheduler, metrics) =
        start(2, Arc::new(|requests| (first(&requests[0][0]) >= 100).then_some(LossKind::Crashed)));
    let (answers, scheduler) = ask(scheduler, &[100, 101, 102, 103, 104, 105]);
    let mut reasons = BTreeSet::new();
    for (_, answer) in answers {
        let error = answer.unwrap_err();
        reasons.insert(error.code.as_str());
        let told = error.message.contains("process died as scripted");
        assert!(told, "{error}");
    }
    assert!(reasons.iter().all(|code| ["internal", "unavailable"].contains(code)), "{reasons:?}");
    assert!(scheduler.given_up().unwrap().contains("5 times in a row"), "{:?}", scheduler.given_up());
    let (answers, scheduler) = ask(scheduler, &[1]);
    let error = answers[0].1.clone().unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("5 times in a row"), "{error}");
    assert_eq!((metrics.processes.get(), scheduler.workers().1), (0, 0));
    scheduler.stop();
}

#[test]
fn a_worker_that_dies_while_it_stops_leaves_nobody_without_an_answer() {
    let (scheduler, _) = start(1, Arc::new(|requests| is_poison(requests).then_some(LossKind::Killed)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let asked = scheduler.infer(item(POISON), vec![0], soon());
        tokio::pin!(asked);
        let first =
            std::future::poll_fn(|context| std::task::Poll::Ready(asked.as_mut().poll(context).is_pending()));
        assert!(first.await, "it is queued");
        scheduler.0.queue.close();
        asked.await
    });
    let code = outcome.unwrap_err().code;
    assert!(matches!(code, ErrorCode::Internal | ErrorCode::Unavailable), "{code:?}");
    scheduler.stop();
}
