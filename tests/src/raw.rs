//! Bytes on a socket, where the framing of a request matters, or its pace.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for the server's bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket has that option");
        Self { stream, received: Vec::new() }
    }

    /// Connects from an address of this machine: to the server another client.
    pub async fn connect_from(local: std::net::IpAddr, address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(local, 0)).expect("it is an address of this machine");
        let stream = socket.connect(address).await.expect("the server listens");
        Self { stream, received: Vec::new() }
    }

    /// Sends bytes; a server that has closed is not the sender's business.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends bytes as far as they go: until the server has taken none for a while.
    pub async fn send_what_goes(&mut self, mut bytes: &[u8]) {
        const STANDSTILL: Duration = Duration::from_millis(300);
        while !bytes.is_empty() {
            match timeout(STANDSTILL, self.stream.write(bytes)).await {
                Ok(Ok(sent)) => bytes = &bytes[sent..],
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Leaves at once, without a proper end.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("a socket has that option");
    }

    /// Ends the sending half.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads until what came contains `text`, and returns everything so far.
    ///
    /// # Panics
    /// When the server closes first, or is silent for too long.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            let so_far = String::from_utf8_lossy(&self.received).into_owned();
            if so_far.contains(text) {
                return so_far;
            }
            let more = self.read().await;
            assert!(more, "the server closed before {text:?}; it said: {so_far}");
        }
    }

    /// Reads until the server closes.
    pub async fn rest(mut self) -> String {
        while self.read().await {}
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// Reads until the connection ends; says whether it was reset.
    pub async fn end(mut self) -> (String, bool) {
        let mut all = std::mem::take(&mut self.received);
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut all)).await.expect("the connection ends");
        (String::from_utf8_lossy(&all).into_owned(), read.is_err())
    }

    /// Whether nothing more comes for so long, and the connection stays open.
    pub async fn is_silent_for(&mut self, time: Duration) -> bool {
        let mut byte = [0];
        timeout(time, self.stream.peek(&mut byte)).await.is_err()
    }

    async fn read(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut chunk))
            .await
            .expect("the server says something or closes");
        // A reset is an end, too.
        let size = read.unwrap_or(0);
        self.received.extend_from_slice(&chunk[..size]);
        size > 0
    }
}

/// Sends a whole request on a connection of its own and reads until the server closes.
pub async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(address).await;
    raw.send(request).await;
    raw.rest().await
}
