//! What happens to a child that is ended from outside, and to one whose host is.

use std::fs;

use nuke_tests::{Repository, Server, eventually};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    PATIENT, Process, builder, children, neighbour, no_zombie_stays, process, reason_of,
    while_the_neighbour_answers,
};

/// A host with a model that never comes back from its first run.
fn with_endless() -> (Repository, Server) {
    let repository =
        Repository::new().model("tiny", "1", "tiny").model_yaml(PATIENT).model("endless", "1", "endless");
    let server = builder(&repository).set("repository.validation.time", "10m").without_waiting().start();
    eventually("tiny serves", || neighbour(&server.client()).is_ok());
    (repository, server)
}

/// The child that runs the endless model: the only one that is left once the neighbour serves.
fn the_child(server: &Server) -> Process {
    let mut found = Vec::new();
    eventually("a child runs the model", || {
        found = children(server.id());
        // The run comes last, and takes more processor time than all before it.
        found.len() == 1 && cpu_ticks(found[0].id) > 100
    });
    found[0]
}

fn cpu_ticks(id: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
    fields.and_then(|fields| fields.get(11)?.parse().ok()).unwrap_or_default()
}

fn send(process: Process, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(process.id).unwrap()).unwrap();
    // It may have ended by an earlier one.
    let _ = kill_process(id, signal);
}

#[test]
fn a_child_that_is_ended_from_outside_costs_a_reason_that_names_the_signal() {
    for (signal, name) in [(Signal::KILL, "SIGKILL"), (Signal::SEGV, "SIGSEGV"), (Signal::XCPU, "SIGXCPU")] {
        let (_repository, server) = with_endless();
        let child = the_child(&server);
        while_the_neighbour_answers(&server, || {
            eventually("the child ends", || {
                // A handler of a runtime may take the first one for its own, and steps aside.
                send(child, signal);
                process(child.id).is_none()
            });
            let reason = reason_of(&server, "endless");
            assert!(reason.contains(name) && reason.contains("while it ran the model on zeros"), "{reason}");
        });
        no_zombie_stays(&server);
    }
}

#[test]
fn a_child_has_no_rights_that_it_does_not_need() {
    let (_repository, server) = with_endless();
    let child = the_child(&server);
    let status = fs::read_to_string(format!("/proc/{}/status", child.id)).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is not in {status}")).trim().to_owned()
    };
    assert_eq!((line("NoNewPrivs:").as_str(), line("Seccomp:").as_str()), ("1", "2"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id)).unwrap();
    let hard = |name: &str| {
        let rest = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        rest.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(hard("Max file size"), "0");
    assert_eq!(hard("Max core file size"), "0");
    assert!(["Max data size", "Max cpu time"].map(hard).iter().all(|limit| limit != "unlimited"), "{limits}");
    let variables = fs::read(format!("/proc/{}/environ", child.id)).unwrap();
    assert!(!String::from_utf8_lossy(&variables).contains("HOME="));
    assert!(!server.logs().iter().any(|line| line.contains("more rights than it needs")));
}

#[test]
fn no_child_outlives_its_host() {
    for signal in [Signal::KILL, Signal::TERM] {
        let (_repository, mut server) = with_endless();
        let child = the_child(&server);
        server.signal(signal);
        server.wait_for_exit();
        eventually("the child ends", || process(child.id).is_none_or(|there| there.state == 'Z'));
    }
}
