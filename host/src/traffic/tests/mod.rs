//! Each strategy as requests meet it, random histories, and simulations with planted truths.

mod drift;
mod histories;
mod rollouts;
mod sharing;
mod simulation;
mod strategies;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::{ReadyVersion, Traffic};
use crate::config::{Labels, TrafficPolicy};

/// A moment, in seconds after some other one.
fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn policy(text: &str) -> TrafficPolicy {
    policy_with(text, &Labels::new())
}

fn policy_with(text: &str, labels: &Labels) -> TrafficPolicy {
    TrafficPolicy::from_text("traffic", text, labels).unwrap_or_else(|problems| panic!("{problems}")).value
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(label, version)| ((*label).to_owned(), (*version).to_owned())).collect()
}

fn ready(names: &[&str]) -> Vec<ReadyVersion> {
    names.iter().map(|name| ReadyVersion { name: (*name).to_owned(), digest: "a".to_owned() }).collect()
}

fn traffic(text: &str, versions: &[&str]) -> Traffic {
    let traffic = Traffic::new("m", policy(text), Labels::new(), None);
    traffic.versions_changed(&ready(versions), at(0));
    traffic
}

/// How often each version serves, of many requests without a key.
fn counts(traffic: &Traffic, requests: u64) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for number in 0..requests {
        let choice = traffic.choose(None, super::plan::mix(number)).unwrap();
        *counts.entry(choice.arm.version().to_string()).or_default() += 1;
    }
    counts
}
