//! A socket between a host and a worker's process.
//!
//! Owns sending and receiving one message at a time, with handles of shared memory beside some. A host takes no
//! handles from a worker: whatever came would be dropped by the system.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::message::{Message, SIZE, WireError};

/// Handles that may come with one message.
const HANDLES: usize = 4;

/// Why nothing was received.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChannelError {
    /// The other side has ended.
    #[error("the other side has closed its end")]
    Closed,
    /// The system refuses.
    #[error("the socket cannot be used: {0}")]
    System(#[from] io::Error),
    /// What came is no message.
    #[error("what came is no message: {0}")]
    Malformed(#[from] WireError),
}

impl From<rustix::io::Errno> for ChannelError {
    fn from(error: rustix::io::Errno) -> Self {
        use rustix::io::Errno;

        match error {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Closed,
            other => Self::System(other.into()),
        }
    }
}

/// One end of a socket that keeps messages apart.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Both ends of a new one.
    ///
    /// # Errors
    /// The system has no more sockets.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let ends = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ends.0), ends.1))
    }

    /// The end that was handed over.
    pub(super) fn from_handle(handle: OwnedFd) -> Self {
        Self(handle)
    }

    /// Sends a message. Needs no right but to write.
    ///
    /// # Errors
    /// The other side has ended.
    pub(super) fn send(&self, message: Message) -> Result<(), ChannelError> {
        // A packet goes whole or not at all.
        rustix::io::retry_on_intr(|| rustix::io::write(&self.0, &message.encode()))?;
        Ok(())
    }

    /// Sends a message if that takes no waiting: nobody waits for one who does not read.
    ///
    /// # Errors
    /// The other side has ended, or has not read for long.
    pub(super) fn send_now(&self, message: Message) -> Result<(), ChannelError> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::io::retry_on_intr(|| rustix::net::send(&self.0, &message.encode(), flags))?;
        Ok(())
    }

    /// Sends a message with handles.
    ///
    /// # Errors
    /// The other side has ended.
    pub(super) fn send_with(&self, message: Message, handles: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDLES))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if handles.len() > HANDLES || !beside.push(SendAncillaryMessage::ScmRights(handles)) {
            return Err(ChannelError::System(io::Error::other("too many handles for one message")));
        }
        let bytes = message.encode();
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a message; handles that come with it are dropped.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(super) fn receive(&self) -> Result<Message, ChannelError> {
        let mut bytes = [0; SIZE + 1];
        let length = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut bytes))?;
        read(bytes.get(..length).unwrap_or_default())
    }

    /// Waits for a message and the handles that come with it.
    ///
    /// # Errors
    /// [`ChannelError`]; also if there were more handles than any message has.
    pub(super) fn receive_with(&self) -> Result<(Message, Vec<OwnedFd>), ChannelError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDLES))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; SIZE + 1];
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(&self.0, &mut buffers, &mut beside, RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut handles = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(all) = message {
                handles.extend(all);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(ChannelError::System(io::Error::other("more handles came than a message has")));
        }
        let message = read(bytes.get(..received.bytes).unwrap_or_default())?;
        Ok((message, handles))
    }
}

fn read(bytes: &[u8]) -> Result<Message, ChannelError> {
    if bytes.is_empty() {
        return Err(ChannelError::Closed);
    }
    Ok(Message::decode(bytes)?)
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until there is something to read at one of two ends, or the time is over. Returns for each whether
/// there is.
///
/// # Errors
/// The system refuses.
pub(super) fn wait(first: &Channel, second: &Channel, time: Duration) -> io::Result<(bool, bool)> {
    let mut ends = [PollFd::new(first, PollFlags::IN), PollFd::new(second, PollFlags::IN)];
    let time = Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    match poll(&mut ends, Some(&time)) {
        Ok(_) => {}
        // As if nothing had come: the caller looks again.
        Err(rustix::io::Errno::INTR) => return Ok((false, false)),
        Err(error) => return Err(error.into()),
    }
    // An end that is closed can be read, too: it says so.
    let [first, second] = ends.map(|end| !end.revents().is_empty());
    Ok((first, second))
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = Channel::pair().unwrap();
        (one, Channel::from_handle(other))
    }

    #[test]
    fn messages_and_handles_arrive_apart_from_each_other() {
        let (host, worker) = pair();
        let memory = Memory::create("test", 10).unwrap();
        memory.write(b"x", 9).unwrap();
        host.send_with(Message::Arena { size: 10 }, &[memory.as_fd()]).unwrap();
        host.send_now(Message::Ping { number: 1 }).unwrap();
        let (message, mut handles) = worker.receive_with().unwrap();
        assert_eq!((message, handles.len()), (Message::Arena { size: 10 }, 1));
        let received = Memory::received(handles.remove(0), 10).unwrap();
        assert_eq!(received.read(9, 1).unwrap(), b"x");
        assert_eq!(worker.receive_with().unwrap().0, Message::Ping { number: 1 });
        drop(host);
        assert!(matches!(worker.receive_with(), Err(ChannelError::Closed)));
        assert!(matches!(worker.send(Message::Pong { number: 1 }), Err(ChannelError::Closed)));
    }

    #[test]
    fn what_is_no_message_is_refused_and_handles_of_a_worker_are_not_taken() {
        let (host, worker) = pair();
        for length in [1, SIZE - 1, SIZE + 1, 5000] {
            rustix::io::write(&worker, &vec![b'x'; length]).unwrap();
            assert!(matches!(host.receive(), Err(ChannelError::Malformed(WireError::Length(_)))), "{length}");
        }
        rustix::io::write(&worker, &[b'x'; SIZE]).unwrap();
        assert!(matches!(host.receive(), Err(ChannelError::Malformed(WireError::Magic))));
        let memory = Memory::create("test", 10).unwrap();
        worker.send_with(Message::Pong { number: 1 }, &[memory.as_fd(); HANDLES]).unwrap();
        assert_eq!(host.receive().unwrap(), Message::Pong { number: 1 });
        assert!(worker.send_with(Message::Pong { number: 1 }, &[memory.as_fd(); HANDLES + 1]).is_err());
    }

    #[test]
    fn nobody_waits_for_one_who_does_not_read() {
        let (host, _worker) = pair();
        while host.send_now(Message::Ping { number: 1 }).is_ok() {}
        let (silent, _other) = pair();
        assert_eq!(wait(&host, &silent, Duration::from_millis(1)).unwrap(), (false, false));
    }
}
