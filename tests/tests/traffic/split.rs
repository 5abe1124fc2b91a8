//! Which version answers: pinned, split, sticky, arms, colours, labels.

use std::collections::BTreeMap;

use nuke_tests::{Repository, eventually};

use crate::{ARM, INFER, ask, builder, host, put_traffic, serve, shares, two_tinies, version};

#[test]
fn without_traffic_the_latest_version_answers() {
    let server = host(two_tinies(""));
    assert_eq!(shares(&server, 20), BTreeMap::from([("2".to_owned(), 20)]));
}

#[test]
fn a_pinned_version_answers_all_and_a_url_still_chooses() {
    let server = host(two_tinies("traffic: {strategy: pinned, version: '1'}\n"));
    assert_eq!(shares(&server, 20), BTreeMap::from([("1".to_owned(), 20)]));
    let client = server.client();
    assert_eq!(version(ask(&client, "/v2/models/tiny/versions/2/infer", 0, &[])), "2");
}

#[test]
fn a_pinned_version_that_is_not_there_is_an_error_that_names_it() {
    let server = host(two_tinies("traffic: {strategy: pinned, version: '7'}\n"));
    let answer = ask(&server.client(), INFER, 0, &[]).expect(503);
    assert!(answer.error().contains('7'), "{}", answer.text());
}

#[test]
fn versions_that_traffic_names_are_loaded_whatever_versions_selects() {
    let repository = Repository::new()
        .model("tiny", "1", "tiny")
        .model("tiny", "2", "tiny")
        .model("tiny", "3", "tiny")
        .model_yaml("traffic: {strategy: pinned, version: '1'}\nlabels: {old: '2'}\n");
    let server = serve(&repository);
    let client = server.client();
    assert_eq!(version(ask(&client, INFER, 0, &[])), "1");
    assert_eq!(version(ask(&client, "/v2/models/tiny/versions/old/infer", 0, &[])), "2");
    assert_eq!(version(ask(&client, "/v2/models/tiny/versions/3/infer", 0, &[])), "3");
}

#[test]
fn a_split_gives_each_version_its_share() {
    let server = host(two_tinies("traffic: {strategy: split, weights: {'1': 80, '2': 20}}\n"));
    let counts = shares(&server, 1000);
    // Binomial: seven standard deviations of 12.6.
    assert!((712..=888).contains(&counts["1"]), "{counts:?}");
    assert_eq!(counts["1"] + counts["2"], 1000);
}

#[test]
fn a_header_or_a_cookie_keeps_a_client_at_its_version() {
    for (sticky, header, value) in
        [("header:x-user", "x-user", "user-"), ("cookie:sid", "cookie", "a=b; sid=")]
    {
        let yaml =
            format!("traffic: {{strategy: split, weights: {{'1': 50, '2': 50}}, sticky: '{sticky}'}}\n");
        let server = host(two_tinies(&yaml));
        let client = server.client();
        let mut seen = BTreeMap::new();
        for user in 0..60 {
            let value = format!("{value}{user}");
            let first = version(ask(&client, INFER, user, &[(header, &value)]));
            for again in 0..4 {
                let next = version(ask(&client, INFER, user + again * 1000, &[(header, &value)]));
                assert_eq!(next, first, "user {user} by {sticky}");
            }
            *seen.entry(first).or_insert(0) += 1;
        }
        assert!(seen.len() == 2 && seen.values().all(|&users| users > 10), "{seen:?}");
    }
}

#[test]
fn the_body_keeps_equal_requests_together() {
    let server = host(two_tinies("traffic: {strategy: split, weights: {'1': 1, '2': 1}, sticky: body}\n"));
    let client = server.client();
    let first: Vec<_> = (0..40).map(|seed| version(ask(&client, INFER, seed, &[]))).collect();
    let again: Vec<_> = (0..40).map(|seed| version(ask(&client, INFER, seed, &[]))).collect();
    assert_eq!(first, again);
    assert!(first.contains(&"1".to_owned()) && first.contains(&"2".to_owned()), "{first:?}");
}

#[test]
fn arms_are_named_in_answers_and_metrics() {
    let yaml = "traffic:\n  strategy: ab\n  arms:\n    control: {version: '1'}\n    fast: {version: '2'}\n";
    let server = host(two_tinies(yaml));
    let client = server.client();
    let mut counts = BTreeMap::new();
    for seed in 0..100 {
        let answer = ask(&client, INFER, seed, &[]).expect(200);
        let arm = answer.header(ARM).expect("an arm").to_owned();
        assert_eq!(answer.header("x-nuke-model-version"), Some(if arm == "fast" { "2" } else { "1" }));
        *counts.entry(arm).or_insert(0.0) += 1.0;
    }
    let metrics = server.metrics();
    for (arm, count) in counts {
        let labels = [("model", "tiny"), ("arm", arm.as_str()), ("outcome", "ok")];
        assert_eq!(metrics.sum("nuke_traffic_requests_total", &labels), count, "{arm}");
        let labels = [("model", "tiny"), ("arm", arm.as_str())];
        assert_eq!(metrics.sum("nuke_traffic_share", &labels), 0.5);
    }
}

#[test]
fn an_arm_without_its_version_leaves_its_share_to_the_others() {
    let repository = two_tinies("traffic: {strategy: split, weights: {'1': 50, '2': 50}}\n");
    let server = serve(&repository);
    std::fs::rename(repository.models().join("tiny/2"), repository.models().join(".gone")).unwrap();
    eventually("version 2 is gone", || {
        let client = server.client();
        ask(&client, "/v2/models/tiny/versions/2/infer", 0, &[]).status != 200
    });
    assert_eq!(shares(&server, 30), BTreeMap::from([("1".to_owned(), 30)]));
}

#[test]
fn blue_and_green_switch_at_once_and_back() {
    let server = host(two_tinies("traffic: {strategy: blue-green, blue: '1', green: '2', active: blue}\n"));
    assert_eq!(shares(&server, 5), BTreeMap::from([("1".to_owned(), 5)]));
    for (active, expected) in [("green", "2"), ("blue", "1"), ("green", "2")] {
        let body = format!("{{\"active\": \"{active}\"}}");
        server.post("/admin/models/tiny/traffic/switch", "application/json", body).expect(200);
        assert_eq!(shares(&server, 5), BTreeMap::from([(expected.to_owned(), 5)]));
    }
    // Without a word on which, to the other one.
    server.post("/admin/models/tiny/traffic/switch", "", "").expect(200);
    assert_eq!(shares(&server, 5), BTreeMap::from([("1".to_owned(), 5)]));
}

#[test]
fn labels_work_wherever_a_version_does() {
    let repository = two_tinies("labels: {stable: '1', canary: '2'}\n");
    let server = builder(&repository).start();
    let client = server.client();
    for (label, expected) in [("stable", "1"), ("canary", "2")] {
        assert_eq!(
            version(ask(&client, &format!("/v2/models/tiny/versions/{label}/infer"), 0, &[])),
            expected
        );
        assert_eq!(version(ask(&client, &format!("/predict/tiny@{label}"), 0, &[])), expected);
        assert_eq!(version(ask(&client, &format!("/predict/tiny/{label}"), 0, &[])), expected);
        let described = server.get(&format!("/v2/models/tiny/versions/{label}")).expect(200).json();
        assert_eq!(described["versions"][0], expected);
    }
    let missing = ask(&client, "/predict/tiny@beta", 0, &[]).expect(404);
    assert!(missing.error().contains("beta"), "{}", missing.text());
}

#[test]
fn a_label_that_moves_is_followed_without_a_reload() {
    let repository = two_tinies("labels: {live: '1'}\n");
    let server = serve(&repository);
    let client = server.client();
    assert_eq!(version(ask(&client, "/predict/tiny@live", 0, &[])), "1");
    let swaps = server.metrics().sum("nuke_swaps_total", &[]);
    let repository = repository.model_yaml("versions: {latest: 2}\nlabels: {live: '2'}\n");
    eventually("the label moves", || version(ask(&client, "/predict/tiny@live", 0, &[])) == "2");
    assert_eq!(server.metrics().sum("nuke_swaps_total", &[]), swaps, "nothing was loaded anew");
    drop(repository);
}

#[test]
fn traffic_of_model_yaml_is_hot() {
    let repository = two_tinies("traffic: {strategy: pinned, version: '1'}\n");
    let server = serve(&repository);
    let client = server.client();
    let swaps = server.metrics().sum("nuke_swaps_total", &[]);
    assert_eq!(version(ask(&client, INFER, 0, &[])), "1");
    let _repository =
        repository.model_yaml("versions: {latest: 2}\ntraffic: {strategy: pinned, version: '2'}\n");
    eventually("the pin moves", || version(ask(&client, INFER, 0, &[])) == "2");
    assert_eq!(server.metrics().sum("nuke_swaps_total", &[]), swaps, "nothing was loaded anew");
}

#[test]
fn weights_move_only_the_share_that_moved() {
    let server = host(two_tinies(
        "traffic: {strategy: split, weights: {'1': 90, '2': 10}, sticky: 'header:x-user'}\n",
    ));
    let client = server.client();
    let of = |user: u64| version(ask(&client, INFER, 0, &[("x-user", &user.to_string())]));
    let before: Vec<_> = (0..200).map(of).collect();
    let wider = "{strategy: split, weights: {'1': 50, '2': 50}, sticky: 'header:x-user'}";
    put_traffic(&server, "tiny", wider).expect(200);
    let after: Vec<_> = (0..200).map(of).collect();
    let back = before.iter().zip(&after).filter(|(before, after)| *before == "2" && *after == "1").count();
    assert_eq!(back, 0, "nobody who had the new version loses it");
    assert!(after.iter().filter(|version| *version == "2").count() > 60);
}
