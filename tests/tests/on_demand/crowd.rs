//! Many at once: one load for all who wait, and nobody is lost between an unload and a load.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use nuke_tests::{Repository, eventually, marks};

use crate::large::{large, number, question};
use crate::{LAZY, ask, builder, factor, lazy, loads, status};

#[test]
fn a_thousand_requests_for_a_cold_model_are_one_load() {
    let repository = lazy(Repository::new(), "cold", 7.0);
    let server = builder(&repository).start();
    let body = marks::infer_body();
    let mut connections: Vec<_> = (0..1000).map(|_| server.connect()).collect();
    connections.iter_mut().for_each(|connection| connection.send_post("/v2/models/cold/infer", &body));
    for connection in &mut connections {
        assert_eq!(factor(&connection.read_answer().unwrap()), 7.0);
    }
    assert_eq!(loads(&server, "cold", "ok"), 1.0);
    assert_eq!(server.metrics().sum("nuke_requests_total", &[("model", "cold"), ("outcome", "ok")]), 1000.0);
}

#[test]
fn no_more_wait_than_the_queue_has_places_and_the_rest_is_told_at_once() {
    let repository =
        lazy(Repository::new(), "cold", 7.0).model_yaml("load: lazy\nqueue: {size: 3, timeout: 60s}\n");
    let repository =
        repository.empty_version("large", "1").file("model.onnx", large(1)).model_yaml("load: lazy\n");
    let server = builder(&repository).start();
    let body = marks::infer_body();
    let mut connections: Vec<_> = (0..40).map(|_| server.connect()).collect();
    connections.iter_mut().for_each(|connection| connection.send_post("/v2/models/cold/infer", &body));
    let answers: Vec<_> =
        connections.iter_mut().map(|connection| connection.read_answer().unwrap()).collect();
    let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(good.len() >= 3, "{}", good.len());
    for answer in bad {
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{}", answer.text());
    }
    assert_eq!(loads(&server, "cold", "ok"), 1.0);
}

#[test]
fn requests_that_meet_an_unload_are_answered() {
    let repository = lazy(Repository::new(), "restless", 9.0).model_yaml(&format!("{LAZY}idle: 100ms\n"));
    let server = builder(&repository).start();
    let (clients, start) = (8, Barrier::new(8));
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                for round in 0..40 {
                    start.wait();
                    assert_eq!(factor(&ask(&server, "restless")), 9.0);
                    // About as long as it may lie idle, each time a little differently.
                    thread::sleep(Duration::from_millis(95 + round % 10));
                }
            });
        }
    });
    eventually("it goes when all have gone", || status(&server, "restless") == "standby");
    assert_eq!(loads(&server, "restless", "failed"), 0.0);
    let rests = server.metrics().sum("nuke_model_rests_total", &[("model", "restless")]);
    assert_eq!(loads(&server, "restless", "ok"), rests, "each load was followed by one unload");
}

#[test]
fn who_waits_while_the_host_stops_is_answered() {
    let repository = Repository::new().empty_version("large", "1").file("model.onnx", large(4));
    let repository = repository.model_yaml("load: lazy\n");
    let server = builder(&repository).start();
    let mut connection = server.connect();
    connection.send_post("/v2/models/large/infer", &question());
    eventually("the load has begun", || status(&server, "large") != "standby" || loading(&server));
    let exited = server.terminate();
    assert!(exited.status.success(), "{exited}");
    assert_eq!(number(&connection.read_answer().unwrap()), Some(4.0));
}

fn loading(server: &nuke_tests::Server) -> bool {
    server.get("/admin/models/large").expect(200).json()["versions"][0]["waiting"].as_u64() > Some(0)
}
