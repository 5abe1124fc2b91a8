//! A Cluster, and a user with no more rights than the manual names.

use nuke_tests::{Cluster, Redis, eventually};

use super::{Fleet, ask, text, within_a_second};

#[test]
fn a_cluster_does_as_well_as_a_server() {
    let cluster = Cluster::start(&[]);
    let place = format!("{{cluster: [{}]}}", cluster.addresses());
    let fleet = Fleet::at(cluster, place);
    fleet.write_config("limits: {identity: {requests: 20/h, burst: 20}, redis: true}\n");
    let (one, two) = (fleet.host(), fleet.host());
    let made = fleet.keys(&["create", "ci", "--scope", "predict:*"]);
    let key = text(&made, "key");
    within_a_second("a key in a cluster", || ask(&one, &key) == 200);
    eventually("one has let in all that there is", || ask(&one, &key) == 429);
    ask(&two, &key);
    eventually("the other has heard of it", || ask(&two, &key) == 429);
    fleet.keys(&["revoke", "ci"]);
    within_a_second("a revocation in a cluster", || ask(&two, &key) == 401);
}

#[test]
fn the_rights_that_the_manual_names_are_enough() {
    let redis = Redis::start();
    let manual = std::fs::read_to_string(nuke_tests::root().join("docs/redis.md")).unwrap();
    let begin = manual.find("`~nuke:* &nuke:*").expect("the rights in docs/redis.md");
    let rights = manual[begin + 1..].split('`').next().unwrap().replace("nuke:*", "fleet:*");
    let mut command = vec!["ACL", "SETUSER", "nuke", "on", ">pass", "resetkeys", "resetchannels"];
    command.extend(rights.split(' '));
    assert_eq!(redis.ask(&command), "+OK");
    let place = format!("{{url: 'redis://nuke:pass@{}'}}", redis.address());
    let fleet = Fleet::at(redis, place);
    fleet.write_config("limits: {identity: {requests: 20/h, burst: 20}, redis: true}\n");
    let (one, two) = (fleet.host(), fleet.host());
    let key = fleet.key_for(&[&one]);
    eventually("one has let in all that there is", || ask(&one, &key) == 429);
    ask(&two, &key);
    eventually("the other has heard of it", || ask(&two, &key) == 429);
    assert!(!one.logs().iter().any(|line| line.contains("NOPERM")));
}
