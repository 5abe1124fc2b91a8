//! Tokens: every algorithm from a file, every attack that is known, keys that change under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use nuke_tests::eventually;
use serde_json::json;

use super::issuer::{Issuer, claims, seconds};
use super::{Setup, ask, infer, infer_as, unauthenticated};

#[test]
fn every_algorithm_is_served_from_a_file() {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    let setup = Setup::new();
    let algorithms = [HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA];
    let issuers: Vec<Issuer> = algorithms.into_iter().map(Issuer::new).collect();
    let entries: Vec<String> = issuers
        .iter()
        .map(|issuer| {
            let name = format!("{:?}.pem", issuer.algorithm);
            std::fs::write(setup.path(&name), &issuer.public).unwrap();
            format!("{{algorithm: {:?}, file: {name}}}", issuer.algorithm)
        })
        .collect();
    let config = format!("auth: {{jwt: {{keys: [{}], issuer: me, audience: nuke}}}}\n", entries.join(", "));
    let server = setup.builder(&config).start();
    for issuer in &issuers {
        infer_as(&server.client(), &issuer.token(json!({}))).expect(200);
        let stranger = Issuer::new(issuer.algorithm);
        if !format!("{:?}", issuer.algorithm).starts_with("HS") {
            unauthenticated(&infer_as(&server.client(), &stranger.token(json!({}))));
        }
    }
}

#[test]
fn every_attack_gets_the_same_answer() {
    let setup = Setup::new();
    let es256 = Issuer::new(Algorithm::ES256);
    std::fs::write(setup.path("es256.pem"), &es256.public).unwrap();
    std::fs::write(setup.path("keys.yaml"), "keys: []\n").unwrap();
    let config = super::AUTH.replace("keys: [", "keys: [{algorithm: ES256, file: es256.pem, kid: es}, ");
    let server = setup.builder(&config).start();
    let good = Issuer::hs256().token(json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let confused = Header { kid: Some("es".to_owned()), ..Header::new(Algorithm::HS256) };
    let confused = encode(&confused, &claims(json!({})), &EncodingKey::from_secret(&es256.public)).unwrap();
    let header = |change: fn(&mut Header)| {
        let mut header = Header::new(Algorithm::HS256);
        change(&mut header);
        encode(&header, &claims(json!({})), &Issuer::hs256().key).unwrap()
    };
    let attacks = [
        ("no algorithm", format!("{none}.{}.", parts[1])),
        ("no algorithm, with a signature", format!("{none}.{}.{}", parts[1], parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("a public key as a secret", confused),
        ("a signature of other claims", {
            let other = Issuer::hs256().token(json!({"scope": "admin"}));
            format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2])
        }),
        ("expired", Issuer::hs256().token(json!({"exp": seconds(-60)}))),
        ("without an end", Issuer::hs256().token(json!({"exp": null}))),
        ("not yet", Issuer::hs256().token(json!({"nbf": seconds(600)}))),
        ("another issuer", Issuer::hs256().token(json!({"iss": "you"}))),
        ("another audience", Issuer::hs256().token(json!({"aud": "you"}))),
        ("an unknown kid", es256.token_of(Some("../../es"), json!({}))),
        ("crit", header(|header| header.crit = Some(vec!["exp".to_owned()]))),
        ("huge", format!("{good}{}", "x".repeat(8 << 10))),
        ("two parts", parts[..2].join(".")),
        ("four parts", format!("{good}.x")),
        ("garbage", "%%%".to_owned()),
        ("an API key that is none", format!("nuke_{}_{}", "0".repeat(12), "0".repeat(64))),
    ];
    for (name, token) in &attacks {
        let answer = infer_as(&server.client(), token);
        assert_eq!(answer.status, 401, "{name}");
        unauthenticated(&answer);
    }
    unauthenticated(&infer(&server.client(), ("authorization", "Basic YTpi")));
    let missing = server.get("/v2/models/slow").expect(401);
    assert!(missing.error().contains("credentials are missing"));
    infer_as(&server.client(), &good).expect(200);
    eventually("each is told in the log", || server.log_lines("auth").len() > attacks.len());
}

#[test]
fn a_key_of_its_own_in_the_header_changes_nothing() {
    let setup = Setup::new();
    let server = setup.start("");
    let attacker = Issuer::new(Algorithm::ES256);
    let mut header = Header::new(Algorithm::ES256);
    header.jwk = Some(serde_json::from_value(attacker.jwk("k")).unwrap());
    header.jku = Some("http://127.0.0.1:9/keys".to_owned());
    let token = encode(&header, &claims(json!({})), &attacker.key).unwrap();
    unauthenticated(&infer_as(&server.client(), &token));
}

/// The new key is added, tokens move to it, the old key goes: nobody is refused on the way.
#[test]
fn keys_rotate_under_load_without_a_refusal() {
    let setup = Setup::new();
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::EdDSA));
    let write = |keys: &[serde_json::Value]| {
        std::fs::write(setup.path("next.json"), json!({"keys": keys}).to_string()).unwrap();
        std::fs::rename(setup.path("next.json"), setup.path("jwks.json")).unwrap();
    };
    write(&[old.jwk("old")]);
    let server = setup.builder("auth: {jwt: {jwks: jwks.json, issuer: me, audience: nuke}}\n").start();
    let (old_token, new_token) = (old.token_of(Some("old"), json!({})), new.token_of(Some("new"), json!({})));
    let (use_new, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let asked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let client = server.client();
            scope.spawn(|| {
                let client = client;
                while !stop.load(Ordering::SeqCst) {
                    let token = if use_new.load(Ordering::SeqCst) { &new_token } else { &old_token };
                    infer_as(&client, token).expect(200);
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let more = |count: usize| {
            let before = asked.load(Ordering::SeqCst);
            eventually("requests are answered", || asked.load(Ordering::SeqCst) >= before + count);
        };
        more(20);
        write(&[new.jwk("new"), old.jwk("old")]);
        eventually("the new key is known", || ask(&server, &new_token) == 200);
        more(20);
        use_new.store(true, Ordering::SeqCst);
        more(20);
        write(&[new.jwk("new")]);
        eventually("the old key is gone", || ask(&server, &old_token) == 401);
        more(20);
        stop.store(true, Ordering::SeqCst);
    });
    // A file that is broken changes nothing.
    std::fs::write(setup.path("jwks.json"), "{").unwrap();
    eventually("it is told", || server.logs().iter().any(|line| line.contains("those of before stay")));
    infer_as(&server.client(), &new_token).expect(200);
}

#[test]
fn a_host_whose_keys_are_wrong_does_not_start() {
    let setup = Setup::new();
    for (file, content, expected) in
        [("short.key", "short", "at least 32 bytes"), ("missing.key", "", "cannot be read")]
    {
        if !content.is_empty() {
            std::fs::write(setup.path(file), content).unwrap();
        }
        let config = format!("auth: {{jwt: {{keys: [{{algorithm: HS256, file: {file}}}]}}}}\n");
        let exited = setup.builder(&config).try_start().unwrap_err();
        assert_eq!(exited.status.code(), Some(64));
        assert!(exited.logs.concat().contains(expected), "{exited}");
        let mut check = nuke_tests::nuke();
        check.args(["check", "--config"]).arg(setup.path("config.yaml"));
        check.arg("--models").arg(setup.repository.models()).arg("--plugins").arg(setup.repository.plugins());
        let output = check.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("FAILED  configuration: auth: ") && told.contains(expected), "{told}");
    }
}
