//! What a backend sees, and what becomes of a request when backends fail.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::harness::backend::{Backend, json, nobody, raw, read_head, scripted, typed};
use crate::harness::client::Connection;
use crate::harness::gateway::{AUTH, CONTACTS, Gateway, config, simple};
use crate::harness::token::token;
use crate::harness::wait_for;

#[tokio::test]
async fn the_path_that_was_authorised_is_the_path_that_is_forwarded() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let token = token("w", "contacts");
    for (sent, forwarded) in [
        ("/api/v1/contacts?q=a%20b", "/api/v1/contacts?q=a%20b"),
        ("/api/v1//contacts/./7/", "/api/v1/contacts/7"),
        ("/api/v1/x/../contacts/%37", "/api/v1/contacts/7"),
        ("/api/v1/contacts/a%20b", "/api/v1/contacts/a%20b"),
        ("/api/v1/contacts/%c3%a9?x", "/api/v1/contacts/%C3%A9?x"),
    ] {
        assert_eq!(gateway.get(sent, &token).await.status, 200, "{sent}");
        assert_eq!(backend.seen().last().unwrap().target, forwarded);
    }
    let routed = backend.seen().len();
    for sent in ["/api/v1/contacts/%2e%2e/%2e%2e/admin", "/api/v1/contacts/../campaigns"] {
        assert_eq!(gateway.get(sent, &token).await.status, 404, "{sent}");
    }
    let post =
        format!("POST /api/v1/contacts?%5Fmethod=DELETE HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    gateway.send(&post).await.assert_envelope(400, "BAD_REQUEST", "The request is malformed.");
    for sent in [
        "/api/v1/contacts/..%2fcampaigns",
        "/api/v1/contacts/..;/campaigns",
        "/api/v1/contacts%00",
        "/api/v1/contacts/%c0%ae%c0%ae/x",
        "/api/v1/contacts/%252e%252e/x",
        "/api/v1/contacts\\x",
    ] {
        gateway.get(sent, &token).await.assert_envelope(400, "BAD_REQUEST", "The request is malformed.");
    }
    assert_eq!(backend.seen().len(), routed);
}

#[tokio::test]
async fn pagination_defaults_are_filled_in_for_the_backend() {
    let backend = Backend::start().await;
    let routes = "  list: {path: /contacts, scope: contacts, limit: none, upstream: main, pagination: {sort_by: [name, created_at]}}\n";
    let gateway = Gateway::start(&simple(&[backend.address], "", routes)).await;
    assert_eq!(gateway.get("/api/v1/contacts?q=x&page=3", &token("w", "contacts")).await.status, 200);
    assert_eq!(backend.only().target, "/api/v1/contacts?q=x&page=3&per_page=25&sort_by=created_at&sort_order=desc");
}

#[tokio::test]
async fn a_request_id_of_the_client_is_kept_and_the_backend_sees_the_same() {
    let backend = Backend::answering(|_| {
        let mut response = json(200, "{}");
        response.headers_mut().insert("x-request-id", "the backend's".parse().unwrap());
        response
    })
    .await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let token = token("w", "contacts");
    let send = async |id: &str| {
        gateway.send(&format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\nAuthorization: Bearer {token}\r\n\r\n")).await
    };
    let kept = send("my-id.7_X").await;
    assert_eq!(kept.header("x-request-id"), Some("my-id.7_X"));
    assert_eq!(backend.seen()[0].header("x-request-id"), Some("my-id.7_X"));
    let made = send("not an id").await;
    assert_eq!(made.header("x-request-id"), backend.seen()[1].header("x-request-id"));
    assert_eq!(made.header("x-request-id").unwrap().len(), 36);
}

#[tokio::test]
async fn a_success_passes_untouched_but_for_what_gives_the_backend_away() {
    let body = r#"{ "data" : [1], "exception":"is a word", "success":true }"#;
    let backend = Backend::answering(move |_| {
        let mut response = typed(201, "application/vnd.api+json", body);
        for (name, value) in [
            ("server", "nginx"),
            ("x-powered-by", "PHP"),
            ("x-debug-token", "1"),
            ("keep-alive", "timeout=5"),
            ("etag", "\"x\""),
            ("x-ratelimit-limit", "9"),
            ("set-cookie", "a=b"),
        ] {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    })
    .await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let answer = gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
    assert_eq!((answer.status, answer.text().as_str()), (201, body));
    assert_eq!(answer.header("content-type"), Some("application/vnd.api+json"));
    assert_eq!((answer.header("etag"), answer.header("set-cookie")), (Some("\"x\""), Some("a=b")));
    assert_eq!(answer.header("x-ratelimit-limit"), Some("9"), "the route has no limit of its own");
    for gone in ["server", "x-powered-by", "x-debug-token", "keep-alive"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn servers_take_turns() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = Gateway::start(&simple(&[one.address, two.address], "", CONTACTS)).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/api/v1/contacts", &token("w", "contacts")).await.status, 200);
    }
    assert_eq!((one.seen().len(), two.seen().len()), (5, 5));
}

#[tokio::test]
async fn a_server_that_refuses_connections_costs_no_request_of_any_method() {
    let (dead, alive) = (nobody().await, Backend::start().await);
    let gateway = Gateway::start(&simple(&[dead, alive.address], "", CONTACTS)).await;
    let token = token("w", "contacts");
    for n in 0..10 {
        let request = format!(
            "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 1\r\n\r\n{n}"
        );
        assert_eq!(gateway.send(&request).await.status, 200);
    }
    let seen = alive.seen();
    assert!(seen.iter().all(|request| request.method == "POST"));
    let bodies: Vec<Vec<u8>> = seen.into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, (0..10).map(|n| n.to_string().into_bytes()).collect::<Vec<_>>());
    assert!(gateway.metric(r#"gateway_upstream_retries_total{upstream="main"}"#).await >= 1.0);
    assert_eq!(gateway.metric(r#"gateway_upstream_ejections_total{upstream="main"}"#).await, 1.0);
}

#[tokio::test]
async fn the_only_server_refusing_connections_is_502() {
    let gateway = Gateway::start(&simple(&[nobody().await], "", CONTACTS)).await;
    for _ in 0..10 {
        let answer = gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
        answer.assert_envelope(502, "SERVER_ERROR", "The service gave no valid answer.");
    }
}

/// A backend that reads a request, records that it did, and closes without an answer.
async fn hangs_up(seen: Arc<std::sync::Mutex<Vec<Vec<u8>>>>) -> std::net::SocketAddr {
    scripted(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            let head = read_head(&mut stream).await;
            seen.lock().unwrap().push(head);
        }
    })
    .await
}

#[tokio::test]
async fn after_bytes_were_sent_only_an_idempotent_request_without_a_body_is_repeated() {
    for (request, repeated) in [
        ("GET /api/v1/contacts HTTP/1.1\r\n", true),
        ("DELETE /api/v1/contacts/1 HTTP/1.1\r\n", true),
        ("POST /api/v1/contacts HTTP/1.1\r\nContent-Length: 0\r\n", false),
        ("PATCH /api/v1/contacts/1 HTTP/1.1\r\n", false),
        ("PUT /api/v1/contacts/1 HTTP/1.1\r\nContent-Length: 2\r\n", false),
    ] {
        let seen = Arc::default();
        let servers = [hangs_up(Arc::clone(&seen)).await, hangs_up(Arc::clone(&seen)).await];
        let gateway = Gateway::start(&simple(&servers, "", CONTACTS)).await;
        let body = if request.contains("Length: 2") { "{}" } else { "" };
        let request = format!("{request}Host: x\r\nAuthorization: Bearer {}\r\n\r\n{body}", token("w", "contacts"));
        gateway.send(&request).await.assert_envelope(502, "SERVER_ERROR", "The service gave no valid answer.");
        assert_eq!(seen.lock().unwrap().len(), if repeated { 2 } else { 1 }, "{request}");
    }
}

#[tokio::test]
async fn a_backend_that_does_not_answer_is_504_in_time() {
    let silent = scripted(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    // It sends a byte of the head now and then, which is no answer either.
    let dripping = scripted(|mut stream| async move {
        read_head(&mut stream).await;
        for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().chain([b'x'; 1000].iter()) {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    for backend in [silent, dripping] {
        let gateway = Gateway::start(&simple(&[backend], "", CONTACTS)).await;
        let answer = gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
        answer.assert_envelope(504, "SERVER_ERROR", "The service took too long to answer.");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_502() {
    for answer in [
        "nonsense\r\n\r\n",
        "",
        "HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let gateway = Gateway::start(&simple(&[raw(answer).await], "", CONTACTS)).await;
        let got = gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
        got.assert_envelope(502, "SERVER_ERROR", "The service gave no valid answer.");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_and_never_completed() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let gateway = Gateway::start(&simple(&[raw(answer).await], "", CONTACTS)).await;
        let request = format!(
            "GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
            token("w", "contacts")
        );
        let mut connection = Connection::open(gateway.address).await;
        assert!(connection.request(&request).await.is_none(), "{answer}");
        let line = &gateway.access_lines(1).await[0];
        assert_eq!((line["status"].as_u64(), line["reason"].as_str()), (Some(200), Some("upstream_cut_short")));
    }
}

#[tokio::test]
async fn large_bodies_are_streamed_both_ways() {
    let backend =
        Backend::answering(|request| typed(200, "application/octet-stream", &"y".repeat(request.body.len()))).await;
    let routes = "  contacts: {path: /contacts/**, scope: contacts, limit: none, upstream: main, body_bytes: 32MiB}\n";
    let gateway = Gateway::start(&simple(&[backend.address], "", routes)).await;
    let size = 8 << 20;
    let head =
        format!("POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n", token("w", "contacts"));
    let plain = [format!("{head}Content-Length: {size}\r\n\r\n").into_bytes(), vec![b'x'; size]].concat();
    let chunked = [
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n").into_bytes(),
        vec![b'x'; size],
        b"\r\n0\r\n\r\n".to_vec(),
    ]
    .concat();
    for request in [plain, chunked] {
        let answer = crate::harness::client::send(gateway.address, &request).await;
        assert_eq!((answer.status, answer.body.len()), (200, size));
        assert_eq!(backend.seen().last().unwrap().body.len(), size);
    }
}

#[tokio::test]
async fn an_upload_in_the_smallest_pieces_arrives_whole_and_leaves_its_connection_clean() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let head = format!(
        "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        token("w", "contacts")
    );
    for body in ["5\r\nhello\r\n0\r\n\r\n", "2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n"] {
        let mut connection = Connection::open(gateway.address).await;
        connection.write(head.as_bytes()).await;
        for byte in body.as_bytes() {
            connection.write(&[*byte]).await;
            // Each byte a segment of its own.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for _ in 0..2 {
            assert_eq!(connection.read(b"POST").await.unwrap().status, 200, "{body:?}");
            connection.write(format!("{head}5\r\nagain\r\n0\r\n\r\n").as_bytes()).await;
        }
        assert_eq!(connection.read(b"POST").await.unwrap().status, 200);
    }
    let bodies: Vec<String> =
        backend.seen().iter().map(|request| String::from_utf8(request.body.clone()).unwrap()).collect();
    assert_eq!(bodies, ["hello", "again", "again", "hello", "again", "again"]);
    let trailers = backend.seen().iter().filter(|request| request.header("x-trailer").is_some()).count();
    assert_eq!(trailers, 0);
}

#[tokio::test]
async fn a_backend_that_takes_a_body_and_does_not_answer_is_504_too() {
    let silent = scripted(|mut stream| async move {
        let mut sink = [0; 1024];
        while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let gateway = Gateway::start(&simple(&[silent], "", CONTACTS)).await;
    for framing in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
        let request = format!(
            "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{framing}",
            token("w", "contacts")
        );
        gateway.send(&request).await.assert_envelope(504, "SERVER_ERROR", "The service took too long to answer.");
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_whole_body_is_passed_on_and_nothing_is_reused() {
    let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let backend = scripted(move |mut stream| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 403 No\r\nContent-Type: application/json\r\nContent-Length: 34\r\n\r\n{\"message\":\"You may not do that.\"}").await.unwrap();
            let mut sink = [0; 1024];
            while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        }
    })
    .await;
    let gateway = Gateway::start(&simple(&[backend], "", CONTACTS)).await;
    for _ in 0..2 {
        let mut connection = Connection::open(gateway.address).await;
        let head = format!(
            "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 1000000\r\n\r\nfirst",
            token("w", "contacts")
        );
        connection.write(head.as_bytes()).await;
        let answer = connection.read(b"POST").await.unwrap();
        answer.assert_envelope(403, "FORBIDDEN", "You may not do that.");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_kept_connection_that_the_backend_closed_costs_no_idempotent_request() {
    // Answers once on each connection, keeps it, and hangs up at the next request.
    let backend = scripted(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        read_head(&mut stream).await;
    })
    .await;
    let gateway = Gateway::start(&simple(&[backend], "", CONTACTS)).await;
    let token = token("w", "contacts");
    for _ in 0..6 {
        assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 200);
    }
    assert_eq!(gateway.metric(r#"gateway_upstream_ejections_total{upstream="main"}"#).await, 0.0);
}

#[tokio::test]
async fn an_upload_reaches_the_backend_while_it_is_still_going_on() {
    let arrived = Arc::new(Notify::new());
    let signal = Arc::clone(&arrived);
    let backend = scripted(move |mut stream| {
        let signal = Arc::clone(&signal);
        async move {
            let mut read = read_head(&mut stream).await;
            let mut chunk = [0; 1024];
            while !read.ends_with(b"first") {
                let length = stream.read(&mut chunk).await.unwrap();
                read.extend_from_slice(&chunk[..length]);
            }
            signal.notify_one();
            while !read.ends_with(b"last") {
                let length = stream.read(&mut chunk).await.unwrap();
                read.extend_from_slice(&chunk[..length]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let gateway = Gateway::start(&simple(&[backend], "", CONTACTS)).await;
    let request = format!(
        "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 9\r\n\r\n",
        token("w", "contacts")
    );
    let mut connection = Connection::open(gateway.address).await;
    connection.write(request.as_bytes()).await;
    connection.write(b"first").await;
    arrived.notified().await;
    connection.write(b"last").await;
    assert_eq!(connection.read(b"POST").await.unwrap().status, 200);
}

#[tokio::test]
async fn server_sent_events_arrive_as_they_are_sent() {
    let next = Arc::new(Notify::new());
    let go_on = Arc::clone(&next);
    let backend = scripted(move |mut stream| {
        let go_on = Arc::clone(&go_on);
        async move {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await
                .unwrap();
            for event in ["data: 1\n\n", "data: 2\n\n"] {
                stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
                go_on.notified().await;
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let routes = "  ai: {path: /ai, scope: contacts, limit: none, upstream: main, streaming: true}\n";
    let gateway = Gateway::start(&simple(&[backend], "", routes)).await;
    let mut connection = Connection::open(gateway.address).await;
    connection
        .write(
            format!("GET /api/v1/ai HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token("w", "contacts"))
                .as_bytes(),
        )
        .await;
    assert_eq!(connection.head().await.unwrap().status, 200);
    // Each event is read before the backend is told to send the next.
    for event in ["data: 1\n\n", "data: 2\n\n", ""] {
        assert_eq!(connection.chunk().await.unwrap(), event.as_bytes());
        next.notify_one();
    }
}

#[tokio::test]
async fn a_client_that_waits_for_continue_is_told_after_it_was_let_in() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let head = |token: &str| {
        format!(
            "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut refused = Connection::open(gateway.address).await;
    refused.write(head("mb_x").as_bytes()).await;
    assert_eq!(refused.head().await.unwrap().status, 401, "without having sent its body");
    let mut connection = Connection::open(gateway.address).await;
    connection.write(head(&token("w", "contacts")).as_bytes()).await;
    assert_eq!(connection.head().await.unwrap().status, 100);
    connection.write(b"hello").await;
    assert_eq!(connection.read(b"POST").await.unwrap().status, 200);
    let seen = backend.only();
    assert_eq!((seen.body.as_slice(), seen.header("expect")), (&b"hello"[..], None));
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_at_the_backend_with_it() {
    let (began, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, end) = (Arc::clone(&began), Arc::clone(&ended));
    let backend = scripted(move |mut stream| {
        let (begin, end) = (Arc::clone(&begin), Arc::clone(&end));
        async move {
            read_head(&mut stream).await;
            begin.notify_one();
            assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
            end.notify_one();
        }
    })
    .await;
    let gateway = Gateway::start(&simple(&[backend], "", CONTACTS)).await;
    let mut connection = Connection::open(gateway.address).await;
    connection
        .write(
            format!(
                "GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
                token("w", "contacts")
            )
            .as_bytes(),
        )
        .await;
    began.notified().await;
    drop(connection);
    tokio::time::timeout(crate::harness::PATIENCE, ended.notified()).await.unwrap();
    assert_eq!(gateway.access_lines(1).await[0]["status"], 499);
}

#[tokio::test]
async fn checks_leave_an_unhealthy_server_out_and_bring_it_back() {
    let healthy = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let says = Arc::clone(&healthy);
    let moody = Backend::answering(move |request| {
        match (request.target.as_str(), says.load(std::sync::atomic::Ordering::SeqCst)) {
            ("/up", false) => json(503, "{}"),
            _ => json(200, "{}"),
        }
    })
    .await;
    let sections = format!(
        "{AUTH}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"{}\"], health: {{path: /up, every: 20ms, timeout: 1s, unhealthy_after: 2, healthy_after: 2}}}}}}\nroutes:\n{CONTACTS}",
        moody.address
    );
    let gateway = Gateway::start(&config(&sections)).await;
    let series = format!(r#"gateway_upstream_server_healthy{{server="{}",upstream="main"}}"#, moody.address);
    let token = token("w", "contacts");
    for (is_healthy, status, ready) in [(true, 200, 200), (false, 503, 503), (true, 200, 200)] {
        healthy.store(is_healthy, std::sync::atomic::Ordering::SeqCst);
        wait_for("the check", || async {
            (gateway.metric(&series).await == f64::from(u8::from(is_healthy))).then_some(())
        })
        .await;
        let answer = gateway.get("/api/v1/contacts", &token).await;
        assert_eq!(answer.status, status);
        if status == 503 {
            answer.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
            assert_eq!(answer.number("retry-after"), 1);
        }
        assert_eq!(gateway.admin("/readyz").await.status, ready);
    }
}

#[tokio::test]
async fn a_name_is_resolved_away_from_requests() {
    let backend = Backend::start().await;
    let sections = format!(
        "{AUTH}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"localhost:{}\"]}}, lost: {{servers: [\"nowhere.invalid:80\"]}}}}\nroutes:\n{CONTACTS}  lost: {{path: /lost, scope: contacts, limit: none, upstream: lost}}\n",
        backend.address.port()
    );
    let gateway = Gateway::start(&config(&sections)).await;
    let token = token("w", "contacts");
    wait_for("the name", || async { (gateway.get("/api/v1/contacts", &token).await.status == 200).then_some(()) })
        .await;
    let answer = gateway.get("/api/v1/lost", &token).await;
    answer.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
}
