//! Which clients move when shares change.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::Traffic;
use super::{at, policy, ready};
use crate::config::Labels;

const CLIENTS: u32 = 20_000;

fn split(weights: &[u32]) -> String {
    let weights: Vec<String> =
        weights.iter().enumerate().map(|(index, weight)| format!("'{}': {weight}", index + 1)).collect();
    format!("{{strategy: split, weights: {{{}}}, sticky: body}}", weights.join(", "))
}

fn assignment(traffic: &Traffic) -> Vec<String> {
    let of = |client: u32| traffic.choose(Some(&client.to_le_bytes()), 0).unwrap().arm.version().to_string();
    (0..CLIENTS).map(of).collect()
}

fn shares(assignment: &[String]) -> BTreeMap<&str, f64> {
    let mut shares = BTreeMap::new();
    assignment
        .iter()
        .for_each(|version| *shares.entry(version.as_str()).or_insert(0.0) += 1.0 / f64::from(CLIENTS));
    shares
}

#[test]
fn of_90_to_10_and_80_to_20_a_tenth_moves() {
    let traffic = Traffic::new("m", policy(&split(&[90, 10])), Labels::new(), None);
    traffic.versions_changed(&ready(&["1", "2"]), at(0));
    let before = assignment(&traffic);
    traffic.reconfigure(policy(&split(&[80, 20])), Labels::new(), at(1));
    let after = assignment(&traffic);
    assert!(!before.iter().zip(&after).any(|(before, after)| before == "2" && after == "1"));
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert!((moved as f64 / f64::from(CLIENTS) - 0.1).abs() < 0.01, "{moved}");
}

#[test]
fn models_draw_independently() {
    let of = |model: &str| {
        let traffic = Traffic::new(model, policy(&split(&[50, 50])), Labels::new(), None);
        traffic.versions_changed(&ready(&["1", "2"]), at(0));
        assignment(&traffic)
    };
    let same = of("a").iter().zip(&of("b")).filter(|(left, right)| left == right).count();
    assert!((same as f64 / f64::from(CLIENTS) - 0.5).abs() < 0.03, "{same}");
}

/// An operator's clients keep their arms over an update of the host: this must not change.
#[test]
fn assignments_are_the_same_in_every_release() {
    let traffic = Traffic::new("digits", policy(&split(&[50, 50])), Labels::new(), None);
    traffic.versions_changed(&ready(&["1", "2"]), at(0));
    let users = ["ada", "grace", "alan", "edsger", "barbara", "donald", "tony", "niklaus"];
    let of = |user: &&str| traffic.choose(Some(user.as_bytes()), 0).unwrap().arm.version().to_string();
    assert_eq!(users.iter().map(of).collect::<Vec<_>>(), ["1", "2", "2", "1", "2", "2", "2", "1"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn shares_are_kept_and_only_what_must_moves(
        weights in prop::collection::vec(1..100_u32, 2..6), changed in any::<prop::sample::Index>(), weight in 1..200_u32,
    ) {
        let versions: Vec<String> = (1..=weights.len()).map(|version| version.to_string()).collect();
        let traffic = Traffic::new("m", policy(&split(&weights)), Labels::new(), None);
        traffic.versions_changed(&ready(&versions.iter().map(String::as_str).collect::<Vec<_>>()), at(0));
        let before = assignment(&traffic);
        let total: u32 = weights.iter().sum();
        for (index, weight) in weights.iter().enumerate() {
            let share = shares(&before).get(versions[index].as_str()).copied().unwrap_or(0.0);
            prop_assert!((share - f64::from(*weight) / f64::from(total)).abs() < 0.02);
        }
        let (changed, mut other) = (changed.index(weights.len()), weights.clone());
        other[changed] = weight;
        traffic.reconfigure(policy(&split(&other)), Labels::new(), at(1));
        let after = assignment(&traffic);
        // Clients move to the arm that has more, or from the one that has less, and nowhere else.
        for (before, after) in before.iter().zip(&after).filter(|(before, after)| before != after) {
            let to_or_from = if weight > weights[changed] { after } else { before };
            prop_assert_eq!(to_or_from, &versions[changed]);
        }
    }
}
