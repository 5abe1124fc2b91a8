//! Limits: exact within a window, places that come back, accounts that are bounded.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::identity::{Identity, Kind};
use super::super::scopes::Scopes;
use super::*;
use crate::config::ServerConfig;

fn limits(text: &str) -> Limits {
    let config = ServerConfig::from_text("config.yaml", &format!("limits: {text}")).unwrap().value;
    Limits::new(&config.limits, 1 << 20)
}

/// The account of a caller; where it asks from does not matter.
fn owner(limits: &Limits, identity: &Identity) -> Owner {
    limits.owner(identity, [127, 0, 0, 1].into())
}

fn token(subject: &str) -> Identity {
    Identity::new(Kind::Token, subject.to_owned(), Scopes::everything())
}

#[test]
fn as_many_requests_as_the_burst_and_not_one_more() {
    let limits = limits("{identity: {requests: 10/h, burst: 3}}");
    let ann = owner(&limits, &token("ann"));
    let left: Vec<u32> = (0..3).map(|_| ann.request().unwrap().unwrap().left).collect();
    assert_eq!(left, [2, 1, 0]);
    let (error, standing) = ann.request().unwrap_err();
    assert_eq!((error.code, standing.left, standing.burst), (ErrorCode::ResourceExhausted, 0, 3));
    assert_eq!(standing.window, Duration::from_secs(3 * 360));
    let wait = error.retry_after.unwrap();
    assert!(wait > Duration::from_secs(350) && wait <= Duration::from_secs(360), "{wait:?}");
    assert!(owner(&limits, &token("bob")).request().is_ok(), "another caller has a rate of its own");
    assert!(owner(&limits, &token("ann")).request().is_err(), "the same caller has not");
}

#[test]
fn a_key_and_a_token_of_one_name_do_not_share_and_named_callers_have_their_own() {
    let limits = limits(
        "{identity: {requests: 1/h}, identities: {ci: {requests: 2/h}, boss: {}}, models: {m: {requests: 1/h}}}",
    );
    let key = Identity::new(Kind::ApiKey, "ann".to_owned(), Scopes::everything());
    assert!(owner(&limits, &token("ann")).request().is_ok() && owner(&limits, &key).request().is_ok());
    assert!(owner(&limits, &token("ann")).request().is_err());
    let ci = owner(&limits, &token("ci"));
    assert!(ci.request().is_ok() && ci.request().is_ok() && ci.request().is_err());
    let boss = owner(&limits, &token("boss"));
    assert!((0..100).all(|_| boss.request() == Ok(None)));
    assert!(limits.admit(&boss, "m").is_ok());
    assert_eq!(limits.admit(&boss, "m").unwrap_err().code, ErrorCode::ResourceExhausted);
    assert!((0..100).all(|_| limits.admit(&boss, "other").is_ok()));
}

#[test]
fn the_largest_burst_at_the_lowest_rate_is_a_large_burst() {
    let limits = limits("{identity: {requests: 1/h, burst: 10000000, bytes: 1KiB/h, burst_bytes: 1TiB}}");
    let ann = owner(&limits, &token("ann"));
    assert!((0..100_000).all(|_| ann.request().is_ok()));
    assert!(limits.admit(&ann, "m").unwrap().charge(1 << 30).is_ok());
}

#[test]
fn places_come_back_whatever_way_a_request_ends() {
    let limits = limits("{identity: {concurrent: 2}, model: {concurrent: 3, requests: 1000/h}}");
    let (ann, bob) = (owner(&limits, &token("ann")), owner(&limits, &token("bob")));
    let first = limits.admit(&ann, "m").unwrap();
    let second = limits.admit(&ann, "m").unwrap();
    assert!(limits.admit(&ann, "m").is_err() && limits.admit(&ann, "other").is_err());
    let third = limits.admit(&bob, "m").unwrap();
    assert!(limits.admit(&bob, "m").unwrap_err().message.contains("for this model"));
    drop(first);
    let again = limits.admit(&bob, "m").unwrap();
    drop((second, third, again));
    for _ in 0..10 {
        let _all = [
            limits.admit(&ann, "m").unwrap(),
            limits.admit(&ann, "m").unwrap(),
            limits.admit(&bob, "m").unwrap(),
        ];
        assert!(limits.admit(&bob, "m").is_err());
    }
}

#[test]
fn bytes_count_and_what_can_never_come_is_told() {
    let limits = limits("{identity: {bytes: 1MiB/h}, model: {bytes: 1MiB/h, burst_bytes: 2MiB}}");
    let ann = owner(&limits, &token("ann"));
    let admitted = limits.admit(&ann, "m").unwrap();
    admitted.charge(0).unwrap();
    admitted.charge(512 << 10).unwrap();
    admitted.charge(512 << 10).unwrap();
    let error = admitted.charge(1).unwrap_err();
    assert!(
        error.code == ErrorCode::ResourceExhausted && error.retry_after.unwrap() > Duration::from_secs(1)
    );
    let bob = owner(&limits, &token("bob"));
    assert_eq!(
        limits.admit(&bob, "m").unwrap().charge((1 << 20) + 1).unwrap_err().code,
        ErrorCode::PayloadTooLarge
    );
}

#[test]
fn strangers_are_bounded_and_those_that_are_known_keep_their_account() {
    let limits = limits("{identity: {requests: 2/h}, tracked: 160}");
    let ann = owner(&limits, &token("ann"));
    assert!(ann.request().is_ok() && ann.request().is_ok() && ann.request().is_err());
    let mut refused = 0;
    for number in 0..10_000 {
        refused += u32::from(owner(&limits, &token(&number.to_string())).request().is_err());
    }
    assert!(limits.callers.len() <= 160, "{}", limits.callers.len());
    assert!(refused > 9_000, "those for whom there is no room share one account: {refused}");
    assert!(owner(&limits, &token("ann")).request().is_err(), "nobody is forgotten who is not as new");
}

#[test]
fn however_many_strangers_there_are_callers_and_plans_do_not_share_their_account() {
    let limits = limits(
        "{identity: {requests: 3/h}, identities: {batch: {requests: 5/h}}, anonymous: {requests: 1/h}, tracked: 16}",
    );
    for number in 0..2_000_u32 {
        let _ = limits.stranger(std::net::IpAddr::V4(number.into())).request();
    }
    let ann = owner(&limits, &token("ann"));
    assert_eq!((0..9).filter(|_| ann.request().is_ok()).count(), 3, "she has an account of her own");
    for number in 0..2_000 {
        let _ = owner(&limits, &token(&number.to_string())).request();
    }
    let batch = owner(&limits, &token("batch"));
    assert_eq!((0..9).filter(|_| batch.request().is_ok()).count(), 5, "it has its own plan, if no account");
}

#[test]
fn a_name_of_one_kind_is_not_that_of_another() {
    let limits = limits(
        "{identity: {requests: 1/h}, identities: {both: {requests: 2/h}, 'api_key:job': {requests: 3/h}, 'token:both': {requests: 4/h}}}",
    );
    let passes = |kind: Kind, name: &str| {
        let account = owner(&limits, &Identity::new(kind, name.to_owned(), Scopes::everything()));
        (0..9).filter(|_| account.request().is_ok()).count()
    };
    assert_eq!((passes(Kind::ApiKey, "job"), passes(Kind::Token, "job")), (3, 1));
    assert_eq!((passes(Kind::ApiKey, "both"), passes(Kind::Token, "both")), (2, 4));
    assert_eq!(passes(Kind::Token, "api_key:job"), 1, "a token cannot take the name of a key");
}

#[test]
fn accounts_that_are_as_new_make_room() {
    let limits = limits("{identity: {concurrent: 1}, tracked: 160}");
    let held: Vec<_> = (0..4)
        .map(|number| limits.admit(&owner(&limits, &token(&format!("held{number}"))), "m").unwrap())
        .collect();
    std::thread::sleep(Duration::from_millis(5));
    for number in 0..1_000 {
        assert!(limits.admit(&owner(&limits, &token(&number.to_string())), "m").is_ok());
    }
    assert!(limits.callers.len() <= 160);
    for number in 0..4 {
        assert!(limits.admit(&owner(&limits, &token(&format!("held{number}"))), "m").is_err());
    }
    drop(held);
}

proptest! {
    /// Whatever comes and goes, there are never more at a time than places, and all places come back.
    #[test]
    fn places_over_random_histories(steps in prop::collection::vec((any::<bool>(), 0..3_usize), 0..60)) {
        let limits = Arc::new(limits("{identity: {concurrent: 3}, model: {concurrent: 5}}"));
        let owners: Vec<_> = ["a", "b", "c"].map(|name| owner(&limits, &token(name))).into();
        let mut open: Vec<Vec<Admitted>> = (0..3).map(|_| Vec::new()).collect();
        for (comes, who) in steps {
            if comes {
                let total: usize = open.iter().map(Vec::len).sum();
                let fits = open[who].len() < 3 && total < 5;
                let admitted = limits.admit(&owners[who], "m");
                prop_assert_eq!(admitted.is_ok(), fits);
                open[who].extend(admitted.ok());
            } else {
                open[who].pop();
            }
        }
        drop(open);
        let again: Vec<_> = (0..3).map(|_| limits.admit(&owners[0], "m")).collect();
        prop_assert!(again.iter().all(Result::is_ok));
    }
}
