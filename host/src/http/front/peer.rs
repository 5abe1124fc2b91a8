//! A client's TCP connection, which tells that the client has gone even while nothing is read from it.
//!
//! hyper reads to see a client's close, but not while it holds a request that was sent ahead (HTTP/1.1
//! pipelining): a client that goes then would have all of them run for nobody. Owns that look, and nothing else.
//! A client that closes its sending side is taken as gone, here as by hyper itself: it looks the same.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    tcp: TcpStream,
    /// Bytes may lie unread of which the runtime was told that there are none.
    unread: bool,
}

impl Peer {
    pub(super) const fn new(tcp: TcpStream) -> Self {
        Self { tcp, unread: false }
    }

    /// Whether the client has closed; if not, the task is woken when it does, also while bytes wait to be read.
    fn has_gone(&mut self, context: &mut Context<'_>) -> bool {
        while self.tcp.poll_read_ready(context).is_ready() {
            let ready = self.tcp.ready(Interest::READABLE).now_or_never();
            if ready.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed())) {
                return true;
            }
            // The system tells of what is new: of the close, once what was told before is taken as seen.
            self.unread = true;
            let _seen =
                self.tcp.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        false
    }

    /// What lies unread, if the runtime does not know of it.
    fn read_unread(&mut self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        if !self.unread || buffer.remaining() == 0 {
            return None;
        }
        let room = buffer.initialize_unfilled();
        match rustix::net::recv(&self.tcp, &mut *room, RecvFlags::empty()) {
            Ok((_, count)) => {
                // Less than there was room for: that was all, and of more the system tells.
                self.unread = count == room.len();
                buffer.advance(count);
                Some(Ok(()))
            }
            Err(Errno::WOULDBLOCK) => {
                self.unread = false;
                None
            }
            Err(Errno::INTR) => self.read_unread(buffer),
            Err(error) => Some(Err(error.into())),
        }
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.read_unread(buffer) {
            Some(read) => Poll::Ready(read),
            None => Pin::new(&mut self.tcp).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    /// hyper flushes each time it looks at a connection, whatever it waits for.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_gone(context) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the client has closed",
            )));
        }
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn pair() -> (Peer, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Peer::new(listener.accept().await.unwrap().0), client)
    }

    #[tokio::test]
    async fn a_close_is_seen_by_a_flush_although_nothing_is_read() {
        let (mut peer, mut client) = pair().await;
        client.write_all(b"two requests").await.unwrap();
        let mut first = [0; 4];
        peer.read_exact(&mut first).await.unwrap();
        // What is left lies unread; the client is there.
        peer.flush().await.unwrap();
        drop(client);
        let error = std::future::poll_fn(|context| {
            let flushed = Pin::new(&mut peer).poll_flush(context);
            // The system tells of the close a moment later.
            if matches!(flushed, Poll::Ready(Ok(()))) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            flushed
        });
        assert_eq!(error.await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn whoever_flushed_is_woken_by_the_close() {
        let (mut peer, mut client) = pair().await;
        client.write_all(b"all of it").await.unwrap();
        // Less than there is room for: nothing is left to be read.
        assert_eq!(peer.read(&mut [0; 64]).await.unwrap(), 9);
        let closed = std::future::poll_fn(|context| match Pin::new(&mut peer).poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(error.kind()),
            _ => Poll::Pending,
        });
        let (kind, ()) = tokio::join!(closed, async {
            tokio::task::yield_now().await;
            drop(client);
        });
        assert_eq!(kind, io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn whoever_flushed_is_woken_by_the_close_although_bytes_lie_unread() {
        let (mut peer, mut client) = pair().await;
        client.write_all(b"one request, and one that was sent ahead").await.unwrap();
        peer.tcp.readable().await.unwrap();
        let closed = std::future::poll_fn(|context| match Pin::new(&mut peer).poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(error.kind()),
            _ => Poll::Pending,
        });
        let (kind, ()) = tokio::join!(closed, async {
            tokio::task::yield_now().await;
            client.write_all(b", and another").await.unwrap();
            tokio::task::yield_now().await;
            drop(client);
        });
        assert_eq!(kind, io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn what_lies_unread_is_read_whole_whatever_was_flushed_between() {
        let (mut peer, client) = pair().await;
        let (sent, mut client) = ((0..200_000_u32).map(|number| number as u8).collect::<Vec<u8>>(), client);
        let send = async {
            for part in sent.chunks(1777) {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let read = async {
            let mut read = Vec::new();
            let mut room = [0; 1000];
            while read.len() < 200_000 {
                peer.flush().await.unwrap();
                let count = peer.read(&mut room[..1 + read.len() % 1000]).await.unwrap();
                read.extend_from_slice(&room[..count]);
            }
            read
        };
        let both = async { tokio::join!(send, read) };
        let ((), read) = tokio::time::timeout(std::time::Duration::from_secs(60), both).await.unwrap();
        assert!(read == sent);
    }
}
