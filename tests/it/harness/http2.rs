//! HTTP/2 clients: one that plays by the rules, and one that sends the frames it is given.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;
use super::client::{Duplex, Response};

/// A client of one connection.
#[derive(Clone)]
pub struct Client(SendRequest<Bytes>);

impl Client {
    /// Connects and knows beforehand that HTTP/2 is spoken.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    /// Takes a connection that is there already.
    pub async fn over(stream: impl Duplex + 'static) -> Self {
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        Self(client)
    }

    /// Begins a request; with `is_whole` it has no body.
    pub async fn begin(
        &self,
        request: Request<()>,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.0.clone().ready().await?.send_request(request, is_whole)
    }

    /// One request without a body, and its whole answer.
    pub async fn send(&self, request: Request<()>) -> Result<Response, h2::Error> {
        let (answer, _) = self.begin(request, true).await?;
        whole(answer).await
    }
}

/// A GET with a token.
pub fn get(path: &str, token: &str) -> Request<()> {
    request("GET", path, token)
}

/// A request with a token.
pub fn request(method: &str, path: &str, token: &str) -> Request<()> {
    let uri = format!("http://gateway{path}");
    Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {token}")).body(()).unwrap()
}

/// The head of an answer and its body, which is to be read.
pub async fn head(answer: ResponseFuture) -> Result<(Response, RecvStream), h2::Error> {
    let (parts, body) = timeout(PATIENCE, answer).await.expect("an answer in time")?.into_parts();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    Ok((Response { status: parts.status.as_u16(), headers: headers.collect(), body: Vec::new() }, body))
}

/// An answer to its end, which has no trailers.
pub async fn whole(answer: ResponseFuture) -> Result<Response, h2::Error> {
    let (mut response, mut body) = head(answer).await?;
    while let Some(part) = timeout(PATIENCE, body.data()).await.expect("the body in time") {
        let part = part?;
        body.flow_control().release_capacity(part.len()).unwrap();
        response.body.extend_from_slice(&part);
    }
    assert_eq!(body.trailers().await?, None::<HeaderMap>);
    Ok(response)
}

/// A connection that takes any frame.
pub struct Frames(TcpStream);

/// One frame (RFC 9113 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

impl Frames {
    /// Connects, sends the preface and empty settings.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut frames = Self(stream);
        assert!(frames.send(SETTINGS, 0, 0, &[]).await);
        frames
    }

    /// Sends a frame; false when the other side has closed.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.send_all(&frame(kind, flags, stream, payload)).await
    }

    /// Sends frames that are written out already.
    pub async fn send_all(&mut self, frames: &[u8]) -> bool {
        timeout(PATIENCE, self.0.write_all(frames)).await.expect("taken in time").is_ok()
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        timeout(PATIENCE, self.0.read_exact(&mut head)).await.expect("a frame in time").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that is of this kind.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// The error code of the GOAWAY with which the connection ends; `None` when it ends without one.
    pub async fn goaway(&mut self) -> Option<u32> {
        let payload = self.next_of(GOAWAY).await?.payload;
        Some(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]))
    }
}

/// A frame written out.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block in literals, as plain as HPACK allows (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            string(&mut block, text.as_bytes());
        }
    }
    block
}

/// A string literal with its length in a prefix of seven bits (RFC 7541 sections 5.1 and 5.2).
fn string(block: &mut Vec<u8>, text: &[u8]) {
    match text.len().checked_sub(127) {
        None => block.push(u8::try_from(text.len()).unwrap()),
        Some(mut rest) => {
            block.push(127);
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
    }
    block.extend_from_slice(text);
}

/// The pseudo-fields of a GET, and a token.
pub fn get_block(path: &str, token: &str) -> Vec<u8> {
    let authorization = format!("Bearer {token}");
    block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "gateway"),
        (":path", path),
        ("authorization", &authorization),
    ])
}
