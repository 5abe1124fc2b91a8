//! Keys at a URL: there, late, gone, garbage, changing.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use nuke_tests::{Server, eventually};
use serde_json::json;

use super::issuer::Issuer;
use super::issuer_server::{Behaviour, KeyServer};
use super::{Setup, ask, infer_as, unauthenticated};

fn start(setup: &Setup, keys: &KeyServer, more: &str) -> Server {
    setup
        .builder(&format!("auth: {{jwt: {{jwks: '{}', issuer: me, audience: nuke{more}}}}}\n", keys.url()))
        .start()
}

/// A host that asks this server for keys, of which there is `old`, comes to know `new` and then forgets `old`.
pub(crate) fn rotates(server: &Server, keys: &KeyServer, old: &Issuer, new: &Issuer) {
    eventually("the key is there", || ask(server, &old.token_of(Some("old"), json!({}))) == 200);
    assert_eq!(keys.asked(), 1);
    std::thread::sleep(Duration::from_millis(150));
    keys.set(Behaviour::Keys(vec![old.jwk("old"), new.jwk("new")]));
    // The very first token with the new key waits for the answer, and is believed.
    assert_eq!(ask(server, &new.token_of(Some("new"), json!({}))), 200);
    assert_eq!(keys.asked(), 2);
    assert_eq!(ask(server, &old.token_of(Some("old"), json!({}))), 200);
    // The old key goes: its tokens end with the next answer.
    keys.set(Behaviour::Keys(vec![new.jwk("new")]));
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(ask(server, &old.token_of(Some("unknown"), json!({}))), 401);
    assert_eq!(ask(server, &old.token_of(Some("old"), json!({}))), 401);
    assert_eq!(ask(server, &new.token_of(Some("new"), json!({}))), 200);
}

#[test]
fn a_new_key_is_fetched_when_a_token_names_it() {
    let setup = Setup::new();
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::ES256));
    let keys = KeyServer::start(Behaviour::Keys(vec![old.jwk("old")]));
    let server = start(&setup, &keys, ", refresh: 1h, cooldown: 100ms");
    rotates(&server, &keys, &old, &new);
}

#[test]
fn made_up_keys_do_not_hammer_the_url() {
    let setup = Setup::new();
    let issuer = Issuer::new(Algorithm::ES256);
    let keys = KeyServer::start(Behaviour::Keys(vec![issuer.jwk("k")]));
    let server = start(&setup, &keys, ", refresh: 1h, cooldown: 1h");
    eventually("the key is there", || ask(&server, &issuer.token_of(Some("k"), json!({}))) == 200);
    for number in 0..200 {
        let answer = infer_as(&server.client(), &issuer.token_of(Some(&number.to_string()), json!({})));
        unauthenticated(&answer);
    }
    assert_eq!(keys.asked(), 1);
    assert_eq!(ask(&server, &issuer.token_of(Some("k"), json!({}))), 200);
}

#[test]
fn while_the_keys_have_never_come_the_answer_is_503_and_the_host_serves_on() {
    let setup = Setup::new();
    let issuer = Issuer::new(Algorithm::ES256);
    for wrong in [
        Behaviour::Text(500, "broken".to_owned()),
        Behaviour::Text(200, "<html>".to_owned()),
        Behaviour::Text(302, String::new()),
        Behaviour::Text(200, "{\"keys\": []}".to_owned()),
        Behaviour::Endless,
    ] {
        let keys = KeyServer::start(wrong);
        let server = start(&setup, &keys, ", cooldown: 100ms, refresh: 1s");
        eventually("it was asked", || keys.asked() > 0);
        let answer = infer_as(&server.client(), &issuer.token_of(Some("k"), json!({})));
        assert_eq!(answer.status, 503, "{}", answer.text());
        server.get("/v2/health/ready").expect(200);
        keys.set(Behaviour::Keys(vec![issuer.jwk("k")]));
        eventually("it is well again", || ask(&server, &issuer.token_of(Some("k"), json!({}))) == 200);
        // Garbage later keeps what there is.
        let asked = keys.asked();
        keys.set(Behaviour::Text(200, "garbage".to_owned()));
        eventually("it was asked again", || keys.asked() > asked + 1);
        assert_eq!(ask(&server, &issuer.token_of(Some("k"), json!({}))), 200);
    }
}

#[test]
fn a_url_that_is_silent_or_slow_holds_nobody_up_who_is_known() {
    let setup = Setup::new();
    let issuer = Issuer::new(Algorithm::ES256);
    let keys = KeyServer::start(Behaviour::Keys(vec![issuer.jwk("k")]));
    let server = start(&setup, &keys, ", refresh: 1h, cooldown: 100ms");
    let good = issuer.token_of(Some("k"), json!({}));
    eventually("the key is there", || ask(&server, &good) == 200);
    keys.set(Behaviour::Silent);
    std::thread::sleep(Duration::from_millis(150));
    std::thread::scope(|scope| {
        let strangers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| ask(&server, &issuer.token_of(Some("new"), json!({}))))).collect();
        for number in 0..20 {
            // Each its own token, so that none has been verified before.
            let token = issuer.token_of(Some("k"), json!({"sub": format!("user{number}")}));
            assert_eq!(ask(&server, &token), 200);
        }
        assert!(strangers.into_iter().all(|stranger| stranger.join().unwrap() == 401));
    });
    assert!(keys.asked() < 8, "those who wait share one asking, not {}", keys.asked());
    keys.set(Behaviour::Slow(Duration::from_millis(300), vec![issuer.jwk("k"), issuer.jwk("new")]));
    eventually("the silent asking has ended", || {
        ask(&server, &issuer.token_of(Some("new"), json!({}))) == 200
    });
}
