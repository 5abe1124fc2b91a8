//! Many who ask the same at the same time.

use std::sync::Barrier;
use std::thread;

use nuke_tests::{Repository, eventually, slow_request, worker_is_busy};

use super::{count, host, is_hit, runs, statistics, told};

const SLOW: &str = "/v2/models/slow/infer";
/// More connections than a small machine has threads for would only wait for each other.
const CLIENTS: usize = 50;
const EACH: usize = 20;
/// Milliseconds of work in which others come, however slowly this machine brings them.
const LONG: u32 = 4500;

fn slow() -> Repository {
    let settings = "{workers: {max: 1}, queue: {timeout: 10m}, cache: {ttl: 1h}}\n";
    Repository::new().model("slow", "1", "slow").model_yaml(settings)
}

#[test]
fn a_thousand_equal_requests_are_one_run() {
    let host = host(slow());
    let barrier = Barrier::new(CLIENTS);
    let collapsed: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let client = host.client();
                    barrier.wait();
                    let answers = (0..EACH).map(|_| client.post_json(SLOW, &slow_request(300)).expect(200));
                    answers.filter(|answer| told(answer).contains("collapsed")).count()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let now = statistics(&host, "slow");
    assert_eq!((runs(&host, "slow"), now["inference_count"].as_u64()), (1, Some(1)));
    assert_eq!((count(&now, "success"), count(&now, "cache_miss"), count(&now, "cache_hit")), (1000, 1, 999));
    assert!(collapsed >= 1, "some waited for the first one's run");
    assert_eq!(
        host.metrics().sum("nuke_cache_requests_total", &[("outcome", "coalesced")]),
        collapsed as f64
    );
    assert_eq!(host.metrics().sum("nuke_cache_flights", &[]), 0.0);
}

#[test]
fn whoever_began_a_run_may_leave_and_the_others_get_their_answer() {
    let host = host(slow());
    let mut leader = host.connect();
    leader.send_post(SLOW, slow_request(LONG).to_string().as_bytes());
    worker_is_busy(&host);
    thread::scope(|scope| {
        let followers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| host.client().post_json(SLOW, &slow_request(LONG)).expect(200)))
            .collect();
        eventually("all are there", || host.metrics().sum("nuke_requests_in_flight", &[]) == 4.0);
        drop(leader);
        eventually("it has left", || host.metrics().sum("nuke_requests_in_flight", &[]) == 3.0);
        for follower in followers {
            let answer = follower.join().unwrap();
            assert_eq!(told(&answer), "nuke; fwd=miss; collapsed");
        }
    });
    assert_eq!((runs(&host, "slow"), host.metrics().sum("nuke_runs_stopped_total", &[])), (1, 0.0));
    assert!(is_hit(&host.post_json(SLOW, &slow_request(LONG)).expect(200)));
}

#[test]
fn a_run_that_nobody_waits_for_is_ended() {
    let host = host(slow());
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = host.connect();
            client.send_post(SLOW, slow_request(3_600_000).to_string().as_bytes());
            client
        })
        .collect();
    worker_is_busy(&host);
    eventually("all are there", || host.metrics().sum("nuke_requests_in_flight", &[]) == 3.0);
    drop(clients);
    eventually("the run is ended", || host.metrics().sum("nuke_runs_stopped_total", &[]) == 1.0);
    eventually("nothing is under way", || host.metrics().sum("nuke_cache_flights", &[]) == 0.0);
    host.post_json(SLOW, &slow_request(1)).expect(200);
}

#[test]
fn whoever_has_no_more_time_leaves_the_others_theirs() {
    let host = host(slow());
    thread::scope(|scope| {
        let hasty = scope.spawn(|| {
            let mut request = slow_request(LONG);
            // A third of it, which is time enough for the other one to come.
            request["parameters"] = serde_json::json!({"timeout": 1_500_000});
            host.client().post_json(SLOW, &request)
        });
        worker_is_busy(&host);
        let patient = host.client().post_json(SLOW, &slow_request(LONG)).expect(200);
        assert_eq!(told(&patient), "nuke; fwd=miss; collapsed");
        let late = hasty.join().unwrap().expect(504);
        assert_eq!(late.json()["code"], "deadline_exceeded");
    });
    assert_eq!(runs(&host, "slow"), 1);
}
