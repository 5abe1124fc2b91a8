//! The store against real servers, and against things that are none.

mod faults;
mod garbage;
mod topologies;
mod values;

use std::time::{Duration, Instant};

use nuke_tests::Redis;

use super::Store;
use crate::config::{RedisAddress, RedisConfig, RedisLogin, RedisPlace};
use crate::telemetry::StoreMetrics;

/// What the tests give a command that is not to be answered.
const TIMEOUT: Duration = Duration::from_millis(200);
/// What they give one that is: these machines are busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// What nothing that is waited for should take.
const GUARD: Duration = Duration::from_secs(60);

fn settings(place: RedisPlace) -> RedisConfig {
    RedisConfig {
        place,
        db: 0,
        login: RedisLogin::default(),
        tls: None,
        max_connections: 10,
        timeout: TIMEOUT,
        connect_timeout: Duration::from_secs(2),
    }
}

fn at(port: u16) -> RedisAddress {
    RedisAddress { host: "127.0.0.1".to_owned(), port }
}

fn of(redis: &Redis) -> RedisConfig {
    settings(RedisPlace::Server(at(redis.port())))
}

/// As `of`, where each answer counts.
fn patient(redis: &Redis) -> RedisConfig {
    RedisConfig { timeout: PATIENCE, ..of(redis) }
}

fn open(settings: &RedisConfig) -> Store {
    Store::open(settings, "nuke", StoreMetrics::default()).expect("usable settings")
}

/// A store that is connected.
async fn connected(settings: &RedisConfig) -> Store {
    let store = open(settings);
    until("it connects", || store.is_up()).await;
    store
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < GUARD, "waited {GUARD:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Writes and reads until both work.
async fn until_it_serves(store: &Store, key: &str) {
    let began = Instant::now();
    loop {
        let set = store.set_bytes(key, "value".into(), GUARD).await;
        if set.is_ok() && store.get_bytes(key, 100).await == Ok(Some("value".into())) {
            return;
        }
        assert!(began.elapsed() < GUARD, "waited {GUARD:?} in vain: {set:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
