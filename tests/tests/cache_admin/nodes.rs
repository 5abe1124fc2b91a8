//! A purge on one of two nodes that share a Redis.

use nuke_tests::{Redis, Server, eventually};

use super::{TINY, connected, remembered, run, sharing, shown, tiny, tiny_request};

fn status(server: &Server, seed: u64) -> u16 {
    remembered(&server.client(), TINY, &tiny_request(seed)).status
}

/// An answer that one node has computed, and both have in memory.
fn both_remember(one: &Server, other: &Server, seed: u64) {
    one.post_json(TINY, &tiny_request(seed)).expect(200);
    eventually("it has come to the other node", || status(other, seed) == 200);
    assert_eq!(status(other, seed), 200);
}

#[test]
fn a_purge_on_one_node_counts_on_the_other() {
    let redis = Redis::start();
    let (here, there) = (tiny(), tiny());
    let (one, other) = (sharing(&here, &redis).start(), sharing(&there, &redis).start());
    [&one, &other].into_iter().for_each(connected);
    for (seed, command) in
        [&["cache", "purge", "--model", "tiny"][..], &["cache", "purge", "--all"]].iter().enumerate()
    {
        let seed = seed as u64;
        both_remember(&one, &other, seed);
        let purged = run(&one, command);
        assert!(purged.status.success() && shown(&purged).contains("were told"), "{}", shown(&purged));
        assert_eq!(status(&one, seed), 504);
        eventually("the other node has heard of it", || status(&other, seed) == 504);
        // What is left in Redis is of before: neither node takes it.
        for _ in 0..3 {
            assert_eq!((status(&one, seed), status(&other, seed)), (504, 504));
        }
        both_remember(&other, &one, seed);
    }
}

#[test]
fn a_purge_without_redis_is_heard_of_when_it_is_back() {
    let mut redis = Redis::start();
    let (here, there) = (tiny(), tiny());
    let (one, other) = (sharing(&here, &redis).start(), sharing(&there, &redis).start());
    [&one, &other].into_iter().for_each(connected);
    both_remember(&one, &other, 1);
    redis.kill();
    let purged = run(&one, &["cache", "purge", "--model", "tiny"]);
    assert_eq!(purged.status.code(), Some(1), "{}", shown(&purged));
    assert_eq!((status(&one, 1), status(&other, 1)), (504, 200), "each goes on with what it knows");
    redis.start_again();
    eventually("the other node has heard of it", || status(&other, 1) == 504);
}
