//! The shared level against a real server, as two nodes see it.

use std::time::{Duration, Instant};

use nuke_tests::{Cluster, Redis};
use tokio::time::timeout;

use super::*;
use crate::config::{RedisConfig, ServerConfig};
use crate::telemetry::StoreMetrics;

const LONG: Duration = Duration::from_secs(60);

fn settings(redis: &Redis) -> RedisConfig {
    let text = format!("cache: {{redis: {{url: '{}', timeout: 10s}}}}", redis.url());
    let loaded = ServerConfig::from_text("config.yaml", &text).expect("a configuration");
    loaded.value.cache.redis.expect("a redis")
}

/// A node of its own, connected.
async fn node(redis: &Redis) -> Remote {
    node_of(&settings(redis)).await
}

async fn node_of(settings: &RedisConfig) -> Remote {
    let store = Store::open(settings, "fleet", StoreMetrics::default()).expect("usable settings");
    let began = Instant::now();
    while !store.is_up() {
        assert!(began.elapsed() < LONG, "it does not connect");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Remote::new(store)
}

async fn hears(purges: &mut Purges) {
    timeout(LONG, purges.next()).await.expect("word of a purge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_remembers_the_other_knows_until_its_time_is_over() {
    let redis = Redis::start();
    let (one, other) = (node(&redis).await, node(&redis).await);
    assert_eq!(other.get("k", 100).await, Ok(None));
    one.put("k", "answer".into(), LONG).await.expect("it is put");
    assert_eq!(other.get("k", 100).await, Ok(Some("answer".into())));
    assert_eq!(other.get("k", 5).await, Ok(None), "a larger one than the model has");
    let left: u64 = redis.ask(&["PTTL", "fleet:a:{k}"]).trim_start_matches(':').parse().expect("a time");
    assert!(left > 0 && left <= 60_000, "{left}");
    other.remove("k").await.expect("it is removed");
    assert_eq!(one.get("k", 100).await, Ok(None));
    one.put("brief", "x".into(), Duration::from_millis(1)).await.expect("it is put");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(one.get("brief", 100).await, Ok(None));
    assert_eq!(one.usage().await.expect("an answer").keys, 0);
    one.put("k", "answer".into(), LONG).await.expect("it is put");
    let usage = other.usage().await.expect("an answer");
    assert!(usage.keys == 1 && usage.bytes > 100_000 && usage.max_bytes == 0, "{usage:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_all_who_ask_gets_the_lease_and_only_that_one_gives_it_back() {
    let redis = Redis::start();
    let (one, other) = (node(&redis).await, node(&redis).await);
    let asking = (0..50).map(|number| {
        let node = if number % 2 == 0 { one.clone() } else { other.clone() };
        tokio::spawn(async move { (number, node.lease("k", &number.to_string(), LONG).await) })
    });
    let mut owners = Vec::new();
    for task in asking.collect::<Vec<_>>() {
        let (number, lease) = task.await.expect("a task");
        if lease.expect("an answer") == Lease::Mine {
            owners.push(number);
        }
    }
    assert_eq!(owners.len(), 1, "{owners:?}");
    one.release("k", "somebody").await.expect("an answer");
    assert_eq!(other.lease("k", "later", LONG).await, Ok(Lease::Theirs));
    one.release("k", &owners[0].to_string()).await.expect("it is given back");
    assert_eq!(other.lease("k", "later", Duration::from_millis(50)).await, Ok(Lease::Mine));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(one.lease("k", "after", LONG).await, Ok(Lease::Mine), "a lease ends by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_or_the_right_to_compute_it_comes_in_one_go() {
    let redis = Redis::start();
    let (one, other) = (node(&redis).await, node(&redis).await);
    let none = |lease| Ok(Found::None { lease, is_damaged: false });
    assert_eq!(one.find_or_lease("k", 100, "a", LONG).await, none(Lease::Mine));
    assert_eq!(other.find_or_lease("k", 100, "b", LONG).await, none(Lease::Theirs));
    assert_eq!(
        other.lease("k", "b", LONG).await,
        Ok(Lease::Theirs),
        "it is the lease that there is otherwise"
    );
    let left: u64 = redis.ask(&["PTTL", "fleet:l:{k}"]).trim_start_matches(':').parse().expect("a time");
    assert!(left > 0 && left <= 60_000, "{left}");
    // What is found is no reason for a lease, whatever its size.
    for size in [1, FIRST_PART - 1, FIRST_PART, FIRST_PART + 1, 3 * FIRST_PART] {
        let value: Bytes =
            (0..size).map(|at| u8::try_from(at % 251).expect("small")).collect::<Vec<_>>().into();
        one.put("k", value.clone(), LONG).await.expect("it is put");
        assert_eq!(other.find_or_lease("k", size, "b", LONG).await, Ok(Found::Entry(value)));
        one.release("k", "a").await.expect("an answer");
        assert_eq!(redis.ask(&["EXISTS", "fleet:l:{k}"]), ":0", "{size}");
        // A larger one than is wanted is none.
        assert_eq!(one.find_or_lease("k", size - 1, "a", LONG).await, none(Lease::Mine), "{size}");
    }
    assert_eq!(other.find_or_lease("k", 5, "b", LONG).await, none(Lease::Theirs));
    // Something else in its place is told apart, and does not keep anybody from computing.
    redis.ask(&["DEL", "fleet:a:{k}", "fleet:l:{k}"]);
    redis.ask(&["LPUSH", "fleet:a:{k}", "1"]);
    let damaged = Found::None { lease: Lease::Mine, is_damaged: true };
    assert_eq!(one.find_or_lease("k", 100, "a", LONG).await, Ok(damaged));
    // And something else in the lease's place is somebody's.
    redis.ask(&["DEL", "fleet:a:{k}", "fleet:l:{k}"]);
    redis.ask(&["LPUSH", "fleet:l:{k}", "1"]);
    assert_eq!(one.find_or_lease("k", 100, "a", LONG).await, none(Lease::Theirs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_an_answer_and_its_lease_are_in_one_slot() {
    let cluster = Cluster::start(&[]);
    let nodes: Vec<String> = cluster.nodes.iter().map(|node| format!("'{}'", node.address())).collect();
    let text = format!("cache: {{redis: {{cluster: [{}], timeout: 5s}}}}", nodes.join(", "));
    let settings = ServerConfig::from_text("config.yaml", &text).expect("a configuration").value.cache.redis;
    let settings = settings.expect("a redis");
    let (one, other) = (node_of(&settings).await, node_of(&settings).await);
    let none = |lease| Ok(Found::None { lease, is_damaged: false });
    for number in 0..30 {
        let key = format!("{number:064x}");
        let value = Bytes::from(vec![7; 1 + number * 5000]);
        assert_eq!(one.find_or_lease(&key, 1 << 20, "a", LONG).await, none(Lease::Mine));
        assert_eq!(other.find_or_lease(&key, 1 << 20, "b", LONG).await, none(Lease::Theirs));
        one.put(&key, value.clone(), LONG).await.expect("it is put");
        one.release(&key, "a").await.expect("it is given back");
        assert_eq!(other.find_or_lease(&key, 1 << 20, "b", LONG).await, Ok(Found::Entry(value)));
    }
    let sizes: Vec<_> = cluster.nodes.iter().map(|node| node.ask(&["DBSIZE"])).collect();
    assert!(sizes.iter().all(|size| size != ":0"), "{sizes:?}");
    let purge = Epochs::default().purge(Some("m"));
    one.tell_purge(&purge).await.expect("it is told");
    let late = Epochs::default();
    assert_eq!((other.get_in_step(&late).await, late.of("m")), (Ok(true), purge.1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_takes_nothing_new_gives_what_it_has_and_no_lease() {
    let redis = Redis::with(&["--maxmemory-policy", "noeviction"]);
    let remote = node(&redis).await;
    remote.put("k", "answer".into(), LONG).await.expect("it is put");
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..5 {
        assert_eq!(remote.find_or_lease("k", 100, "a", LONG).await, Ok(Found::Entry("answer".into())));
        let refused = remote.find_or_lease("new", 100, "a", LONG).await;
        assert!(matches!(&refused, Err(StoreError::Refused(text)) if text.starts_with("OOM")), "{refused:?}");
    }
    assert!(remote.store().is_up());
    // Nor does one that is cut off from its replicas, and its own word comes out of the script.
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert_eq!(remote.find_or_lease("k", 100, "a", LONG).await, Ok(Found::Entry("answer".into())));
    let refused = remote.find_or_lease("new", 100, "a", LONG).await;
    assert!(
        matches!(&refused, Err(StoreError::Refused(text)) if text.starts_with("NOREPLICAS")),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_counts_on_every_node_and_is_not_forgotten_by_redis_alone() {
    let mut redis = Redis::start();
    let (one, other) = (node(&redis).await, node(&redis).await);
    let (mine, theirs) = (Epochs::default(), Epochs::default());
    let mut hearing = other.purges(theirs.clone());
    let purge = mine.purge(Some("m"));
    one.tell_purge(&purge).await.expect("it is told");
    while theirs.of("m") != mine.of("m") {
        hears(&mut hearing).await;
    }
    assert_eq!(theirs.of("n"), 0);
    // A node that comes later reads what was told before.
    let late = Epochs::default();
    let mut hearing_late = one.purges(late.clone());
    while late.of("m") != mine.of("m") {
        hears(&mut hearing_late).await;
    }
    drop(hearing_late);
    // Redis loses everything; the nodes that live tell it again, and those that come then.
    redis.start_again();
    let latest = Epochs::default();
    let listening = tokio::spawn(async move {
        loop {
            hearing.next().await;
        }
    });
    let new = node(&redis).await;
    let mut hearing_latest = new.purges(latest.clone());
    while latest.of("m") < mine.of("m") {
        hears(&mut hearing_latest).await;
    }
    listening.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_of_redis_purges_all_and_nonsense_among_the_epochs_nothing() {
    let redis = Redis::start();
    let remote = node(&redis).await;
    let epochs = Epochs::default();
    let mut hearing = remote.purges(epochs.clone());
    redis.ask(&["HSET", "fleet:epochs:models", "a", "x", "b", "-1", "", "7", "c", "5"]);
    while epochs.of("c") == 0 {
        hears(&mut hearing).await;
    }
    assert_eq!((epochs.of("a"), epochs.of("b"), epochs.of("c")), (0, 0, 5));
    // Nothing is kept for who does not listen yet.
    let listens = || {
        redis.ask(&["PUBSUB", "NUMSUB", "fleet:epochs:told"]).contains(":1")
            && redis.ask(&["INFO", "clients"]).contains("tracking_clients:1")
    };
    while !listens() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for message in ["", " ", "7", "x a", "9999999999999999999999 a", "7 "] {
        redis.ask(&["PUBLISH", "fleet:epochs:told", message]);
    }
    redis.ask(&["PUBLISH", "fleet:epochs:told", "9 d"]);
    while epochs.of("d") == 0 {
        hears(&mut hearing).await;
    }
    assert_eq!((epochs.of("a"), epochs.of("anything")), (0, 0));
    redis.ask(&["FLUSHALL"]);
    while epochs.of("anything") == 0 {
        hears(&mut hearing).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_of_any_node_of_a_cluster_purges_all_and_a_restart_nothing() {
    let mut cluster = Cluster::start(&["--cluster-require-full-coverage", "no"]);
    let text = format!("cache: {{redis: {{cluster: [{}], timeout: 500ms}}}}", cluster.addresses());
    let loaded = ServerConfig::from_text("config.yaml", &text).expect("a configuration");
    let remote = node_of(&loaded.value.cache.redis.expect("a redis")).await;
    let epochs = Epochs::default();
    let mut hearing = remote.purges(epochs.clone());
    let listening = tokio::spawn(async move {
        loop {
            hearing.next().await;
        }
    });
    let until = async |what: &str, condition: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < LONG, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    for (number, redis) in cluster.nodes.iter().enumerate() {
        let marked = || redis.ask(&["KEYS", "fleet:epochs:mark:*"]).lines().count() > 8;
        until("the node has its marks", &marked).await;
        let before = epochs.of("anything");
        redis.ask(&["FLUSHALL"]);
        until(&format!("a flush of node {number} is seen"), &|| epochs.of("anything") > before).await;
    }
    // The last one's own flush may be seen twice, by word and by its marks.
    tokio::time::sleep(RECONCILE * 3).await;
    let before = epochs.of("anything");
    let marks = |redis: &Redis| redis.ask(&["KEYS", "fleet:epochs:mark:*"]).lines().count();
    let many = marks(&cluster.nodes[1]);
    cluster.nodes[1].start_again();
    until("it has marks again", &|| marks(&cluster.nodes[1]) >= many.min(1)).await;
    tokio::time::sleep(RECONCILE * 2).await;
    assert_eq!(epochs.of("anything"), before, "a server that was started anew was not emptied by anybody");
    listening.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_that_the_manual_names_are_enough() {
    let manual = include_str!("../../../../docs/redis.md");
    let rights =
        manual.split("as an ACL: `").nth(1).and_then(|rest| rest.split('`').next()).expect("the rights");
    let redis = Redis::start();
    let rights = rights.replace("nuke:", "fleet:");
    let user = ["ACL", "SETUSER", "node", "on", ">secret"].into_iter().chain(rights.split(' '));
    assert_eq!(redis.ask(&user.collect::<Vec<_>>()), "+OK");
    let text = format!("cache: {{redis: {{url: 'redis://node:secret@{}', timeout: 10s}}}}", redis.address());
    let loaded = ServerConfig::from_text("config.yaml", &text).expect("a configuration");
    let settings = loaded.value.cache.redis.expect("a redis");
    let store = Store::open(&settings, "fleet", StoreMetrics::default()).expect("usable settings");
    while !store.is_up() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let remote = Remote::new(store);
    remote.put("k", vec![7; 100_000].into(), LONG).await.expect("it is put");
    assert!(remote.get("k", 100_000).await.expect("an answer").is_some());
    remote.remove("k").await.expect("it is removed");
    assert_eq!(remote.lease("k", "a", LONG).await, Ok(Lease::Mine));
    remote.release("k", "a").await.expect("it is given back");
    let none = Found::None { lease: Lease::Mine, is_damaged: false };
    assert_eq!(remote.find_or_lease("k", 100, "a", LONG).await, Ok(none));
    let (epochs, told) = (Epochs::default(), Epochs::default());
    let mut hearing = remote.purges(epochs.clone());
    remote.tell_purge(&told.purge(Some("m"))).await.expect("it is told");
    while epochs.of("m") == 0 {
        hears(&mut hearing).await;
    }
    assert!(remote.usage().await.expect("an answer").bytes > 0);
    assert!(redis.ask(&["ACL", "LOG"]).is_empty(), "{}", redis.ask(&["ACL", "LOG"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_written_among_the_epochs_keeps_a_purge_from_counting() {
    let redis = Redis::start();
    let remote = node(&redis).await;
    let (epochs, late) = (Epochs::default(), Epochs::default());
    for nonsense in [
        "18446744073709551615",
        "18446744073709551614",
        "9".repeat(40).as_str(),
        "z",
        "zzzzzzzzzzzzzzzzzzzzzzzzz",
    ] {
        redis.ask(&[
            "HSET",
            "fleet:epochs:models",
            "m",
            nonsense,
            "seen",
            &epochs.of("seen").saturating_add(1).to_string(),
        ]);
        let mut hearing = remote.purges(epochs.clone());
        let before = epochs.of("seen");
        while epochs.of("seen") == before {
            hears(&mut hearing).await;
        }
        let before = epochs.of("m");
        let told = epochs.purge(Some("m"));
        assert!(epochs.of("m") > before, "{nonsense}");
        remote.tell_purge(&told).await.expect("it is told");
        let mut hearing = remote.purges(late.clone());
        while late.of("m") != epochs.of("m") {
            hears(&mut hearing).await;
        }
    }
    let mut hearing = remote.purges(late.clone());
    redis.ask(&["PUBLISH", "fleet:epochs:told", "18446744073709551615 m"]);
    redis.ask(&["HSET", "fleet:epochs:models", "last", "7"]);
    while late.of("last") == 0 {
        hears(&mut hearing).await;
    }
    assert!(late.of("m") < u64::MAX, "after that nothing could be purged");
}
