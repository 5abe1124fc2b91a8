//! Tokens of every algorithm, and those that are made to pass for one.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::scopes::Need;
use super::*;

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

/// A token with this header as it is, and the signature of another.
fn with_header(header: &Value, token: &str) -> String {
    let mut parts = token.split('.');
    let (_, claims, signature) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
    format!("{}.{claims}.{signature}", base64(header.to_string().as_bytes()))
}

/// A token with this header as it is, signed with the secret.
fn signed_with_header(header: &Value, claims: &Value) -> String {
    let message =
        format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(SECRET), Algorithm::HS256)
            .unwrap();
    format!("{message}.{signature}")
}

fn hs256() -> KeySet {
    set(vec![Issuer::new(Algorithm::HS256).key(None, &rules())])
}

#[test]
fn each_algorithm_is_believed_with_its_key_and_with_no_other() {
    let issuers: Vec<Issuer> = ALGORITHMS.into_iter().map(Issuer::new).collect();
    for issuer in &issuers {
        let token = issuer.token(None, &claims(json!({})));
        for other in &issuers {
            let outcome = check(&token, &set(vec![other.key(None, &rules())]));
            if other.algorithm == issuer.algorithm {
                let identity = outcome.unwrap().identity;
                assert_eq!(identity.subject, "ann");
                assert!(
                    identity.scopes.allow(Need::Predict("digits")) && !identity.scopes.allow(Need::Admin)
                );
            } else {
                assert!(
                    reason(outcome).contains("no key for"),
                    "{:?} {:?}",
                    issuer.algorithm,
                    other.algorithm
                );
            }
        }
        let all = set(issuers.iter().map(|issuer| issuer.key(None, &rules())).collect());
        check(&token, &all).unwrap();
    }
}

#[test]
fn a_public_key_is_no_secret() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let issuer = Issuer::new(algorithm);
        let keys = set(vec![issuer.key(Some("k"), &rules())]);
        let forged = EncodingKey::from_secret(&issuer.public);
        for kid in [None, Some("k".to_owned())] {
            let header = Header { kid, ..Header::new(Algorithm::HS256) };
            let token = encode(&header, &claims(json!({"scope": "admin"})), &forged).unwrap();
            assert!(reason(check(&token, &keys)).contains("no key for HS256"));
        }
    }
}

#[test]
fn none_is_no_algorithm() {
    let good = Issuer::new(Algorithm::HS256).token(None, &claims(json!({})));
    let payload = good.split('.').nth(1).unwrap();
    for name in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "null"] {
        let header = base64(json!({"alg": name, "typ": "JWT"}).to_string().as_bytes());
        for token in [format!("{header}.{payload}."), with_header(&json!({"alg": name}), &good)] {
            assert!(reason(check(&token, &hs256())).contains("header cannot be read"), "{name}");
        }
    }
    let unsigned = format!("{}.{payload}.", good.split('.').next().unwrap());
    assert!(reason(check(&unsigned, &hs256())).contains("signature"));
}

#[test]
fn what_a_token_says_of_keys_is_not_listened_to() {
    let attacker = Issuer::new(Algorithm::RS256);
    let public = jsonwebtoken::jwk::Jwk::from_encoding_key(&attacker.signing, Algorithm::RS256).unwrap();
    let honest = Issuer::new(Algorithm::ES256);
    let keys = set(vec![honest.key(Some("k"), &rules())]);
    let mut header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::RS256) };
    header.jwk = Some(public);
    header.jku = Some("http://127.0.0.1:1/keys.json".to_owned());
    header.x5u = Some("http://127.0.0.1:1/chain.pem".to_owned());
    let token = encode(&header, &claims(json!({})), &attacker.signing).unwrap();
    assert!(reason(check(&token, &keys)).contains("no key for RS256"));
    // The same headers on a token of the honest issuer change nothing, either.
    let mut header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::ES256) };
    header.jku = Some("http://127.0.0.1:1/keys.json".to_owned());
    check(&encode(&header, &claims(json!({})), &honest.signing).unwrap(), &keys).unwrap();
}

#[test]
fn a_name_of_a_key_leads_to_that_key_alone() {
    let (one, two) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::ES256));
    let keys = set(vec![one.key(Some("one"), &rules()), two.key(Some("two"), &rules())]);
    check(&one.token(Some("one"), &claims(json!({}))), &keys).unwrap();
    check(&two.token(Some("two"), &claims(json!({}))), &keys).unwrap();
    check(&two.token(None, &claims(json!({}))), &keys).unwrap();
    assert!(reason(check(&one.token(Some("two"), &claims(json!({}))), &keys)).contains("signature"));
    for kid in ["three", "", "../../etc/passwd", "one' OR '1'='1", "\u{0}"] {
        let outcome = check(&one.token(Some(kid), &claims(json!({}))), &keys);
        assert_eq!(outcome.unwrap_err(), NotBelieved::UnknownKey(kid.to_owned()));
    }
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    let with = |extra: Value| {
        let mut header = json!({"alg": "HS256", "typ": "JWT"});
        for (name, value) in extra.as_object().unwrap() {
            header[name] = value.clone();
        }
        reason(check(&signed_with_header(&header, &claims(json!({}))), &hs256()))
    };
    assert!(with(json!({"crit": ["exp"]})).contains("crit"));
    assert!(with(json!({"crit": []})).contains("crit"));
    assert!(with(json!({"crit": ["b64"], "b64": false})).contains("crit"));
    assert!(with(json!({"zip": "DEF"})).contains("compressed"));
    assert!(with(json!({"enc": "A128GCM"})).contains("encrypted"));
    assert!(with(json!({"typ": "dpop+jwt"})).contains("typ"));
    assert!(with(json!({"alg": ["HS256"]})).contains("header cannot be read"));
    let twice = r#"{"alg":"HS256","alg":"none"}"#;
    let token = signed_with_header(&json!({}), &claims(json!({})));
    let rest = token.split_once('.').unwrap().1;
    assert!(reason(check(&format!("{}.{rest}", base64(twice.as_bytes())), &hs256())).contains("header"));
}

#[test]
fn claims_have_to_be_there_and_right() {
    let issuer = Issuer::new(Algorithm::HS256);
    let refused = |changed: Value| reason(check(&issuer.token(None, &claims(changed)), &hs256()));
    for (changed, expected) in [
        (json!({"exp": null}), "'exp'"),
        (json!({"exp": "tomorrow"}), "'exp'"),
        (json!({"exp": -1}), "'exp'"),
        (json!({"exp": seconds(-31)}), "expired"),
        (json!({"nbf": seconds(90)}), "nbf"),
        (json!({"nbf": "soon"}), "'nbf'"),
        (json!({"iss": null}), "'iss'"),
        (json!({"iss": "you"}), "issuer"),
        (json!({"iss": 5}), "'iss'"),
        (json!({"aud": null}), "'aud'"),
        (json!({"aud": "other"}), "audience"),
        (json!({"aud": ["a", "b"]}), "audience"),
        (json!({"aud": {"nuke": 1}}), "'aud'"),
        (json!({"sub": null}), "'sub'"),
        (json!({"sub": ""}), "'sub'"),
        (json!({"sub": "a\nb"}), "'sub'"),
        (json!({"sub": "x".repeat(257)}), "'sub'"),
    ] {
        let reason = refused(changed.clone());
        assert!(reason.contains(expected), "{changed}: {reason}");
    }
    // Within the leeway, and among several audiences.
    for changed in [
        json!({"exp": seconds(-25)}),
        json!({"nbf": seconds(25)}),
        json!({"aud": ["x", "nuke"]}),
        json!({"exp": 1e300}),
    ] {
        let outcome = check(&issuer.token(None, &claims(changed.clone())), &hs256());
        assert_eq!(outcome.is_ok(), changed.get("exp").is_none_or(|exp| exp != &json!(1e300)), "{changed}");
    }
}

#[test]
fn scopes_come_as_a_text_or_a_list_and_nothing_else() {
    let issuer = Issuer::new(Algorithm::HS256);
    let scopes = |scope: Value| {
        check(&issuer.token(None, &claims(json!({"scope": scope}))), &hs256()).unwrap().identity.scopes
    };
    assert!(scopes(json!("openid admin")).allow(Need::Admin));
    assert!(scopes(json!(["openid", "admin"])).allow(Need::Admin));
    for nothing in [
        json!(null),
        json!(5),
        json!({"admin": true}),
        json!(["admin metrics"]),
        json!("ADMIN"),
        json!([["admin"]]),
    ] {
        assert!(scopes(nothing.clone()).is_empty(), "{nothing}");
    }
}

#[test]
fn huge_deep_and_odd_texts_are_refused() {
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let deep_header = format!("{{\"alg\":\"HS256\",\"x\":{deep}}}");
    let good = Issuer::new(Algorithm::HS256).token(None, &claims(json!({})));
    let (head, rest) = good.split_once('.').unwrap();
    for token in [
        "x".repeat(9000),
        format!("{}.b.c", "a".repeat(8190)),
        format!("{}.{rest}", base64(deep_header.as_bytes())),
        format!("{head}.{}.x", base64(deep.as_bytes())),
        format!("{good}="),
        format!("{good}."),
        format!(".{good}"),
        good.replace('.', ".."),
        String::new(),
        "..".to_owned(),
        "a.b".to_owned(),
        "a.b.c.d".to_owned(),
    ] {
        reason(check(&token, &hs256()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_refused_and_nothing_panics(text in any::<String>(), parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 3)) {
        prop_assert!(check(&text, &hs256()).is_err());
        prop_assert!(check(&parts.join("."), &hs256()).is_err());
    }

    #[test]
    fn any_header_and_claims_are_judged(
        alg in prop::sample::select(vec!["HS256", "none", "RS256", "ES256"]),
        header in "[ -~]{0,30}", name in "[a-z]{1,5}", value in "[ -~]{0,30}",
    ) {
        let header = json!({"alg": alg, name.clone(): header});
        let token = signed_with_header(&header, &json!({name: value}));
        prop_assert!(check(&token, &hs256()).is_err());
    }

    #[test]
    fn a_token_that_is_changed_anywhere_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let good = Issuer::new(Algorithm::HS256).token(None, &claims(json!({})));
        let mut changed = good.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] = byte;
        if let Ok(changed) = String::from_utf8(changed) {
            prop_assert_eq!(check(&changed, &hs256()).is_ok(), changed == good);
        }
    }
}
