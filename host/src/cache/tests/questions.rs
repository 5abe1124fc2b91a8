//! The way from a question to its answer, with computations that are scripted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cache::{
    Answered, Cache, Computed, Owner, Seed, SeedParts, Story, Subject, Value, Visit, Why, Wish,
};
use crate::config::{ByteSize, CachePolicy, CacheScope};
use crate::error::{Error, ErrorCode};
use crate::pipeline::StageTimes;
use crate::plugin::Response;
use crate::telemetry::{CacheLevel, CacheMetrics};

pub(super) const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn cache() -> Cache {
    Cache::new(1 << 20, None, CacheMetrics::default())
}

pub(super) fn policy() -> CachePolicy {
    CachePolicy { ttl: Some(60 * SECOND), ..CachePolicy::default() }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// A model's computations, counted. Each answer has the number of its computation.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) computed: Arc<AtomicUsize>,
    /// How long one takes.
    pub(super) takes: Duration,
    /// What the first so many of them fail with.
    pub(super) fails: Option<(usize, ErrorCode)>,
    pub(super) refuses: bool,
    pub(super) size: usize,
    pub(super) oldest_ms: Option<u64>,
}

impl Model {
    pub(super) fn count(&self) -> usize {
        self.computed.load(SeqCst)
    }

    async fn compute(self) -> Computed {
        let number = self.computed.fetch_add(1, SeqCst);
        tokio::time::sleep(self.takes).await;
        let fails = self.fails.filter(|(first, _)| number < *first);
        let body = Bytes::from(vec![u8::try_from(number).unwrap_or(u8::MAX); self.size.max(1)]);
        let response = Response { content_type: String::new(), body, parameters: Vec::new() };
        Computed {
            outcome: match fails {
                Some((_, code)) => Err(Error::new(code, "scripted")),
                None => Ok(Value::Response(response)),
            },
            is_refusal: self.refuses,
            oldest_ms: self.oldest_ms,
            times: StageTimes::default(),
        }
    }
}

pub(super) struct Asking<'a> {
    pub(super) cache: &'a Cache,
    pub(super) policy: CachePolicy,
    pub(super) field: &'static str,
    pub(super) who: &'static str,
    pub(super) patience: Duration,
}

impl<'a> Asking<'a> {
    pub(super) fn new(cache: &'a Cache) -> Self {
        Self { cache, policy: policy(), field: "", who: "a", patience: 30 * SECOND }
    }

    /// Asks with a body, and returns the number of the computation that answered.
    pub(super) async fn ask(&self, body: &str, model: &Model) -> (Result<u8, ErrorCode>, Story) {
        let wish = Wish::read([self.field.as_bytes()].into_iter());
        let mut visit = Visit::new(
            self.cache,
            wish,
            Some(self.who).filter(|who| !who.is_empty()).map(|who| Owner::new("token", who)),
        );
        let deadline = Instant::now() + self.patience;
        visit.set_until(Instant::now() + 60 * SECOND);
        let subject = Subject::Body { content_type: "", body: body.as_bytes(), parameters: &[] };
        let seed = Seed::new(&SeedParts::default());
        let question = visit.question("m", self.policy, &seed, subject, deadline).expect("it is remembered");
        let model = model.clone();
        let answered: Answered = question.answer(deadline, move |_| model.compute()).await;
        let outcome = match answered.outcome {
            Ok(Value::Response(response)) => Ok(response.body[0]),
            Ok(_) => panic!("another kind of answer"),
            Err(error) => Err(error.code),
        };
        (outcome, answered.story)
    }
}

const MISS: Story = Story::Computed { why: Why::Miss, collapsed: false, stored: true, model_hit: false };

fn is_hit(story: Story) -> bool {
    matches!(story, Story::Hit { level: CacheLevel::Memory, .. })
}

#[test]
fn an_answer_is_computed_once_and_then_remembered() {
    let (cache, model) = (cache(), Model::default());
    runtime().block_on(async {
        let asking = Asking::new(&cache);
        assert_eq!(asking.ask("x", &model).await, (Ok(0), MISS));
        let (again, story) = asking.ask("x", &model).await;
        assert!(again == Ok(0) && is_hit(story), "{story:?}");
        assert_eq!(asking.ask("y", &model).await, (Ok(1), MISS));
    });
    assert_eq!(model.count(), 2);
    let stats = cache.stats();
    assert_eq!((stats[0].entries, stats[0].memory.hits, stats[0].memory.misses), (2, 1, 2));
}

#[test]
fn a_thousand_who_ask_at_once_share_one_computation() {
    let cache = cache();
    let model = Model { takes: Duration::from_millis(50), ..Model::default() };
    runtime().block_on(async {
        let asking = Asking::new(&cache);
        let all: Vec<_> = (0..1000).map(|_| asking.ask("x", &model)).collect();
        let told = futures_util::future::join_all(all).await;
        assert!(told.iter().all(|(outcome, _)| *outcome == Ok(0)));
        let collapsed =
            told.iter().filter(|(_, story)| matches!(story, Story::Computed { collapsed: true, .. }));
        assert_eq!(collapsed.count(), 999);
    });
    assert_eq!((model.count(), cache.stats()[0].memory.coalesced), (1, 999));
}

#[test]
fn what_failed_for_want_of_time_or_room_is_nobody_elses_answer() {
    for (code, others) in [
        (ErrorCode::ResourceExhausted, None),
        (ErrorCode::DeadlineExceeded, None),
        (ErrorCode::Cancelled, None),
        (ErrorCode::PluginFault, Some(ErrorCode::PluginFault)),
    ] {
        let cache = cache();
        let model = Model { takes: Duration::from_millis(5), fails: Some((1, code)), ..Model::default() };
        runtime().block_on(async {
            let asking = Asking::new(&cache);
            let all = futures_util::future::join_all((0..20).map(|_| asking.ask("x", &model))).await;
            assert_eq!(all[0].0, Err(code), "whoever began it has what came of it");
            let expected = others.map_or(Ok(1), Err);
            assert!(all[1..].iter().all(|(outcome, _)| *outcome == expected), "{code:?}: {all:?}");
            // A failure is never remembered.
            assert!(!is_hit(asking.ask("x", &model).await.1) || others.is_none());
        });
    }
}

#[test]
fn failures_without_end_are_asked_about_a_bounded_number_of_times() {
    let cache = cache();
    let model = Model {
        takes: Duration::from_millis(1),
        fails: Some((usize::MAX, ErrorCode::ResourceExhausted)),
        ..Model::default()
    };
    runtime().block_on(async {
        let asking = Asking::new(&cache);
        let all = futures_util::future::join_all((0..100).map(|_| asking.ask("x", &model))).await;
        assert!(all.iter().all(|(outcome, _)| *outcome == Err(ErrorCode::ResourceExhausted)));
    });
    assert!(model.count() <= 100, "{}", model.count());
}

#[test]
fn whoever_runs_out_of_time_leaves_and_the_others_get_the_answer() {
    let cache = cache();
    let model = Model { takes: Duration::from_millis(200), ..Model::default() };
    runtime().block_on(async {
        let hasty = Asking { patience: Duration::from_millis(20), ..Asking::new(&cache) };
        let patient = Asking::new(&cache);
        let (late, served) = tokio::join!(hasty.ask("x", &model), patient.ask("x", &model));
        assert_eq!((late.0, served.0), (Err(ErrorCode::DeadlineExceeded), Ok(0)));
    });
    assert_eq!(model.count(), 1, "the computation outlived the one who began it");
}

#[test]
fn a_request_says_how_old_an_answer_may_be() {
    let (cache, model) = (cache(), Model::default());
    runtime().block_on(async {
        let with = |field| Asking { field, ..Asking::new(&cache) };
        assert_eq!(with("only-if-cached").ask("x", &model).await, (Err(ErrorCode::NotCached), Story::Absent));
        let bypass = Story::Computed { why: Why::Bypass, collapsed: false, stored: false, model_hit: false };
        assert_eq!(with("no-store").ask("x", &model).await, (Ok(0), bypass));
        assert_eq!(with("").ask("x", &model).await, (Ok(1), MISS));
        assert_eq!(with("no-store").ask("x", &model).await, (Ok(2), bypass));
        assert!(is_hit(with("only-if-cached").ask("x", &model).await.1));
        let anew = Story::Computed { why: Why::Request, collapsed: false, stored: true, model_hit: false };
        assert_eq!(with("no-cache").ask("x", &model).await, (Ok(3), anew));
        assert_eq!(with("no-cache, only-if-cached").ask("x", &model).await.0, Err(ErrorCode::NotCached));
        assert_eq!(with("").ask("x", &model).await.0, Ok(3), "no-cache has left its answer");
        assert_eq!(with("min-fresh=61").ask("x", &model).await, (Ok(4), anew));
        tokio::time::sleep(Duration::from_millis(3)).await;
        assert_eq!(with("max-age=0").ask("x", &model).await, (Ok(5), anew));
        assert!(is_hit(with("max-age=60, min-fresh=1").ask("x", &model).await.1));
    });
}

#[test]
fn an_answer_past_its_time_is_given_while_it_is_computed_anew() {
    let (cache, model) = (cache(), Model::default());
    let policy = CachePolicy { ttl: Some(Duration::from_millis(30)), stale: 60 * SECOND, ..policy() };
    runtime().block_on(async {
        let asking = Asking { policy, ..Asking::new(&cache) };
        assert_eq!(asking.ask("x", &model).await.0, Ok(0));
        tokio::time::sleep(Duration::from_millis(40)).await;
        let (old, story) = asking.ask("x", &model).await;
        assert_eq!((old, story.as_str(), model.count()), (Ok(0), "stale", 1));
        while asking.ask("x", &model).await.0 == Ok(0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
        let strict = Asking { policy, field: "max-age=60", ..Asking::new(&cache) };
        let (new, story) = strict.ask("x", &model).await;
        assert!(
            new.is_ok_and(|number| number >= 1) && !is_hit(story),
            "max-age means fresh: {new:?} {story:?}"
        );
    });
}

#[test]
fn refusals_are_remembered_only_if_they_may_be() {
    let refused =
        Model { fails: Some((usize::MAX, ErrorCode::InvalidArgument)), refuses: true, ..Model::default() };
    let by_limits = Model { refuses: false, ..refused.clone() };
    for (negative, model, computed) in
        [(Duration::ZERO, &refused, 2), (60 * SECOND, &refused, 1), (60 * SECOND, &by_limits, 2)]
    {
        let cache = cache();
        let before = model.count();
        runtime().block_on(async {
            let asking = Asking { policy: CachePolicy { negative, ..policy() }, ..Asking::new(&cache) };
            for _ in 0..2 {
                assert_eq!(asking.ask("x", model).await.0, Err(ErrorCode::InvalidArgument));
            }
        });
        assert_eq!(model.count() - before, computed, "{negative:?}");
    }
}

#[test]
fn callers_share_answers_only_where_they_may() {
    for (scope, computed) in [(CacheScope::Shared, 1), (CacheScope::Caller, 2)] {
        let (cache, model) = (cache(), Model::default());
        runtime().block_on(async {
            let policy = CachePolicy { scope, ..policy() };
            for who in ["a", "b", "a", "b"] {
                let asking = Asking { policy, who, ..Asking::new(&cache) };
                assert!(asking.ask("x", &model).await.0.is_ok());
            }
        });
        assert_eq!(model.count(), computed);
    }
}

#[test]
fn who_shows_nothing_is_nobody_in_particular() {
    let (cache, model) = (cache(), Model::default());
    runtime().block_on(async {
        let own = CachePolicy { scope: CacheScope::Caller, ..policy() };
        let asking = |policy, who, field| Asking { policy, who, field, ..Asking::new(&cache) };
        let anonymous =
            Story::Computed { why: Why::Anonymous, collapsed: false, stored: false, model_hit: false };
        assert_eq!(anonymous.status(), "nuke; fwd=bypass; detail=anonymous");
        assert_eq!(asking(own, "", "").ask("x", &model).await, (Ok(0), anonymous));
        assert_eq!(asking(own, "", "max-stale").ask("x", &model).await, (Ok(1), anonymous));
        assert_eq!(asking(own, "", "only-if-cached").ask("x", &model).await.0, Err(ErrorCode::NotCached));
        assert_eq!(asking(own, "a", "").ask("x", &model).await, (Ok(2), MISS));
        assert_eq!(asking(own, "", "").ask("x", &model).await, (Ok(3), anonymous));
        assert_eq!(asking(policy(), "", "").ask("x", &model).await, (Ok(4), MISS));
        assert!(is_hit(asking(policy(), "", "").ask("x", &model).await.1));
    });
}

#[test]
fn what_is_on_its_way_to_redis_is_bounded_by_its_bytes() {
    let cache = cache();
    let half = crate::cache::MOST_ON_THE_WAY / 2;
    let (first, second) = (cache.on_the_way(half).unwrap(), cache.on_the_way(half).unwrap());
    assert!(cache.on_the_way(1).is_none() && cache.on_the_way(usize::MAX / 4).is_none());
    drop(first);
    assert!(cache.on_the_way(half + 1).is_none());
    let third = cache.on_the_way(half).unwrap();
    drop((second, third));
    let alone = cache.on_the_way(half * 3).unwrap();
    assert!(cache.on_the_way(1).is_none(), "one that is larger than all goes alone");
    drop(alone);
    assert!((0..10_000).all(|_| cache.on_the_way(half).is_some()));
}

#[test]
fn a_purge_holds_for_what_is_being_computed() {
    let cache = cache();
    let model = Model { takes: Duration::from_millis(50), ..Model::default() };
    runtime().block_on(async {
        let asking = Asking::new(&cache);
        assert_eq!(asking.ask("old", &model).await.0, Ok(0));
        let purge = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            cache.purge(Some("m"))
        };
        let ((in_flight, story), (dropped, told)) = tokio::join!(asking.ask("x", &model), purge);
        assert_eq!((in_flight, dropped, told.0.as_str()), (Ok(1), 1, "m"));
        assert!(matches!(story, Story::Computed { stored: false, .. }), "{story:?}");
        assert_eq!(asking.ask("x", &model).await, (Ok(2), MISS));
        assert_eq!(asking.ask("old", &model).await, (Ok(3), MISS));
        assert_eq!(cache.purge(None).0, 2);
    });
    assert_eq!(cache.stats()[0].entries, 0);
}

#[test]
fn memory_is_bounded_and_so_is_each_answer() {
    let cache = cache();
    let model = Model { size: 10_000, ..Model::default() };
    runtime().block_on(async {
        let asking = Asking::new(&cache);
        for number in 0..500 {
            assert!(asking.ask(&number.to_string(), &model).await.0.is_ok());
        }
        let bytes = cache.stats()[0].bytes;
        assert!((500_000..=1 << 20).contains(&bytes), "{bytes}");
        let policy = CachePolicy { max_entry: ByteSize::kib(5), ..policy() };
        let small = Asking { policy, ..Asking::new(&cache) };
        for _ in 0..2 {
            let (_, story) = small.ask("large", &model).await;
            assert!(matches!(story, Story::Computed { stored: false, .. }), "{story:?}");
        }
    });
}

#[test]
fn an_answer_is_as_old_as_its_oldest_part() {
    let cache = cache();
    let long_ago = crate::cache::entry::now_ms() - 50_000;
    let model = Model { oldest_ms: Some(long_ago), ..Model::default() };
    runtime().block_on(async {
        let asking = Asking::new(&cache);
        let (_, story) = asking.ask("x", &model).await;
        assert!(matches!(story, Story::Computed { model_hit: true, stored: true, .. }), "{story:?}");
        let (_, story) = asking.ask("x", &model).await;
        assert!(story.age().unwrap() >= 50 * SECOND, "{story:?}");
        let older = Model { oldest_ms: Some(long_ago - 20_000), ..Model::default() };
        let (_, story) = asking.ask("y", &older).await;
        assert!(
            matches!(story, Story::Computed { stored: false, .. }),
            "its time is over already: {story:?}"
        );
    });
}

#[test]
fn what_is_told_is_of_rfc_9211() {
    let hit = Story::Hit { level: CacheLevel::Memory, age: 12 * SECOND, ttl: 60 * SECOND };
    assert_eq!(hit.status(), "nuke; hit; ttl=48; detail=memory");
    assert_eq!((hit.as_str(), hit.is_hit(), hit.age()), ("hit", true, Some(12 * SECOND)));
    let stale = Story::Hit { level: CacheLevel::Redis, age: 70 * SECOND, ttl: 60 * SECOND };
    assert_eq!((stale.status().as_str(), stale.as_str()), ("nuke; hit; ttl=-10; detail=redis", "stale"));
    assert_eq!((MISS.status().as_str(), MISS.is_hit(), MISS.age()), ("nuke; fwd=miss; stored", false, None));
    let joined = Story::Computed { why: Why::Stale, collapsed: true, stored: false, model_hit: true };
    assert_eq!(joined.status(), "nuke; fwd=stale; collapsed; detail=model-hit");
    assert_eq!(Story::Absent.status(), "nuke; detail=only-if-cached");
    // What is past its time says so from its first moment on.
    let just_over = Story::Hit { level: CacheLevel::Memory, age: 60_500 * MILLI, ttl: 60 * SECOND };
    assert_eq!(
        (just_over.status().as_str(), just_over.as_str()),
        ("nuke; hit; ttl=-1; detail=memory", "stale")
    );
    let nearly = Story::Hit { level: CacheLevel::Memory, age: 59_500 * MILLI, ttl: 60 * SECOND };
    assert_eq!((nearly.status().as_str(), nearly.as_str()), ("nuke; hit; ttl=0; detail=memory", "hit"));
}
