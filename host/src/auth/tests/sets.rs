//! Files of keys, and sets of keys.

use std::path::Path;

use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::Jwk;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::jwks;
use super::super::keys::from_file;
use super::*;

fn jwk(issuer: &Issuer, changed: Value) -> Value {
    let public = from_file(issuer.algorithm, Path::new("key"), &issuer.public).unwrap();
    let mut key =
        serde_json::to_value(Jwk::from_decoding_key(&public, Some(issuer.algorithm)).unwrap()).unwrap();
    for (name, value) in changed.as_object().unwrap() {
        key[name] = value.clone();
    }
    key.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    key
}

fn read(keys: &[Value], secrets: bool) -> Result<KeySet, String> {
    jwks::read(json!({"keys": keys}).to_string().as_bytes(), secrets, &rules()).map(set)
}

#[test]
fn each_type_of_key_verifies_its_tokens() {
    for algorithm in ALGORITHMS {
        let issuer = Issuer::new(algorithm);
        let keys = read(&[jwk(&issuer, json!({"kid": "k", "use": "sig"}))], true).unwrap();
        check(&issuer.token(Some("k"), &claims(json!({}))), &keys).unwrap();
    }
}

#[test]
fn a_key_without_an_algorithm_is_for_those_of_its_type() {
    let (rsa, secret) = (Issuer::new(Algorithm::PS384), Issuer::new(Algorithm::HS256));
    let keys = read(&[jwk(&rsa, json!({"alg": null, "kid": "k"}))], false).unwrap();
    check(&rsa.token(Some("k"), &claims(json!({}))), &keys).unwrap();
    assert!(reason(check(&secret.token(Some("k"), &claims(json!({}))), &keys)).contains("no key for HS256"));
    assert!(read(&[jwk(&secret, json!({"alg": null}))], true).unwrap_err().contains("'alg'"));
    let bound = read(&[jwk(&rsa, json!({"alg": "RS256"}))], false).unwrap();
    assert!(reason(check(&rsa.token(None, &claims(json!({}))), &bound)).contains("no key for PS384"));
}

#[test]
fn keys_for_other_things_are_passed_over() {
    let issuer = Issuer::new(Algorithm::ES256);
    let good = jwk(&issuer, json!({"kid": "good"}));
    let others = [
        jwk(&issuer, json!({"use": "enc"})),
        jwk(&issuer, json!({"key_ops": ["sign"]})),
        jwk(&issuer, json!({"crv": "P-521"})),
        jwk(&issuer, json!({"crv": "P-384"})),
        jwk(&issuer, json!({"alg": "RS256"})),
        jwk(&issuer, json!({"alg": "RSA-OAEP"})),
        jwk(&issuer, json!({"alg": "dir"})),
        jwk(&issuer, json!({"x": "!!"})),
        jwk(&issuer, json!({"x": "AAAA"})),
        jwk(&issuer, json!({"kty": "magic"})),
        json!(5),
        json!({}),
        json!(null),
    ];
    for other in &others {
        assert!(read(std::slice::from_ref(other), false).unwrap_err().contains("no key in it"), "{other}");
        assert_eq!(read(&[other.clone(), good.clone()], false).unwrap().keys.len(), 1, "{other}");
    }
    let secret = jwk(&Issuer::new(Algorithm::HS256), json!({}));
    let refused = read(&[secret], false).unwrap_err();
    assert!(refused.contains("nothing that a URL should give out") && !refused.contains("MDEy"), "{refused}");
}

#[test]
fn what_is_no_set_is_refused_without_showing_it() {
    for text in ["", "[]", "{}", "{\"keys\": 5}", "{\"keys\": [}", "<html>s3cret</html>", "{\"keys\": []}"] {
        let reason = jwks::read(text.as_bytes(), true, &rules()).unwrap_err();
        assert!(!reason.contains("s3cret"), "{reason}");
    }
    let large = format!("{{\"keys\": [{}]}}", " ".repeat(300 << 10));
    assert!(jwks::read(large.as_bytes(), true, &rules()).unwrap_err().contains("larger than"));
}

#[test]
fn files_of_the_wrong_kind_are_refused_by_name() {
    let file = |algorithm, bytes: &[u8]| from_file(algorithm, Path::new("some.key"), bytes).map(drop);
    let private = rsa().serialize_pem();
    let public = rsa().public_key_pem();
    let es256 = Issuer::new(Algorithm::ES256).public;
    for (algorithm, bytes, expected) in [
        (Algorithm::HS256, b"short".as_slice(), "at least 32 bytes"),
        (Algorithm::HS512, &SECRET[..63], "at least 64 bytes"),
        (Algorithm::HS256, public.as_bytes(), "no public key"),
        (Algorithm::RS256, private.as_bytes(), "private key"),
        (Algorithm::RS256, es256.as_slice(), "public key for RS256"),
        (Algorithm::ES384, es256.as_slice(), "another curve"),
        (Algorithm::EdDSA, es256.as_slice(), "public key for EdDSA"),
        (Algorithm::ES256, public.as_bytes(), "public key for ES256"),
        (Algorithm::RS256, b"garbage".as_slice(), "public key for RS256"),
        (Algorithm::RS256, b"".as_slice(), "public key for RS256"),
    ] {
        let reason = file(algorithm, bytes).unwrap_err();
        assert!(reason.starts_with("some.key: ") && reason.contains(expected), "{reason}");
    }
    for ending in ["", "\n", "\r\n"] {
        let secret = [SECRET, ending.as_bytes()].concat();
        let key = from_file(Algorithm::HS512, Path::new("k"), &secret).unwrap();
        assert_eq!(key.try_get_as_bytes().unwrap(), SECRET);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_as_keys_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200), which in 0..ALGORITHMS.len()) {
        let _ = from_file(ALGORITHMS[which], Path::new("k"), &bytes);
        let pem = [b"-----BEGIN PUBLIC KEY-----\n", bytes.as_slice(), b"\n-----END PUBLIC KEY-----\n"].concat();
        let _ = from_file(ALGORITHMS[which], Path::new("k"), &pem);
        let _ = jwks::read(&bytes, true, &rules());
    }

    #[test]
    fn any_numbers_in_a_set_are_judged(x in "[A-Za-z0-9_-]{0,100}", y in "[A-Za-z0-9_-]{0,100}", kty in prop::sample::select(vec!["EC", "RSA", "OKP", "oct"])) {
        let key = json!({"kty": kty, "crv": "P-256", "x": x, "y": y, "n": x, "e": y, "k": x, "alg": "ES256"});
        if let Ok(keys) = read(&[key], true) {
            let token = Issuer::new(Algorithm::ES256).token(None, &claims(json!({})));
            prop_assert!(check(&token, &keys).is_err());
        }
    }
}

#[test]
fn a_token_without_a_name_of_its_key_waits_for_one_that_it_can_be_of() {
    let (issuer, other) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::EdDSA));
    let token = issuer.token(None, &claims(json!({})));
    for keys in [set(Vec::new()), set(vec![other.key(None, &rules())])] {
        assert!(matches!(check(&token, &keys), Err(NotBelieved::NoKey(_))));
    }
    let keys = set(vec![Issuer::new(Algorithm::ES256).key(None, &rules())]);
    assert!(
        matches!(check(&token, &keys), Err(NotBelieved::Refused(_))),
        "there is one, and it is another's"
    );
}
