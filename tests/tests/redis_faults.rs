//! Redis killed, stopped, filled and restarted under load: no request fails, and none gets a wrong answer.
//!
//! What each fault cost is printed (`--nocapture`), not judged: times on a busy machine say nothing. The figures are
//! in docs/performance.md.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nuke_tests::{Redis, Repository, Server, Signal, eventually};
use serde_json::json;

/// Questions that are asked, over and over.
const QUESTIONS: usize = 400;
/// Clients at a time.
const CLIENTS: usize = 4;
/// How long each state of Redis lasts.
const LASTS: Duration = Duration::from_millis(1500);

/// Times of the requests of one state, and what went wrong.
#[derive(Debug, Default)]
struct Seen {
    times: Vec<Duration>,
    wrong: Vec<String>,
}

impl Seen {
    fn line(&mut self, name: &str) -> String {
        self.times.sort();
        let at = |share: f64| {
            let index = (self.times.len() as f64 * share) as usize;
            self.times.get(index.min(self.times.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        let millis = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
        let (median, late, last) = (millis(at(0.5)), millis(at(0.99)), millis(at(1.0)));
        format!("| {name} | {} | {} | {median} | {late} | {last} |", self.times.len(), self.wrong.len())
    }
}

/// Asks from several clients at a time while `during` goes on.
fn load(server: &Server, next: &AtomicUsize, during: impl FnOnce()) -> Seen {
    let stop = AtomicBool::new(false);
    let mut seen = Seen::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| ask(server, next, &stop))).collect();
        during();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let of_one = client.join().unwrap_or_else(|_| panic!("a client broke down"));
            seen.times.extend(of_one.times);
            seen.wrong.extend(of_one.wrong);
        }
    });
    seen
}

fn ask(server: &Server, next: &AtomicUsize, stop: &AtomicBool) -> Seen {
    let client = server.client();
    let mut seen = Seen::default();
    // Once at least, however late this thread comes to its turn.
    while seen.times.is_empty() || !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed) % QUESTIONS;
        let value = number as f64 / 8.0;
        let input = json!({"name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![value; 16]});
        let body = json!({"inputs": [input]}).to_string();
        let began = Instant::now();
        let request =
            client.request("POST", "/v2/models/tiny/infer").header("content-type", "application/json");
        let answer = request.body(body).try_send();
        seen.times.push(began.elapsed());
        // The first column of the weights is (i + 1) / 64 for the sixteen rows.
        let right = value * 136.0 / 64.0;
        match answer {
            Ok(answer) if answer.status == 200 => {
                let first = answer.json()["outputs"][0]["data"][0].as_f64();
                if first.is_none_or(|first| (first - right).abs() > right.abs() * 1e-5 + 1e-6) {
                    seen.wrong.push(format!("{number}: {first:?} instead of {right}"));
                }
            }
            Ok(answer) => seen.wrong.push(format!("{number}: {} {}", answer.status, answer.text())),
            Err(error) => seen.wrong.push(format!("{number}: {error}")),
        }
    }
    seen
}

fn rests() {
    std::thread::sleep(LASTS);
}

fn is_up(server: &Server) -> bool {
    server.metrics().find("nuke_redis_up", &[]) == Some(1.0)
}

fn fills(redis: &Redis) {
    let block = "x".repeat(64 << 10);
    for number in 0..400 {
        if redis.ask(&["SET", &format!("other:{number}"), &block]).starts_with("-OOM") {
            break;
        }
    }
    // What is left goes in small pieces.
    for number in 0..10_000 {
        if redis.ask(&["SET", &format!("small:{number}"), "x"]).starts_with("-OOM") {
            return;
        }
    }
    panic!("redis is never full");
}

/// A host that remembers for a moment: what it knows itself is of little use, so that it asks Redis all the time.
fn host(redis: &Redis) -> (Repository, Server) {
    let yaml = "cache: {ttl: 60s}\nqueue: {timeout: 60s}\n";
    let repository = Repository::new().model("tiny", "1", "tiny").model_yaml(yaml);
    let server = Server::builder().repository(&repository).set("cache.redis.url", &redis.url());
    let server = server.set("cache.memory", "0").set("log.access", "false").start();
    (repository, server)
}

#[test]
fn no_request_fails_whatever_becomes_of_redis() {
    let mut redis = Redis::with(&["--maxmemory", "16mb", "--maxmemory-policy", "noeviction"]);
    let (_repository, server) = host(&redis);
    eventually("redis is asked", || is_up(&server));
    let next = AtomicUsize::new(0);
    let mut report = Vec::new();
    let mut phase = |name: &str, during: &mut dyn FnMut()| {
        let mut seen = load(&server, &next, during);
        report.push(seen.line(name));
        assert!(seen.wrong.is_empty(), "{name}: {:?}", &seen.wrong[..seen.wrong.len().min(5)]);
        assert!(!seen.times.is_empty(), "{name}: nobody asked");
    };
    phase("it is well", &mut rests);
    let asked = server.metrics().sum("nuke_redis_requests_total", &[("outcome", "ok")]);
    assert!(asked > 0.0, "redis was never asked");
    phase("killed", &mut || {
        redis.kill();
        rests();
        eventually("it is missed", || !is_up(&server));
    });
    phase("started again", &mut || {
        redis.start_again();
        eventually("redis is asked again", || is_up(&server));
        rests();
    });
    phase("stopped", &mut || {
        redis.signal(Signal::STOP);
        rests();
        eventually("it is missed", || !is_up(&server));
    });
    phase("goes on", &mut || {
        redis.signal(Signal::CONT);
        eventually("redis is asked again", || is_up(&server));
        rests();
    });
    phase("full", &mut || {
        fills(&redis);
        rests();
    });
    phase("emptied", &mut || {
        redis.ask(&["FLUSHALL"]);
        rests();
    });
    phase("restarted again and again", &mut || {
        for _ in 0..5 {
            redis.start_again();
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    eventually("redis is asked again", || is_up(&server));
    phase("well again", &mut rests);
    println!(
        "| Redis | requests | failed | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|---|\n{}",
        report.join("\n")
    );
    let lines = server.log_lines("nuke_host::store::words");
    assert!(lines.len() < 60, "redis is talked about too much: {} lines", lines.len());
    assert!(
        lines
            .iter()
            .any(|line| line["message"].as_str().is_some_and(|text| text.contains("does not answer")))
    );
}

#[test]
fn a_host_starts_and_is_ready_without_its_redis_and_finds_it_later() {
    let mut redis = Redis::start();
    redis.kill();
    let (_repository, server) = host(&redis);
    assert!(!is_up(&server));
    let next = AtomicUsize::new(0);
    let seen = load(&server, &next, || std::thread::sleep(Duration::from_millis(300)));
    assert!(seen.wrong.is_empty() && !seen.times.is_empty(), "{:?}", seen.wrong.first());
    redis.start_again();
    eventually("redis is asked", || is_up(&server));
    let seen = load(&server, &next, rests);
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong.first());
    assert!(server.metrics().sum("nuke_redis_requests_total", &[("outcome", "ok")]) > 0.0);
    assert!(server.terminate().status.success());
}

#[test]
fn no_password_of_redis_is_shown() {
    let redis = Redis::with(&["--requirepass", "very-much-hushed"]);
    let repository = Repository::new().model("tiny", "1", "tiny").model_yaml("cache: {ttl: 60s}");
    let url = format!("redis://:very-much-hushed@{}", redis.address());
    let server =
        Server::builder().repository(&repository).set("cache.redis.url", &url).set("log.filter", "trace");
    let server = server.start();
    eventually("redis is asked", || is_up(&server));
    let next = AtomicUsize::new(0);
    let seen = load(&server, &next, || std::thread::sleep(Duration::from_millis(200)));
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong.first());
    let text = server.logs().join("\n");
    assert!(!text.contains("very-much-hushed") && !server.metrics().text().contains("very-much-hushed"));
    let mut command = nuke_tests::nuke();
    command.args(["serve", "--print-config", "--set"]).arg(format!("cache.redis.url={url}"));
    let printed = command.output().expect("the binary");
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(printed.contains("redis://:***@") && !printed.contains("very-much-hushed"), "{printed}");
    let mut command = nuke_tests::nuke();
    command.args(["serve", "--set", "cache.redis.url=redis://:very-much-hushed@"]);
    let refused = command.output().expect("the binary");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("cache.redis.url") && !said.contains("very-much-hushed"), "{said}");
}
