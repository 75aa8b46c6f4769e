//! Backends that answer what no backend should: the client gets a clean answer, an envelope or a cut connection, never half of a
//! truth, and whoever comes next on the same connections gets their own answer.
//!
//! A row is its name, what the backend writes once it has read the head of a request, and what the client gets. In the bytes `¶` is
//! CRLF and every other character one octet (Latin-1); `{later}` stands where the backend waits until the gateway has had the time
//! to put the connection back, and with `{close}` it ends the connection, which else stays open for the next request. The client gets
//! an envelope (`502`), a complete success (`200 ok`), or what is `cut`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use mailtrixy_gateway::policy::envelope::Envelope;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::backend::{read_head, scripted};
use crate::harness::client::{Connection, Response};
use crate::harness::gateway::{AUTH, Gateway, config};
use crate::harness::wait_for;

type Row = (&'static str, &'static str, &'static str);

const ROWS: &[Row] = &[
    ("a good answer", "HTTP/1.1 200 OK¶Content-Length: 2¶¶ok", "200 ok"),
    // Status lines.
    ("no answer", "{close}", "502"),
    ("nonsense", "nonsense¶¶", "502"),
    ("no status", "HTTP/1.1¶¶", "502"),
    ("an empty status", "HTTP/1.1 ¶¶", "502"),
    ("a status of two digits", "HTTP/1.1 20 OK¶Content-Length: 2¶¶ok", "502"),
    ("a status of four digits", "HTTP/1.1 2000 OK¶Content-Length: 2¶¶ok", "502"),
    ("a status of very many digits", "HTTP/1.1 20000000000000000000 OK¶Content-Length: 2¶¶ok", "502"),
    ("a negative status", "HTTP/1.1 -200 OK¶Content-Length: 2¶¶ok", "502"),
    ("a status that is none", "HTTP/1.1 000 OK¶Content-Length: 2¶¶ok", "502"),
    ("a status below any", "HTTP/1.1 099 OK¶Content-Length: 2¶¶ok", "502"),
    ("a status above any", "HTTP/1.1 600 OK¶Content-Length: 2¶¶ok", "502"),
    ("the largest status", "HTTP/1.1 999 OK¶Content-Length: 2¶¶ok", "502"),
    ("a status glued to its reason", "HTTP/1.1 200OK¶Content-Length: 2¶¶ok", "502"),
    ("a version that is none", "HTTP/9.9 200 OK¶Content-Length: 2¶¶ok", "502"),
    ("HTTP/2 in the manner of HTTP/1", "HTTP/2 200 OK¶Content-Length: 2¶¶ok", "502"),
    ("something else than HTTP", "ICY 200 OK¶Content-Length: 2¶¶ok", "502"),
    ("a banner", "SSH-2.0-OpenSSH_9.9¶", "502"),
    ("a TLS alert", "\u{15}\u{3}\u{1}\0\u{2}\u{2}P", "502"),
    ("the settings of HTTP/2", "\0\0\0\u{4}\0\0\0\0\0", "502"),
    ("a space in front", " HTTP/1.1 200 OK¶Content-Length: 2¶¶ok", "502"),
    ("octets of another alphabet for a reason", "HTTP/1.1 200 \u{e9}\u{ff}¶Content-Length: 2¶¶ok", "200 ok"),
    ("HTTP/1.0", "HTTP/1.0 200 OK¶Content-Length: 2¶¶ok{close}", "200 ok"),
    ("bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "200 ok"),
    // Fields.
    ("a NUL in a value", "HTTP/1.1 200 OK¶X: a\0b¶Content-Length: 2¶¶ok", "502"),
    ("a NUL in a name", "HTTP/1.1 200 OK¶X\0: a¶Content-Length: 2¶¶ok", "502"),
    ("a bare CR in a value", "HTTP/1.1 200 OK¶X: a\rSet-Cookie: b=c¶Content-Length: 2¶¶ok", "502"),
    ("a line without a colon", "HTTP/1.1 200 OK¶X¶Content-Length: 2¶¶ok", "502"),
    ("no name", "HTTP/1.1 200 OK¶: a¶Content-Length: 2¶¶ok", "502"),
    ("a space before the colon of a length", "HTTP/1.1 200 OK¶Content-Length : 2¶¶ok", "200 ok"),
    ("very many fields", "HTTP/1.1 200 OK¶{fields}Content-Length: 2¶¶ok", "502"),
    ("very large fields", "HTTP/1.1 200 OK¶X: {megabytes}¶Content-Length: 2¶¶ok", "502"),
    (
        "what is between two hops",
        "HTTP/1.1 200 OK¶Connection: X-Secret¶X-Secret: 1¶Keep-Alive: timeout=9¶Upgrade: h2c¶Trailer: X¶Proxy-Authenticate: x¶Content-Length: 2¶¶ok",
        "200 ok",
    ),
    ("half a head", "HTTP/1.1 200 OK¶Content-Le{close}", "502"),
    // Lengths.
    ("two lengths, the same", "HTTP/1.1 200 OK¶Content-Length: 2¶Content-Length: 2¶¶ok", "502"),
    ("two lengths, different", "HTTP/1.1 200 OK¶Content-Length: 2¶Content-Length: 3¶¶ok!", "502"),
    ("a list of lengths", "HTTP/1.1 200 OK¶Content-Length: 2, 2¶¶ok", "502"),
    ("a list of different lengths", "HTTP/1.1 200 OK¶Content-Length: 2, 3¶¶ok!", "502"),
    ("a negative length", "HTTP/1.1 200 OK¶Content-Length: -2¶¶ok", "502"),
    ("a length with a plus", "HTTP/1.1 200 OK¶Content-Length: +2¶¶ok", "502"),
    ("a length in hexadecimal", "HTTP/1.1 200 OK¶Content-Length: 0x2¶¶ok", "502"),
    ("a length in two words", "HTTP/1.1 200 OK¶Content-Length: 2 2¶¶ok", "502"),
    ("an empty length", "HTTP/1.1 200 OK¶Content-Length:¶¶ok{close}", "502"),
    ("a length that is a word", "HTTP/1.1 200 OK¶Content-Length: two¶¶ok", "502"),
    ("a length beyond 64 bits", "HTTP/1.1 200 OK¶Content-Length: 18446744073709551618¶¶ok", "502"),
    ("a length and chunks", "HTTP/1.1 200 OK¶Content-Length: 99¶Transfer-Encoding: chunked¶¶2¶ok¶0¶¶", "200 ok"),
    ("chunks and a length", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶Content-Length: 1¶¶2¶ok¶0¶¶", "200 ok"),
    ("a coding that nobody knows", "HTTP/1.1 200 OK¶Transfer-Encoding: cow¶¶ok{close}", "502"),
    ("a list of codings", "HTTP/1.1 200 OK¶Transfer-Encoding: gzip, chunked¶¶2¶ok¶0¶¶", "502"),
    ("chunked and more", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked, identity¶¶2¶ok¶0¶¶{close}", "502"),
    ("chunked twice", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶Transfer-Encoding: chunked¶¶2¶ok¶0¶¶", "502"),
    ("HTTP/1.0 in chunks", "HTTP/1.0 200 OK¶Transfer-Encoding: chunked¶¶2¶ok¶0¶¶{close}", "502"),
    // Bodies.
    ("until the connection ends", "HTTP/1.1 200 OK¶¶ok{close}", "200 ok"),
    ("shorter than its length", "HTTP/1.1 200 OK¶Content-Length: 5¶¶ok{close}", "cut"),
    ("rubbish for chunks", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶ZZ¶ok¶0¶¶", "cut"),
    ("a negative chunk", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶-2¶ok¶0¶¶", "cut"),
    ("a chunk beyond 64 bits", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶10000000000000002¶ok¶0¶¶", "cut"),
    ("a chunk longer than its size", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶1¶ok¶0¶¶", "cut"),
    ("a chunk with a bare LF", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶2\nok\n0\n\n", "cut"),
    ("chunks without an end", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶2¶ok¶{close}", "cut"),
    ("half a chunk", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶5¶ok{close}", "cut"),
    ("trailers", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶2¶ok¶0¶X-Secret: 1¶Content-Length: 9¶¶", "200 ok"),
    ("an error with rubbish for chunks", "HTTP/1.1 500 Oops¶Transfer-Encoding: chunked¶¶ZZ¶", "500"),
    ("an error shorter than its length", "HTTP/1.1 404 Oops¶Content-Length: 99¶¶{\"message\":\"No.\"}{close}", "404"),
    ("a 204 with a body", "HTTP/1.1 204 No Content¶Content-Length: 2¶¶ok", "204 "),
    ("a 204 with chunks", "HTTP/1.1 204 No Content¶Transfer-Encoding: chunked¶¶2¶ok¶0¶¶", "204 "),
    ("a 304 with a body", "HTTP/1.1 304 Not Modified¶Content-Length: 2¶¶ok", "304 "),
    // More than was asked for.
    ("bytes behind the answer", "HTTP/1.1 200 OK¶Content-Length: 2¶¶okEVIL", "200 ok"),
    (
        "an answer behind the answer",
        "HTTP/1.1 200 OK¶Content-Length: 2¶¶okHTTP/1.1 200 OK¶Content-Length: 4¶¶EVIL",
        "200 ok",
    ),
    (
        "an answer behind chunks",
        "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶2¶ok¶0¶¶HTTP/1.1 200 OK¶Content-Length: 4¶¶EVIL",
        "200 ok",
    ),
    (
        "an answer behind an answer without a body",
        "HTTP/1.1 204 No Content¶¶HTTP/1.1 200 OK¶Content-Length: 4¶¶EVIL",
        "204 ",
    ),
    (
        "an answer behind an error",
        "HTTP/1.1 404 Oops¶Content-Length: 2¶¶{}HTTP/1.1 200 OK¶Content-Length: 4¶¶EVIL",
        "404",
    ),
    (
        "an answer a little later",
        "HTTP/1.1 200 OK¶Content-Length: 2¶¶ok{later}HTTP/1.1 200 OK¶Content-Length: 4¶¶EVIL",
        "200 ok",
    ),
    (
        "a farewell a little later",
        "HTTP/1.1 200 OK¶Content-Length: 2¶¶ok{later}HTTP/1.1 408 Request Timeout¶Content-Length: 4¶Connection: close¶¶EVIL{close}",
        "200 ok",
    ),
    ("one byte a little later", "HTTP/1.1 200 OK¶Content-Length: 2¶¶ok{later}E", "200 ok"),
    ("a close that does not come", "HTTP/1.1 200 OK¶Connection: close¶Content-Length: 2¶¶ok", "200 ok"),
    ("the end a little later", "HTTP/1.1 200 OK¶Content-Length: 2¶¶ok{later}{close}", "200 ok"),
    // Interim answers.
    ("an unasked 101", "HTTP/1.1 101 Switching Protocols¶Connection: Upgrade¶Upgrade: websocket¶¶EVIL", "502"),
    ("an unasked 101 and an answer", "HTTP/1.1 101 Switching Protocols¶¶HTTP/1.1 200 OK¶Content-Length: 2¶¶ok", "502"),
    (
        "some interim answers",
        "{interim}{interim}HTTP/1.1 100 Continue¶¶HTTP/1.1 200 OK¶Content-Length: 2¶¶ok",
        "200 ok",
    ),
    ("very many interim answers", "{flood}HTTP/1.1 200 OK¶Content-Length: 2¶¶ok", "502"),
    ("an interim answer alone", "{interim}{close}", "502"),
    (
        "an interim answer with a body",
        "HTTP/1.1 102 Processing¶Content-Length: 4¶¶EVILHTTP/1.1 200 OK¶Content-Length: 2¶¶ok",
        "502",
    ),
];

/// Rows whose backend goes silent where more is due.
const SLOW: &[Row] = &[
    ("half a head and silence", "HTTP/1.1 200 OK¶X: ", "504"),
    ("an interim answer and silence", "{interim}", "504"),
    ("half a body and silence", "HTTP/1.1 200 OK¶Content-Length: 5¶¶ok", "cut"),
    ("half a chunk and silence", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶5¶ok", "cut"),
    ("half an error and silence", "HTTP/1.1 409 Oops¶Content-Length: 50¶¶{\"mess", "409"),
];

fn octets(text: &str) -> Vec<u8> {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let text = text
        .replace('¶', "\r\n")
        .replace("{interim}", interim)
        .replace("{flood}", &interim.repeat(100))
        .replace("{fields}", &"X: y\r\n".repeat(1000))
        .replace("{megabytes}", &"a".repeat(2 << 20));
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("Latin-1")).collect()
}

/// Plays the row whose number stands in the target, and answers a probe with its own number.
async fn play(mut stream: TcpStream, all: Vec<Row>, told_later: Arc<AtomicUsize>) {
    loop {
        let head = String::from_utf8(read_head(&mut stream).await).unwrap();
        let Some(target) = head.split(' ').nth(1) else { return };
        let number = target.rsplit('/').next().unwrap();
        if target.contains("/probe/") {
            let body = format!("probe {number}");
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let text = all[number.parse::<usize>().unwrap()].1;
        let (text, closes) = text.strip_suffix("{close}").map_or((text, false), |text| (text, true));
        let (first, later) = text.split_once("{later}").map_or((text, None), |(first, later)| (first, Some(later)));
        let _ = stream.write_all(&octets(first)).await;
        if let Some(later) = later {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = stream.write_all(&octets(later)).await;
        }
        if closes {
            let _ = stream.shutdown().await;
        }
        if later.is_some() {
            told_later.fetch_add(1, Ordering::SeqCst);
        }
        if closes {
            return;
        }
    }
}

/// What a row says of an answer: `502`, `200 ok` or `cut`.
fn said(got: &Option<Response>) -> String {
    let Some(got) = got else { return "cut".to_owned() };
    let envelope = StatusCode::from_u16(got.status).map(Envelope::standard).unwrap();
    match got.body == envelope.body {
        true => got.status.to_string(),
        false => format!("{} {}", got.status, got.text()),
    }
}

/// What must never be there, whatever the answer is.
fn assert_clean(name: &str, got: &Response) {
    for hop in ["keep-alive", "upgrade", "trailer", "proxy-authenticate", "x-secret", "set-cookie"] {
        assert_eq!(got.header(hop), None, "{name}");
    }
    assert!(got.header("x-request-id").is_some(), "{name}: {got:?}");
    assert!(got.header("content-length").is_none() || got.header("transfer-encoding").is_none(), "{name}: {got:?}");
}

async fn start(rows: &'static [Row], timeout: &str) -> (Gateway, Arc<AtomicUsize>) {
    let told_later = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told_later);
    let address: SocketAddr = scripted(move |stream| play(stream, rows.to_vec(), Arc::clone(&counter))).await;
    // Two upstreams of one server share its connections; the second is patient, whatever the machine has to do besides.
    let sections = format!(
        "{AUTH}\nupstreams:\n  hostile: {{servers: [\"{address}\"], timeouts: {{connect: 5s, response: {timeout}}}}}\n  patient: {{servers: [\"{address}\"], timeouts: {{connect: 5s, response: 20s}}}}\nroutes:\n  row: {{path: /row/**, access: public, limit: none, upstream: hostile}}\n  probe: {{path: /probe/**, access: public, limit: none, upstream: patient}}\n"
    );
    (Gateway::start(&config(&sections)).await, told_later)
}

async fn play_all(rows: &'static [Row], timeout: &str) {
    let (gateway, told_later) = start(rows, timeout).await;
    let mut different = Vec::new();
    for (number, (name, text, expected)) in rows.iter().enumerate() {
        for method in ["GET", "POST", "HEAD"] {
            let request = format!("{method} /api/v1/row/{number} HTTP/1.1\r\nHost: x\r\n\r\n");
            let before = told_later.load(Ordering::SeqCst);
            let mut connection = Connection::open(gateway.address).await;
            let got = connection.request(&request).await;
            got.iter().for_each(|got| assert_clean(name, got));
            // To a HEAD there is a head and no more, whatever the backend sent behind its own.
            let is_right = if method == "HEAD" { got.is_some() } else { said(&got) == *expected };
            if !is_right {
                different.push(format!("{name} by {method}: {}, not {expected}", said(&got)));
            }
            if text.contains("{later}") {
                wait_for("the backend", || async { (told_later.load(Ordering::SeqCst) > before).then_some(()) }).await;
            }
            for turn in 0..2 {
                let probe = format!("GET /api/v1/probe/{number}{turn} HTTP/1.1\r\nHost: x\r\n\r\n");
                let next = gateway.send(&probe).await;
                assert_eq!(
                    (next.status, next.text()),
                    (200, format!("probe {number}{turn}")),
                    "after {name} by {method}"
                );
            }
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}

#[tokio::test]
async fn whatever_a_backend_writes_the_client_gets_a_clean_answer_and_so_does_the_next() {
    play_all(ROWS, "20s").await;
}

#[tokio::test]
async fn a_backend_that_goes_silent_costs_its_own_request_alone() {
    play_all(SLOW, "300ms").await;
}
