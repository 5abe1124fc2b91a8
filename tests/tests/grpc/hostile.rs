//! Callers that mean harm, and those that leave: each gets its error, and nothing is left behind.

use std::time::Duration;

use h2::Reason;
use nuke_tests::{Repository, Server, eventually, settles};

use crate::call::{
    DEADLINE_EXCEEDED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, begin, call, client, connect,
    ended, field, framed, identity_message, infer_message, prefixed, slow_message,
};

fn repository() -> Repository {
    Repository::new()
        .model("identity_fp32", "1", "identity_fp32")
        .model("slow", "1", "slow")
        .model_yaml("{queue: {timeout: 60s}}")
}

#[test]
fn frames_that_are_none_cost_a_call_and_not_the_connection() {
    let repository = repository();
    let server = Server::builder().repository(&repository).start();
    let message = identity_message(2);
    let length = u32::try_from(message.len()).unwrap();
    client(async {
        let (sender, connection) = connect(server.address()).await;
        for (what, body) in [
            ("nothing", vec![]),
            ("half a prefix", vec![0, 0]),
            ("half a message", prefixed(0, length, &message[..10])),
            ("a flag that is none", prefixed(7, length, &message)),
            ("compressed by nothing", prefixed(1, length, &message)),
            ("two messages in one", prefixed(0, length - 3, &message)),
        ] {
            let answer = call(&sender, "ModelInfer", &[], body).await;
            assert_eq!(answer.code, INVALID_ARGUMENT, "{what}: {answer:?}");
            assert!(!answer.message.is_empty() && answer.messages.is_empty(), "{what}: {answer:?}");
        }
        let deflate = [("grpc-encoding", "deflate")];
        let answer = call(&sender, "ModelInfer", &deflate, prefixed(1, length, &message)).await;
        assert_eq!(answer.code, UNIMPLEMENTED, "{answer:?}");
        assert_eq!(answer.headers["grpc-accept-encoding"], "gzip,zstd,identity");
        let answer = call(&sender, "ModelInfer", &[], prefixed(0, u32::MAX, &message)).await;
        assert_eq!(answer.code, RESOURCE_EXHAUSTED, "{answer:?}");
        assert_eq!(call(&sender, "ModelInfer", &[], framed(&message)).await.code, 0);
        assert!(!connection.is_finished());
    });
    settles(&server);
}

/// A frame of zstd that says in a few bytes that one byte comes hundreds of millions of times.
fn zstd_bomb() -> Vec<u8> {
    const BLOCK: u32 = 128 << 10;
    // Magic number, no options, and a window of 2 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for last in std::iter::repeat_n(0, 2000).chain([1]) {
        // A block that is one byte again and again.
        let head: u32 = BLOCK << 3 | 1 << 1 | last;
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn bombs_are_cut_off_at_the_limit() {
    let repository = repository();
    let server = Server::builder().repository(&repository).set("server.max_message", "1MiB").start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let before = server.rss();
        let bomb = zstd_bomb();
        let length = u32::try_from(bomb.len()).unwrap();
        for method in ["ModelInfer", "ModelStreamInfer", "ModelReady"] {
            let answer =
                call(&sender, method, &[("grpc-encoding", "zstd")], prefixed(1, length, &bomb)).await;
            assert_eq!(answer.code, RESOURCE_EXHAUSTED, "{method}: {answer:?}");
            assert!(answer.message.contains("over the limit of 1048576 bytes"), "{method}: {answer:?}");
        }
        // Each of these takes two bytes on the wire, and hundreds in a struct of its own.
        for number in [5, 6, 7] {
            let answer = call(&sender, "ModelInfer", &[], framed(&field(number, &[]).repeat(500_000))).await;
            assert_eq!(answer.code, 5, "the model comes first: {answer:?}");
            let bomb = [field(1, b"identity_fp32"), field(number, &[]).repeat(500_000)].concat();
            let answer = call(&sender, "ModelInfer", &[], framed(&bomb)).await;
            assert_eq!(answer.code, INVALID_ARGUMENT, "{answer:?}");
        }
        assert_eq!(call(&sender, "ModelInfer", &[], framed(&identity_message(2))).await.code, 0);
        let grown = server.rss().saturating_sub(before);
        assert!(grown < 64 << 20, "memory has grown by {grown} bytes");
    });
    settles(&server);
}

#[test]
fn a_message_that_never_comes_ends_with_the_servers_time() {
    let repository = repository();
    let server = Server::builder().repository(&repository).set("server.request_timeout", "300ms").start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        for method in ["ModelInfer", "ModelReady", "RepositoryModelLoad"] {
            let (answer, mut stream) = begin(&sender, method, &[]).await;
            stream.send_data(prefixed(0, 1000, b"slowly").into(), false).unwrap();
            let answer = ended(answer).await;
            assert_eq!(answer.code, DEADLINE_EXCEEDED, "{method}: {answer:?}");
            assert!(answer.message.contains("did not arrive in time"), "{method}: {answer:?}");
        }
    });
}

#[test]
fn the_clients_deadline_ends_what_is_queued_and_what_runs() {
    let repository = repository();
    let server = Server::builder().repository(&repository).start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let deadline = [("grpc-timeout", "200m")];
        // Each of them would take a minute.
        let calls = (0..3).map(|_| call(&sender, "ModelInfer", &deadline, framed(&slow_message(60_000))));
        for answer in futures(calls).await {
            assert_eq!(answer.code, DEADLINE_EXCEEDED, "{answer:?}");
        }
        let never =
            call(&sender, "ModelInfer", &[("grpc-timeout", "soon")], framed(&identity_message(2))).await;
        assert_eq!(never.code, INVALID_ARGUMENT, "{never:?}");
        assert!(never.message.contains("'soon'"), "{never:?}");
        let late = call(&sender, "ModelInfer", &[("grpc-timeout", "0n")], framed(&identity_message(2))).await;
        assert_eq!(late.code, DEADLINE_EXCEEDED, "{late:?}");
        loop {
            let (answer, mut stream) = begin(&sender, "ModelStreamInfer", &deadline).await;
            stream.send_data(framed(&identity_message(2)).into(), false).unwrap();
            let answer = ended(answer).await;
            assert_eq!(answer.code, DEADLINE_EXCEEDED, "{answer:?}");
            // What was answered in time is there. On a busy machine nothing may be: it is asked anew then.
            if answer.messages.len() == 1 {
                break;
            }
        }
        // The worker is free again.
        assert_eq!(call(&sender, "ModelInfer", &[], framed(&slow_message(1))).await.code, 0);
    });
    eventually("the runs were ended", || server.metrics().sum("nuke_workers_busy", &[]) == 0.0);
    settles(&server);
}

/// Waits for all of them, side by side.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (one, done) in &mut pending {
            if done.is_none()
                && let std::task::Poll::Ready(value) = one.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if pending.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pending.into_iter().filter_map(|(_, done)| done).collect()
}

#[test]
fn a_thousand_calls_that_are_taken_back_leave_nothing_behind() {
    let repository = repository();
    let server = Server::builder().repository(&repository).start();
    client(async {
        for _ in 0..10 {
            let (sender, _connection) = connect(server.address()).await;
            let mut calls = Vec::new();
            for number in 0..100 {
                let method = if number % 2 == 0 { "ModelInfer" } else { "ModelStreamInfer" };
                let (answer, mut stream) = begin(&sender, method, &[]).await;
                stream.send_data(framed(&slow_message(60_000)).into(), false).unwrap();
                calls.push((answer, stream));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            for (_, stream) in &mut calls {
                stream.send_reset(Reason::CANCEL);
            }
            drop(calls);
            let (honest, _connection) = connect(server.address()).await;
            assert_eq!(call(&honest, "ModelInfer", &[], framed(&identity_message(3))).await.code, 0);
        }
        let (sender, _connection) = connect(server.address()).await;
        let last = call(&sender, "ModelInfer", &[], framed(&slow_message(1))).await;
        assert_eq!(last.code, 0, "each of the thousand would have taken a minute: {last:?}");
    });
    eventually("nobody waits", || server.metrics().sum("nuke_queue_requests", &[]) == 0.0);
    settles(&server);
}

#[test]
fn a_shape_of_nothing_that_spans_everything_is_refused() {
    let repository = repository();
    let server = Server::builder().repository(&repository).start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        // 2^60 and 0.
        let shape = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, 0];
        let raw = infer_message("identity_fp32", "x", "FP32", &shape, &[]);
        // The last field, the empty raw contents, left out: typed contents that are empty.
        let typed = raw[..raw.len() - 2].to_vec();
        for message in [raw, typed] {
            let answer = call(&sender, "ModelInfer", &[], framed(&message)).await;
            assert_eq!(answer.code, INVALID_ARGUMENT, "{answer:?}");
            assert!(answer.message.contains("no elements"), "{answer:?}");
        }
    });
    settles(&server);
}

#[test]
fn what_the_door_refuses_is_a_status_with_the_hosts_code_and_name() {
    let repository = repository();
    let server = Server::builder().repository(&repository).set("server.max_header_size", "4KiB").start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let long = "y".repeat(5000);
        let headers = [("x-long", long.as_str()), ("x-request-id", "mine")];
        let answer = call(&sender, "ModelInfer", &headers, framed(&identity_message(2))).await;
        assert_eq!(answer.code, RESOURCE_EXHAUSTED, "{answer:?}");
        assert_eq!(answer.headers["nuke-code"], "headers_too_large");
        assert_eq!(answer.headers["x-request-id"], "mine");
        assert!(answer.message.contains("server.max_header_size"), "{answer:?}");
    });
    eventually("it has a line", || {
        server.log_lines("access").iter().any(|line| line["code"] == "headers_too_large")
    });
    settles(&server);
}
