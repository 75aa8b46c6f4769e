//! WebSockets, on routes that allow them: after authorisation, both ways, and no longer than they are used.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::PATIENCE;
use crate::harness::backend::{Backend, json, read_head, scripted};
use crate::harness::client::Connection;
use crate::harness::gateway::{Gateway, simple};
use crate::harness::token::token;

const ROUTES: &str = "  ws: {path: /ws/**, scope: contacts, limit: l, upstream: main, websocket: true}\n  plain: {path: /plain/**, scope: contacts, limit: none, upstream: main}\n";

/// A server that answers every message with the same one, and says who asked.
async fn echo() -> (SocketAddr, Arc<Mutex<Vec<HeaderMap>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let record = Arc::clone(&record);
            tokio::spawn(async move {
                #[expect(clippy::result_large_err, reason = "the callback's own type")]
                let note = |request: &Request, response: Response| {
                    record.lock().unwrap().push(request.headers().clone());
                    Ok(response)
                };
                let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, note).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() || socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, asked)
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(gateway: &Gateway, path: &str, token: &str) -> Result<Socket, Error> {
    let mut request = format!("ws://{}/api/v1{path}", gateway.address).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request.headers_mut().insert("x-user-id", "forged".parse().unwrap());
    timeout(PATIENCE, tokio_tungstenite::connect_async(request)).await.expect("in time").map(|(socket, _)| socket)
}

async fn start(server: SocketAddr) -> Gateway {
    let config = simple(&[server], "l: {requests: 2, per: 1h}", ROUTES);
    Gateway::start(&config.replace("response: 2s", "response: 2s, websocket: 1s")).await
}

#[tokio::test]
async fn messages_pass_both_ways_once_the_caller_is_authorised() {
    let (server, asked) = echo().await;
    let gateway = start(server).await;
    let mut socket = connect(&gateway, "/ws/a", &token("w", "contacts")).await.unwrap();
    let large = vec![7_u8; 300_000];
    for message in [Message::text("hello"), Message::binary(large), Message::text("bye")] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
    let headers = asked.lock().unwrap()[0].clone();
    assert_eq!(
        (headers["x-user-id"].to_str().unwrap(), headers["host"].to_str().unwrap()),
        ("user-1", &*server.to_string())
    );
    let line = &gateway.access_lines(1).await[0];
    assert_eq!((line["status"].as_u64(), line["route"].as_str()), (Some(101), Some("ws")));
    assert!(line["bytes_in"].as_u64() > Some(300_000) && line["bytes_out"].as_u64() > Some(300_000), "{line}");
}

/// The status with which a WebSocket was refused.
fn refused(result: Result<Socket, Error>) -> u16 {
    match result {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_websocket_needs_all_that_any_request_needs_and_a_route_that_allows_it() {
    let (server, asked) = echo().await;
    let gateway = start(server).await;
    let good = token("w", "contacts");
    assert_eq!(refused(connect(&gateway, "/ws/a", "mb_none").await), 401);
    assert_eq!(refused(connect(&gateway, "/ws/a", &token("w", "ai")).await), 403);
    assert_eq!(refused(connect(&gateway, "/plain/a", &good).await), 400);
    assert_eq!(refused(connect(&gateway, "/none", &good).await), 404);
    for _ in 0..2 {
        drop(connect(&gateway, "/ws/a", &good).await.unwrap());
    }
    assert_eq!(refused(connect(&gateway, "/ws/a", &good).await), 429);
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_server_that_does_not_want_one_answers_as_usual_and_other_requests_pass() {
    let backend = Backend::answering(|_| json(200, r#"{"success":true,"data":1}"#)).await;
    let gateway = start(backend.address).await;
    let good = token("w", "contacts");
    let result = connect(&gateway, "/ws/a", &good).await;
    assert!(matches!(&result, Err(Error::Http(response)) if response.status() == 200), "{result:?}");
    let asked = backend.only();
    assert_eq!((asked.header("upgrade"), asked.header("connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(gateway.get("/api/v1/ws/a", &good).await.status, 200);
    assert_eq!(backend.seen()[1].header("upgrade"), None);
}

#[tokio::test]
async fn a_silent_websocket_is_closed_and_one_in_use_is_not() {
    let (server, _) = echo().await;
    let gateway = start(server).await;
    let mut socket = connect(&gateway, "/ws/a", &token("w", "contacts")).await.unwrap();
    for _ in 0..3 {
        // Longer than the time together, shorter each.
        tokio::time::sleep(Duration::from_millis(500)).await;
        socket.send(Message::text("x")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("x"));
    }
    assert!(timeout(PATIENCE, socket.next()).await.expect("closed in time").is_none_or(|last| last.is_err()));
}

#[tokio::test]
async fn draining_waits_for_a_websocket() {
    let (server, _) = echo().await;
    let mut gateway = Gateway::start(&format!(
        "shutdown: {{grace: 20s}}\n{}",
        simple(&[server], "l: {requests: 2, per: 1h}", ROUTES)
    ))
    .await;
    let mut socket = connect(&gateway, "/ws/a", &token("w", "contacts")).await.unwrap();
    gateway.signal("TERM");
    gateway.log_lines(1, |line| line["message"].as_str().is_some_and(|text| text.starts_with("draining"))).await;
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still here"));
    drop(socket);
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn a_server_that_changes_to_something_else_is_not_followed() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nEVIL",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nEVIL",
        "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
    ] {
        let server = scripted(move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
        })
        .await;
        let gateway = start(server).await;
        assert_eq!(refused(connect(&gateway, "/ws/a", &token("w", "contacts")).await), 502, "{answer}");
    }
}

#[tokio::test]
async fn octets_sent_ahead_of_the_answer_go_to_the_server_and_nowhere_else() {
    let server = scripted(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let ahead = head.split(|octet| *octet == b'\n').next_back().unwrap().to_vec();
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        let mut rest = ahead;
        let _ = tokio::io::AsyncReadExt::read_buf(&mut stream, &mut rest).await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &rest).await;
    })
    .await;
    let gateway = start(server).await;
    let mut connection = Connection::open(gateway.address).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket";
    let head = format!(
        "GET /api/v1/ws/a HTTP/1.1\r\nHost: x\r\n{upgrade}\r\nAuthorization: Bearer {}\r\n\r\n",
        token("w", "contacts")
    );
    connection.write(format!("{head}GET /api/v1/plain/b HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    assert_eq!(connection.head().await.unwrap().status, 101);
    let text = connection.line().await;
    assert_eq!(text, "GET /api/v1/plain/b HTTP/1.1");
    drop(connection);
    assert_eq!(gateway.access_lines(1).await.len(), 1);
}
