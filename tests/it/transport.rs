//! The way to servers: encrypted and verified, in HTTP/2, on Unix sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::harness::certificates::{Authority, acceptor};
use crate::harness::client::{Connection, Duplex};
use crate::harness::gateway::{AUTH, Gateway, config};
use crate::harness::token::token;
use crate::harness::wait_for;

/// A gateway whose upstream `main` is written as `upstream`.
async fn start(upstream: &str) -> Gateway {
    Gateway::start(&with(upstream)).await
}

fn with(upstream: &str) -> String {
    config(&format!(
        "{AUTH}\nscopes: [contacts]\nupstreams:\n  main: {upstream}\nroutes:\n  contacts: {{path: /contacts/**, scope: contacts, limit: none, upstream: main}}\n"
    ))
}

async fn get(gateway: &Gateway) -> (u16, String) {
    let answer = gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
    (answer.status, answer.text())
}

/// Answers each HTTP/1 request on a connection with `said`.
async fn answer_http1(mut stream: impl Duplex, said: &str) {
    let mut read = Vec::new();
    loop {
        while !read.windows(4).any(|window| window == b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return;
            }
        }
        read.clear();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
        if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// A server that encrypts, and says how many connections it has had.
async fn encrypted(acceptor: TlsAcceptor) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                count.fetch_add(1, Ordering::SeqCst);
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    answer_http2(stream, Arc::default()).await;
                } else {
                    answer_http1(stream, "one").await;
                }
            });
        }
    });
    (address, connections)
}

/// Answers each HTTP/2 request on a connection with what it was sent, and notes the head of each.
async fn answer_http2(stream: impl Duplex, asked: Arc<Mutex<Vec<http::request::Parts>>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        let asked = Arc::clone(&asked);
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let mut whole = Vec::new();
            while let Some(Ok(part)) = body.data().await {
                let _ = body.flow_control().release_capacity(part.len());
                whole.extend_from_slice(&part);
            }
            let said = if whole.is_empty() { Bytes::from_static(b"two") } else { whole.into() };
            asked.lock().unwrap().push(head);
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::OK;
            if let Ok(mut stream) = answer.send_response(response, false) {
                stream.reserve_capacity(said.len());
                let _ = stream.send_data(said, true);
            }
        });
    }
}

/// A server that speaks HTTP/2 without being asked. Each of its connections goes through `keep`, which says how long it lasts.
async fn multiplexed() -> (SocketAddr, Arc<Mutex<Vec<http::request::Parts>>>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, connections) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
    let (record, count) = (Arc::clone(&asked), Arc::clone(&connections));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(answer_http2(stream, Arc::clone(&record)));
        }
    });
    (address, asked, connections)
}

/// An authority and the folder where its certificate lies as `ca.crt`.
fn authority() -> (Authority, tempfile::TempDir) {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
    (authority, folder)
}

fn ca(folder: &Path) -> String {
    format!("ca: {}/ca.crt", folder.display())
}

#[tokio::test]
async fn a_server_proves_that_it_has_the_name_or_address_it_is_reached_by() {
    let (authority, folder) = authority();
    let ca = ca(folder.path());
    for (names, tls, expected) in [
        (&["127.0.0.1"][..], format!("{{{ca}}}"), 200),
        (&["backend.internal"], format!("{{{ca}, server_name: backend.internal}}"), 200),
        (&["backend.internal"], format!("{{{ca}}}"), 502),
        (&["127.0.0.1"], format!("{{{ca}, server_name: backend.internal}}"), 502),
    ] {
        let (server, _) = encrypted(acceptor(&authority.sign(names), None, &[])).await;
        let gateway = start(&format!("{{servers: [\"{server}\"], tls: {tls}}}")).await;
        assert_eq!(get(&gateway).await.0, expected, "{names:?} {tls}");
        if expected == 502 {
            assert_eq!(gateway.access_lines(1).await[0]["reason"], "upstream_untrusted");
        }
    }
}

#[tokio::test]
async fn a_server_that_nobody_of_ours_has_signed_is_not_spoken_to() {
    let (_, folder) = authority();
    let stranger = Authority::new();
    let (server, _) = encrypted(acceptor(&stranger.sign(&["127.0.0.1"]), None, &[])).await;
    let of_ours = start(&format!("{{servers: [\"{server}\"], tls: {{{}}}}}", ca(folder.path()))).await;
    assert_eq!(get(&of_ours).await.0, 502);
    let of_the_machines = start(&format!("{{servers: [\"{server}\"], tls: {{}}}}")).await;
    assert_eq!(get(&of_the_machines).await.0, 502);
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_ours() {
    let (authority, folder) = authority();
    authority.sign(&["gateway"]).write(folder.path(), "gateway");
    let (server, _) = encrypted(acceptor(&authority.sign(&["127.0.0.1"]), Some(&authority), &[])).await;
    let (path, ca) = (folder.path().display(), ca(folder.path()));
    let shown =
        format!("{{servers: [\"{server}\"], tls: {{{ca}, certificate: {path}/gateway.crt, key: {path}/gateway.key}}}}");
    assert_eq!(get(&start(&shown).await).await, (200, "one".into()));
    assert_eq!(get(&start(&format!("{{servers: [\"{server}\"], tls: {{{ca}}}}}")).await).await.0, 502);
}

#[tokio::test]
async fn encrypted_connections_are_kept_and_changed_trust_makes_new_ones() {
    let (authority, folder) = authority();
    let (server, connections) = encrypted(acceptor(&authority.sign(&["127.0.0.1"]), None, &[])).await;
    let gateway = start(&format!("{{servers: [\"{server}\"], tls: {{{}}}}}", ca(folder.path()))).await;
    for _ in 0..3 {
        assert_eq!(get(&gateway).await, (200, "one".into()));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    std::fs::write(folder.path().join("ca.crt"), Authority::new().pem()).unwrap();
    gateway.signal("HUP");
    wait_for("the reload", || std::future::ready((gateway.reloads() == 1).then_some(()))).await;
    assert_eq!(get(&gateway).await.0, 502, "the old connection was trusted under the old file");
}

#[tokio::test]
async fn http2_is_spoken_with_who_agrees_to_it_and_http1_with_who_does_not() {
    let (authority, folder) = authority();
    let certificate = authority.sign(&["127.0.0.1"]);
    for (protocols, said) in [(&[&b"h2"[..], b"http/1.1"][..], "two"), (&[b"http/1.1"], "one"), (&[], "one")] {
        let (server, connections) = encrypted(acceptor(&certificate, None, protocols)).await;
        let tls = ca(folder.path());
        let gateway = start(&format!("{{servers: [\"{server}\"], tls: {{{tls}}}, http2: negotiated}}")).await;
        for _ in 0..3 {
            assert_eq!(get(&gateway).await, (200, said.into()));
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn many_requests_share_one_http2_connection_and_arrive_as_they_should() {
    let (server, asked, connections) = multiplexed().await;
    let gateway = Arc::new(start(&format!("{{servers: [\"{server}\"], http2: prior_knowledge}}")).await);
    let requests: Vec<_> = (0..50)
        .map(|number| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move {
                let body = format!("body {number}").repeat(number * 200 + 1);
                let head = format!(
                    "POST /api/v1/contacts?n={number} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
                    token("w", "contacts"),
                    body.len()
                );
                let answer = gateway.send(&(head + &body)).await;
                assert_eq!((answer.status, answer.text()), (200, body));
            })
        })
        .collect();
    for request in requests {
        request.await.unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 50);
    for head in asked.iter() {
        assert_eq!(head.uri.authority().map(|authority| authority.to_string()), Some(server.to_string()));
        assert!(head.headers.get("host").is_none() && head.headers.get("connection").is_none());
        assert_eq!(head.headers["x-user-id"], "user-1");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_in_http2_costs_no_request_that_it_had_not_begun() {
    // Answers two requests, says that it is going away, and refuses what comes on top.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                let mut taken = 0;
                while let Some(Ok((_, mut answer))) = connection.accept().await {
                    taken += 1;
                    if taken > 2 {
                        answer.send_reset(h2::Reason::REFUSED_STREAM);
                        continue;
                    }
                    if let Ok(mut stream) = answer.send_response(Response::new(()), false) {
                        let _ = stream.send_data(Bytes::from_static(b"two"), true);
                    }
                    if taken == 2 {
                        connection.graceful_shutdown();
                    }
                }
            });
        }
    });
    let gateway = start(&format!("{{servers: [\"{server}\"], http2: prior_knowledge, retries: 2}}")).await;
    for number in 0..10 {
        assert_eq!(get(&gateway).await, (200, "two".into()), "{number}");
    }
    assert!(connections.load(Ordering::SeqCst) >= 5);
}

#[tokio::test]
async fn a_server_can_be_reached_on_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backend.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_http1(stream, "from the socket"));
        }
    });
    let gateway = start(&format!("{{servers: [\"unix:{}\"]}}", path.display())).await;
    assert_eq!(get(&gateway).await, (200, "from the socket".into()));
    let line = &gateway.access_lines(1).await[0];
    assert_eq!(line["server"], format!("unix:{}", path.display()));
    std::fs::remove_file(&path).unwrap();
    drop(folder);
    assert_eq!(get(&gateway).await.0, 200, "the connection was kept");
}

#[tokio::test]
async fn a_server_is_checked_the_way_it_is_spoken_to() {
    let (authority, folder) = authority();
    let certificate = authority.sign(&["127.0.0.1"]);
    let (well, _) = encrypted(acceptor(&certificate, None, &[b"h2"])).await;
    let (stranger, _) = encrypted(acceptor(&Authority::new().sign(&["127.0.0.1"]), None, &[b"h2"])).await;
    let gateway = start(&format!(
        "{{servers: [\"{well}\", \"{stranger}\"], tls: {{{}}}, http2: negotiated, health: {{path: /up, status: 200, every: 50ms, unhealthy_after: 1}}}}",
        ca(folder.path())
    ))
    .await;
    let is_out = |line: &serde_json::Value| line["message"] == "unhealthy: its checks fail";
    assert_eq!(gateway.log_lines(1, is_out).await[0]["server"], stranger.to_string());
    for _ in 0..4 {
        assert_eq!(get(&gateway).await, (200, "two".into()));
    }
    let wrong = start(&format!(
        "{{servers: [\"{well}\"], tls: {{{}}}, http2: negotiated, health: {{path: /up, status: 204, every: 50ms, unhealthy_after: 1}}}}",
        ca(folder.path())
    ))
    .await;
    wrong.log_lines(1, is_out).await;
    assert_eq!(get(&wrong).await.0, 503);
}

#[tokio::test]
async fn a_streamed_answer_in_http2_comes_as_it_is_written_and_a_client_that_goes_ends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let (go_on, reset) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (wait, ended) = (Arc::clone(&go_on), Arc::clone(&reset));
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut answer))) = connection.accept().await {
            let (wait, ended) = (Arc::clone(&wait), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut stream = answer.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"first"), false).unwrap();
                wait.notified().await;
                stream.send_data(Bytes::from_static(b"second"), false).unwrap();
                let _ = std::future::poll_fn(|context| stream.poll_reset(context)).await;
                ended.notify_one();
            });
        }
    });
    let gateway = start(&format!("{{servers: [\"{server}\"], http2: prior_knowledge}}")).await;
    let mut connection = Connection::open(gateway.address).await;
    let token = token("w", "contacts");
    let head = format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    connection.write(head.as_bytes()).await;
    assert_eq!(connection.head().await.unwrap().status, 200);
    assert_eq!(connection.chunk().await.unwrap(), b"first");
    go_on.notify_one();
    assert_eq!(connection.chunk().await.unwrap(), b"second");
    drop(connection);
    tokio::time::timeout(crate::harness::PATIENCE, reset.notified()).await.expect("the server learns of it");
}
