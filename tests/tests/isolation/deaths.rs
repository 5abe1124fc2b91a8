//! Processes that are ended, stopped, starved of memory; hosts that are.

use std::thread;
use std::time::Duration;

use nuke_tests::{Repository, Server, eventually, slow_request, worker_is_busy};
use rustix::process::Signal;
use serde_json::json;

use super::{ask_tiny, builder, has_workers, is_there, isolated, send, while_they_answer, workers};

/// A neighbour in the host, and `tiny` in processes of its own.
fn neighbours(workers: usize, more: &str) -> Repository {
    Repository::new()
        .model("tiny", "1", "tiny")
        .model("apart", "1", "tiny")
        .model_yaml(&isolated(workers, more))
}

/// The workers, once so many of them serve.
fn serving(server: &Server, count: u32) -> Vec<u32> {
    eventually("the workers serve", || {
        server.metrics().sum("nuke_worker_processes", &[]) == f64::from(count)
    });
    has_workers(server, count as usize)
}

#[test]
fn whatever_ends_a_process_nobody_notices() {
    let kinds = [
        (Signal::KILL, "killed"),
        (Signal::SEGV, "crashed"),
        (Signal::ABORT, "crashed"),
        (Signal::STOP, "silent"),
    ];
    // Longer than a busy machine keeps a healthy process from answering.
    let repository = neighbours(2, ", health: 3s");
    let server = builder(&repository).start();
    while_they_answer(&server, &["tiny", "apart"], || {
        for (signal, reason) in kinds {
            let before = serving(&server, 2);
            let deaths = || {
                server.metrics().sum("nuke_worker_deaths_total", &[("reason", reason), ("model", "apart")])
            };
            let so_far = deaths();
            // A handler of a runtime may take the first one for its own, and steps aside.
            eventually("the process is gone", || {
                send(before[0], signal);
                !is_there(before[0])
            });
            eventually("its death is counted", || deaths() > so_far);
            let after = serving(&server, 2);
            assert!(after.contains(&before[1]) && !after.contains(&before[0]), "{before:?} {after:?}");
        }
    });
    for told in ["SIGKILL", "SIGSEGV", "did not answer for 3s (workers.health)"] {
        eventually(told, || server.logs().iter().any(|line| line.contains(told)));
    }
}

#[test]
fn a_hundred_random_kills_fail_no_request() {
    let repository = neighbours(2, "");
    let server = builder(&repository).start();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut killed = 0;
    let answered = while_they_answer(&server, &["tiny", "apart"], || {
        while killed < 100 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let there = workers(server.id());
            if let Some(&id) = there.get(random as usize % there.len().max(1)) {
                send(id, Signal::KILL);
                eventually("it is gone", || !is_there(id));
                killed += 1;
            }
            thread::sleep(Duration::from_millis(random >> 32 & 127));
        }
        has_workers(&server, 2);
    });
    println!("{answered} answers during {killed} kills");
    assert!(server.metrics().sum("nuke_worker_deaths_total", &[("reason", "killed")]) >= 90.0);
    assert_eq!(server.state("apart", "1").0, "READY");
}

#[test]
fn a_worker_that_is_alone_is_replaced_and_the_request_it_had_is_answered() {
    let repository = Repository::new().model("slow", "1", "slow").model_yaml(&isolated(1, ""));
    let server = builder(&repository).start();
    let before = has_workers(&server, 1);
    // Longer than it takes to be seen at work, however busy the machine is.
    let body = slow_request(4000);
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| server.post_json("/v2/models/slow/infer", &body));
        worker_is_busy(&server);
        send(before[0], Signal::KILL);
        asked.join().unwrap()
    });
    assert_eq!(answer.expect(200).json()["outputs"][0]["data"], json!([1.0]));
    assert_ne!(has_workers(&server, 1), before);
}

#[test]
fn an_idle_worker_that_dies_is_replaced_before_anybody_asks() {
    let repository = neighbours(1, "");
    let server = builder(&repository).start();
    let before = has_workers(&server, 1);
    send(before[0], Signal::KILL);
    eventually("there is another one", || {
        let now = workers(server.id());
        now.len() == 1 && now != before
    });
    ask_tiny(&server.client(), "apart").unwrap();
}

#[test]
fn a_run_that_nobody_waits_for_is_ended_in_its_process() {
    let repository = Repository::new().model("slow", "1", "slow").model_yaml(&isolated(1, ""));
    let server = builder(&repository).start();
    let before = has_workers(&server, 1);
    let body = json!({
        "inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [10_000_000]}],
        // Time enough for the run to begin.
        "parameters": {"timeout": 3_000_000}
    });
    server.post_json("/v2/models/slow/infer", &body).expect(504);
    let short = json!({"inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [1]}]});
    server.post_json("/v2/models/slow/infer", &short).expect(200);
    assert_eq!(workers(server.id()), before, "the process lives on");
    assert_eq!(server.metrics().sum("nuke_runs_stopped_total", &[]), 1.0);
}

#[test]
fn memory_over_the_limit_costs_the_run_alone() {
    let repository = Repository::new()
        .model("tiny", "1", "tiny")
        .model("big", "1", "identity_fp32")
        .model_yaml(&isolated(1, ", memory: 256MiB"));
    let server = builder(&repository).set("server.max_body", "1GiB").start();
    let (rows, width) = (64, 1 << 20);
    let head = json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, width],
            "parameters": {"binary_data_size": rows * width * 4}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": true}}]
    })
    .to_string();
    let body = [head.as_bytes(), &vec![0; rows * width * 4]].concat();
    let client = server.client();
    let answer = client
        .request("POST", "/v2/models/big/infer")
        .header("inference-header-content-length", &head.len().to_string())
        .body(body)
        .send();
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.error().contains("workers.memory"), "{}", answer.error());
    let small = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [7]}]});
    let answer = server.post_json("/v2/models/big/infer", &small).expect(200);
    assert_eq!(answer.json()["outputs"][0]["data"], json!([7.0]));
    ask_tiny(&client, "tiny").unwrap();
}

#[test]
fn processes_end_with_their_host_however_that_ends() {
    for signal in [Signal::TERM, Signal::KILL] {
        let repository = neighbours(2, "");
        let mut server = builder(&repository).start();
        let there = has_workers(&server, 2);
        // One that is stopped hears nothing.
        send(there[0], Signal::STOP);
        server.signal(signal);
        server.wait_for_exit();
        for id in there {
            eventually("it is gone", || !super::is_worker(id, 0));
        }
    }
}
