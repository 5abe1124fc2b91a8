//! How `auth` is read.

use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::auth::{ApiKeySettings, AuthSettings, CertificateEntry, JwtKeyEntry, JwtSettings};
use super::cache::check_shared;
use super::names_auth::{JwksSource, Pattern, ScopeWord, Word};
use super::section::Section;
use super::tree::Value;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND: Duration = Duration::from_secs(1);
/// Keys and certificates in a list.
const MOST: usize = 64;

/// Decodes `auth`. `has_redis`: there is a Redis to keep keys in.
pub(super) fn auth(section: &mut Section<'_>, has_redis: bool) -> AuthSettings {
    AuthSettings {
        jwt: section.section("jwt", jwt),
        api_keys: section.section("api_keys", |section| ApiKeySettings {
            file: section.take("file", None),
            redis: section.take_if("redis", false, |redis| check_shared(*redis, has_redis)),
        }),
        certificates: certificates(section),
        anonymous: section.take_if("anonymous", Vec::<ScopeWord>::new(), |scopes| {
            match scopes.iter().any(|scope| scope.as_str() == "admin") {
                true => Err("somebody who shows nothing cannot be an admin; take 'admin' out".to_owned()),
                false => Ok(()),
            }
        }),
    }
}

fn jwt(section: &mut Section<'_>) -> JwtSettings {
    let default = JwtSettings::default();
    let lists_keys = matches!(section.peek("keys"), Some(Value::Sequence(items)) if !items.is_empty());
    let names_keys = lists_keys || section.is_given("jwks");
    let settings = JwtSettings {
        keys: keys(section),
        jwks: section.take::<Option<JwksSource>>("jwks", default.jwks),
        issuer: section.take::<Option<Word>>("issuer", None).map(|word| word.0),
        audience: section.take::<Option<Word>>("audience", None).map(|word| word.0),
        leeway: section.take_in("leeway", default.leeway, Duration::ZERO..=HOUR),
        scope_claim: section.take("scope_claim", Word(default.scope_claim)).0,
        cache: section.take_in("cache", default.cache, Duration::ZERO..=HOUR),
        refresh: section.take_in("refresh", default.refresh, SECOND..=DAY),
        cooldown: section.take_in("cooldown", default.cooldown, Duration::from_millis(100)..=HOUR),
    };
    // Without a key nothing else here has any effect, and everybody would be let in.
    if !names_keys && settings != JwtSettings::default() {
        let place = section.place().clone();
        section.problem(
            "keys",
            &place,
            "missing; tokens are verified by 'keys' or 'jwks', and neither is there",
        );
    }
    settings
}

fn keys(section: &mut Section<'_>) -> Vec<JwtKeyEntry> {
    let entries = section.sections("keys", |section| {
        let algorithm = section.require::<Algorithm>("algorithm");
        let file = section.require("file");
        let kid = section.take::<Option<Word>>("kid", None).map(|word| word.0);
        Some(JwtKeyEntry { algorithm: algorithm?, file: file?, kid })
    });
    if entries.len() > MOST {
        let place = section.place().clone();
        section.problem("keys", &place, format!("expected at most {MOST} keys, got {}", entries.len()));
    }
    entries.into_iter().flatten().collect()
}

fn certificates(section: &mut Section<'_>) -> Vec<CertificateEntry> {
    let entries = section.sections("certificates", |section| {
        let subject = section.require::<Pattern>("subject");
        let scopes = section.require::<Vec<ScopeWord>>("scopes");
        Some(CertificateEntry { subject: subject?.0, scopes: scopes? })
    });
    entries.into_iter().flatten().collect()
}
