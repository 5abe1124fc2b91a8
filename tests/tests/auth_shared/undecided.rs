//! Changes of keys of which Redis does not say whether it has taken them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Fleet, run_keys, text};

/// What is in nothing but a change.
const CHANGE: &[u8] = b"fleet:auth:changed";

/// What becomes of the first change.
const LOST: u8 = 1;
const ANSWER_LOST: u8 = 2;
const NEVER_AGAIN: u8 = 3;
const PASS: u8 = 0;

/// A way to Redis on which the first change meets this fate. Returns its URL.
fn way_to(redis: u16, fate: u8) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let fate = Arc::new(AtomicU8::new(fate));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", redis))) else { return };
            let fate = Arc::clone(&fate);
            std::thread::spawn(move || carry(&client, &server, &fate));
        }
    });
    url
}

fn carry(client: &TcpStream, server: &TcpStream, fate: &AtomicU8) {
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
    let (mut client, mut server) = (client, server);
    let mut buffer = [0; 1 << 16];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let is_change = buffer[..count].windows(CHANGE.len()).any(|part| part == CHANGE);
        match fate.load(Ordering::SeqCst) {
            LOST if is_change => {
                fate.store(PASS, Ordering::SeqCst);
                break;
            }
            ANSWER_LOST if is_change => {
                // Nothing comes back over this connection from now on: the way back ends when Redis answers.
                fate.store(PASS, Ordering::SeqCst);
                client.shutdown(Shutdown::Write).unwrap();
                server.write_all(&buffer[..count]).unwrap();
                let _ended = back.join();
                break;
            }
            NEVER_AGAIN if is_change => {
                fate.store(u8::MAX, Ordering::SeqCst);
                client.shutdown(Shutdown::Write).unwrap();
                server.write_all(&buffer[..count]).unwrap();
                let _ended = back.join();
                break;
            }
            u8::MAX => break,
            _ => server.write_all(&buffer[..count]).unwrap(),
        }
    }
    // Either may have gone already.
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

fn listed(fleet: &Fleet) -> Vec<serde_json::Value> {
    fleet.keys(&["list"]).as_array().unwrap().clone()
}

#[test]
fn a_change_whose_answer_is_lost_is_found_and_made_once() {
    let fleet = Fleet::new();
    // So that Redis knows the script.
    fleet.keys(&["create", "first", "--scope", "metrics"]);
    for (number, fate) in [LOST, ANSWER_LOST].into_iter().enumerate() {
        let way = way_to(fleet.redis.port(), fate);
        let to = ["--redis", &way, "--namespace", "fleet", "--json"];
        let name = format!("ci{number}");
        let made = run_keys(&[&["create", &name, "--scope", "predict:*"], &to[..]].concat()).unwrap();
        let of_name = |state: &str| {
            let of_name = |key: &&serde_json::Value| key["name"] == *name && key["state"] == state;
            listed(&fleet).iter().filter(of_name).map(|key| text(key, "id")).collect::<Vec<_>>()
        };
        assert_eq!(of_name("valid"), [text(&made, "id")], "one, whose secret was shown");
        let way = way_to(fleet.redis.port(), fate);
        let to = ["--redis", &way, "--namespace", "fleet", "--json"];
        let rotated = run_keys(&[&["rotate", &name, "--grace", "0s"], &to[..]].concat()).unwrap();
        assert_eq!(of_name("valid"), [text(&rotated, "id")]);
        let way = way_to(fleet.redis.port(), fate);
        let to = ["--redis", &way, "--namespace", "fleet", "--json"];
        let revoked = run_keys(&[&["revoke", &name], &to[..]].concat()).unwrap();
        assert_eq!(revoked["revoked"], serde_json::json!([rotated["id"]]));
        assert_eq!(of_name("revoked"), [text(&rotated, "id")]);
    }
}

#[test]
fn a_change_of_which_nothing_is_heard_is_told_with_the_keys_id() {
    let fleet = Fleet::new();
    fleet.keys(&["create", "first", "--scope", "metrics"]);
    let way = way_to(fleet.redis.port(), NEVER_AGAIN);
    let to = ["--redis", &way, "--namespace", "fleet", "--json"];
    let error = run_keys(&[&["create", "ci", "--scope", "predict:*"], &to[..]].concat()).unwrap_err();
    let all = listed(&fleet);
    let made = all.iter().find(|key| key["name"] == "ci").expect("Redis has taken it");
    assert!(error.contains(&text(made, "id")) && error.contains("nuke keys revoke"), "{error}");
    assert!(!error.contains("nuke_"), "no secret is told: {error}");
    fleet.keys(&["revoke", &text(made, "id")]);
}
