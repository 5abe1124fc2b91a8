//! A master that dies, and the replica that takes its place: callers do not notice, and nobody comes back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nuke_tests::{SentinelPair, Server, Signal, eventually};

use super::{Fleet, ask, text, within_a_second};

fn metadata(host: &Server, key: &str) -> u16 {
    host.client().request("GET", "/v2").header("x-api-key", key).send().status
}

#[test]
fn keys_and_limits_go_on_after_a_failover_and_no_request_fails() {
    let pair = SentinelPair::start();
    let place = format!("{{sentinel: {{nodes: ['{}'], master: mymaster}}}}", pair.sentinel.address());
    let mut fleet = Fleet::at(pair, place);
    fleet.write_config("limits: {model: {requests: 10/h, burst: 10}, redis: true}\n");
    let (one, two) = (fleet.host(), fleet.host());
    let create = |fleet: &Fleet<SentinelPair>, name: &str| {
        text(&fleet.keys(&["create", name, "--scope", "predict:*"]), "key")
    };
    let [key, gone, late] = ["ci", "gone", "late"].map(|name| create(&fleet, name));
    for key in [&key, &gone, &late] {
        within_a_second("a key at both", || metadata(&one, key) == 200 && metadata(&two, key) == 200);
    }
    fleet.keys(&["revoke", "gone"]);
    within_a_second("a revocation", || metadata(&one, &gone) == 401 && metadata(&two, &gone) == 401);
    assert!((0..10).all(|_| ask(&one, &key) == 200));
    eventually("both have heard that the model's rate is used up", || {
        ask(&one, &key) == 429 && ask(&two, &key) == 429
    });
    let all = |redis: &nuke_tests::Redis| {
        (redis.ask(&["HGET", "fleet:auth:keys", "#revision"]), redis.ask(&["KEYS", "fleet:limit:*:r"]).len())
    };
    eventually("the replica has it all", || all(&fleet.redis.replica) == all(&fleet.redis.master));

    // What the master has acknowledged and the replica never hears of.
    fleet.redis.replica.signal(Signal::STOP);
    fleet.keys(&["revoke", "late"]);
    within_a_second("a late revocation", || metadata(&one, &late) == 401 && metadata(&two, &late) == 401);
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&over);
        for host in [&one, &two] {
            let (over, asked, keys) = (&over, &asked, [(&key, 200), (&gone, 401), (&late, 401)]);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    for (key, expected) in keys {
                        assert_eq!(metadata(host, key), expected, "at {}", host.address());
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        fleet.redis.master.kill();
        fleet.redis.replica.signal(Signal::CONT);
        let replica = &fleet.redis.replica;
        eventually("the replica is the master", || replica.ask(&["ROLE"]).starts_with("master"));
        eventually("it is told of the revocation that it had not heard of", || {
            let id = &late[5..17];
            replica.ask(&["HGET", "fleet:auth:keys", id]).contains("revoked")
        });
        let limit = replica.ask(&["KEYS", "fleet:limit:*:r"]);
        let mut taken_out = vec!["HDEL", &limit];
        let nodes = replica.ask(&["HKEYS", &limit]);
        taken_out.extend(nodes.lines().filter(|field| *field != "paid"));
        replica.ask(&taken_out);
        eventually("both tell it what they have used, and go by what it says", || {
            (ask(&one, &key), ask(&two, &key)) == (429, 429) && replica.ask(&["HLEN", &limit]) == ":3"
        });
    });
    println!("over the failover: {} requests, none failed", asked.load(Ordering::Relaxed));

    // Everything goes on from there.
    let three = fleet.host();
    within_a_second("a key at a new host", || metadata(&three, &key) == 200);
    assert_eq!((metadata(&three, &gone), metadata(&three, &late)), (401, 401));
    // It lets in what it can before it has heard, and nothing after that.
    ask(&three, &key);
    eventually("the new host has heard what the others have used", || ask(&three, &key) == 429);
    let again = create(&fleet, "again");
    fleet.keys(&["revoke", "ci"]);
    for host in [&one, &two, &three] {
        within_a_second("a new key after it", || metadata(host, &again) == 200);
        within_a_second("a revocation after it", || metadata(host, &key) == 401);
    }
}
