//! The first bytes of a request: what is not plainly HTTP is refused with a complete envelope.

use crate::harness::backend::Backend;
use crate::harness::client::Connection;
use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::token::token;

async fn gateway(request: &str) -> (Gateway, Backend) {
    let backend = Backend::start().await;
    let config = format!("request: {{{request}}}\n{}", simple(&[backend.address], "", CONTACTS));
    (Gateway::start(&config).await, backend)
}

#[tokio::test]
async fn a_head_that_parsers_could_read_in_two_ways_is_refused() {
    let (gateway, backend) = gateway("").await;
    let auth = format!("Authorization: Bearer {}\r\n", token("w", "contacts"));
    for (request, status, message) in [
        ("GET /api/v1/contacts HTTP/1.1\nHost: x\n\n".to_owned(), 400, "The request is malformed."),
        (
            format!(
                "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
            "The request is malformed.",
        ),
        (format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\n{auth}X : y\r\n\r\n"), 400, "The request is malformed."),
        ("GET /api/v1/contacts HTTP/2.0\r\nHost: x\r\n\r\n".to_owned(), 505, "The request could not be processed."),
        (
            "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
            501,
            "The request could not be processed.",
        ),
        ("CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 405, "This method is not allowed for this endpoint."),
        ("\x16\x03\x01\x02".to_owned(), 400, "The request is malformed."),
    ] {
        let code = if status >= 500 { "SERVER_ERROR" } else { "BAD_REQUEST" };
        let mut connection = Connection::open(gateway.address).await;
        connection.write(request.as_bytes()).await;
        connection.read(b"GET").await.unwrap().assert_envelope(status, code, message);
        assert!(connection.is_closed().await, "{request:?}");
    }
    assert!(backend.seen().is_empty());
    assert_eq!(gateway.access_lines(7).await.len(), 7, "each is told");
}

#[tokio::test]
async fn a_head_is_bounded_in_size_number_and_time() {
    let (gateway, _backend) = gateway("header_bytes: 2KiB, headers: 10, header_timeout: 200ms").await;
    let head = |fields: &str| format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let large = gateway.send(&head(&format!("X: {}\r\n", "y".repeat(3000)))).await;
    large.assert_envelope(431, "BAD_REQUEST", "The request headers are too large.");
    let many = gateway.send(&head(&"X: y\r\n".repeat(11))).await;
    many.assert_envelope(431, "BAD_REQUEST", "The request headers are too large.");
    let mut slow = Connection::open(gateway.address).await;
    slow.write(b"GET /api/v1/contacts HTTP/1.1\r\nHo").await;
    let late = slow.read(b"GET").await.unwrap();
    late.assert_envelope(408, "BAD_REQUEST", "The request took too long to arrive.");
}

#[tokio::test]
async fn a_body_that_stops_coming_is_408() {
    let (gateway, _backend) = gateway("body_timeout: 200ms").await;
    let request = format!(
        "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 10\r\n\r\nhalf",
        token("w", "contacts")
    );
    gateway.send(&request).await.assert_envelope(408, "BAD_REQUEST", "The request took too long to arrive.");
}

#[tokio::test]
async fn a_body_whose_framing_breaks_ends_its_connection() {
    let (gateway, backend) = gateway("").await;
    let head = format!(
        "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        token("w", "contacts")
    );
    for body in ["ZZ\r\n", "5\r\nhelloX", "-1\r\n", "ffffffffffffffffff\r\n", "5\nhello\n0\n\n"] {
        let mut connection = Connection::open(gateway.address).await;
        connection.write(format!("{head}{body}").as_bytes()).await;
        let answer = connection.read(b"POST").await.unwrap();
        answer.assert_envelope(400, "BAD_REQUEST", "The request is malformed.");
        assert_eq!(answer.header("connection"), Some("close"), "{body:?}");
        connection.try_write(b"GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(connection.is_closed().await, "{body:?}");
    }
    assert!(backend.seen().iter().all(|request| request.method == "POST"));
}

#[tokio::test]
async fn a_client_that_does_not_read_gives_its_place_back() {
    let (gateway, _backend) = gateway("body_timeout: 300ms, in_flight: 1, connections: 4").await;
    let in_flight = format!(r#"gateway_requests_in_flight{{listener="{}"}}"#, gateway.address);
    let connections = format!(r#"gateway_connections{{listener="{}"}}"#, gateway.address);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    let mut deaf = socket.connect(gateway.address).await.unwrap();
    let requests = "HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n".repeat(400);
    // It sends until nobody takes more, and never reads.
    let writing = tokio::spawn(async move {
        while tokio::io::AsyncWriteExt::write_all(&mut deaf, requests.as_bytes()).await.is_ok() {}
        deaf
    });
    crate::harness::wait_for("the deaf client's connection to be given up", || async {
        let is_free = gateway.metric(&connections).await == 0.0 && gateway.metric(&in_flight).await == 0.0;
        (is_free && writing.is_finished()).then_some(())
    })
    .await;
    assert_eq!(gateway.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.status, 404);
}

#[tokio::test]
async fn an_http_1_0_client_gets_its_answer_and_the_end_of_the_connection() {
    let (gateway, _backend) = gateway("").await;
    let request = |fields: &str| {
        format!("GET /api/v1/contacts HTTP/1.0\r\nAuthorization: Bearer {}\r\n{fields}\r\n", token("w", "contacts"))
    };
    let mut connection = Connection::open(gateway.address).await;
    let answer = connection.request(&request("")).await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(connection.is_closed().await);
    let mut connection = Connection::open(gateway.address).await;
    for _ in 0..2 {
        let answer = connection.request(&request("Connection: keep-alive\r\n")).await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    }
}

#[tokio::test]
async fn a_large_upload_that_is_refused_is_told_so() {
    let (gateway, _backend) = gateway("").await;
    for (token, status) in [(token("w", "contacts"), 413), ("mb_x".to_owned(), 401)] {
        let size = 8 << 20;
        let head = format!(
            "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {size}\r\n\r\n"
        );
        let request = [head.into_bytes(), vec![b'x'; size]].concat();
        assert_eq!(crate::harness::client::send(gateway.address, &request).await.status, status);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let (gateway, _backend) = gateway("idle_timeout: 1s").await;
    let mut connection = Connection::open(gateway.address).await;
    assert!(connection.request("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.is_some());
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_are_turned_away_at_once() {
    let (gateway, _backend) = gateway("connections: 1").await;
    let mut first = Connection::open(gateway.address).await;
    assert!(first.request("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.is_some());
    let second = gateway.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await;
    second.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
    assert_eq!(second.number("retry-after"), 1);
}

#[tokio::test]
async fn more_requests_than_there_is_room_for_are_turned_away_at_once() {
    let silent = crate::harness::backend::scripted(|mut stream| async move {
        crate::harness::backend::read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let config = format!("request: {{in_flight: 1}}\n{}", simple(&[silent], "", CONTACTS));
    let gateway = Gateway::start(&config).await;
    let token = token("w", "contacts");
    let mut first = Connection::open(gateway.address).await;
    first
        .write(format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes())
        .await;
    let series = format!(r#"gateway_requests_in_flight{{listener="{}"}}"#, gateway.address);
    crate::harness::wait_for("the first request", || async { (gateway.metric(&series).await == 1.0).then_some(()) })
        .await;
    let second = gateway.get("/api/v1/contacts", &token).await;
    second.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
}

#[tokio::test]
async fn requests_that_come_together_are_answered_in_their_order() {
    let (gateway, backend) = gateway("").await;
    let token = token("w", "contacts");
    let one = |path: &str| {
        format!("GET /api/v1/contacts/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    let body = format!(
        "POST /api/v1/contacts/2 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 4\r\n\r\nbody"
    );
    let mut connection = Connection::open(gateway.address).await;
    connection.write(format!("{}{body}{}", one("1"), one("3")).as_bytes()).await;
    for _ in 0..3 {
        assert_eq!(connection.read(b"GET").await.unwrap().status, 200);
    }
    let targets: Vec<String> = backend.seen().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/api/v1/contacts/1", "/api/v1/contacts/2", "/api/v1/contacts/3"]);
}

#[tokio::test]
async fn a_refusal_keeps_the_connection_where_the_framing_is_clear_and_the_clients_id_always() {
    let (gateway, backend) = gateway("").await;
    let good =
        format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token("w", "contacts"));
    let malformed = "The request is malformed.";
    let mut connection = Connection::open(gateway.address).await;
    for (line, fields, status, message) in [
        ("TRACE /a HTTP/1.1", "Host: x", 405, "This method is not allowed for this endpoint."),
        ("GET /a HTTP/1.1", "Host: x\r\nExpect: miracles", 417, "The request could not be processed."),
        (&format!("GET /{} HTTP/1.1", "a".repeat(9000)), "Host: x", 414, "The request could not be processed."),
        ("GET http://x/a HTTP/1.1", "Host: x", 400, malformed),
        ("GET /a\"b HTTP/1.1", "Host: x", 400, malformed),
        ("GET /a HTTP/1.1", "X: y", 400, malformed),
    ] {
        for body in ["", "GET /smuggled HTTP/1.1\r\n\r\n"] {
            let length = body.len();
            let request =
                format!("{line}\r\n{fields}\r\nX-Request-Id: mine\r\nContent-Length: {length}\r\n\r\n{body}{good}");
            if length > 0 && status == 417 {
                // Whether a client that waits for 100 Continue sends its body nobody knows.
                continue;
            }
            connection.write(request.as_bytes()).await;
            let answer = connection.read(b"GET").await.unwrap();
            answer.assert_envelope(status, "BAD_REQUEST", message);
            assert_eq!(answer.header("x-request-id"), Some("mine"), "{line}");
            assert_eq!(connection.read(b"GET").await.map(|answer| answer.status), Some(200), "{line} {fields} {body}");
        }
    }
    assert!(backend.seen().iter().all(|request| request.target == "/api/v1/contacts"));
    // Two Hosts, a tunnel, two lengths, and a field that is none.
    for flawed in [
        "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n",
        "CONNECT x:1 HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n",
        "GET http://x/ HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nA B: c\r\n\r\n",
    ] {
        let mut connection = Connection::open(gateway.address).await;
        connection.write(format!("{flawed}{good}").as_bytes()).await;
        let answer = connection.read(b"GET").await.unwrap();
        assert_eq!(
            (answer.header("connection"), answer.header("x-request-id")),
            (Some("close"), Some("mine")),
            "{flawed}"
        );
        assert!(connection.is_closed().await, "{flawed}");
    }
}

#[tokio::test]
async fn one_empty_line_before_a_request_is_left_out() {
    let (gateway, backend) = gateway("header_timeout: 500ms").await;
    let good =
        format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token("w", "contacts"));
    let mut connection = Connection::open(gateway.address).await;
    for pieces in [vec!["\r\n", &good], vec!["\r", "\n", &good], vec![&good, "\r\n", &good]] {
        for piece in &pieces {
            connection.write(piece.as_bytes()).await;
            tokio::task::yield_now().await;
        }
        for _ in pieces.iter().filter(|piece| piece.starts_with("GET")) {
            assert_eq!(connection.read(b"GET").await.unwrap().status, 200, "{pieces:?}");
        }
    }
    assert_eq!(backend.seen().len(), 4);
    let two = gateway.send(&format!("\r\n\r\n{good}")).await;
    two.assert_envelope(400, "BAD_REQUEST", "The request is malformed.");
}
