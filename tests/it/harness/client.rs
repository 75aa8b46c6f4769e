//! A client that sends the bytes it is given and shows the bytes it gets.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// An answer, with its body taken out of its framing.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Name and value as they were sent.
    pub headers: Vec<(String, String)>,
    /// The content.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a field that is there at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} is there twice: {:?}", self.headers);
        value
    }

    /// A field as a number.
    pub fn number(&self, name: &str) -> u64 {
        self.header(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).parse().unwrap()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Asserts that this is the envelope of `code` with the standard sentence and no details.
    #[track_caller]
    pub fn assert_envelope(&self, status: u16, code: &str, message: &str) {
        let expected =
            format!(r#"{{"success":false,"error":{{"code":"{code}","message":"{message}","details":{{}}}}}}"#);
        assert_eq!((self.status, self.text()), (status, expected));
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.number("content-length"), self.body.len() as u64);
        assert!(self.header("x-request-id").is_some());
    }
}

/// Whatever bytes can be sent over.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection for one request after the other.
pub struct Connection {
    stream: Box<dyn Duplex>,
    buffer: Vec<u8>,
}

/// One request on a connection of its own; panics when there is no answer.
pub async fn send(address: SocketAddr, request: &[u8]) -> Response {
    let mut connection = Connection::open(address).await;
    connection.write(request).await;
    connection.read(request).await.expect("an answer")
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.expect("in time").expect("a connection");
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Takes a connection that is there already.
    pub fn over(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    /// Sends bytes.
    pub async fn write(&mut self, bytes: &[u8]) {
        assert!(self.try_write(bytes).await, "written");
    }

    /// Sends bytes; false when the other side has closed.
    pub async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Says that nothing more will be sent.
    pub async fn end(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// One request and its answer; `None` when the connection was closed instead.
    pub async fn request(&mut self, request: &str) -> Option<Response> {
        if !self.try_write(request.as_bytes()).await {
            return None;
        }
        self.read(request.as_bytes()).await
    }

    /// Sends so many requests that no route takes, many before their answers are read, and reads all of these.
    pub async fn refused(&mut self, requests: usize) {
        const AT_ONCE: usize = 50;
        let request = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
        for _ in 0..requests / AT_ONCE {
            self.write(request.repeat(AT_ONCE).as_bytes()).await;
            for _ in 0..AT_ONCE {
                assert_eq!(self.read(request.as_bytes()).await.expect("an answer").status, 404);
            }
        }
    }

    /// The final answer to `request`; `None` when the connection ended without one.
    pub async fn read(&mut self, request: &[u8]) -> Option<Response> {
        let is_head = request.starts_with(b"HEAD ");
        loop {
            let head = self.head().await?;
            if head.status >= 200 {
                let body = if is_head { Vec::new() } else { self.body(&head).await? };
                return Some(Response { body, ..head });
            }
        }
    }

    /// The next head, interim ones too.
    pub async fn head(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let text = String::from_utf8(head).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers = lines.map(|line| {
            line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap_or((line.to_owned(), String::new()))
        });
        Some(Response { status, headers: headers.collect(), body: Vec::new() })
    }

    async fn body(&mut self, head: &Response) -> Option<Vec<u8>> {
        if matches!(head.status, 204 | 304) {
            return Some(Vec::new());
        }
        if head.header("transfer-encoding").is_some() {
            let mut body = Vec::new();
            loop {
                let chunk = self.chunk().await?;
                if chunk.is_empty() {
                    return Some(body);
                }
                body.extend(chunk);
            }
        }
        match head.header("content-length") {
            Some(length) => self.exactly(length.parse().unwrap()).await,
            None => {
                while self.fill().await.is_some() {}
                Some(std::mem::take(&mut self.buffer))
            }
        }
    }

    /// The next chunk of a chunked body; the last is empty.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            self.fill().await?;
        };
        let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
        let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let chunk = self.exactly(length + 2).await?;
        Some(chunk[..length].to_vec())
    }

    /// The next line, without its CRLF.
    pub async fn line(&mut self) -> String {
        let end = loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            self.fill().await.expect("a line");
        };
        let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
        String::from_utf8(line[..end].to_vec()).unwrap()
    }

    async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// Whether the other side closes without sending anything more.
    pub async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill().await.is_none()
    }

    async fn fill(&mut self) -> Option<()> {
        let mut chunk = [0; 16 << 10];
        match timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("an answer in time") {
            Ok(0) | Err(_) => None,
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                Some(())
            }
        }
    }
}
