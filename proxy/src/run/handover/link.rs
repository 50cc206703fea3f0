//! The socket between two processes: messages as lines of JSON, and descriptors beside one of them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::Message;

/// The longest line: thousands of instances.
const LONGEST: usize = 4 << 20;

/// Descriptors at once.
const DESCRIPTORS: usize = 64;

/// One end.
pub(super) struct Link {
    stream: UnixStream,
    received: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Link {
    /// Refuses the other end if it is of another user.
    pub(super) fn new(stream: UnixStream) -> std::io::Result<Self> {
        let (peer, own) = (stream.peer_cred()?.uid(), nix::unistd::geteuid().as_raw());
        if peer != own {
            let why = format!("the other end is user {peer}, not {own}");
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why));
        }
        Ok(Self { stream, received: Vec::new(), descriptors: Vec::new() })
    }

    /// Sends one message.
    pub(super) async fn send(&self, message: &Message) -> std::io::Result<()> {
        self.send_with(message, &[]).await
    }

    /// Sends one message, and descriptors with its first byte.
    pub(super) async fn send_with(&self, message: &Message, sent: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut done = 0;
        while done < line.len() {
            let with = if done == 0 { sent } else { &[] };
            done +=
                self.stream.async_io(Interest::WRITABLE, || write(&self.stream, &line[done..], with)).await?;
        }
        Ok(())
    }

    /// The next message. `UnexpectedEof` when the other end is gone. Cancel-safe.
    pub(super) async fn next(&mut self) -> std::io::Result<Message> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line)?);
            }
            if self.received.len() > LONGEST {
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a message without end"));
            }
            let read = self.stream.async_io(Interest::READABLE, || read(&self.stream)).await?;
            if read.0.is_empty() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&read.0);
            self.descriptors.extend(read.1);
        }
    }

    /// The descriptors that have come so far.
    pub(super) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }
}

fn write(stream: &UnixStream, bytes: &[u8], sent: &[BorrowedFd<'_>]) -> std::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !sent.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sent)) {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "too many listeners to hand over"));
    }
    Ok(rustix::net::sendmsg(stream.as_fd(), &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

fn read(stream: &UnixStream) -> std::io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 64 << 10];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = rustix::net::recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            descriptors.extend(list);
        }
    }
    bytes.truncate(got.bytes);
    Ok((bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_and_sockets_arrive_as_they_were_sent() {
        let (one, other) = UnixStream::pair().unwrap();
        let (one, mut other) = (Link::new(one).unwrap(), Link::new(other).unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let large = Message::No { why: "x".repeat(1 << 20) };
        let sending = async {
            one.send_with(&Message::Commit, &[listener.as_fd()]).await.unwrap();
            one.send(&large).await.unwrap();
            drop(one);
        };
        let receiving = async {
            assert_eq!(other.next().await.unwrap(), Message::Commit);
            assert_eq!(other.next().await.unwrap(), large);
            assert!(other.next().await.is_err());
            let came: Vec<_> = other.take_descriptors();
            let came = std::net::TcpListener::from(came.into_iter().next().unwrap());
            assert_eq!(came.local_addr().unwrap(), address);
        };
        tokio::join!(sending, receiving);
    }
}
