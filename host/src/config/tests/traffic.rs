//! `traffic` and `labels`: every strategy, what is wrong with it, and the manual.

use proptest::prelude::*;

use super::super::{
    Colour, Labels, ModelConfig, Number, Quantile, Reward, Share, Sticky, TrafficPolicy, setting::Text,
};
use super::lines;

/// One of each strategy, with all of its keys.
const ALL: [&str; 9] = [
    "{strategy: latest}",
    "{strategy: pinned, version: 1.0.0}",
    "{strategy: split, weights: {'1': 90, prod: 0.5}, sticky: 'header:X-User'}",
    "{strategy: ab, arms: {control: {version: 1, weight: 50}, fast: {version: prod}}, sticky: 'cookie:Id'}",
    "{strategy: shadow, primary: 1, mirror: 2, share: 10%, compare: {tolerance: 1e-2}, max_in_flight: 7, budget: 9%}",
    "{strategy: blue-green, blue: 1, green: 2, active: green}",
    "{strategy: bandit, arms: {a: {version: 1}, b: {version: 2}}, reward: latency, min_share: 2.5%, half_life: 10m}",
    "{strategy: rollout, stable: 1, canary: 2, steps: [0.5%, 100%], hold: 30s, sticky: 'jwt:sub', gates: {max_error_rate: 3%, \
     error_ratio: null, latency_ratio: 1.5, latency_quantile: p99.9, min_requests: 7}}",
    "{strategy: rollout, sticky: body}",
];

fn model(traffic: &str) -> Result<ModelConfig, String> {
    let text = format!("labels: {{prod: 3, Canary: 4.0.0}}\ntraffic: {traffic}\n");
    ModelConfig::from_text("m", &text).map(|loaded| loaded.value).map_err(|problems| problems.to_string())
}

#[test]
fn each_strategy_is_read_and_printed() {
    for text in ALL {
        let text = format!("labels: {{prod: 3, Canary: 4.0.0}}\ntraffic: {text}\n");
        let loaded = ModelConfig::from_text("m", &text).unwrap_or_else(|problems| panic!("{problems}"));
        let printed = loaded.report.to_yaml();
        let again =
            ModelConfig::from_text("m", &printed).unwrap_or_else(|problems| panic!("{printed}{problems}"));
        assert_eq!(loaded.value, again.value, "{printed}");
        assert!(printed.contains(&format!("strategy: {}", loaded.value.traffic.strategy())), "{printed}");
    }
}

#[test]
fn values_are_what_was_written() {
    let TrafficPolicy::Split { weights, sticky } = model(ALL[2]).unwrap().traffic else { panic!() };
    assert_eq!(weights, [("1".to_owned(), Number::new(90.0)), ("prod".to_owned(), Number::new(0.5))]);
    assert_eq!(sticky, Sticky::Header("x-user".into()));
    let TrafficPolicy::Ab { arms, sticky } = model(ALL[3]).unwrap().traffic else { panic!() };
    assert_eq!(
        (arms[0].1.weight.get(), arms[1].1.weight.get(), arms[1].1.version.as_str()),
        (50.0, 1.0, "prod")
    );
    assert_eq!(sticky, Sticky::Cookie("Id".into()));
    let TrafficPolicy::BlueGreen { active, .. } = model(ALL[5]).unwrap().traffic else { panic!() };
    assert_eq!(active, Colour::Green);
    let TrafficPolicy::Bandit(bandit) = model(ALL[6]).unwrap().traffic else { panic!() };
    assert_eq!(
        (bandit.reward, bandit.min_share.fraction(), bandit.half_life.as_secs()),
        (Reward::Latency, 0.025, 600)
    );
    let TrafficPolicy::Rollout(rollout) = model(ALL[7]).unwrap().traffic else { panic!() };
    assert_eq!((rollout.share(0), rollout.share(9)), (0.005, 1.0));
    assert_eq!(rollout.pair, Some(("1".to_owned(), "2".to_owned())));
    assert_eq!((rollout.gates.error_ratio, rollout.gates.min_requests), (None, 7));
    assert!((rollout.gates.latency_quantile.fraction() - 0.999).abs() < 1e-12);
}

#[test]
fn each_mistake_is_named() {
    let wrong = [
        ("newest", "traffic: expected a map of keys, got 'newest'"),
        ("{strategy: canary}", "traffic.strategy: expected one of latest, pinned"),
        ("{strategy: shadw, primary: 1}", "did you mean 'shadow'?"),
        ("{strategy: pinned}", "traffic.version: missing"),
        ("{strategy: pinned, version: pord}", "there is no label 'pord'; did you mean 'prod'?"),
        (
            "{strategy: pinned, version: other}",
            "there is no label 'other'; name a version, or add it to labels",
        ),
        ("{strategy: pinned, version: ../x}", "traffic.version: expected a name of"),
        ("{strategy: pinned, version: 1, weights: {}}", "traffic.weights: unknown key"),
        ("{strategy: split}", "traffic.weights: expected 1 to 16 names, got 0"),
        ("{strategy: split, weights: [1, 2]}", "traffic.weights: expected a map of names, got a list"),
        ("{strategy: split, weights: {'1': 0}}", "traffic.weights.1: expected a number above 0"),
        ("{strategy: split, weights: {'1': -1}}", "expected a number above 0"),
        ("{strategy: split, weights: {'1': nan}}", "expected a number above 0"),
        ("{strategy: split, weights: {'1': 1e999}}", "it is too large"),
        ("{strategy: split, weights: {a b: 1}}", "expected a version or a label, got 'a b'"),
        ("{strategy: split, weights: {'1': 1}, sticky: header}", "expected one of none, header:NAME"),
        ("{strategy: split, weights: {'1': 1}, sticky: 'header:a b'}", "traffic.sticky: expected"),
        ("{strategy: split, weights: {'1': 1}, sticky: 'jwt:iss'}", "of a token, only 'sub' is used"),
        (
            "{strategy: ab, arms: {'1': {version: 1}}}",
            "traffic.arms.1: expected a name that begins with a letter",
        ),
        ("{strategy: ab, arms: {a: 1}}", "traffic.arms.a: expected a map of keys, got '1'"),
        ("{strategy: ab, arms: {a: {version: 1, wieght: 2}}}", "did you mean 'traffic.arms.a.weight'?"),
        ("{strategy: shadow, primary: 1, mirror: 1}", "traffic.mirror: is the primary itself"),
        ("{strategy: shadow, primary: 1, mirror: 2, share: 0.1}", "the % is missing"),
        ("{strategy: shadow, primary: 1, mirror: 2, share: 0%}", "above 0% and at most 100%"),
        ("{strategy: shadow, primary: 1, mirror: 2, share: 101%}", "above 0% and at most 100%"),
        ("{strategy: shadow, primary: 1, mirror: 2, max_in_flight: 0}", "expected 1 to 1024, got 0"),
        ("{strategy: blue-green, blue: 1, green: 2, active: red}", "expected one of blue, green, got 'red'"),
        ("{strategy: bandit, arms: {a: {version: 1}}}", "traffic.arms: expected 2 to 16 names, got 1"),
        (
            "{strategy: bandit, arms: {a: {version: 1}, b: {version: 2}}, min_share: 60%}",
            "2 arms cannot get 60% each",
        ),
        ("{strategy: rollout, stable: 1}", "traffic.canary: missing"),
        ("{strategy: rollout, stable: 1, canary: 1}", "traffic.canary: is the stable version itself"),
        ("{strategy: rollout, steps: [10%, 50%]}", "rising shares, the last one 100%"),
        ("{strategy: rollout, steps: []}", "rising shares, the last one 100%"),
        ("{strategy: rollout, steps: [50%, 50%, 100%]}", "rising shares, the last one 100%"),
        ("{strategy: rollout, hold: 0s}", "traffic.hold: expected 1s to"),
        ("{strategy: rollout, gates: {latency_quantile: 95}}", "a quantile like p50"),
        ("{strategy: rollout, gates: {latency_quantile: p100}}", "a quantile like p50"),
        ("{strategy: rollout, gates: {error_ratio: 0.5}}", "expected at least 1, got 0.5"),
    ];
    for (text, expected) in wrong {
        let problems = model(text).expect_err(text);
        assert!(problems.contains(expected), "{text}: {problems}");
    }
    let many: Vec<String> = (0..17).map(|version| format!("'{version}': 1")).collect();
    let many = format!("{{strategy: split, weights: {{{}}}}}", many.join(", "));
    assert!(model(&many).unwrap_err().contains("expected 1 to 16 names, got 17"));
    let found = lines(ModelConfig::from_text("m", "labels: {'1': 2, a/b: 3, ok: ../x, 2nd: 1}"));
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].starts_with("m:1:10: labels.1: expected a name that begins with a letter"), "{found:?}");
}

#[test]
fn a_policy_by_itself_may_be_json() {
    let labels = Labels::from([("prod".to_owned(), "3".to_owned())]);
    let read = |text: &str| TrafficPolicy::from_text("request", text, &labels);
    let policy = read("{\"strategy\": \"split\", \"weights\": {\"prod\": 9, \"2\": 1.5}}").unwrap().value;
    assert_eq!(policy.names(), ["prod", "2"]);
    assert_eq!(policy.also_wanted(&labels, true).names.into_iter().collect::<Vec<_>>(), ["2", "3"]);
    assert!(lines(read("{\"strategy\": \"pinned\", \"version\": \"nobody\"}"))[0].starts_with("request:1:"));
    assert_eq!(read("").unwrap().value, TrafficPolicy::Latest);
    assert!(read("[").is_err() && read("{a: b}").is_err());
}

/// The keys under `arms`, `weights` and `labels` are an operator's own.
fn pattern(key: &str) -> String {
    let parts: Vec<&str> = key.split('.').collect();
    match parts[..] {
        ["traffic", "arms", _, last] => format!("traffic.arms.NAME.{last}"),
        ["traffic", "weights", ..] => "traffic.weights".to_owned(),
        ["labels", ..] => "labels".to_owned(),
        _ => key.to_owned(),
    }
}

#[test]
fn every_key_of_every_strategy_is_in_the_manual() {
    let manual = include_str!("../../../../docs/configuration.md");
    for text in ALL {
        let text = format!("labels: {{prod: 3}}\ntraffic: {text}\n");
        for line in ModelConfig::from_text("m", &text).unwrap().report.iter() {
            let key = pattern(&line.path.pattern());
            assert!(manual.contains(&format!("`{key}`")), "{key} is not in the manual");
        }
    }
    let defaults = ["{strategy: rollout}", "{strategy: shadow, primary: 1, mirror: 2}"];
    for text in defaults {
        for line in TrafficPolicy::from_text("m", text, &Labels::new()).unwrap().report.iter() {
            let key = line.path.to_string();
            if ["strategy", "primary", "mirror", "stable", "canary"].contains(&key.as_str()) {
                continue;
            }
            let row = format!("| `traffic.{key}` | `{}` |", line.value);
            assert!(manual.contains(&row), "no row {row}");
        }
    }
}

/// Pieces of policies.
const PIECES: &str = "strategy: split|strategy: ab|strategy: rollout|strategy: bandit|strategy: shadow|weights: |arms: |{|}|, |[|]|1|2|a: |\
                      version: 1|steps: |10%|100%|gates: |hold: |5m|sticky: |header:x|labels: |prod|-1|nan|1e999|p95|~|'|\"|\n|é|%";

proptest! {
    #[test]
    fn shares_numbers_and_quantiles_read_back(percent in 1e-9..100.0_f64, number in 1e-300..1e300_f64) {
        let share = Share::percent(percent);
        prop_assert_eq!(Share::parse(&share.to_string()).ok(), Some(share));
        let number = Number::new(number);
        prop_assert_eq!(Number::parse(&number.to_string()).ok(), Some(number));
    }

    #[test]
    fn any_text_is_refused_or_in_range(text in "[0-9a-z.%+e-]{0,8}") {
        if let Ok(share) = Share::parse(&text) {
            prop_assert!(share.fraction() > 0.0 && share.fraction() <= 1.0);
        }
        if let Ok(number) = Number::parse(&text) {
            prop_assert!(number.get() > 0.0 && number.get().is_finite());
        }
        if let Ok(quantile) = Quantile::parse(&text) {
            prop_assert!(quantile.fraction() > 0.0 && quantile.fraction() < 1.0);
        }
    }

    #[test]
    fn any_shuffle_of_pieces_is_decoded_or_refused(
        pieces in prop::collection::vec(prop::sample::select(PIECES.split('|').collect::<Vec<_>>()), 0..40)
    ) {
        let text = pieces.concat();
        let _ = TrafficPolicy::from_text("x", &text, &Labels::new()).map_err(|problems| problems.to_string());
        let _ = ModelConfig::from_text("x", &format!("traffic: {{{text}}}")).map_err(|problems| problems.to_string());
    }
}
