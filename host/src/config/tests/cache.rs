//! `cache`: where Redis is, who asks, and that no password is shown.

use std::time::Duration;

use super::super::{CacheSettings, RedisAddress, RedisPlace, RedisTls, ServerConfig};
use super::{lines, variables};
use crate::secret::Secret;

fn cache(text: &str) -> CacheSettings {
    ServerConfig::from_text("config.yaml", &format!("cache: {text}\n")).expect("a configuration").value.cache
}

fn problems(text: &str) -> String {
    lines(ServerConfig::from_text("config.yaml", &format!("cache: {text}\n"))).join("\n")
}

fn address(host: &str, port: u16) -> RedisAddress {
    RedisAddress { host: host.to_owned(), port }
}

#[test]
fn without_a_place_there_is_no_redis() {
    for text in
        ["", "{}", "{redis: {}}", "{redis: {port: 7, timeout: 1s, password: x}}", "{redis: {cluster: []}}"]
    {
        assert_eq!(cache(text).redis, None, "{text}");
    }
}

#[test]
fn the_sketch_of_the_design_is_read() {
    let settings = cache(
        "{memory: 1GiB, redis: {host: localhost, port: 6380, db: 2, max_connections: 100, timeout: 20ms}}",
    );
    let redis = settings.redis.expect("a redis");
    assert_eq!(redis.place, RedisPlace::Server(address("localhost", 6380)));
    assert_eq!((redis.db, redis.max_connections, redis.timeout), (2, 100, Duration::from_millis(20)));
    assert_eq!(redis.tls, None);
}

#[test]
fn a_url_says_all_of_it() {
    let redis = cache("{redis: {url: 'rediss://me:p%40ss@[::1]:7000/3', db: 1}}").redis.expect("a redis");
    assert_eq!(redis.place, RedisPlace::Server(address("::1", 7000)));
    assert_eq!((redis.db, redis.tls), (3, Some(RedisTls::default())));
    assert_eq!(redis.login.user.as_deref(), Some("me"));
    assert_eq!(redis.login.password.as_ref().map(Secret::reveal), Some("p@ss"));
}

#[test]
fn sentinels_and_clusters() {
    let redis =
        cache("{redis: {sentinel: {nodes: ['a:26379', 'b:1'], master: m, password: s}, password: r}}");
    let RedisPlace::Sentinel { nodes, master, login } = redis.redis.as_ref().expect("a redis").place.clone()
    else {
        panic!("no sentinels: {redis:?}")
    };
    assert_eq!((nodes, master.as_str()), (vec![address("a", 26_379), address("b", 1)], "m"));
    assert_eq!(login.password.as_ref().map(Secret::reveal), Some("s"));
    let cluster =
        cache("{redis: {cluster: ['10.0.0.1:1', '[::1]:2'], tls: {ca: ca.pem}}}").redis.expect("a redis");
    assert_eq!(cluster.place, RedisPlace::Cluster(vec![address("10.0.0.1", 1), address("::1", 2)]));
    assert!(cluster.tls.expect("tls").ca.expect("an authority").ends_with("ca.pem"));
}

#[test]
fn what_does_not_go_together_is_named() {
    for (text, expected) in [
        (
            "{redis: {url: 'redis://a', host: b}}",
            "cache.redis.url: expected one of url, host, sentinel and cluster",
        ),
        ("{redis: {host: a, cluster: ['b:1']}}", "cache.redis.host: expected one of"),
        ("{redis: {cluster: ['b:1'], db: 1}}", "cache.redis.db: a cluster has only database 0, got 1"),
        (
            "{redis: {password: a, password_file: b}}",
            "cache.redis.password_file: expected password or password_file",
        ),
        ("{redis: {tls: {cert: a}}}", "cache.redis.tls.cert: expected cert and key together"),
        ("{redis: {port: 0}}", "cache.redis.port: expected 1 to 65535, got 0"),
        ("{redis: {cluster: ['b:0']}}", "port 0 is no server's"),
        ("{redis: {cluster: ['b']}}", "cache.redis.cluster[0]: expected an address like"),
        ("{redis: {host: 'a b'}}", "cache.redis.host: expected a name"),
        ("{redis: {max_connections: 2}}", "cache.redis.max_connections: expected 3 to 10000, got 2"),
        ("{redis: {timeout: 0ms}}", "cache.redis.timeout: expected 1ms to 10s, got 0ms"),
        ("{namespace: 'a:b'}", "cache.namespace: expected 1 to 64 letters"),
        ("{namespace: '{x}'}", "cache.namespace: expected 1 to 64 letters"),
        ("{redis: {passwort: x}}", "did you mean 'cache.redis.password'?"),
    ] {
        let found = problems(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
    let many: Vec<_> = (1..=65).map(|port| format!("'a:{port}'")).collect();
    assert!(
        problems(&format!("{{redis: {{cluster: [{}]}}}}", many.join(", "))).contains("at most 64 addresses")
    );
}

#[test]
fn no_password_is_shown() {
    const WORD: &str = "very-much-hushed";
    let texts = [
        format!("{{redis: {{url: 'redis://me:{WORD}@h', password_file: f}}}}"),
        format!("{{redis: {{host: h, password: {WORD}, sentinel: {{password: {WORD}}}}}}}"),
    ];
    for text in texts {
        let loaded =
            ServerConfig::from_text("config.yaml", &format!("cache: {text}\n")).expect("a configuration");
        let shown = format!("{}{:?}", loaded.report.to_yaml(), loaded.value);
        assert!(!shown.contains(WORD) && shown.contains("***"), "{shown}");
    }
    for wrong in [
        format!("{{redis: {{url: 'http://me:{WORD}@h'}}}}"),
        format!("{{redis: {{url: ['redis://me:{WORD}@h']}}}}"),
        format!("{{redis: {{password: [{WORD}]}}}}"),
        format!("{{redis: {{password: {{{WORD}: {WORD}}}}}}}"),
    ] {
        let found = problems(&wrong);
        assert!(!found.is_empty() && !found.contains(WORD), "{found}");
    }
}

#[test]
fn a_password_may_come_from_the_environment() {
    let environment =
        variables(&[("NUKE_CACHE__REDIS__PASSWORD", "from-there"), ("NUKE_CACHE__REDIS__HOST", "h")]);
    let loaded = ServerConfig::from_sources("config.yaml", "", &environment, &[]).expect("a configuration");
    let login = loaded.value.cache.redis.expect("a redis").login;
    assert_eq!(login.password.as_ref().map(Secret::reveal), Some("from-there"));
    assert!(!loaded.report.to_yaml().contains("from-there"));
}

#[test]
fn what_is_printed_is_read_alike() {
    for text in [
        "{}",
        "{redis: {host: '::1', tls: {enabled: true}}}",
        "{redis: {cluster: ['a:1', '[::1]:2'], timeout: 7ms}}",
        "{redis: {sentinel: {nodes: ['a:1'], master: m}, user: u, password_file: /f}}",
        "{redis: {url: 'rediss://u@h:1/4'}}",
    ] {
        let loaded =
            ServerConfig::from_text("config.yaml", &format!("cache: {text}\n")).expect("a configuration");
        let again =
            ServerConfig::from_text("config.yaml", &loaded.report.to_yaml()).expect("what was printed");
        assert_eq!(loaded.value, again.value, "{text}");
    }
}
