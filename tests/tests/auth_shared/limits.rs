//! Limits of several hosts together.

use std::time::{Duration, Instant};

use nuke_tests::{Server, eventually};

use super::{Fleet, ask, infer};

/// What was let in by each host, and for how long at least they were asked.
struct Flooded {
    admitted: Vec<usize>,
    asked: Duration,
}

/// What a rate gives in a longer pause than this may be lost: no more than a burst is kept.
const KEPT: Duration = Duration::from_millis(150);

/// Everybody asks as often as they can for so long. A pause that the machine makes does not count as asked.
fn flood(hosts: &[&Server], key: &str, time: Duration) -> Flooded {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let clients = hosts.iter().map(|host| {
            let client = host.client();
            scope.spawn(move || {
                let (mut admitted, mut asked, mut last) = (0, Duration::ZERO, Instant::now());
                while began.elapsed() < time {
                    asked += last.elapsed().min(KEPT);
                    last = Instant::now();
                    match client.request("GET", "/v2").header("x-api-key", key).send().status {
                        200 => admitted += 1,
                        429 => std::thread::sleep(Duration::from_millis(2)),
                        status => panic!("{status}"),
                    }
                }
                (admitted, asked)
            })
        });
        let clients: Vec<_> = clients.collect();
        let of_each: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        Flooded {
            admitted: of_each.iter().map(|(admitted, _)| *admitted).collect(),
            asked: of_each.iter().map(|(_, asked)| *asked).min().unwrap_or_default(),
        }
    })
}

#[test]
fn two_hosts_together_let_in_what_one_may() {
    let fleet = Fleet::new();
    fleet.write_config("limits: {identity: {requests: 40/s, burst: 10}, redis: true}\n");
    let (one, two) = (fleet.host(), fleet.host());
    let key = fleet.key_for(&[&one, &two]);
    std::thread::sleep(Duration::from_secs(1));
    let time = Duration::from_secs(8);
    let Flooded { admitted, asked } = flood(&[&one, &two], &key, time);
    let (total, limit) = (admitted.iter().sum::<usize>(), 40.0 * time.as_secs_f64());
    println!(
        "two hosts with 40/s for {} s: {admitted:?}, {:.2} of the limit",
        time.as_secs(),
        total as f64 / limit
    );
    assert!((total as f64) < 1.5 * limit, "{admitted:?}");
    assert!((total as f64) > 0.7 * 40.0 * asked.as_secs_f64(), "{admitted:?} in {asked:?}");
    // One that nobody asks costs the other nothing.
    std::thread::sleep(Duration::from_secs(1));
    let Flooded { admitted: alone, asked } = flood(&[&one], &key, Duration::from_secs(4));
    println!("one host of two with 40/s for 4 s: {alone:?}");
    assert!(alone[0] as f64 > 0.7 * 40.0 * asked.as_secs_f64(), "{alone:?} in {asked:?}");
    assert!((alone[0] as f64) < 1.3 * 160.0, "{alone:?}");
}

#[test]
fn a_model_is_limited_over_all_hosts_and_keys_go_by_themselves() {
    let fleet = Fleet::new();
    fleet.write_config(
        "limits: {model: {requests: 20/h, burst: 10}, identity: {requests: 1000/s}, redis: true}\n",
    );
    let (one, two) = (fleet.host(), fleet.host());
    let made = fleet.keys(&["create", "ci", "--scope", "predict:*"]);
    let key = super::text(&made, "key");
    let metadata =
        |host: &Server| host.client().request("GET", "/v2").header("x-api-key", &key).send().status;
    eventually("both know the key", || metadata(&one) == 200 && metadata(&two) == 200);
    assert!((0..10).all(|_| ask(&one, &key) == 200));
    assert_eq!(ask(&one, &key), 429);
    // The other lets in what it can before it has heard, and nothing after that.
    assert_eq!(ask(&two, &key), 200);
    eventually("the other has heard", || ask(&two, &key) == 429);
    // All of it: the first word may have been of nine of the ten.
    eventually("it waits for what both have used", || {
        let wait = infer(&two.client(), &key).header("retry-after").map(|wait| wait.parse::<u64>().unwrap());
        wait.is_some_and(|wait| wait > 180)
    });
    // What callers used is paid for at once at 1000/s, and is not kept for long; the model's is.
    let limits = || fleet.redis.ask(&["KEYS", "fleet:limit:*"]);
    eventually("only the model's is left", || limits().lines().count() == 1);
    let ttl: i64 = fleet.redis.ask(&["PTTL", &limits()])[1..].parse().unwrap();
    assert!(ttl > 1_000_000, "{ttl}");
    assert!(!limits().contains("slow"), "names are not shown");
}

#[test]
fn a_host_without_redis_has_the_whole_limit_for_itself() {
    let mut fleet = Fleet::new();
    fleet.write_config("limits: {identity: {requests: 30/s, burst: 5}, redis: true}\n");
    let host = fleet.host();
    let key = fleet.key_for(&[&host]);
    fleet.redis.kill();
    eventually("it is told", || host.logs().iter().any(|line| line.contains("those of before stay")));
    let Flooded { admitted: alone, asked } = flood(&[&host], &key, Duration::from_secs(4));
    println!("one host with 30/s for 4 s, without redis: {alone:?}");
    assert!(alone[0] as f64 > 0.7 * 30.0 * asked.as_secs_f64(), "{alone:?} in {asked:?}");
    assert!(alone[0] < 160, "{alone:?}");
    // What it let in meanwhile shuts nobody out when redis is back.
    fleet.redis.start_again();
    eventually("requests are let in", || ask(&host, &key) == 200);
}

#[test]
fn what_hosts_leave_that_are_started_again_and_again_is_taken_away() {
    let fleet = Fleet::new();
    fleet.write_config("limits: {model: {requests: 20/h, burst: 10}, redis: true}\n");
    let host = fleet.host();
    let key = fleet.key_for(&[&host]);
    let shared = || fleet.redis.ask(&["KEYS", "fleet:limit:*"]);
    eventually("the model's use is told", || shared().lines().count() == 1);
    let fill = "for at = 1, 5000 do redis.call('HSET', KEYS[1], 'n' .. at, at) end";
    fleet.redis.ask(&["EVAL", fill, "1", &shared()]);
    eventually("they are gone", || {
        ask(&host, &key);
        fleet.redis.ask(&["HLEN", &shared()])[1..].parse::<u32>().unwrap() < 10
    });
    assert!((0..10).any(|_| ask(&host, &key) == 429), "what was used counts on");
}

#[test]
fn wrong_words_about_a_limit_end_by_themselves() {
    let fleet = Fleet::new();
    fleet.write_config("limits: {model: {requests: 50/s, burst: 5}, redis: true}\n");
    let host = fleet.host();
    let key = fleet.key_for(&[&host]);
    let shared = || fleet.redis.ask(&["KEYS", "fleet:limit:*"]);
    for (field, value) in
        [("paid", "nan"), ("paid", "garbage"), ("paid", "-1e300"), ("paid", "inf"), ("paid", "1e300")]
    {
        eventually("the model's use is told", || ask(&host, &key) == 200 && shared().lines().count() == 1);
        fleet.redis.ask(&["HSET", &shared(), field, value]);
    }
    eventually("the longest that it can last is over", || {
        ask(&host, &key) == 200 && shared().lines().count() == 1
    });
    let name = shared();
    fleet.redis.ask(&["DEL", &name]);
    fleet.redis.ask(&["SET", &name, "another type"]);
    eventually("it is replaced", || {
        ask(&host, &key);
        fleet.redis.ask(&["TYPE", &name]) == "+hash"
    });
    eventually("requests are let in", || ask(&host, &key) == 200);
    assert!(!host.logs().iter().any(|line| line.contains("panicked")));
}
