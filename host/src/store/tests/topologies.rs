//! TLS, Sentinels, Clusters.

use std::path::{Path, PathBuf};

use nuke_tests::{Cluster, Redis, SentinelPair, Signal};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::faults::next;
use super::*;
use crate::config::RedisTls;
use crate::store::{Event, StoreError};

/// An authority, and a certificate for 127.0.0.1 of it: files of `ca`, `cert` and `key`.
fn certificates(folder: &Path, name: &str) -> [PathBuf; 3] {
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, name);
    let authority =
        CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = certificate.signed_by(&key, &authority).expect("a certificate");
    let files = ["ca", "cert", "key"].map(|part| folder.join(format!("{name}-{part}.pem")));
    for (file, text) in files.iter().zip([authority.pem(), certificate.pem(), key.serialize_pem()]) {
        std::fs::write(file, text).expect("a file");
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_only_who_has_the_right_certificates_gets_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let [ca, cert, key] = certificates(folder.path(), "right");
    let [other, ..] = certificates(folder.path(), "other");
    let redis = Redis::with_tls(&cert, &key, &ca, &["--tls-auth-clients", "yes"]);
    let with = |ca: &Path, pair: bool| {
        let (cert, key) = (cert.clone(), key.clone());
        let (cert, key) = if pair { (Some(cert), Some(key)) } else { (None, None) };
        RedisConfig { tls: Some(RedisTls { ca: Some(ca.to_owned()), cert, key }), ..of(&redis) }
    };
    let store = connected(&with(&ca, true)).await;
    until_it_serves(&store, "key").await;
    let strangers = [open(&with(&other, true)), open(&with(&ca, false)), open(&of(&redis))];
    tokio::time::sleep(Duration::from_millis(500)).await;
    for stranger in strangers {
        assert_eq!(stranger.get_bytes("key", 100).await, Err(StoreError::Open));
    }
    assert!(store.is_up());
    let mut without = of(&redis);
    without.tls = Some(RedisTls { ca: Some(key), ..RedisTls::default() });
    assert!(Store::open(&without, "nuke", StoreMetrics::default()).is_err(), "a key is no authority");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinels_the_new_master_is_found() {
    let mut pair = SentinelPair::start();
    let mut listening = RedisPlace::Sentinel {
        nodes: vec![at(1), at(pair.sentinel.port())],
        master: "mymaster".to_owned(),
        login: RedisLogin::default(),
    };
    let store = connected(&settings(listening.clone())).await;
    until_it_serves(&store, "key").await;
    assert_eq!(pair.master.ask(&["GET", "key"]), "value");
    let mut listener = store.subscribe("nuke:news");
    assert_eq!(next(&mut listener).await, Event::Reconnected);
    pair.master.kill();
    until_it_serves(&store, "after").await;
    assert_eq!(pair.replica.ask(&["GET", "after"]), "value");
    assert_eq!(next(&mut listener).await, Event::Reconnected);
    assert_eq!(pair.replica.ask(&["PUBLISH", "nuke:news", "hello"]), ":1");
    assert_eq!(next(&mut listener).await, Event::Message("hello".into()));
    if let RedisPlace::Sentinel { master, .. } = &mut listening {
        "nobody".clone_into(master);
    }
    let stranger = open(&settings(listening));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!stranger.is_up());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_has_become_a_replica_is_left() {
    let pair = SentinelPair::start();
    let place = RedisPlace::Sentinel {
        nodes: vec![at(pair.sentinel.port())],
        master: "mymaster".to_owned(),
        login: RedisLogin::default(),
    };
    let store = connected(&settings(place)).await;
    until_it_serves(&store, "key").await;
    until("the sentinel finds the replica good", || {
        pair.sentinel.ask(&["SENTINEL", "FAILOVER", "mymaster"]) == "+OK"
    })
    .await;
    until("the roles have changed", || {
        pair.replica.ask(&["ROLE"]).starts_with("master") && pair.master.ask(&["ROLE"]).starts_with("slave")
    })
    .await;
    until_it_serves(&store, "after").await;
    assert_eq!(pair.replica.ask(&["GET", "after"]), "value");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_every_key_is_found_and_the_loss_of_a_node_is_the_loss_of_its_keys() {
    let mut cluster = Cluster::start(&["--cluster-require-full-coverage", "no"]);
    let nodes = cluster.nodes.iter().map(|node| at(node.port())).collect();
    let hasty = settings(RedisPlace::Cluster(nodes));
    let store = connected(&hasty).await;
    // Where each answer counts, however busy the machine is.
    let sure = connected(&RedisConfig { timeout: PATIENCE, ..hasty }).await;
    for number in 0..30 {
        until_it_serves(&store, &format!("key-{number}")).await;
    }
    let counts: Vec<_> = cluster.nodes.iter().map(|node| node.ask(&["DBSIZE"])).collect();
    assert!(counts.iter().all(|count| count != ":0"), "{counts:?}");
    let script = redis::Script::new("return redis.call('GET', KEYS[1])");
    for number in 0..9 {
        let value: String = sure.run(&script, &[&format!("key-{number}")], &[]).await.expect("a value");
        assert_eq!(value, "value");
    }
    drop(sure);
    let mut listener = store.subscribe("nuke:news");
    assert_eq!(next(&mut listener).await, Event::Reconnected);
    assert!(cluster.nodes[2].ask(&["PUBLISH", "nuke:news", "hello"]).starts_with(':'));
    assert_eq!(next(&mut listener).await, Event::Message("hello".into()));

    let here: Vec<String> = (0..30).map(|number| format!("key-{number}")).collect();
    let is_lost =
        |key: &String| cluster.nodes[0].ask(&["GET", key]).contains(&cluster.nodes[1].port().to_string());
    let (lost, kept): (Vec<_>, Vec<_>) = here.into_iter().partition(is_lost);
    cluster.nodes[1].kill();
    for _ in 0..5 {
        for key in &lost {
            assert!(store.get_bytes(key, 100).await.is_err());
        }
        for key in &kept {
            // After keys of the lost node in a row, it rests for a moment.
            until_it_serves(&store, key).await;
        }
    }
    cluster.nodes[0].signal(Signal::STOP);
    for key in kept.iter().chain(&lost) {
        let began = Instant::now();
        drop(store.get_bytes(key, 100).await);
        assert!(began.elapsed() < TIMEOUT * 10, "{:?}", began.elapsed());
    }
    cluster.nodes[0].signal(Signal::CONT);
    until_it_serves(&store, &kept[0]).await;
}
