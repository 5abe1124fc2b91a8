//! Mirrors: compared, counted, bounded, and never seen by clients.

use nuke_tests::{Repository, components, eventually};

use crate::{INFER, ask, host, two_tinies, version};

fn outcomes(server: &nuke_tests::Server, outcome: &str) -> f64 {
    server.metrics().sum("nuke_shadow_requests_total", &[("outcome", outcome)])
}

#[test]
fn a_mirror_is_asked_the_same_and_its_answer_compared() {
    let server = host(two_tinies(
        "traffic: {strategy: shadow, primary: '1', mirror: '2', share: 100%, budget: 100%}\n",
    ));
    let client = server.client();
    eventually("some were mirrored", || {
        assert_eq!(version(ask(&client, INFER, 7, &[])), "1");
        outcomes(&server, "same") >= 10.0
    });
    assert_eq!(outcomes(&server, "different") + outcomes(&server, "failed"), 0.0);
    let requests = [("model", "tiny"), ("version", "2")];
    assert_eq!(server.metrics().sum("nuke_requests_total", &requests), 0.0, "no client asked for version 2");
}

#[test]
fn a_mirror_that_fails_or_differs_is_counted_and_no_client_sees_it() {
    let repository = Repository::new()
        .model("digits", "1", "digits")
        .plugin(components::build("good"))
        .model("digits", "2", "digits")
        .plugin(components::build("trap"))
        .model_yaml(
            "versions: {latest: 2}\ntraffic: {strategy: shadow, primary: '1', mirror: '2', budget: 100%}\n",
        );
    let server = host(repository);
    eventually("failures are counted", || {
        server.post("/predict/digits", "text/plain", "x").expect(200);
        outcomes(&server, "failed") >= 5.0
    });
}

#[test]
fn a_slow_mirror_is_left_out_rather_than_waited_for() {
    let repository = Repository::new()
        .model("digits", "1", "digits")
        .plugin(components::build("good"))
        .model("digits", "2", "digits")
        .plugin(components::build("slow"))
        .model_yaml(
            "versions: {latest: 2}\n\
             traffic: {strategy: shadow, primary: '1', mirror: '2', budget: 1%, max_in_flight: 1}\n",
        );
    let server = host(repository);
    for _ in 0..500 {
        server.post("/predict/digits", "text/plain", "x").expect(200);
    }
    eventually("what was started ends", || outcomes(&server, "same") >= 1.0);
    let metrics = server.metrics();
    assert!(metrics.sum("nuke_shadow_requests_total", &[("outcome", "skipped")]) > 400.0);
}
