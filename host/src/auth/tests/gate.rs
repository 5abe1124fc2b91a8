//! The gate as a whole: headers in, a caller out.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::Algorithm;
use proptest::prelude::*;
use serde_json::json;

use super::super::api_key::NewKey;
use super::super::key_store::KeyStore;
use super::super::limits::Limits;
use super::super::scopes::Need;
use super::super::{Authority, Caller, Gate, Kind, Origin, Refusal};
use super::*;
use crate::config::{ScopeWord, ServerConfig};
use crate::error::ErrorCode;

/// A gate with a secret for tokens, an API key, and a certificate; and that key.
fn gate(more: &str) -> (tempfile::TempDir, Gate, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("jwt.key"), SECRET).unwrap();
    let key = NewKey::make("ci", vec![ScopeWord::parse("admin").unwrap()], SystemTime::now(), None).unwrap();
    let entry = key.entry.clone();
    let store = KeyStore::new(folder.path().join("keys.yaml"));
    let add = |file: &mut crate::config::ApiKeyFile| {
        file.keys.push(entry);
        Ok(())
    };
    store.change(add).unwrap();
    let text = format!(
        "auth:\n  jwt: {{keys: [{{algorithm: HS256, file: jwt.key}}], issuer: me, audience: nuke}}\n  \
         api_keys: {{file: keys.yaml}}\n  certificates: [{{subject: 'CN=ops*', scopes: [metrics]}}]\n{more}"
    );
    let name = folder.path().join("config.yaml");
    let config = ServerConfig::from_text(&name.display().to_string(), &text).unwrap().value;
    let authority = Arc::new(Authority::open(&config.auth).unwrap());
    let limits = Limits::new(&config.limits, 1 << 20);
    (folder, Gate::new(authority, limits, config.limits.trusted_proxies), key.secret.reveal().to_owned())
}

fn peer(address: &str, certificate: Option<&str>) -> Origin {
    Origin { address: address.parse().unwrap(), certificate: certificate.map(Into::into) }
}

fn enter(gate: &Gate, pairs: &[(&'static str, &str)], peer: &Origin) -> Result<Caller, Refusal> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(gate.enter(&mut headers, peer))
}

#[test]
fn each_way_of_showing_who_one_is() {
    let (_folder, gate, key) = gate("");
    let here = peer("127.0.0.1", None);
    let token = Issuer::new(Algorithm::HS256).token(None, &claims(json!({})));
    let caller = enter(&gate, &[("authorization", &format!("Bearer {token}"))], &here).unwrap();
    assert_eq!((caller.subject(), caller.identity().kind), (Some("ann"), Kind::Token));
    assert!(caller.require(Need::Predict("digits")).is_ok() && caller.sees("digits") && !caller.sees("x"));
    let refused = caller.require(Need::Admin).unwrap_err();
    assert_eq!((refused.code, refused.details[0].1.as_str()), (ErrorCode::PermissionDenied, "admin"));
    for pair in [("x-api-key", key.clone()), ("authorization", format!("bearer {key}"))] {
        let caller = enter(&gate, &[(pair.0, &pair.1)], &here).unwrap();
        assert_eq!((caller.subject(), caller.identity().kind), (Some("ci"), Kind::ApiKey));
        assert!(caller.require(Need::Admin).is_ok() && caller.require(Need::Predict("digits")).is_err());
        assert!(caller.sees("digits"));
    }
    let caller = enter(&gate, &[], &peer("10.0.0.1", Some("CN=ops-1,O=x"))).unwrap();
    assert_eq!((caller.subject(), caller.identity().kind), (Some("CN=ops-1,O=x"), Kind::Certificate));
    assert!(enter(&gate, &[], &peer("10.0.0.1", Some("CN=other"))).is_err());
    // What is shown in a header has to be right, whatever the certificate.
    assert!(enter(&gate, &[("x-api-key", "no")], &peer("10.0.0.1", Some("CN=ops-1"))).is_err());
}

#[test]
fn whatever_is_wrong_the_answer_is_the_same() {
    let (_folder, gate, key) = gate("");
    let here = peer("127.0.0.1", None);
    let token = |changed| Issuer::new(Algorithm::HS256).token(None, &claims(changed));
    let wrong = [
        ("x-api-key", "no".to_owned()),
        ("x-api-key", key.replace("nuke_", "nuke-")),
        ("x-api-key", format!("nuke_{}_{}", "0".repeat(12), "0".repeat(64))),
        ("x-api-key", format!("{}{}", &key[..key.len() - 8], "00000000")),
        ("authorization", format!("Bearer {}", token(json!({"exp": 5})))),
        ("authorization", format!("Bearer {}", token(json!({"aud": "x"})))),
        ("authorization", format!("Bearer {}x", token(json!({})))),
        ("authorization", "Basic dXNlcjpwYXNz".to_owned()),
        ("authorization", format!("Bearer {}", "x".repeat(10_000))),
    ];
    for (name, value) in &wrong {
        let error = enter(&gate, &[(*name, value)], &here).unwrap_err().error;
        assert_eq!(error.code, ErrorCode::Unauthenticated);
        assert_eq!(
            (error.message.as_ref(), error.details.len()),
            ("the credentials are not valid", 0),
            "{value}"
        );
    }
    assert!(enter(&gate, &[], &here).unwrap_err().error.message.contains("are missing"));
}

#[test]
fn somebody_who_shows_nothing_may_do_what_that_gives() {
    let (_folder, gate, _) = gate("  anonymous: ['predict:public-*']\n");
    let caller = enter(&gate, &[], &peer("127.0.0.1", None)).unwrap();
    assert_eq!(caller.subject(), None);
    assert!(caller.require(Need::Predict("public-a")).is_ok());
    assert_eq!(caller.require(Need::Predict("secret")).unwrap_err().code, ErrorCode::Unauthenticated);
    assert_eq!(caller.require(Need::Admin).unwrap_err().code, ErrorCode::Unauthenticated);
    // Wrong credentials are not the same as none.
    assert!(enter(&gate, &[("x-api-key", "no")], &peer("127.0.0.1", None)).is_err());
}

#[test]
fn where_only_strangers_scopes_are_set_nobody_may_do_more() {
    let config = ServerConfig::from_text("config.yaml", "auth: {anonymous: ['predict:tiny']}").unwrap().value;
    let authority = Arc::new(Authority::open(&config.auth).unwrap());
    let gate = Gate::new(authority, Limits::new(&config.limits, 1), Vec::new());
    let caller = enter(&gate, &[], &peer("127.0.0.1", None)).unwrap();
    assert!(gate.is_closed() && caller.require(Need::Predict("tiny")).is_ok());
    assert!(caller.require(Need::Predict("slow")).is_err() && caller.require(Need::Admin).is_err());
}

#[test]
fn addresses_have_limits_and_proxies_are_believed_only_where_they_are_trusted() {
    let (_folder, gate, _) = gate(
        "  anonymous: ['predict:*']\nlimits: {anonymous: {requests: 2/h}, trusted_proxies: [10.0.0.0/8]}\n",
    );
    let asks = |address: &str, forwarded: &[&str]| {
        let pairs: Vec<_> = forwarded.iter().map(|line| ("x-forwarded-for", *line)).collect();
        enter(&gate, &pairs, &peer(address, None)).map_err(|refusal| refusal.error.code)
    };
    // A client that makes up where it comes from stays who it is.
    assert!(asks("1.1.1.1", &["9.9.9.9"]).is_ok() && asks("1.1.1.1", &["8.8.8.8"]).is_ok());
    assert_eq!(asks("1.1.1.1", &["7.7.7.7"]).unwrap_err(), ErrorCode::ResourceExhausted);
    // Behind a proxy that is trusted, each client has its own; what the client itself wrote in front does not count.
    assert!(
        asks("10.0.0.1", &["6.6.6.6, 2.2.2.2"]).is_ok() && asks("10.0.0.2", &["2.2.2.2, 10.0.0.9"]).is_ok()
    );
    assert!(asks("10.0.0.1", &["5.5.5.5", "2.2.2.2"]).is_err());
    assert!(asks("10.0.0.1", &["3.3.3.3"]).is_ok());
    // All of an IPv6 network are one.
    assert!(
        asks("2001:db8::1", &[]).is_ok()
            && asks("2001:db8::2", &[]).is_ok()
            && asks("2001:db8::3", &[]).is_err()
    );
    assert!(asks("2001:db8:0:1::1", &[]).is_ok());
    assert!(asks("::ffff:3.3.3.3", &[]).is_ok() && asks("3.3.3.3", &[]).is_err());
}

#[test]
fn trying_counts_too_and_does_not_hurt_others() {
    let (_folder, gate, key) = gate("limits: {anonymous: {requests: 3/h}}\n");
    let here = peer("127.0.0.1", None);
    let codes: Vec<_> =
        (0..5).map(|_| enter(&gate, &[("x-api-key", "no")], &here).unwrap_err().error.code).collect();
    use ErrorCode::{ResourceExhausted, Unauthenticated};
    assert_eq!(
        codes,
        [Unauthenticated, Unauthenticated, Unauthenticated, ResourceExhausted, ResourceExhausted]
    );
    assert!((0..10).all(|_| enter(&gate, &[("x-api-key", &key)], &here).is_ok()));
}

#[test]
fn an_open_gate_asks_nobody() {
    let config = ServerConfig::from_text("config.yaml", "").unwrap().value;
    let authority = Arc::new(Authority::open(&config.auth).unwrap());
    let gate = Gate::new(authority, Limits::new(&config.limits, 1), Vec::new());
    let caller =
        enter(&gate, &[("authorization", "Bearer of some proxy")], &peer("127.0.0.1", None)).unwrap();
    assert!(
        caller.require(Need::Admin).is_ok()
            && caller.require(Need::Predict("x")).is_ok()
            && !gate.is_closed()
    );
    assert_eq!(caller.standing(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_headers_are_judged(
        values in prop::collection::vec((0..3_usize, prop::collection::vec(any::<u8>(), 0..60)), 0..4),
        bearer in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let (_folder, gate, _) = gate("limits: {trusted_proxies: [0.0.0.0/0]}\n");
        let names = ["authorization", "x-api-key", "x-forwarded-for"];
        let mut headers = HeaderMap::new();
        for (which, value) in values {
            headers.extend(HeaderValue::from_bytes(&value).ok().map(|value| (HeaderName::from_static(names[which]), value)));
        }
        let bearer = [b"Bearer ", bearer.as_slice()].concat();
        headers.extend(HeaderValue::from_bytes(&bearer).ok().map(|value| (HeaderName::from_static("authorization"), value)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        prop_assert!(runtime.block_on(gate.enter(&mut headers, &peer("127.0.0.1", None))).is_err());
    }
}
