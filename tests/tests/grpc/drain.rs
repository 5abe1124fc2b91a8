//! SIGTERM: what is being answered is answered, and streams that would never end do.

use std::time::Duration;

use nuke_tests::{Repository, Server, Signal};

use crate::call::{
    UNAVAILABLE, begin, call, client, connect, first, framed, identity_message, rest, slow_message,
};

#[test]
fn a_draining_server_answers_what_it_has_and_ends_its_streams() {
    let repository = Repository::new()
        .model("identity_fp32", "1", "identity_fp32")
        .model("slow", "1", "slow")
        .model_yaml("{queue: {timeout: 60s}}");
    let mut server = Server::builder().repository(&repository).start();
    client(async {
        let (sender, connection) = connect(server.address()).await;
        let (watched, mut watching) = begin(&sender, "/grpc.health.v1.Health/Watch", &[]).await;
        watching.send_data(framed(&[]).into(), true).unwrap();
        let (streamed, mut streaming) = begin(&sender, "ModelStreamInfer", &[]).await;
        streaming.send_data(framed(&identity_message(3)).into(), false).unwrap();
        // Both have begun before the server is to stop.
        let (watched, streamed) = (first(watched).await, first(streamed).await);
        let running = tokio::spawn({
            let sender = sender.clone();
            async move { call(&sender, "ModelInfer", &[], framed(&slow_message(3000))).await }
        });
        // The client's tasks have to run while the host is asked.
        while server.metrics().sum("nuke_workers_busy", &[]) < 1.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.signal(Signal::TERM);
        assert_eq!(running.await.unwrap().code, 0);
        let watched = rest(watched).await;
        assert_eq!(watched.code, 0, "{watched:?}");
        assert_eq!(watched.messages, [[8, 1], [8, 2]], "serving, and then not");
        let streamed = rest(streamed).await;
        assert_eq!((streamed.code, streamed.messages.len()), (UNAVAILABLE, 1), "{streamed:?}");
        drop((sender, streaming));
        connection.await.unwrap().expect("closed without an error");
    });
    let exited = server.wait_for_exit();
    assert_eq!(exited.status.code(), Some(0), "{exited}");
    assert!(exited.logs.iter().any(|line| line.contains("all requests were answered")), "{exited}");
}
