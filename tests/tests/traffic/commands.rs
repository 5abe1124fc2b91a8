//! `nuke traffic` and `nuke rollout`: an operator's commands against a running host.

use std::process::Output;

use nuke_tests::{Server, nuke};

use crate::{host, shares, two_tinies};

fn run(server: &Server, arguments: &[&str], input: &str) -> Output {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut command = nuke();
    command.args(arguments).args(["--url", &server.url()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that reads no input may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn shown(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn traffic_is_set_shown_and_reset() {
    let server = host(two_tinies(""));
    let set = run(&server, &["traffic", "set", "tiny", "-"], "strategy: pinned\nversion: '1'\n");
    assert!(set.status.success(), "{}", shown(&set));
    assert_eq!(shares(&server, 5).get("1"), Some(&5));
    let show = run(&server, &["traffic", "show", "tiny"], "");
    assert!(shown(&show).contains("pinned") && shown(&show).contains("100"), "{}", shown(&show));
    let json = run(&server, &["traffic", "show", "tiny", "--json"], "");
    assert!(serde_json::from_slice::<serde_json::Value>(&json.stdout).is_ok(), "{}", shown(&json));
    assert!(run(&server, &["traffic", "set", "tiny", "--weights", "1=50,2=50"], "").status.success());
    assert_eq!(shares(&server, 60).len(), 2);
    assert!(run(&server, &["traffic", "set", "tiny", "--pin", "2"], "").status.success());
    assert_eq!(shares(&server, 5).get("2"), Some(&5));
    assert!(run(&server, &["traffic", "reset", "tiny"], "").status.success());
    assert_eq!(shares(&server, 5).get("2"), Some(&5));
}

#[test]
fn mistakes_are_told_with_exit_code_1_and_an_absent_host_with_2() {
    let server = host(two_tinies(""));
    let wrong = run(&server, &["traffic", "set", "tiny", "-"], "strategy: pinned\nversoin: '1'\n");
    assert_eq!(wrong.status.code(), Some(1), "{}", shown(&wrong));
    assert!(shown(&wrong).contains("versoin"), "{}", shown(&wrong));
    let unknown = run(&server, &["rollout", "status", "nobody"], "");
    assert_eq!(unknown.status.code(), Some(1), "{}", shown(&unknown));
    let none = run(&server, &["rollout", "promote", "tiny"], "");
    assert_eq!(none.status.code(), Some(1), "{}", shown(&none));
    let absent = nuke().args(["traffic", "show", "tiny", "--url", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(2), "{}", shown(&absent));
    assert!(shown(&absent).contains("nuke serve"), "{}", shown(&absent));
}

#[test]
fn a_rollout_is_shown_promoted_and_aborted() {
    let yaml = "traffic: {strategy: rollout, stable: '1', canary: '2', steps: [10%, 100%], hold: 1h}\n";
    let server = host(two_tinies(yaml));
    let status = run(&server, &["rollout", "status", "tiny"], "");
    assert!(shown(&status).contains("running") && shown(&status).contains("10"), "{}", shown(&status));
    assert!(run(&server, &["rollout", "abort", "tiny"], "").status.success());
    assert_eq!(shares(&server, 5).get("1"), Some(&5));
    assert!(run(&server, &["rollout", "retry", "tiny"], "").status.success());
    assert!(run(&server, &["rollout", "promote", "tiny"], "").status.success());
    assert_eq!(shares(&server, 5).get("2"), Some(&5));
}
