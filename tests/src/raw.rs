//! A bare connection, for bytes that no client would send and for clients that go away.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::client::Answer;

/// What no answer should take, however busy the machine is.
const GUARD: Duration = Duration::from_secs(60);

/// A TCP connection. Dropped, it is closed.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    /// Read, but not yet part of an answer.
    buffered: Vec<u8>,
}

impl RawConnection {
    /// Opens a connection.
    ///
    /// # Panics
    /// If nobody listens.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("connect {address}: {error}"));
        stream.set_read_timeout(Some(GUARD)).expect("a timeout above zero");
        stream.set_write_timeout(Some(GUARD)).expect("a timeout above zero");
        stream.set_nodelay(true).expect("a TCP connection");
        Self { stream, buffered: Vec::new() }
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// The other side has closed.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a whole `POST` with a body.
    ///
    /// # Panics
    /// If the other side has closed.
    #[track_caller]
    pub fn send_post(&mut self, path: &str, body: &[u8]) {
        let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
        self.send(head.as_bytes())
            .and_then(|()| self.send(body))
            .unwrap_or_else(|error| panic!("send: {error}"));
    }

    /// Says that nothing more will be sent; what comes can still be read.
    pub fn finish_sending(&self) {
        // The other side may have closed before.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads one answer and leaves what follows it for the next.
    ///
    /// # Errors
    /// What came instead of one.
    pub fn read_answer(&mut self) -> Result<Answer, String> {
        let head_length = loop {
            if let Some(at) = self.buffered.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill()? {
                return Err(format!("closed in the head: {:?}", String::from_utf8_lossy(&self.buffered)));
            }
        };
        let head: Vec<u8> = self.buffered.drain(..head_length).collect();
        let (status, headers) = parse_head(&String::from_utf8_lossy(&head))?;
        let length =
            headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        // One that only says to go on has no body.
        let length = if status < 200 { Some(0) } else { length };
        let length: usize = length.ok_or_else(|| format!("no content-length: {headers:?}"))?;
        while self.buffered.len() < length {
            if !self.fill()? {
                return Err(format!("closed after {} of {length} bytes of the body", self.buffered.len()));
            }
        }
        Ok(Answer { status, headers, body: self.buffered.drain(..length).collect() })
    }

    /// All that comes until the other side closes.
    ///
    /// # Errors
    /// It resets the connection, or sends nothing for a minute.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, String> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.buffered))
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> Result<bool, String> {
        let mut chunk = [0; 16 << 10];
        let count = self.stream.read(&mut chunk).map_err(|error| format!("read: {error}"))?;
        self.buffered.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }
}

fn parse_head(head: &str) -> Result<(u16, HeaderMap), String> {
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status = status.ok_or_else(|| format!("no status line: {first:?}"))?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let pair = line.split_once(':').and_then(|(name, value)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.trim()).ok()?))
        });
        let (name, value) = pair.ok_or_else(|| format!("no header: {line:?}"))?;
        headers.append(name, value);
    }
    Ok((status, headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_and_nonsense_is_refused() {
        let (status, headers) = parse_head("HTTP/1.1 404 Not Found\r\nA: b\r\na: c\r\n\r\n").unwrap();
        assert_eq!(status, 404);
        assert_eq!(headers.get_all("a").iter().count(), 2);
        assert!(parse_head("HTTP/2\r\n\r\n").is_err());
        assert!(parse_head("HTTP/1.1 200 OK\r\nno header\r\n\r\n").is_err());
    }
}
