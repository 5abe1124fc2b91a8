//! What listens at Redis' address and is no Redis.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::store::StoreError;

/// Something that greets and answers everything with these bytes; with none, it is silent.
async fn stranger(greeting: &'static [u8], answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                drop(stream.write_all(greeting).await);
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_never_asked_and_never_waited_for() {
    let strangers: [(&[u8], &[u8]); 10] = [
        (b"", b""),
        (b"", b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b"\0\x01\x02\xff\xfe"),
        (b"", b"+OK\r\n"),
        (b"", b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+PONG\r\n+PONG\r\n"),
        (b"", b"$99999999999999999999\r\n"),
        (b"", b"$-7\r\n*-9\r\n%-1\r\n"),
        (b"", b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"),
        (b"", b"-\r\n"),
        (b">2\r\n$10\r\ninvalidate\r\n_\r\n", b":1\r\n"),
    ];
    for (greeting, answer) in strangers {
        let mut settings = settings(RedisPlace::Server(at(stranger(greeting, answer).await)));
        settings.connect_timeout = Duration::from_millis(100);
        let store = open(&settings);
        let listener = store.subscribe("nuke:news");
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(400) {
            assert_eq!(store.get_bytes("key", 100).await, Err(StoreError::Open), "{answer:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(listener);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_mad_is_given_up() {
    // It is a Redis for as long as it takes to connect: each answer is what the library waits for.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let redis = Redis::start();
    let real = redis.port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = tokio::net::TcpStream::connect(("127.0.0.1", real)).await.expect("a server");
            tokio::spawn(async move {
                let (mut from, mut to) = ([0; 4096], [0; 4096]);
                loop {
                    tokio::select! {
                        read = client.read(&mut from) => match read {
                            Ok(length @ 1..) if from[..length].windows(3).any(|part| part == b"MAD") => {
                                drop(client.write_all(b"!!nonsense\r\n@\r\n").await);
                            }
                            Ok(length @ 1..) => drop(server.write_all(&from[..length]).await),
                            _ => return,
                        },
                        read = server.read(&mut to) => match read {
                            Ok(length @ 1..) => drop(client.write_all(&to[..length]).await),
                            _ => return,
                        },
                    }
                }
            });
        }
    });
    let store = connected(&settings(RedisPlace::Server(at(port)))).await;
    until_it_serves(&store, "key").await;
    let mad = store.get_bytes("MAD", 100).await;
    assert!(
        matches!(mad, Err(StoreError::Garbage(_) | StoreError::Lost(_) | StoreError::TimedOut)),
        "{mad:?}"
    );
    until_it_serves(&store, "key").await;
}
