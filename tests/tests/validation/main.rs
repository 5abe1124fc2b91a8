//! Validation by the real binary: whatever is dropped into the folder of models, the host stays alive, a
//! healthy neighbour answers all along, and the index says why the other is not served.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod corpus;
mod fates;
mod flips;
mod verdicts;

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use nuke_tests::{Client, Repository, Server, ServerBuilder, eventually, root};
use serde_json::json;

/// Requests to the neighbour wait for as long as a busy machine takes.
const PATIENT: &str = "queue: {timeout: 60s}\n";

/// The fixture `tiny`.
fn tiny() -> Vec<u8> {
    let path = root().join("tests/fixtures/models/tiny/1/model.onnx");
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn builder(repository: &Repository) -> ServerBuilder {
    Server::builder().repository(repository).set("repository.rescan", "1s")
}

/// Whether the neighbour `tiny` answers with what it should.
fn neighbour(client: &Client) -> Result<(), String> {
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![1; 16]}]});
    let request = client.request("POST", "/v2/models/tiny/infer").header("content-type", "application/json");
    let answer = request.body(body.to_string()).try_send()?;
    if answer.status == 200 && answer.json()["outputs"][0]["data"][0] == json!(2.125) {
        return Ok(());
    }
    Err(format!("{}: {}", answer.status, answer.text()))
}

/// Asks the neighbour from several threads while `work` goes on; every one of its answers has to be right.
#[track_caller]
fn while_the_neighbour_answers<T>(server: &Server, work: impl FnOnce() -> T) -> T {
    let (answered, failed, over) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicBool::new(false));
    let outcome = thread::scope(|scope| {
        for _ in 0..4 {
            let client = server.client();
            let (answered, failed, over) = (&answered, &failed, &over);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    match neighbour(&client) {
                        Ok(()) => _ = answered.fetch_add(1, Relaxed),
                        Err(problem) => failed.lock().unwrap().push(problem),
                    }
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert_eq!(failed.into_inner().unwrap(), [""; 0]);
    assert!(answered.into_inner() > 0);
    outcome
}

/// The reason of a version that has failed, once it has.
#[track_caller]
fn reason_of(server: &Server, model: &str) -> String {
    let mut reason = String::new();
    eventually(&format!("{model} has failed"), || {
        let index = server.post("/v2/repository/index", "", "").expect(200).json();
        let there = index.as_array().unwrap().iter().any(|entry| entry["name"] == model);
        let (state, why) = if there { server.state(model, "1") } else { <_>::default() };
        assert_ne!(state, "READY", "{model} is served");
        reason = why;
        state == "UNAVAILABLE" && !reason.is_empty()
    });
    reason
}

/// A process of this machine: its id, its parent's, and its state (`Z` for a zombie).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    id: u32,
    parent: u32,
    state: char,
}

fn process(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Process { id, parent: fields.next()?.parse().ok()?, state })
}

/// Children that have ended are waited for by the host. (Those of versions that are tried again come and go.)
#[track_caller]
fn no_zombie_stays(server: &Server) {
    for child in children(server.id()) {
        eventually("a child is gone", || process(child.id).is_none_or(|there| there.state != 'Z'));
    }
}

/// All children of a process.
fn children(of: u32) -> Vec<Process> {
    let entries =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    entries.filter_map(process).filter(|process| process.parent == of).collect()
}
