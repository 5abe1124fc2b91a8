//! API keys in Redis, from their making to their end, at two hosts.

use nuke_tests::eventually;
use serde_json::json;

use super::{Fleet, ask, run_keys, text, within_a_second};

#[test]
fn a_key_made_once_is_known_everywhere_until_it_is_revoked() {
    let fleet = Fleet::new();
    let (one, two) = (fleet.host(), fleet.host());
    let made = fleet.keys(&["create", "ci", "--scope", "predict:slow", "--expires", "90d"]);
    let key = text(&made, "key");
    within_a_second("a key at the first host", || ask(&one, &key) == 200);
    within_a_second("a key at the second host", || ask(&two, &key) == 200);

    let rotated = fleet.keys(&["rotate", "ci", "--grace", "1h"]);
    let new = text(&rotated, "key");
    for host in [&one, &two] {
        within_a_second("the new key of a rotation", || ask(host, &new) == 200);
        assert_eq!(ask(host, &key), 200, "the old one is valid, too");
    }

    fleet.keys(&["revoke", &text(&made, "id")]);
    for host in [&one, &two] {
        within_a_second("a revocation", || ask(host, &key) == 401);
        assert_eq!(ask(host, &new), 200);
    }
    // What is kept is no key.
    assert!(!fleet.redis.ask(&["HGETALL", "fleet:auth:keys"]).contains(&key[18..]));
    // When it was used is noted at the latest when a host ends.
    one.terminate();
    let listed = fleet.keys(&["list"]);
    let of_id = |id: &str| listed.as_array().unwrap().iter().find(|key| text(key, "id") == id).unwrap();
    assert_eq!(of_id(&text(&made, "id"))["state"], "revoked", "{listed}");
    assert_eq!(of_id(&text(&rotated, "id"))["state"], "valid", "{listed}");
    assert!(of_id(&text(&rotated, "id"))["last_used"].is_string(), "{listed}");
}

#[test]
fn a_revoked_key_stays_revoked_whoever_says_otherwise() {
    let fleet = Fleet::new();
    let host = fleet.host();
    let made = fleet.keys(&["create", "ci", "--scope", "predict:*"]);
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    within_a_second("a key", || ask(&host, &key) == 200);
    let valid = fleet.redis.ask(&["HGET", "fleet:auth:keys", &id]);
    fleet.keys(&["revoke", &id]);
    within_a_second("a revocation", || ask(&host, &key) == 401);

    // Somebody puts back what was there: the host knows better, and says so.
    let put = |revision: &str| {
        fleet.redis.ask(&["HSET", "fleet:auth:keys", &id, &valid, "#revision", revision]);
        eventually("redis is told again", || {
            fleet.redis.ask(&["HGET", "fleet:auth:keys", &id]).contains("revoked")
        });
        assert_eq!(ask(&host, &key), 401);
    };
    put("one");
    put("two");
    // So does a file that still has it.
    let file = fleet.path("keys.yaml");
    let entry: serde_json::Value = serde_json::from_str(&valid).unwrap();
    let yaml = format!(
        "keys:\n- {{id: '{id}', name: ci, scopes: ['predict:*'], hash: '{}', created: '{}'}}\n",
        text(&entry, "hash"),
        text(&entry, "created")
    );
    std::fs::write(&file, yaml).unwrap();
    eventually("the file is read", || {
        host.log_lines("audit").iter().any(|line| line.to_string().contains("\"file\""))
    });
    assert_eq!(ask(&host, &key), 401);
    let second = fleet.host();
    eventually("a new host has heard of it", || ask(&second, &key) == 401);
}

#[test]
fn entries_that_are_none_are_refused_one_by_one() {
    let fleet = Fleet::new();
    let host = fleet.host();
    let key = fleet.key_for(&[&host]);
    let id = &key[5..17];
    let huge = "x".repeat(100_000);
    for (field, value) in [
        ("0123456789ab", "garbage"),
        ("0123456789ac", "{\"v\":1}"),
        ("0123456789ad", huge.as_str()),
        ("../../etc", "{}"),
        ("\u{1b}[2J", ""),
        ("0123456789ae", "{\"v\":2,\"name\":\"x\",\"scopes\":[],\"hash\":\"\",\"created\":\"\"}"),
    ] {
        fleet.redis.ask(&["HSET", "fleet:auth:keys", field, value]);
    }
    fleet.redis.ask(&["HSET", "fleet:auth:keys", "#revision", "spoilt"]);
    let told = || host.logs().iter().filter(|line| line.contains("an API key in redis is not taken")).count();
    eventually("all six are told", || told() == 6);
    assert_eq!(ask(&host, &key), 200, "the others are as they were");
    // The entry of a key that is known is put back.
    fleet.redis.ask(&["HSET", "fleet:auth:keys", id, "[]", "#revision", "spoilt again"]);
    eventually("it is put back", || {
        fleet.redis.ask(&["HGET", "fleet:auth:keys", id]).contains("\"name\":\"ci\"")
    });
    assert_eq!(ask(&host, &key), 200);
    assert!(!host.logs().iter().any(|line| line.contains("panicked")));
}

#[test]
fn a_later_hosts_entry_is_left_alone_and_its_revocation_counts() {
    let fleet = Fleet::new();
    let host = fleet.host();
    let [key, other] = ["ci", "other"].map(|name| {
        let key = text(&fleet.keys(&["create", name, "--scope", "predict:*"]), "key");
        within_a_second("a key", || ask(&host, &key) == 200);
        key
    });
    let later = "{\"v\":2,\"owner\":{\"name\":\"ci\"},\"revoked\":\"2027-01-01T00:00:00Z\"}";
    let valid = "{\"v\":2,\"owner\":{\"name\":\"other\"}}";
    fleet.redis.ask(&[
        "HSET",
        "fleet:auth:keys",
        &key[5..17],
        later,
        &other[5..17],
        valid,
        "#revision",
        "later",
    ]);
    within_a_second("the revocation", || ask(&host, &key) == 401);
    assert_eq!(ask(&host, &other), 200, "what is known of it stays");
    fleet.keys(&["create", "third", "--scope", "metrics"]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    for (key, text) in [(&key, later), (&other, valid)] {
        assert_eq!(fleet.redis.ask(&["HGET", "fleet:auth:keys", &key[5..17]]), text);
    }
    eventually("it is told", || host.logs().iter().any(|line| line.contains("update this one")));
}

#[test]
fn a_large_entry_keeps_no_revocation_from_being_heard() {
    let fleet = Fleet::new();
    let host = fleet.host();
    let key = fleet.key_for(&[&host]);
    let huge = "redis.call('HSET', KEYS[1], '0123456789ad', string.rep(string.rep('x', 1000), 2000), '#revision', 'x')";
    fleet.redis.ask(&["EVAL", huge, "1", "fleet:auth:keys"]);
    fleet.keys(&["revoke", "ci"]);
    within_a_second("a revocation beside it", || ask(&host, &key) == 401);
}

#[test]
fn the_command_line_finds_keys_where_it_is_told_to() {
    let fleet = Fleet::new();
    let url = fleet.url();
    let named = ["--redis", &url, "--namespace", "fleet", "--json"];
    let made = run_keys(&[&["create", "ci", "--scope", "metrics"], &named[..]].concat()).unwrap();
    let listed = fleet.keys(&["list"]);
    assert_eq!((&listed[0]["id"], listed.as_array().unwrap().len()), (&made["id"], 1));
    let elsewhere = run_keys(&["list", "--redis", &url, "--json"]).unwrap();
    assert_eq!(elsewhere, json!([]), "another namespace has other keys");
    let revoked = run_keys(&[&["revoke", "ci", "--all"], &named[..]].concat()).unwrap();
    assert_eq!(revoked["revoked"], json!([made["id"]]));
    for (arguments, expected) in [
        (["list", "--redis", "http://127.0.0.1:1"].as_slice(), "--redis"),
        (&["list", "--redis", &url, "--file", "keys.yaml"], "cannot be used with"),
        (&["list", "--namespace", "fleet"], "--redis"),
        (&["revoke", "nobody", "--redis", &url], "no key 'nobody'"),
        (&["list", "--redis", "redis://127.0.0.1:1"], "cannot be reached"),
    ] {
        let error = run_keys(arguments).unwrap_err();
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn many_who_change_keys_at_once_lose_nothing() {
    let fleet = Fleet::new();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let fleet = &fleet;
            scope.spawn(move || {
                for number in 0..4 {
                    fleet.keys(&["create", &format!("{thread}-{number}"), "--scope", "metrics"]);
                }
            });
        }
    });
    assert_eq!(fleet.keys(&["list"]).as_array().unwrap().len(), 12);
}
