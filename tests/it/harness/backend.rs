//! Backends: one that records every request and answers as it is told, and one that says exactly the bytes it is given.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

/// A request as the backend saw it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// All fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Recorded {
    /// The value of a field that is there at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }
}

pub type Body = BoxBody<Bytes, Infallible>;
type Answer = dyn Fn(&Recorded) -> Response<Body> + Send + Sync;

/// A backend that records. It goes on until the test ends.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Recorded>>>,
}

impl Backend {
    /// Answers every request with 200 and `{"success":true,"data":[]}`.
    pub async fn start() -> Self {
        Self::answering(|_| json(200, r#"{"success":true,"data":[]}"#)).await
    }

    /// Answers as `answer` says, after the whole request has come.
    pub async fn answering(answer: impl Fn(&Recorded) -> Response<Body> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (record, answer): (_, Arc<Answer>) = (Arc::clone(&seen), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
                        let recorded = Recorded {
                            method: head.method.to_string(),
                            target: head.uri.to_string(),
                            headers: head.headers,
                            body,
                        };
                        let response = answer(&recorded);
                        record.lock().unwrap().push(recorded);
                        Ok::<_, Infallible>(response)
                    }
                });
                tokio::spawn(async move {
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    )
                });
            }
        });
        Self { address, seen }
    }

    /// Everything it was sent so far, in the order in which it was answered.
    pub fn seen(&self) -> Vec<Recorded> {
        self.seen.lock().unwrap().clone()
    }

    /// The one request it was sent.
    pub fn only(&self) -> Recorded {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

/// An answer with a JSON body.
pub fn json(status: u16, body: &str) -> Response<Body> {
    typed(status, "application/json", body)
}

/// An answer with a body of any type.
pub fn typed(status: u16, content_type: &str, body: &str) -> Response<Body> {
    let mut response = Response::new(Full::from(body.to_owned()).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", content_type.parse().unwrap());
    response
}

/// A backend that reads the head of each request, writes `answer` as it is, and closes.
pub async fn raw(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    scripted(move |mut stream| {
        let answer = answer.clone();
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// A backend whose every connection is left to `script`.
pub async fn scripted<F>(script: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream));
        }
    });
    address
}

/// Reads to the end of a request head and returns what came.
pub async fn read_head(stream: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    while !read.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(length) => read.extend_from_slice(&chunk[..length]),
        }
    }
    read
}

/// An address where nobody listens, and nobody will: the port is taken, so that no other test is given it.
pub async fn nobody() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address
}
