//! Redis stopped, killed, emptied, and scribbled on: each node serves its last known state, and they come together
//! again.

use std::time::Instant;

use nuke_tests::{Redis, Server, Signal, eventually};

use crate::{HASTY, Pair, began_without_redis, follows, node, put_traffic, serves, traffic, two_tinies};

const PIN_1: &str = "{strategy: pinned, version: '1'}";
const PIN_2: &str = "{strategy: pinned, version: '2'}";

fn agree(a: &Server, b: &Server) -> bool {
    let (a, b) = (traffic(a, "tiny"), traffic(b, "tiny"));
    a["set"] == b["set"] && a["shared"] == b["shared"] && a["shared"]["everywhere"] == true
}

#[test]
fn while_redis_hangs_each_node_serves_on_and_a_command_is_brought_when_it_is_back() {
    let Pair { a, b, redis, repositories: _folders } = Pair::of("", HASTY);
    put_traffic(&a, PIN_1).expect(200);
    eventually("both serve it", || serves(&a, "1") && serves(&b, "1"));
    let listed = || a.get("/admin/nodes").expect(200).json()["nodes"].as_array().unwrap().len();
    eventually("both are listed", || listed() == 2);
    redis.signal(Signal::STOP);
    let alone = put_traffic(&b, PIN_2).expect(200).json();
    assert_eq!(alone["shared"]["everywhere"], false, "{alone}");
    assert!(serves(&b, "2") && serves(&a, "1"), "one knows, the other serves its last known state");
    assert_eq!(listed(), 2, "whom it has seen last");
    eventually("the metrics say so", || {
        b.metrics().sum("nuke_shared_state_unshared", &[("model", "tiny")]) == 1.0
    });
    redis.signal(Signal::CONT);
    follows("the other node hears of it", Instant::now(), || serves(&a, "2"));
    eventually("they agree", || agree(&a, &b));
}

#[test]
fn of_two_decisions_made_apart_all_take_the_same_one() {
    let Pair { a, b, redis, repositories: _folders } = Pair::of("", HASTY);
    put_traffic(&a, PIN_1).expect(200);
    eventually("both serve it", || serves(&a, "1") && serves(&b, "1"));
    redis.signal(Signal::STOP);
    put_traffic(&a, PIN_2).expect(200);
    put_traffic(&b, PIN_2).expect(200);
    put_traffic(&b, "{strategy: split, weights: {'1': 1, '2': 1}}").expect(200);
    redis.signal(Signal::CONT);
    eventually("they agree", || agree(&a, &b));
    let strategy = |server: &Server| traffic(server, "tiny")["status"]["strategy"].clone();
    eventually("more was decided there, and later", || strategy(&a) == "split" && strategy(&b) == "split");
}

#[test]
fn a_node_that_starts_without_redis_begins_with_its_last_known_state() {
    let Pair { a, b, mut redis, repositories } = Pair::start("");
    put_traffic(&a, PIN_1).expect(200);
    eventually("both serve it", || serves(&a, "1") && serves(&b, "1"));
    eventually("and keep it", || traffic(&b, "tiny")["source"] == "admin");
    assert_eq!(b.terminate().status.code(), Some(0));
    redis.kill();
    let b = node(&repositories[1], &redis, "b").start();
    assert!(serves(&b, "1"), "though it was set on another node");
    put_traffic(&a, PIN_2).expect(200);
    redis.start_again();
    follows("with an empty Redis they come together again", Instant::now(), || serves(&b, "2"));
    eventually("they agree", || agree(&a, &b));
}

#[test]
fn what_redis_has_lost_the_nodes_put_back() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start("");
    put_traffic(&a, PIN_1).expect(200);
    put_traffic(&a, PIN_2).expect(200);
    put_traffic(&a, PIN_1).expect(200);
    eventually("both serve it", || serves(&b, "1") && agree(&a, &b));
    let before = traffic(&a, "tiny")["shared"]["revision"].as_u64().unwrap();
    redis.ask(&["FLUSHALL"]);
    eventually("it is there again", || {
        redis.ask(&["HGET", "nuke:traffic:records", "tiny"]).contains("pinned")
    });
    eventually("they agree", || agree(&a, &b));
    assert!(traffic(&a, "tiny")["shared"]["revision"].as_u64().unwrap() > before, "no revision comes twice");
    // Each has a folder of its own, that knows nothing.
    eventually("whoever comes finds it, at its start", || {
        let repository = two_tinies("");
        let c = node(&repository, &redis, "c").start();
        let serves = serves(&c, "1");
        assert!(serves || began_without_redis(&c));
        serves
    });
}

#[test]
fn what_is_no_record_is_told_and_overwritten_by_the_next_change() {
    let Pair { a, b, redis, repositories } = Pair::start("");
    for text in
        ["", "x", "7 x {", "99999999999999999999 x {}", "1 x {\"format\": 1, \"policy\": []}", "\u{1}\u{2}"]
    {
        redis.ask(&["HSET", "nuke:traffic:records", "tiny", text]);
    }
    eventually("it is told", || a.logs().iter().any(|line| line.contains("what nodes share cannot be read")));
    assert!(serves(&a, "2") && serves(&b, "2"));
    put_traffic(&a, PIN_1).expect(200);
    eventually("the next change is heard", || serves(&b, "1") && agree(&a, &b));
    // Nor does a name lead out of the folder that records are kept in.
    let record = redis.ask(&["HGET", "nuke:traffic:records", "tiny"]);
    redis.ask(&["HSET", "nuke:traffic:records", "../outside", &record]);
    // A record whose text is whole, and whose policy is none.
    let record = redis.ask(&["HGET", "nuke:traffic:records", "tiny"]);
    let wrong = record.replace("version: '1'", "versoin: '1'").replace("\"count\":1", "\"count\":7");
    assert_ne!(wrong, record);
    redis.ask(&["HSET", "nuke:traffic:records", "tiny", &format!("9{wrong}")]);
    eventually("it does not count", || a.logs().iter().any(|line| line.contains("does not count")));
    assert!(serves(&a, "2") && serves(&b, "2"), "model.yaml does");
    put_traffic(&b, PIN_1).expect(200);
    eventually("and the next change does", || serves(&a, "1") && agree(&a, &b));
    for repository in &repositories {
        let models = repository.models();
        let outside =
            std::fs::read_dir(&models).unwrap().chain(std::fs::read_dir(models.join(".nuke")).unwrap());
        let names: Vec<_> = outside.map(|entry| entry.unwrap().file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().contains("outside")), "{names:?}");
    }
}

#[test]
fn what_is_no_text_stands_in_the_way_of_no_change() {
    let Pair { a, b, redis, repositories: _folders } = Pair::start("");
    let scribble =
        "redis.call('HSET', KEYS[1], 'tiny', '\\255\\254', 'huge', string.rep(string.rep('x', 1000), 3000))";
    redis.ask(&["EVAL", scribble, "1", "nuke:traffic:records"]);
    eventually("it is told", || a.logs().iter().any(|line| line.contains("what nodes share cannot be read")));
    let answer = put_traffic(&a, PIN_1).expect(200).json();
    assert_eq!(answer["shared"]["everywhere"], true, "{answer}");
    eventually("the other node hears of it", || serves(&b, "1") && agree(&a, &b));
    drop(redis);
}

#[test]
fn a_policy_that_no_node_could_read_is_refused() {
    let Pair { a, b, redis: _redis, repositories: _folders } = Pair::start("");
    let long = format!("{PIN_1} #{}", "x".repeat(100_000));
    put_traffic(&a, &long).expect(413);
    assert!(serves(&a, "2") && serves(&b, "2"));
}

#[test]
fn what_was_decided_about_a_model_is_forgotten_a_month_after_the_last_node_had_it() {
    let redis = Redis::start();
    let record = |used: &str| {
        let policy = "{\"stamp\":{\"count\":1,\"at\":1,\"node\":\"x\"},\"value\":\"{strategy: pinned, version: '1'}\"}";
        format!("3 x {{\"format\":1,\"policy\":{policy},\"moves\":{{}}{used}}}")
    };
    let records = "nuke:traffic:records";
    let (old, new) = (record(",\"used\":20000"), record(",\"used\":4000000"));
    redis.ask(&["HSET", records, "gone", &old, "elsewhere", &new, "unknown", &record(""), "tiny", &old]);
    let repositories = [two_tinies(""), two_tinies("")];
    let [a, b] = ["a", "b"].map(|name| node(&repositories[usize::from(name == "b")], &redis, name).start());
    eventually("it is forgotten", || redis.ask(&["HEXISTS", records, "gone"]) == ":0");
    eventually("that of a model that is here is kept", || {
        !redis.ask(&["HGET", records, "tiny"]).contains("\"used\":20000}")
    });
    assert!(serves(&a, "1") && serves(&b, "1"), "it counts");
    assert_eq!(redis.ask(&["HGET", records, "elsewhere"]), new, "another node had it not long ago");
    eventually("where nobody knows, the month begins now", || {
        redis.ask(&["HGET", records, "unknown"]).contains("\"used\":2")
    });
    let left = || {
        let folders = repositories.iter().map(|repository| repository.models().join(".nuke"));
        let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("gone")).count()
    };
    eventually("nothing of it is left on any disk", || left() == 0);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(redis.ask(&["HEXISTS", records, "gone"]), ":0", "and nobody brings it back");
    // Whoever has a model brings what was decided about it, however long ago that was.
    redis.ask(&["FLUSHALL"]);
    eventually("it is there again", || redis.ask(&["HGET", records, "tiny"]).contains("pinned"));
}

#[test]
fn a_later_hosts_record_is_left_as_it_is() {
    let redis = Redis::start();
    let newer = "5 x {\"format\": 99, \"policy\": {\"later\": true}}";
    redis.ask(&["HSET", "nuke:traffic:records", "tiny", newer]);
    let repository = two_tinies("");
    let a = node(&repository, &redis, "a").start();
    let answer = put_traffic(&a, PIN_1).expect(200).json();
    assert_eq!(answer["shared"]["everywhere"], false);
    assert!(serves(&a, "1"), "it counts here");
    assert_eq!(redis.ask(&["HGET", "nuke:traffic:records", "tiny"]), newer);
    eventually("it is told", || a.logs().iter().any(|line| line.contains("update this host")));
}

#[test]
fn a_key_of_another_kind_stands_in_the_way_of_nothing() {
    let redis = Redis::start();
    for key in ["nuke:traffic:records", "nuke:lead:tiny", "nuke:counts:tiny"] {
        redis.ask(&["LPUSH", key, "x"]);
    }
    let repository = two_tinies("traffic: {strategy: rollout, stable: '1', canary: '2', hold: 1h}\n");
    let a = node(&repository, &redis, "a").start();
    put_traffic(&a, PIN_1).expect(200);
    assert!(serves(&a, "1"));
    redis.ask(&["DEL", "nuke:traffic:records"]);
    eventually("it is brought", || traffic(&a, "tiny")["shared"]["everywhere"] == true);
}
