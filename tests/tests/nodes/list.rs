//! `nuke nodes` and `GET /admin/nodes`: who is there, and what each serves.

use std::time::Instant;

use nuke_tests::{Cluster, Repository, Server, Signal, eventually, nuke};
use serde_json::Value;

use crate::{Pair, follows, node, two_tinies};

fn nodes(server: &Server) -> Value {
    server.get("/admin/nodes").expect(200).json()
}

fn names(server: &Server) -> Vec<String> {
    let nodes = nodes(server);
    let nodes = nodes["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_node_lists_all_of_them_with_what_they_serve() {
    let pair = Pair::start("");
    for server in [&pair.a, &pair.b] {
        let mut listed = Value::Null;
        eventually("both are listed, and ready", || {
            listed = nodes(server);
            let nodes = listed["nodes"].as_array().unwrap();
            nodes.len() == 2 && nodes.iter().all(|node| node["state"] == "ready")
        });
        assert_eq!(names(server), ["a", "b"]);
        assert_eq!(listed["redis"], "reached");
        let digests = |at: usize| {
            let versions = listed["nodes"][at]["models"][0]["versions"].as_array().unwrap().clone();
            versions.iter().map(|version| version["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(digests(0).len(), 2);
        assert_eq!(digests(0), digests(1), "the same content is the same on both: {listed}");
        let own = listed["nodes"].as_array().unwrap().iter().find(|node| node["own"] == true).unwrap();
        assert_eq!(own["addresses"]["http"], server.address().to_string());
    }
    let shown = nuke().args(["nodes", "--url", &pair.a.url()]).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success() && text.contains("tiny:1,2") && text.contains("ready"), "{text}");
    let raw = nuke().args(["nodes", "--json", "--url", &pair.b.url()]).output().unwrap();
    let raw: Value = serde_json::from_slice(&raw.stdout).unwrap();
    assert_eq!(raw["nodes"].as_array().unwrap().len(), 2);
    let metrics = pair.a.metrics();
    assert_eq!(metrics.sum("nuke_nodes", &[]), 2.0);
    let age = metrics.sum("nuke_shared_state_sync_age_seconds", &[]);
    assert!((0.0..60.0).contains(&age), "{age}");
}

#[test]
fn a_node_that_is_killed_is_missed_and_one_that_stops_says_so() {
    let Pair { a, b, redis, repositories } = Pair::start("");
    let c = node(&repositories[0], &redis, "c").start();
    eventually("all three are listed", || names(&a).len() == 3);
    b.signal(Signal::KILL);
    let killed = Instant::now();
    follows("the killed one is missed", killed, || names(&a) == ["a", "c"]);
    let stopped = Instant::now();
    assert_eq!(c.terminate().status.code(), Some(0));
    assert_eq!(redis.ask(&["ZCARD", "nuke:nodes:{nodes}"]), ":2", "the stopped one took itself off the list");
    follows("the stopped one is gone", stopped, || names(&a) == ["a"]);
    eventually("the log says so", || {
        a.logs().iter().filter(|line| line.contains("a node has gone")).count() == 2
    });
}

#[test]
fn without_redis_a_node_lists_itself() {
    let repository = two_tinies("");
    let server = Server::builder().repository(&repository).set("node.name", "only").start();
    let listed = nodes(&server);
    assert_eq!((&listed["redis"], listed["nodes"].as_array().unwrap().len()), (&"none".into(), 1));
    let shown = nuke().args(["nodes", "--url", &server.url()]).output().unwrap();
    assert!(String::from_utf8(shown.stdout).unwrap().contains("only"));
    assert_eq!(crate::traffic(&server, "tiny")["shared"], Value::Null);
}

#[test]
fn what_is_written_in_the_place_of_nodes_is_passed_over() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start("");
    eventually("both are listed", || names(&a).len() == 2);
    for (id, text) in [("x", "{"), ("y", "[]"), ("z", r#"{"id": "z", "name": 7}"#)] {
        redis.ask(&["ZADD", "nuke:nodes:{nodes}", "99999999999999", id]);
        redis.ask(&["SET", &format!("nuke:node:{{nodes}}:{id}"), text]);
    }
    let seen = || nodes(&a)["seen"].as_str().unwrap().to_owned();
    let before = seen();
    eventually("it looks again", || seen() > before);
    assert_eq!(names(&a), ["a", "b"]);
    drop(b);
    // The list itself is something else.
    redis.ask(&["DEL", "nuke:nodes:{nodes}"]);
    redis.ask(&["SET", "nuke:nodes:{nodes}", "x"]);
    eventually("it cannot be seen", || nodes(&a)["redis"] == "away");
    assert!(crate::serves(&a, "2"), "and nobody minds");
    redis.ask(&["DEL", "nuke:nodes:{nodes}"]);
    eventually("it can again", || nodes(&a)["redis"] == "reached");
}

#[test]
fn what_no_node_has_said_keeps_nobody_from_being_seen() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start("");
    eventually("both are listed", || names(&a) == ["a", "b"]);
    let scribble = "
        redis.call('ZADD', KEYS[1], 99999999999999, '\\255\\254', 99999999999999, 'huge')
        redis.call('SET', 'nuke:node:{nodes}:huge', string.rep(string.rep('x', 1000), 20000))
        local own = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
        redis.call('ZADD', KEYS[1], redis.call('ZSCORE', KEYS[1], own), 'copy')
        redis.call('SET', 'nuke:node:{nodes}:copy', redis.call('GET', 'nuke:node:{nodes}:' .. own))";
    redis.ask(&["EVAL", scribble, "1", "nuke:nodes:{nodes}"]);
    let seen = |server: &Server| nodes(server)["seen"].as_str().unwrap().to_owned();
    let before = seen(&a);
    eventually("it looks on", || seen(&a) > before);
    for server in [&a, &b] {
        assert_eq!(
            (names(server), &nodes(server)["redis"]),
            (vec!["a".to_owned(), "b".to_owned()], &"reached".into())
        );
    }
}

#[test]
fn the_list_is_for_operators() {
    let repository = Repository::new().model("tiny", "1", "tiny");
    let server = Server::builder().repository(&repository).set("server.admin", "127.0.0.1:0").start();
    server.get("/admin/nodes").expect(403);
}

#[test]
fn a_cluster_does_as_well_as_one_server() {
    let cluster = Cluster::start(&[]);
    let nodes = format!("[{}]", cluster.addresses());
    let rollout = "traffic: {strategy: rollout, stable: '1', canary: '2', steps: [1%, 100%], hold: 1h}\n";
    let repositories = [two_tinies(rollout), two_tinies(rollout)];
    let [a, b] = ["a", "b"].map(|name| {
        let builder = Server::builder().repository(&repositories[usize::from(name == "b")]);
        let builder = builder.set("cache.redis.cluster", &nodes).set("cache.redis.timeout", "500ms");
        builder.set("node.name", name).set("node.heartbeat", "200ms").start()
    });
    eventually("both are listed", || names(&a) == ["a", "b"] && names(&b) == ["a", "b"]);
    let phase = |server: &Server| crate::traffic(server, "tiny")["status"]["rollout"]["phase"].clone();
    let moves = |server: &Server| server.logs().iter().any(|line| line.contains("moves the rollout"));
    eventually("one of them moves the rollout", || moves(&a) || moves(&b));
    a.post("/admin/models/tiny/rollout/promote", "", "").expect(200);
    follows("the other node follows", Instant::now(), || phase(&b) == "promoted");
    assert!(crate::serves(&b, "2"));
}
