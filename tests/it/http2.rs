//! HTTP/2: the same requests, the same rules and the same envelopes, and nothing a client sends costs more than it should.

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::backend::{Backend, json, read_head, scripted};
use crate::harness::certificates::{Authority, TlsClient};
use crate::harness::client::Connection;
use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::http2::{
    CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, WINDOW_UPDATE, block,
    frame, get, get_block, head, request, whole,
};
use crate::harness::token::token;
use crate::harness::wait_for;

const ENHANCE_YOUR_CALM: u32 = 11;
const PROTOCOL_ERROR: u32 = 1;

fn config(servers: &[std::net::SocketAddr], bounds: &str, routes: &str) -> String {
    let listeners = format!("listeners: [{{address: \"127.0.0.1:0\", http2: cleartext}}]\nrequest: {{{bounds}}}");
    simple(servers, "few: {requests: 2, per: 1m}", routes)
        .replace("listeners: [{address: \"127.0.0.1:0\"}]", &listeners)
        // Longer than a test: what ends, ends for another reason.
        .replace("response: 2s", "response: 300s")
}

async fn gateway(bounds: &str) -> (Gateway, Backend) {
    let backend = Backend::start().await;
    let routes = format!(
        "{CONTACTS}  limited: {{path: /limited, scope: contacts, limit: few, upstream: main}}\n  open: {{path: /open, access: public, limit: none, upstream: main}}\n"
    );
    (Gateway::start(&config(&[backend.address], bounds, &routes)).await, backend)
}

fn contacts() -> String {
    token("w", "contacts")
}

async fn in_flight(gateway: &Gateway) -> f64 {
    gateway.metric(&format!(r#"gateway_requests_in_flight{{listener="{}"}}"#, gateway.address)).await
}

#[tokio::test]
async fn both_versions_are_spoken_on_one_plain_listener() {
    let (gateway, backend) = gateway("").await;
    let over_2 = Client::connect(gateway.address).await.send(get("/api/v1/contacts?a=b", &contacts())).await.unwrap();
    assert_eq!((over_2.status, over_2.text()), (200, r#"{"success":true,"data":[]}"#.to_owned()));
    let over_1 = gateway.get("/api/v1/contacts?a=b", &contacts()).await;
    assert_eq!(over_1.status, 200);
    let [two, one] = backend.seen().try_into().unwrap();
    assert_eq!((&two.method, &two.target, two.header("host")), (&one.method, &one.target, one.header("host")));
    assert_eq!(two.header("x-forwarded-host"), Some("gateway"));
    assert_eq!(two.header("x-forwarded-proto"), Some("http"));
    for connection in ["connection", "transfer-encoding", "keep-alive"] {
        assert_eq!(over_2.header(connection), None);
    }
    assert!(over_2.header("date").is_some() && over_2.header("x-request-id").is_some());
}

#[tokio::test]
async fn a_plain_listener_that_does_not_say_so_speaks_http_1_alone() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let mut connection = Connection::open(gateway.address).await;
    connection.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(connection.read(b"PRI").await.unwrap().status, 505);
}

#[tokio::test]
async fn a_preface_in_pieces_is_a_preface_and_the_half_of_one_is_a_request() {
    let (gateway, _backend) = gateway("header_timeout: 500ms").await;
    let mut pieces = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    pieces.set_nodelay(true).unwrap();
    for piece in ["P", "RI * HTTP", "/2.0\r\n\r\nSM\r", "\n\r\n"] {
        pieces.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    pieces.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let mut settings = [0; 9];
    pieces.read_exact(&mut settings).await.unwrap();
    assert_eq!(settings[3], 4, "SETTINGS");
    let mut half = Connection::open(gateway.address).await;
    half.write(b"PRI * HT").await;
    assert_eq!(half.read(b"PRI").await.unwrap().status, 408);
}

#[tokio::test]
async fn http_2_is_agreed_upon_in_the_tls_handshake() {
    let (folder, authority, backend) = (tempfile::TempDir::new().unwrap(), Authority::new(), Backend::start().await);
    authority.sign(&["localhost"]).write(folder.path(), "a");
    let tls = "tls: {certificate: a.crt, key: a.key}";
    let listeners =
        format!("listeners: [{{address: \"127.0.0.1:0\", {tls}}}, {{address: \"127.0.0.1:0\", {tls}, http2: off}}]");
    let config =
        simple(&[backend.address], "", CONTACTS).replace("listeners: [{address: \"127.0.0.1:0\"}]", &listeners);
    let gateway = Gateway::start_in(folder, &config).await;
    let listeners = gateway.listeners(2).await;
    let mut client = TlsClient::trusting(&authority);
    client.protocols = vec![b"h2", b"http/1.1"];
    let stream = client.connect(listeners[0], "localhost").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let answer = Client::over(stream).await.send(get("/api/v1/contacts", &contacts())).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(backend.only().header("x-forwarded-proto"), Some("https"));
    let stream = client.connect(listeners[1], "localhost").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    client.protocols = vec![b"http/1.1"];
    let mut over_1 = client.open(listeners[0], "localhost").await;
    assert_eq!(over_1.request("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap().status, 404);
}

#[tokio::test]
async fn refusals_are_the_same_envelopes() {
    let (gateway, backend) = gateway("header_bytes: 2KiB, headers: 20").await;
    let client = Client::connect(gateway.address).await;
    let malformed = (400, "BAD_REQUEST", "The request is malformed.");
    let too_large = (431, "BAD_REQUEST", "The request headers are too large.");
    let with = |field: &str, value: &str| {
        let mut request = get("/api/v1/contacts", &contacts());
        request.headers_mut().append(http::HeaderName::try_from(field).unwrap(), value.parse().unwrap());
        request
    };
    let mut many = get("/api/v1/contacts", &contacts());
    for _ in 0..25 {
        many.headers_mut().append("x", "y".parse().unwrap());
    }
    for (request, (status, code, message)) in [
        (get("/nothing", &contacts()), (404, "NOT_FOUND", "The requested resource does not exist.")),
        (get("/api/v1/contacts", "mb_x"), (401, "UNAUTHENTICATED", "Missing or invalid API token.")),
        (
            get("/api/v1/contacts", &token("w", "other")),
            (403, "FORBIDDEN", "This token lacks the required scope for this endpoint."),
        ),
        (request("TRACE", "/x", "t"), (405, "BAD_REQUEST", "This method is not allowed for this endpoint.")),
        (get("/api/v1/a%2fb", &contacts()), malformed),
        (get("/api/v1/contacts/\"", &contacts()), malformed),
        (with("host", "another"), malformed),
        (with("authorization", "Bearer x"), malformed),
        (with("expect", "miracles"), (417, "BAD_REQUEST", "The request could not be processed.")),
        (get(&format!("/{}", "a".repeat(2100)), "t"), too_large),
        (with("x", &"y".repeat(2100)), too_large),
        (many, too_large),
    ] {
        let shown = format!("{request:?}");
        let answer = client.send(request).await.unwrap_or_else(|error| panic!("{error}: {shown}"));
        answer.assert_envelope(status, code, message);
    }
    assert!(backend.seen().is_empty());
    assert_eq!(gateway.access_lines(12).await.len(), 12, "each is told");
}

#[tokio::test]
async fn what_cannot_be_an_http_2_request_is_reset_and_its_connection_goes_on() {
    let (gateway, backend) = gateway("").await;
    let mut frames = Frames::connect(gateway.address).await;
    let (method, scheme, authority, path) =
        ((":method", "GET"), (":scheme", "http"), (":authority", "gateway"), (":path", "/api/v1/open"));
    let malformed: &[&[(&str, &str)]] = &[
        &[method, scheme, authority],
        &[scheme, authority, path],
        &[method, authority, path],
        &[method, scheme, authority, (":path", "")],
        &[method, scheme, authority, path, path],
        &[method, scheme, authority, path, (":status", "200")],
        &[method, scheme, authority, path, ("connection", "close")],
        &[method, scheme, authority, path, ("transfer-encoding", "chunked")],
        &[method, scheme, authority, path, ("upgrade", "h2c")],
        &[method, scheme, authority, path, ("keep-alive", "1")],
        &[method, scheme, authority, path, ("te", "gzip")],
        &[method, scheme, authority, ("x", "y"), path],
        &[method, scheme, authority, (":path", "/a\r\nX: y")],
    ];
    let mut stream = 1;
    for fields in malformed {
        assert!(frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields)).await);
        let reset = frames.next_of(RST_STREAM).await.unwrap_or_else(|| panic!("closed over {fields:?}"));
        assert_eq!((reset.stream, reset.payload), (stream, PROTOCOL_ERROR.to_be_bytes().to_vec()), "{fields:?}");
        stream += 2;
    }
    // A name that is not in lower case and a value of several lines cannot even be unpacked: nobody knows what the next would mean.
    for field in [("X", "1"), ("x", "a\r\nb")] {
        let mut other = Frames::connect(gateway.address).await;
        let fields = block(&[method, scheme, authority, path, field]);
        assert!(other.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields).await);
        assert_eq!(other.goaway().await, Some(PROTOCOL_ERROR), "{field:?}");
    }
    // Forms of a target that are no path, and a request without a host, are answered.
    for fields in [
        &[method, scheme, authority, (":path", "*")][..],
        &[method, scheme, path],
        &[method, scheme, path, ("host", "a"), ("host", "a")],
        &[method, (":scheme", "ftp"), authority, path],
    ] {
        assert!(frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields)).await);
        let body = frames.next_of(DATA).await.unwrap().payload;
        assert!(String::from_utf8(body).unwrap().contains(r#""code":"BAD_REQUEST""#), "{fields:?}");
        stream += 2;
    }
    assert!(backend.seen().is_empty());
    assert!(frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[method, scheme, authority, path])).await);
    assert_eq!(frames.next_of(DATA).await.unwrap().stream, stream);
    assert_eq!(backend.only().target, "/api/v1/open");
}

#[tokio::test]
async fn what_a_backend_is_sent_is_plain_http_1() {
    let (gateway, backend) = gateway("").await;
    let client = Client::connect(gateway.address).await;
    let mut request = Request::post("http://gateway/api/v1/open").body(()).unwrap();
    for (name, value) in
        [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-user-id", "me"), ("x-kept", "1")]
    {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let (answer, mut body) = client.begin(request, false).await.unwrap();
    body.send_data(Bytes::from_static(b"a body"), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-user-id", "me".parse().unwrap());
    body.send_trailers(trailers).unwrap();
    assert_eq!(whole(answer).await.unwrap().status, 200);
    let sent = backend.only();
    assert_eq!(sent.body, b"a body");
    assert_eq!((sent.header("cookie"), sent.header("x-kept")), (Some("a=1; b=2"), Some("1")));
    assert_eq!((sent.header("te"), sent.header("x-user-id"), sent.header("trailer")), (None, None, None));
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let backend = Backend::answering(|request| match request.target.as_str() {
        "/api/v1/contacts/204" => json(204, ""),
        "/api/v1/contacts/304" => json(304, ""),
        _ => json(200, "{}"),
    })
    .await;
    let gateway = Gateway::start(&config(&[backend.address], "", CONTACTS)).await;
    let client = Client::connect(gateway.address).await;
    for (method, path, status) in [
        ("HEAD", "/api/v1/contacts", 200),
        ("GET", "/api/v1/contacts/204", 204),
        ("GET", "/api/v1/contacts/304", 304),
        ("HEAD", "/nothing", 404),
    ] {
        let (answer, _) = client.begin(request(method, path, &contacts()), true).await.unwrap();
        let (answer, body) = head(answer).await.unwrap();
        assert_eq!((answer.status, body.is_end_stream()), (status, true), "{method} {path}");
    }
    let refused = client.send(request("HEAD", "/nothing", "t")).await.unwrap();
    assert!(refused.number("content-length") > 0, "what GET would have");
}

#[tokio::test]
async fn a_limit_is_one_for_both_versions() {
    let (gateway, _backend) = gateway("").await;
    let client = Client::connect(gateway.address).await;
    assert_eq!(gateway.get("/api/v1/limited", &contacts()).await.number("x-ratelimit-remaining"), 1);
    let second = client.send(get("/api/v1/limited", &contacts())).await.unwrap();
    assert_eq!((second.status, second.number("x-ratelimit-remaining")), (200, 0));
    let third = client.send(get("/api/v1/limited", &contacts())).await.unwrap();
    third.assert_envelope(429, "RATE_LIMITED", "Rate limit exceeded, retry after the specified window.");
    assert!(third.number("retry-after") >= 1);
}

#[tokio::test]
async fn bodies_stream_both_ways_as_they_come() {
    let (to_test, mut at_backend) = tokio::sync::mpsc::unbounded_channel::<String>();
    let (to_backend, said) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let said = std::sync::Arc::new(tokio::sync::Mutex::new(said));
    let address = scripted(move |mut stream| {
        let (to_test, said) = (to_test.clone(), std::sync::Arc::clone(&said));
        async move {
            let mut chunk = [0; 4096];
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await
                .unwrap();
            let mut said = said.lock().await;
            loop {
                tokio::select! {
                    read = stream.read(&mut chunk) => match read {
                        Ok(length @ 1..) => drop(to_test.send(String::from_utf8_lossy(&chunk[..length]).into_owned())),
                        _ => return,
                    },
                    Some(word) = said.recv() => {
                        let chunk = format!("{:x}\r\n{word}\r\n", word.len());
                        stream.write_all(chunk.as_bytes()).await.unwrap();
                    }
                }
            }
        }
    })
    .await;
    let gateway = Gateway::start(&config(&[address], "", CONTACTS)).await;
    let client = Client::connect(gateway.address).await;
    let (answer, mut upload) = client.begin(request("POST", "/api/v1/contacts", &contacts()), false).await.unwrap();
    upload.send_data(Bytes::from_static(b"one"), false).unwrap();
    let (answer, mut download) = head(answer).await.unwrap();
    assert_eq!(answer.status, 200);
    let mut seen = String::new();
    while !seen.contains("one") {
        seen += &at_backend.recv().await.unwrap();
    }
    to_backend.send("first").unwrap();
    assert_eq!(download.data().await.unwrap().unwrap(), "first");
    upload.send_data(Bytes::from_static(b"two"), true).unwrap();
    while !seen.contains("two") {
        seen += &at_backend.recv().await.unwrap();
    }
    to_backend.send("second").unwrap();
    assert_eq!(download.data().await.unwrap().unwrap(), "second");
}

#[tokio::test]
async fn a_large_body_passes_in_both_directions_within_the_windows() {
    let size = 3 << 20;
    let backend = Backend::answering(|request| json(200, &"x".repeat(request.body.len()))).await;
    let gateway = Gateway::start(&config(&[backend.address], "body_bytes: 4MiB", CONTACTS)).await;
    let client = Client::connect(gateway.address).await;
    let (answer, mut upload) = client.begin(request("POST", "/api/v1/contacts", &contacts()), false).await.unwrap();
    let mut rest = Bytes::from(vec![b'y'; size]);
    while !rest.is_empty() {
        upload.reserve_capacity(rest.len());
        let room = std::future::poll_fn(|context| upload.poll_capacity(context)).await.unwrap().unwrap();
        let part = rest.split_to(room.min(rest.len()));
        upload.send_data(part, rest.is_empty()).unwrap();
    }
    let answer = whole(answer).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, size));
    assert_eq!(backend.only().body.len(), size);
}

#[tokio::test]
async fn a_body_too_large_or_too_slow_is_refused() {
    let (gateway, _backend) = gateway("body_bytes: 1KiB, body_timeout: 300ms").await;
    let client = Client::connect(gateway.address).await;
    let post = || request("POST", "/api/v1/contacts", &contacts());
    let (answer, mut body) = client.begin(post(), false).await.unwrap();
    body.send_data(Bytes::from(vec![b'x'; 2000]), false).unwrap();
    whole(answer).await.unwrap().assert_envelope(413, "BAD_REQUEST", "The request body is too large.");
    let (answer, mut body) = client.begin(post(), false).await.unwrap();
    body.send_data(Bytes::from_static(b"half"), false).unwrap();
    whole(answer).await.unwrap().assert_envelope(408, "BAD_REQUEST", "The request took too long to arrive.");
    let mut declared = post();
    declared.headers_mut().insert("content-length", 2000.into());
    let (answer, _body) = client.begin(declared, false).await.unwrap();
    whole(answer).await.unwrap().assert_envelope(413, "BAD_REQUEST", "The request body is too large.");
    assert_eq!(client.send(get("/api/v1/contacts", &contacts())).await.unwrap().status, 200, "the connection goes on");
}

#[tokio::test]
async fn an_expected_body_is_asked_for_after_authorisation() {
    let (gateway, _backend) = gateway("").await;
    let mut frames = Frames::connect(gateway.address).await;
    let authorization = format!("Bearer {}", contacts());
    let fields = |authorization| {
        block(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "gateway"),
            (":path", "/api/v1/contacts"),
            ("expect", "100-continue"),
            ("authorization", authorization),
        ])
    };
    assert!(frames.send(HEADERS, END_HEADERS, 1, &fields("Bearer mb_x")).await);
    let refused = frames.next_of(HEADERS).await.unwrap();
    assert!(!refused.payload.ends_with(b"100"), "no 100 before a 401");
    assert!(frames.send(HEADERS, END_HEADERS, 3, &fields(&authorization)).await);
    let interim = loop {
        let frame = frames.next_of(HEADERS).await.unwrap();
        if frame.stream == 3 {
            break frame;
        }
    };
    // A status that has no entry of its own in the static table: a literal with the name's index, three digits, maybe in Huffman's code.
    assert_eq!(interim.flags & END_STREAM, 0);
    assert!(frames.send(DATA, END_STREAM, 3, b"body").await);
    assert_eq!(frames.next_of(HEADERS).await.unwrap().stream, 3, "the answer itself");
}

/// What the backend says next.
async fn hear(heard: &mut tokio::sync::mpsc::UnboundedReceiver<&'static str>) -> Option<&'static str> {
    tokio::time::timeout(crate::harness::PATIENCE, heard.recv()).await.expect("a word in time")
}

/// A backend that answers nothing, and says when a connection of its begins and ends.
async fn silent() -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<&'static str>) {
    let (say, heard) = tokio::sync::mpsc::unbounded_channel();
    let address = scripted(move |mut stream| {
        let say = say.clone();
        async move {
            read_head(&mut stream).await;
            let _ = say.send("asked");
            while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
            let _ = say.send("left");
        }
    })
    .await;
    (address, heard)
}

#[tokio::test]
async fn who_cancels_a_request_cancels_it_at_the_backend() {
    let (address, mut heard) = silent().await;
    let gateway = Gateway::start(&config(&[address], "", CONTACTS)).await;
    let client = Client::connect(gateway.address).await;
    let (answer, mut stream) = client.begin(get("/api/v1/contacts", &contacts()), true).await.unwrap();
    assert_eq!(hear(&mut heard).await, Some("asked"));
    stream.send_reset(h2::Reason::CANCEL);
    drop(answer);
    assert_eq!(hear(&mut heard).await, Some("left"));
    assert_eq!(gateway.access_lines(1).await[0]["status"], 499);
    assert_eq!(client.send(get("/nothing", "t")).await.unwrap().status, 404, "the connection goes on");
    let (_answer, _stream) = client.begin(get("/api/v1/contacts", &contacts()), true).await.unwrap();
    assert_eq!(hear(&mut heard).await, Some("asked"));
    drop((client, _answer, _stream));
    assert_eq!(hear(&mut heard).await, Some("left"), "and so does who closes the connection");
    wait_for("the request to be given up", || async { (in_flight(&gateway).await == 0.0).then_some(()) }).await;
    assert_eq!(gateway.access_lines(3).await[2]["status"], 499);
}

#[tokio::test]
async fn half_an_answer_is_never_taken_for_a_whole_one() {
    let address = scripted(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    })
    .await;
    let gateway = Gateway::start(&config(&[address], "", CONTACTS)).await;
    let client = Client::connect(gateway.address).await;
    let error = client.send(get("/api/v1/contacts", &contacts())).await.unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert_eq!(client.send(get("/nothing", "t")).await.unwrap().status, 404, "the connection goes on");
}

#[tokio::test]
async fn more_requests_than_there_is_room_for_are_refused_and_bodies_that_are_not_read_hold_up_no_other() {
    let (address, mut heard) = silent().await;
    let gateway = Gateway::start(&config(&[address], "in_flight: 3", CONTACTS)).await;
    let client = Client::connect(gateway.address).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let (answer, mut body) = client.begin(request("POST", "/api/v1/contacts", &contacts()), false).await.unwrap();
        // As much as the window of one stream holds; nobody reads it.
        body.send_data(Bytes::from(vec![b'x'; 60_000]), false).unwrap();
        open.push((answer, body));
        assert_eq!(hear(&mut heard).await, Some("asked"));
    }
    let refused = client.send(get("/api/v1/contacts", &contacts())).await.unwrap();
    refused.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
    drop(open);
    wait_for("the seats", || async { (in_flight(&gateway).await == 0.0).then_some(()) }).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_gives_its_place_back() {
    let backend = Backend::answering(|_| json(200, &"x".repeat(1 << 20))).await;
    let gateway = Gateway::start(&config(&[backend.address], "body_timeout: 300ms", CONTACTS)).await;
    let mut frames = Frames::connect(gateway.address).await;
    assert!(frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &get_block("/api/v1/contacts", &contacts())).await);
    // Its window is never opened again.
    let reset = frames.next_of(RST_STREAM).await.unwrap();
    assert_eq!(reset.stream, 1);
    wait_for("its seat", || async { (in_flight(&gateway).await == 0.0).then_some(()) }).await;
    assert_eq!(gateway.access_lines(1).await[0]["status"], 499);
}

#[tokio::test]
async fn an_idle_connection_is_announced_to_end_and_closed() {
    let (gateway, _backend) = gateway("idle_timeout: 1s").await;
    let mut frames = Frames::connect(gateway.address).await;
    assert!(frames.send(PING, 0, 0, &[0; 8]).await);
    assert_eq!(frames.goaway().await, Some(0));
    while frames.next().await.is_some() {}
}

#[tokio::test]
async fn who_agrees_to_http_2_and_does_not_begin_it_gives_its_place_back() {
    let (folder, authority) = (tempfile::TempDir::new().unwrap(), Authority::new());
    authority.sign(&["localhost"]).write(folder.path(), "a");
    let config = config(&["127.0.0.1:1".parse().unwrap()], "header_timeout: 300ms, idle_timeout: 60s", CONTACTS)
        .replace("http2: cleartext", "tls: {certificate: a.crt, key: a.key}");
    let gateway = Gateway::start_in(folder, &config).await;
    let mut client = TlsClient::trusting(&authority);
    client.protocols = vec![b"h2"];
    let mut silent = client.connect(gateway.address, "localhost").await.unwrap();
    let mut said = Vec::new();
    // Whatever it says (its SETTINGS), it comes to an end.
    let ended = tokio::time::timeout(crate::harness::PATIENCE, silent.read_to_end(&mut said));
    assert!(ended.await.is_ok(), "closed long before the idle time");
    let open = format!(r#"gateway_connections{{listener="{}"}}"#, gateway.address);
    wait_for("its place", || async { (gateway.metric(&open).await == 0.0).then_some(()) }).await;
}

#[tokio::test]
async fn while_draining_a_goaway_is_sent_and_requests_in_flight_are_answered() {
    let (release, wait) = tokio::sync::watch::channel(false);
    let address = scripted(move |mut stream| {
        let mut wait = wait.clone();
        async move {
            read_head(&mut stream).await;
            wait.wait_for(|is_released| *is_released).await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
        }
    })
    .await;
    let mut gateway = Gateway::start(&config(&[address], "", CONTACTS)).await;
    let mut frames = Frames::connect(gateway.address).await;
    assert!(frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &get_block("/api/v1/contacts", &contacts())).await);
    wait_for("the request", || async { (in_flight(&gateway).await == 1.0).then_some(()) }).await;
    gateway.signal("TERM");
    assert_eq!(frames.goaway().await, Some(0));
    release.send(true).unwrap();
    assert_eq!(frames.next_of(DATA).await.unwrap().payload, b"{}");
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn who_opens_and_resets_without_end_is_shown_the_door_cve_2023_44487() {
    let (address, _heard) = silent().await;
    let gateway = Gateway::start(&config(&[address], "", CONTACTS)).await;
    let mut frames = Frames::connect(gateway.address).await;
    let fields = get_block("/api/v1/contacts", &contacts());
    let cancel = 8_u32.to_be_bytes();
    // One stream after the other is looked at, forwarded and cancelled; far more than anybody needs.
    let mut stream = 1;
    let mut ended = None;
    while stream < 20_000 && ended.is_none() {
        let pair = [frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields), frame(RST_STREAM, 0, stream, &cancel)];
        if !frames.send_all(&pair.concat()).await {
            break;
        }
        stream += 2;
        if stream % 20 == 1 {
            tokio::task::yield_now().await;
        }
        if stream % 2000 == 1 {
            ended = tokio::time::timeout(std::time::Duration::from_millis(1), frames.goaway()).await.unwrap_or(None);
        }
    }
    // A client that still writes may have its answer thrown away by its own kernel.
    if ended.is_none() && stream >= 20_000 {
        ended = frames.goaway().await;
    }
    assert!(ended.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{ended:?}");
    assert_eq!(gateway.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.status, 404, "others are served");
    wait_for("the seats", || async { (in_flight(&gateway).await == 0.0).then_some(()) }).await;
}

#[tokio::test]
async fn who_lets_every_request_begin_and_cancels_it_is_shown_the_door_too() {
    let (address, mut heard) = silent().await;
    let gateway = Gateway::start(&config(&[address], "", CONTACTS)).await;
    let mut frames = Frames::connect(gateway.address).await;
    let fields = get_block("/api/v1/contacts", &contacts());
    let mut cancelled = 0;
    while frames.send(HEADERS, END_HEADERS | END_STREAM, 2 * cancelled + 1, &fields).await && cancelled < 101 {
        assert_eq!(hear(&mut heard).await, Some("asked"));
        assert!(frames.send(RST_STREAM, 0, 2 * cancelled + 1, &8_u32.to_be_bytes()).await);
        assert_eq!(hear(&mut heard).await, Some("left"));
        cancelled += 1;
    }
    assert_eq!((cancelled, frames.goaway().await), (101, Some(ENHANCE_YOUR_CALM)));
}

#[tokio::test]
async fn who_makes_the_gateway_reset_without_end_is_shown_the_door_cve_2025_8671() {
    let (address, _heard) = silent().await;
    let gateway = Gateway::start(&config(&[address], "", CONTACTS)).await;
    let mut frames = Frames::connect(gateway.address).await;
    let fields = get_block("/api/v1/contacts", &contacts());
    // A window that is opened too far is an error of its stream, which the gateway has to reset.
    for number in 0..2000 {
        let stream = 2 * number + 1;
        let pair = [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields),
            frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()),
        ];
        if !frames.send_all(&pair.concat()).await {
            break;
        }
    }
    assert!(frames.goaway().await.is_none_or(|code| code == ENHANCE_YOUR_CALM));
    assert_eq!(gateway.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.status, 404, "others are served");
    wait_for("the seats", || async { (in_flight(&gateway).await == 0.0).then_some(()) }).await;
}

#[tokio::test]
async fn a_head_without_end_is_cut_off_cve_2024_27316() {
    let (gateway, backend) = gateway("header_bytes: 4KiB").await;
    let mut frames = Frames::connect(gateway.address).await;
    assert!(frames.send(HEADERS, 0, 1, &get_block("/api/v1/open", "t")).await);
    let more = frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(1000))]));
    let mut sent = 0;
    while sent < 10_000 && frames.send_all(&more).await {
        sent += 1;
    }
    assert!(sent < 10_000, "ten megabytes of head were taken");
    assert!(backend.seen().is_empty());
    assert_eq!(gateway.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.status, 404, "others are served");
}

#[tokio::test]
async fn a_head_that_unpacks_to_megabytes_is_refused_cve_2026_47774() {
    let (gateway, backend) = gateway("header_bytes: 4KiB").await;
    let mut frames = Frames::connect(gateway.address).await;
    // One large field is put into the table (RFC 7541 section 6.2.1) and then named again and again, an octet each time.
    let mut bomb = get_block("/api/v1/open", "t");
    let mut large = block(&[("x", &"y".repeat(3000))]);
    large[0] = 0x40;
    bomb.extend(large);
    bomb.extend([0x80 | 62; 10_000]);
    assert!(frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &bomb).await);
    let answered = frames.next_of(HEADERS).await;
    assert!(answered.is_none_or(|frame| frame.flags & END_STREAM != 0), "431 without a body, or a closed connection");
    assert!(backend.seen().is_empty());
    assert_eq!(gateway.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.status, 404, "others are served");
}
