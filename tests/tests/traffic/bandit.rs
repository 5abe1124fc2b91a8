//! Bandits: rewards posted by clients move the traffic.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{ARM, INFER, ask, host, serve, traffic, two_tinies};

const BANDIT: &str = "traffic: {strategy: bandit, arms: {lstm: {version: '1'}, transformer: {version: '2'}}, reward: feedback}\n";

/// Rewards that are planted: the transformer is right 70 times in a hundred, the LSTM 50 times.
fn reward(arm: &str, turn: u64) -> f64 {
    let chance = if arm == "transformer" { 70 } else { 50 };
    // A fixed order that looks like none.
    f64::from(u8::from(turn.wrapping_mul(6_364_136_223_846_793_005).rotate_left(21) % 100 < chance))
}

#[test]
fn the_better_of_two_arms_gets_nine_requests_in_ten_after_two_thousand() {
    let server = host(two_tinies(BANDIT));
    let client = server.client();
    let mut last = BTreeMap::new();
    for turn in 0..3000 {
        let answer = ask(&client, INFER, turn, &[]).expect(200);
        let arm = answer.header(ARM).expect("an arm").to_owned();
        let body = json!({"arm": arm, "reward": reward(&arm, turn)});
        server.post_json("/admin/models/tiny/feedback", &body).expect(200);
        if turn >= 2000 {
            *last.entry(arm).or_insert(0) += 1;
        }
    }
    assert!(last["transformer"] > 900, "{last:?}");
    let metrics = server.metrics();
    assert_eq!(metrics.sum("nuke_traffic_rewards_total", &[("model", "tiny")]), 3000.0);
    assert_eq!(traffic(&server, "tiny")["status"]["strategy"], "bandit");
}

#[test]
fn feedback_that_means_nothing_is_refused() {
    let server = host(two_tinies(BANDIT));
    for (body, status, words) in [
        (json!({"arm": "lstm", "reward": 2.0}), 400, "reward"),
        (json!({"arm": "lstm", "reward": -0.1}), 400, "reward"),
        (json!({"arm": "lstm", "reward": "high"}), 400, "reward"),
        (json!({"arm": "lstm"}), 400, "reward"),
        (json!({"arm": "gru", "reward": 1}), 400, "gru"),
        (json!({"reward": 1}), 400, "arm"),
        (json!([1, 2]), 400, ""),
        (json!({"arm": "lstm", "reward": 1, "weight": 3}), 400, "weight"),
    ] {
        let answer = server.post_json("/admin/models/tiny/feedback", &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.error().contains(words), "{body}: {}", answer.text());
    }
    server.post("/admin/models/tiny/feedback", "application/json", "NaN").expect(400);
    server.post("/admin/models/tiny/feedback", "application/json", vec![b' '; 2 << 20]).expect(413);
    server.post_json("/admin/models/nobody/feedback", &json!({"arm": "a", "reward": 1})).expect(404);
    let server = host(two_tinies(&BANDIT.replace("feedback", "latency")));
    let answer = server.post_json("/admin/models/tiny/feedback", &json!({"version": "2", "reward": 1}));
    assert!(answer.status == 409 && answer.error().contains("latency"), "{}", answer.text());
}

#[test]
fn any_arm_takes_rewards_whether_or_not_they_move_traffic() {
    let server = host(two_tinies(""));
    server.post_json("/admin/models/tiny/feedback", &json!({"version": "2", "reward": 0.5})).expect(200);
    let labels = [("model", "tiny"), ("version", "2")];
    assert_eq!(server.metrics().sum("nuke_traffic_reward_total", &labels), 0.5);
}

#[test]
fn what_was_learnt_survives_a_restart() {
    let repository = two_tinies(BANDIT);
    let server = serve(&repository);
    for turn in 0..400 {
        let arm = if turn % 2 == 0 { "lstm" } else { "transformer" };
        let body = json!({"arm": arm, "reward": if arm == "lstm" { 1.0 } else { 0.0 }});
        server.post_json("/admin/models/tiny/feedback", &body).expect(200);
    }
    assert_eq!(server.terminate().status.code(), Some(0));
    let server = serve(&repository);
    let client = server.client();
    let lstm = (0..100).filter(|&turn| ask(&client, INFER, turn, &[]).header(ARM) == Some("lstm")).count();
    assert!(lstm > 85, "{lstm}");
}
