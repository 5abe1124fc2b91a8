//! Models in processes of their own, by the real binary: whatever befalls a process, requests are answered, a
//! healthy neighbour notices nothing, and no process is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod deaths;
mod given_up;
mod modes;

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use nuke_tests::{Client, Repository, Server, ServerBuilder, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Requests wait for as long as a busy machine takes to start a process.
const PATIENT: &str = "queue: {timeout: 60s}";

fn isolated(workers: usize, more: &str) -> String {
    format!("workers: {{isolation: process, min: {workers}, max: {workers}{more}}}\n{PATIENT}\n")
}

fn builder(repository: &Repository) -> ServerBuilder {
    Server::builder()
        .repository(repository)
        .set("repository.rescan", "1s")
        .set("repository.validation.enabled", "false")
}

/// Asks a model that is the fixture `tiny`, and holds the answer against what it has to be.
fn ask_tiny(client: &Client, model: &str) -> Result<(), String> {
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![1; 16]}]});
    let path = format!("/v2/models/{model}/infer");
    let request = client.request("POST", &path).header("content-type", "application/json");
    let answer = request.body(body.to_string()).try_send()?;
    if answer.status == 200 && answer.json()["outputs"][0]["data"][0] == json!(2.125) {
        return Ok(());
    }
    Err(format!("{model}: {}: {}", answer.status, answer.text()))
}

/// Asks these models from two threads each while `work` goes on. Every answer has to be right; returns how many
/// there were.
#[track_caller]
fn while_they_answer(server: &Server, models: &[&str], work: impl FnOnce()) -> usize {
    let (answered, failed, over) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicBool::new(false));
    thread::scope(|scope| {
        for &model in models.iter().chain(models) {
            let client = server.client();
            let (answered, failed, over) = (&answered, &failed, &over);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    match ask_tiny(&client, model) {
                        Ok(()) => _ = answered.fetch_add(1, Relaxed),
                        Err(problem) => failed.lock().unwrap().push(problem),
                    }
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_eq!(failed.into_inner().unwrap(), [""; 0]);
    answered.into_inner()
}

/// The processes of a host's workers that have not ended.
fn workers(host: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|&id| is_worker(id, host)).collect()
}

fn is_worker(id: u32, host: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let [state, parent, ..] = fields.as_slice() else {
        return false;
    };
    let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let is_child = host == 0 || *parent == host.to_string();
    *state != "Z" && is_child && command.split(|&byte| byte == 0).nth(1) == Some(b"worker")
}

/// Whether a process is there, dead or alive.
fn is_there(id: u32) -> bool {
    fs::exists(format!("/proc/{id}")).unwrap_or_default()
}

fn send(id: u32, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    // It may have ended already.
    let _ = kill_process(id, signal);
}

/// Waits until a host has just so many workers.
#[track_caller]
fn has_workers(server: &Server, count: usize) -> Vec<u32> {
    let mut found = Vec::new();
    eventually(&format!("there are {count} workers"), || {
        found = workers(server.id());
        found.len() == count
    });
    found
}
