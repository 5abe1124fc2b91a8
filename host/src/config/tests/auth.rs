//! `auth` and `limits`: every problem with its line, and nothing secret in what is printed.

use super::super::{JwksSource, ServerConfig};
use super::{lines, variables};

fn problems(text: &str) -> Vec<String> {
    lines(ServerConfig::from_text("config.yaml", text))
}

#[test]
fn a_whole_section_is_read() {
    let text = "\
auth:
  jwt: {keys: [{algorithm: HS256, file: jwt.key}, {algorithm: EdDSA, file: /k/ed.pem, kid: new}], jwks: keys.json,
        issuer: me, audience: nuke, leeway: 5s, scope_claim: scp, cache: 0ms, refresh: 1m, cooldown: 1s}
  api_keys: {file: keys.yaml}
  certificates: [{subject: 'CN=ops*', scopes: [admin, metrics]}]
  anonymous: ['predict:public-*']
limits:
  identity: {requests: 100/s, burst: 200, concurrent: 8, bytes: 64MiB/s, burst_bytes: 1GiB}
  identities: {batch: {requests: 1000/m}}
  models: {big: {concurrent: 1}}
  trusted_proxies: [10.0.0.0/8, '::1']
";
    let config = ServerConfig::from_text("c/config.yaml", text).unwrap().value;
    assert_eq!(config.auth.jwt.keys[0].file.display().to_string(), "c/jwt.key");
    assert_eq!(config.auth.jwt.keys[1].kid.as_deref(), Some("new"));
    assert_eq!(config.auth.jwt.jwks, Some(JwksSource::File("c/keys.json".into())));
    assert_eq!(config.auth.certificates[0].scopes.len(), 2);
    assert!(config.auth.is_configured());
    assert_eq!(config.limits.identities[0].0, "batch");
    assert_eq!(config.limits.trusted_proxies.len(), 2);
    let again = ServerConfig::from_text(
        "config.yaml",
        &ServerConfig::from_text("c/config.yaml", text).unwrap().report.to_yaml(),
    );
    assert_eq!(again.unwrap().value, config);
    assert!(!ServerConfig::from_text("config.yaml", "auth: {}").unwrap().value.auth.is_configured());
}

#[test]
fn what_is_shared_needs_a_redis() {
    let shared = "auth: {api_keys: {redis: true}}\nlimits:\n  redis: true\n";
    let found = problems(shared);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains(":1:") && found[0].contains("auth.api_keys.redis: counts only with cache.redis"),
        "{found:?}"
    );
    assert!(
        found[1].contains(":3:") && found[1].contains("limits.redis: counts only with cache.redis"),
        "{found:?}"
    );
    let with = format!("{shared}cache: {{redis: {{url: 'redis://127.0.0.1'}}}}\n");
    let config = ServerConfig::from_text("config.yaml", &with).unwrap().value;
    assert!(config.auth.api_keys.redis && config.limits.redis && config.auth.is_configured());
}

#[test]
fn every_problem_is_named() {
    let text = "\
auth:
  jwt:
    keys:
    - {algorithm: none, file: a}
    - {algorithm: hs256, file: a}
    - {algorithm: HS256}
    - {algorithm: HS256, file: a, secret: hunter2}
    jwks: http://issuer.example/keys
    leeway: 2h
    issuer: ''
  anonymous: [admin]
  certificates: [{subject: CN=x, scopes: [root]}]
limits:
  identity: {requests: 5, burst: 0, concurrent: 0, bytes: 5/s}
  trusted_proxies: [10.0.0.0/64]
";
    let found = problems(text);
    let expected = [
        "config.yaml:4:19: auth.jwt.keys[0].algorithm: expected one of HS256",
        "config.yaml:5:19: auth.jwt.keys[1].algorithm: expected one of HS256",
        "config.yaml:6:7: auth.jwt.keys[2].file: missing; expected a path",
        "config.yaml:7:35: auth.jwt.keys[3].secret: unknown key",
        "config.yaml:8:11: auth.jwt.jwks: expected a file's path, or a URL",
        "config.yaml:9:13: auth.jwt.leeway: expected 0ms to 1h, got 2h",
        "config.yaml:10:13: auth.jwt.issuer: expected a word",
        "config.yaml:11:14: auth.anonymous: somebody who shows nothing cannot be an admin",
        "config.yaml:12:43: auth.certificates[0].scopes[0]: expected a scope",
        "config.yaml:14:24: limits.identity.requests: expected a rate like 100/s",
        "config.yaml:14:34: limits.identity.burst: expected 1 to 10000000, got 0",
        "config.yaml:14:49: limits.identity.concurrent: expected 1 to 1000000, got 0",
        "config.yaml:14:59: limits.identity.bytes: expected a rate of bytes",
        "config.yaml:15:21: limits.trusted_proxies[0]: expected an address",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected}\n{found}");
    }
    assert!(!found.concat().contains("hunter2"));
}

#[test]
fn credentials_in_a_url_are_refused_and_not_repeated() {
    let found = problems("auth: {jwt: {jwks: 'https://me:hunter2@issuer.example/keys'}}");
    assert!(found[0].contains("user name or password") && !found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn the_clients_variables_set_nothing() {
    let environment =
        variables(&[("NUKE_TOKEN", "s3cret"), ("NUKE_API_KEY", "s3cret"), ("NUKE_CLIENT_CA", "ca.pem")]);
    let loaded = ServerConfig::from_sources("config.yaml", "", &environment, &[]).unwrap();
    assert!(!loaded.report.to_yaml().contains("s3cret"));
}

#[test]
fn an_open_address_is_fine_once_callers_say_who_they_are() {
    let check = |text: &str| ServerConfig::from_text("config.yaml", text).unwrap().check_exposure().is_ok();
    assert!(!check("server: {http: 0.0.0.0:80}"));
    assert!(check("server: {http: 0.0.0.0:80}\nauth: {api_keys: {file: keys.yaml}}"));
}

#[test]
fn any_part_of_auth_closes_the_door() {
    let auth = |text: &str| ServerConfig::from_text("config.yaml", text).unwrap().value.auth;
    assert!(auth("auth: {anonymous: ['predict:tiny']}").is_configured());
    assert!(auth("auth: {certificates: [{subject: 'CN=x', scopes: [metrics]}]}").is_configured());
    assert!(!auth("auth: {anonymous: [], jwt: {}}").is_configured());
    for text in ["{issuer: me, audience: nuke}", "{keys: [], cache: 1s}", "{jwks: null, scope_claim: scp}"] {
        let found = problems(&format!("auth: {{jwt: {text}, api_keys: {{}}}}"));
        assert!(found.len() == 1 && found[0].contains("auth.jwt.keys: missing;"), "{found:?}");
    }
}
