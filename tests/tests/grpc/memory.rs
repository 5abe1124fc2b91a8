//! Messages that are on their way: they count in the memory of all requests as they arrive, and have to arrive.

use std::time::Duration;

use nuke_tests::{Repository, Server, ServerBuilder, settles};

use crate::call::{
    DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, begin, call, client, connect, ended, framed, identity_message,
    infer_message, prefixed,
};

fn builder(repository: &Repository) -> ServerBuilder {
    Server::builder().repository(repository).set("log.access", "false").set("server.max_body", "4MiB")
}

fn repository() -> Repository {
    Repository::new().model("identity_fp32", "1", "identity_fp32")
}

/// A request to `identity_fp32` of so many numbers, framed.
fn large(numbers: usize) -> Vec<u8> {
    let mut shape = vec![1];
    let mut left = numbers;
    while left >= 0x80 {
        shape.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    shape.push(u8::try_from(left).unwrap());
    framed(&infer_message("identity_fp32", "x", "FP32", &shape, &vec![0; 4 * numbers]))
}

fn held(server: &Server) -> f64 {
    server.metrics().sum("nuke_http_memory_bytes", &[])
}

/// Waits without holding up the client's own connections.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..600 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

#[test]
fn messages_count_while_they_arrive_and_what_is_over_the_bound_is_refused_at_once() {
    let repository = repository();
    let server =
        builder(&repository).set("server.max_memory", "8MiB").set("server.body_timeout", "1m").start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let message = large(750_000);
        let (most, last) = message.split_at(message.len() - 1);
        let mut half = Vec::new();
        for method in ["ModelInfer", "ModelStreamInfer"] {
            let (answer, mut stream) = begin(&sender, method, &[]).await;
            stream.send_data(most.to_vec().into(), false).unwrap();
            half.push((answer, stream));
        }
        until("nearly six of eight MiB are held", || held(&server) > 5.9e6).await;
        // What is announced and does not fit is refused before it comes.
        for method in ["ModelInfer", "ModelStreamInfer"] {
            let (answer, mut stream) = begin(&sender, method, &[]).await;
            stream.send_data(prefixed(0, 3 << 20, b"x").into(), false).unwrap();
            let answer = ended(answer).await;
            assert_eq!(answer.code, RESOURCE_EXHAUSTED, "{answer:?}");
            assert!(answer.message.contains("server.max_memory"), "{answer:?}");
            assert!(answer.headers.contains_key("grpc-retry-pushback-ms"), "{answer:?}");
        }
        // So is what is announced in parts that fit, as soon as there are too many of them.
        let (mut parts, mut refused) = (Vec::new(), 0);
        let part = large(100_000);
        for _ in 0..10 {
            let (answer, mut stream) = begin(&sender, "ModelInfer", &[]).await;
            let _ = stream.send_data(part[..part.len() - 1].to_vec().into(), false);
            parts.push((answer, stream));
        }
        let counted = || server.metrics().sum("nuke_http_refused_total", &[("reason", "memory")]);
        until("some of ten are refused", || counted() >= 5.0).await;
        // Small ones find room.
        assert_eq!(call(&sender, "ModelInfer", &[], framed(&identity_message(2))).await.code, 0);
        for (answer, mut stream) in parts {
            let _ = stream.send_data(part[part.len() - 1..].to_vec().into(), true);
            let answer = ended(answer).await;
            assert!(matches!(answer.code, 0 | RESOURCE_EXHAUSTED), "{answer:?}");
            refused += usize::from(answer.code == RESOURCE_EXHAUSTED);
        }
        assert!((1..10).contains(&refused), "{refused} of ten were refused");
        // Those that came first are served to their end.
        for (answer, mut stream) in half {
            stream.send_data(last.to_vec().into(), true).unwrap();
            let answer = ended(answer).await;
            assert_eq!((answer.code, answer.messages.len()), (0, 1), "{}", answer.message);
        }
        until("all is given back", || held(&server) == 0.0).await;
    });
    settles(&server);
}

#[test]
fn messages_that_drip_are_ended_and_an_honest_client_is_answered_meanwhile() {
    let repository = repository();
    let server = builder(&repository).set("server.body_timeout", "1s").start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let (honest, _other) = connect(server.address()).await;
        let mut slow = Vec::new();
        for number in 0..60 {
            let method = if number % 2 == 0 { "ModelInfer" } else { "ModelStreamInfer" };
            let (answer, mut stream) = begin(&sender, method, &[]).await;
            stream.send_data(prefixed(0, 1 << 20, b"x").into(), false).unwrap();
            slow.push((answer, stream));
        }
        for _ in 0..20 {
            for (_, stream) in &mut slow {
                // It may have been ended by now.
                let _ = stream.send_data(vec![0; 8].into(), false);
            }
            assert_eq!(call(&honest, "ModelInfer", &[], framed(&identity_message(3))).await.code, 0);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for (answer, _stream) in slow {
            let answer = ended(answer).await;
            assert_eq!(answer.code, DEADLINE_EXCEEDED, "{answer:?}");
            assert!(answer.message.contains("server.body_timeout"), "{answer:?}");
        }
        until("all is given back", || held(&server) == 0.0).await;
    });
    settles(&server);
}

#[test]
fn a_stream_may_rest_between_messages_and_each_of_them_is_given_back() {
    let repository = repository();
    let server =
        builder(&repository).set("server.body_timeout", "2s").set("server.max_memory", "16MiB").start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let (answer, mut stream) = begin(&sender, "ModelStreamInfer", &[]).await;
        stream.send_data(framed(&identity_message(2)).into(), false).unwrap();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        // More in all than may be held at once.
        let message = large(250_000);
        for _ in 0..40 {
            stream.send_data(message.clone().into(), false).unwrap();
        }
        stream.send_data(framed(&identity_message(2)).into(), true).unwrap();
        let answer = ended(answer).await;
        assert_eq!((answer.code, answer.messages.len()), (0, 42), "{}", answer.message);
        until("all is given back", || held(&server) == 0.0).await;
    });
    settles(&server);
}
