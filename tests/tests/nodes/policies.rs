//! Traffic that an operator sets on one node counts on all of them.

use std::time::Instant;

use nuke_tests::{Server, eventually};

use crate::{Pair, began_without_redis, follows, node, put_traffic, serves, traffic, two_tinies};

const PIN_1: &str = "{strategy: pinned, version: '1'}";
const PIN_2: &str = "{strategy: pinned, version: '2'}";

#[test]
fn what_is_set_on_one_node_is_in_effect_on_the_other() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start("");
    assert!(serves(&a, "2") && serves(&b, "2"));
    for turn in 0..5 {
        let (pin, expected) = if turn % 2 == 0 { (PIN_1, "1") } else { (PIN_2, "2") };
        let (one, other) = if turn % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let answer = put_traffic(one, pin).expect(200).json();
        assert_eq!(answer["shared"]["everywhere"], true, "{answer}");
        let since = Instant::now();
        follows("the other node follows", since, || serves(other, expected));
        assert!(serves(one, expected));
    }
    assert_eq!(traffic(&b, "tiny")["source"], "admin");
    a.client().request("DELETE", "/admin/models/tiny/traffic").send().expect(200);
    follows("the other gives it back, too", Instant::now(), || traffic(&b, "tiny")["source"] == "model.yaml");
    eventually("both know the same revision", || {
        traffic(&a, "tiny")["shared"]["revision"] == traffic(&b, "tiny")["shared"]["revision"]
    });
    drop(redis);
}

#[test]
fn a_change_whose_message_was_lost_is_found() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start("");
    put_traffic(&a, PIN_1).expect(200);
    eventually("both serve it", || serves(&a, "1") && serves(&b, "1"));
    // The same change as a node would make it, and nobody is told.
    let record = redis.ask(&["HGET", "nuke:traffic:records", "tiny"]);
    let (revision, rest) = record.split_once(' ').unwrap();
    let changed = rest.replace("version: '1'", "version: '2'").replace("\"count\":1", "\"count\":9");
    assert_ne!(changed, rest, "{record}");
    let changed = format!("{} {changed}", revision.parse::<u64>().unwrap() + 1);
    redis.ask(&["HSET", "nuke:traffic:records", "tiny", &changed]);
    let since = Instant::now();
    follows("both look for themselves", since, || serves(&a, "2") && serves(&b, "2"));
}

#[test]
fn many_operators_at_once_on_two_nodes_leave_one_decision() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start("");
    std::thread::scope(|scope| {
        for operator in 0..4 {
            let server: &Server = if operator % 2 == 0 { &a } else { &b };
            scope.spawn(move || {
                for turn in 0..10 {
                    let pin = if (operator + turn) % 2 == 0 { PIN_1 } else { PIN_2 };
                    put_traffic(server, pin).expect(200);
                }
            });
        }
    });
    eventually("both are at rest in one place", || {
        let (a, b) = (traffic(&a, "tiny"), traffic(&b, "tiny"));
        a["set"] == b["set"] && a["shared"] == b["shared"] && a["shared"]["everywhere"] == true
    });
    let set = traffic(&a, "tiny")["set"].as_str().unwrap().to_owned();
    let pinned = if set == PIN_1 { "1" } else { "2" };
    eventually("and serve it", || serves(&a, pinned) && serves(&b, pinned));
    let record = redis.ask(&["HGET", "nuke:traffic:records", "tiny"]);
    assert!(record.contains("\"count\":40"), "each of the forty counts once: {record}");
}

#[test]
fn a_node_that_comes_later_takes_over_what_was_decided_whatever_it_thought_itself() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start("");
    put_traffic(&a, PIN_1).expect(200);
    eventually("it takes it over from its first answer on", || {
        // Its operator had decided otherwise, before it had a Redis.
        let repository = two_tinies("");
        let alone = Server::builder().repository(&repository).start();
        put_traffic(&alone, PIN_2).expect(200);
        drop(alone);
        let c = node(&repository, &redis, "c").start();
        let serves = serves(&c, "1");
        assert!(serves || began_without_redis(&c));
        eventually("the log says so", || {
            c.logs().iter().any(|line| line.contains("traffic was set on another node"))
        });
        serves
    });
    assert!(serves(&a, "1") && serves(&b, "1"));
}

#[test]
fn a_nodes_own_decision_from_before_counts_where_nobody_else_has_any() {
    let repository = two_tinies("");
    let alone = Server::builder().repository(&repository).start();
    put_traffic(&alone, PIN_1).expect(200);
    drop(alone);
    let redis = nuke_tests::Redis::start();
    let a = node(&repository, &redis, "a").start();
    let others = two_tinies("");
    let b = node(&others, &redis, "b").start();
    eventually("the other node has it, too", || serves(&b, "1"));
    assert!(serves(&a, "1"));
}
