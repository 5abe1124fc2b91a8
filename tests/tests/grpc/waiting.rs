//! Streams that say nothing: they keep nobody out, and end.

use nuke_tests::{Repository, Server, Signal};

use crate::call::{
    RESOURCE_EXHAUSTED, UNAVAILABLE, begin, call, client, connect, ended, framed, identity_message,
};

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

fn repository() -> Repository {
    Repository::new().model("identity_fp32", "1", "identity_fp32")
}

#[test]
fn connections_that_merely_watch_make_room_for_others() {
    let server = Server::builder().repository(&repository()).set("server.max_connections", "3").start();
    client(async {
        let mut held = Vec::new();
        for _ in 0..3 {
            let (sender, connection) = connect(server.address()).await;
            let (watched, mut watching) = begin(&sender, WATCH, &[]).await;
            watching.send_data(framed(&[]).into(), true).unwrap();
            let body = watched.await.unwrap().into_body();
            held.push((sender, connection, body));
        }
        let (sender, _connection) = connect(server.address()).await;
        let answer = call(&sender, "ModelInfer", &[], framed(&identity_message(2))).await;
        assert_eq!(answer.code, 0, "{answer:?}");
    });
    assert!(server.metrics().sum("nuke_http_connections_ended_total", &[("reason", "crowded")]) >= 1.0);
}

#[test]
fn as_many_watch_from_one_address_as_may() {
    let server = Server::builder().repository(&repository()).start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let mut held = Vec::new();
        for _ in 0..64 {
            let (watched, mut watching) = begin(&sender, WATCH, &[]).await;
            watching.send_data(framed(&[]).into(), true).unwrap();
            let head = watched.await.unwrap();
            assert!(head.headers().get("grpc-status").is_none(), "{:?}", head.headers());
            held.push(head.into_body());
        }
        let one_more = call(&sender, WATCH, &[], framed(&[])).await;
        assert_eq!(one_more.code, RESOURCE_EXHAUSTED, "{one_more:?}");
        let checked = call(&sender, "/grpc.health.v1.Health/Check", &[], framed(&[])).await;
        assert_eq!(checked.code, 0, "{checked:?}");
    });
}

#[test]
fn a_stream_on_which_nothing_is_asked_ends() {
    let server = Server::builder().repository(&repository()).set("server.idle_timeout", "2s").start();
    client(async {
        let (sender, _connection) = connect(server.address()).await;
        let (streamed, mut streaming) = begin(&sender, "ModelStreamInfer", &[]).await;
        streaming.send_data(framed(&identity_message(3)).into(), false).unwrap();
        let streamed = ended(streamed).await;
        assert_eq!((streamed.code, streamed.messages.len()), (UNAVAILABLE, 1), "{streamed:?}");
        assert!(streamed.message.contains("server.idle_timeout"), "{streamed:?}");
        let (reflected, _reflecting) = begin(&sender, REFLECTION, &[]).await;
        ended(reflected).await;
    });
}

#[test]
fn an_open_reflection_does_not_keep_a_server_from_stopping() {
    let mut server = Server::builder().repository(&repository()).start();
    client(async {
        let (sender, connection) = connect(server.address()).await;
        let (reflected, reflecting) = begin(&sender, REFLECTION, &[]).await;
        let body = reflected.await.unwrap().into_body();
        server.signal(Signal::TERM);
        drop(sender);
        connection.await.unwrap().expect("closed without an error");
        drop((body, reflecting));
    });
    let exited = server.wait_for_exit();
    assert_eq!(exited.status.code(), Some(0), "{exited}");
    assert!(exited.logs.iter().any(|line| line.contains("all requests were answered")), "{exited}");
}
