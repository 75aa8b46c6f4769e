//! Errors of backends, each with the exact answer that a client gets for it: `tests/it/golden/errors.txt`, which is meant to be read.
//!
//! A case is a title, the request (a method, a route, and fields of its own on lines of their own), the backend's bytes and the
//! client's, in that order. Line ends of heads are CRLF on the wire; a body is what stands there without the last line end, or the
//! octets of `base64:`. The backend's `Content-Length` is counted where there is neither one nor a `Transfer-Encoding`, and a chunked
//! body is cut into chunks of seven octets; `Connection: close` without a length means that the end of the connection ends the body.
//! Of the client's answer, `Date` is left out, and digits that time makes are `#`. `GOLDEN=write` writes what is, to be looked at.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt;

use crate::harness::backend::{read_head, scripted};
use crate::harness::client::Connection;
use crate::harness::gateway::{Gateway, simple};
use crate::harness::token::token;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/errors.txt");
const TITLE: &str = "======== ";
const BACKEND: &str = "-------- backend\n";
const CLIENT: &str = "-------- client\n";

struct Case {
    title: String,
    request: String,
    backend: String,
    client: String,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(FILE).unwrap();
    let cases = text.split(TITLE).skip(1).map(|case| {
        let (title, rest) = case.split_once('\n').unwrap();
        let (request, rest) = rest.split_once(BACKEND).unwrap();
        let (backend, client) = rest.split_once(CLIENT).unwrap();
        let [title, request, backend, client] = [title, request.trim(), backend, client].map(str::to_owned);
        Case { title, request, backend, client }
    });
    cases.collect()
}

/// The bytes of the backend's answer.
fn wire(written: &str) -> Vec<u8> {
    if written.starts_with("HTTP/1.1 1") {
        let (interim, rest) = written.split_once("\n\n").unwrap();
        return [interim.replace('\n', "\r\n").into_bytes(), b"\r\n\r\n".to_vec(), wire(rest)].concat();
    }
    let (head, body) = written.split_once("\n\n").unwrap();
    let body = body.strip_suffix('\n').unwrap_or(body);
    let body = match body.strip_prefix("base64:") {
        Some(text) => STANDARD.decode(text.trim()).unwrap(),
        None => body.as_bytes().to_vec(),
    };
    let lower = head.to_lowercase();
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    let is_framed =
        lower.contains("\ncontent-length:") || lower.contains("\nconnection: close") || matches!(status, 204 | 304);
    let mut bytes = head.replace('\n', "\r\n").into_bytes();
    let body = match lower.contains("\ntransfer-encoding: chunked") {
        true => {
            let mut framed: Vec<u8> = body
                .chunks(7)
                .flat_map(|chunk| {
                    [format!("{:x}\r\n", chunk.len()).into_bytes(), chunk.to_vec(), b"\r\n".to_vec()].concat()
                })
                .collect();
            framed.extend(b"0\r\n\r\n");
            framed
        }
        false => {
            if !is_framed {
                bytes.extend(format!("\r\nContent-Length: {}", body.len()).into_bytes());
            }
            body
        }
    };
    bytes.extend(b"\r\n\r\n");
    bytes.extend(body);
    bytes
}

/// What the client was sent, as it stands in the file.
async fn answer(gateway: &Gateway, number: usize, request: &str) -> String {
    let (line, fields) = request.split_once('\n').unwrap_or((request, ""));
    let (method, route) = line.split_once(' ').unwrap();
    let fields: String = fields.lines().map(|field| format!("{field}\r\n")).collect();
    let head = format!(
        "{method} /api/v1/{route}/{number} HTTP/1.1\r\nHost: x\r\nX-Request-Id: golden\r\n{fields}Authorization: Bearer {}\r\n\r\n",
        token("w", "contacts")
    );
    let mut connection = Connection::open(gateway.address).await;
    connection.write(head.as_bytes()).await;
    let mut written = String::new();
    let Some(got) = connection.read(head.as_bytes()).await else { return "(cut)\n".to_owned() };
    written.push_str(&format!("{}\n", got.status));
    for (name, value) in &got.headers {
        let name = name.to_lowercase();
        let value = match name.as_str() {
            "date" => continue,
            "x-ratelimit-remaining" | "x-ratelimit-reset" => "#",
            _ => value,
        };
        written.push_str(&format!("{name}: {value}\n"));
    }
    let body = String::from_utf8(got.body.clone()).unwrap_or_else(|_| format!("base64:{}", STANDARD.encode(&got.body)));
    written.push_str(&format!("\n{body}\n"));
    let probe = "GET /api/v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n";
    let next = connection.request(probe).await.map(|answer| answer.status);
    assert_eq!(next, Some(404), "the connection is out of step after {written}");
    written
}

#[tokio::test]
async fn every_error_of_a_backend_has_its_answer() {
    let cases = Arc::new(cases());
    assert!(cases.len() >= 80);
    let script = Arc::clone(&cases);
    let backend = scripted(move |mut stream| {
        let cases = Arc::clone(&script);
        async move {
            loop {
                let head = String::from_utf8(read_head(&mut stream).await).unwrap();
                let target = head.split(' ').nth(1).unwrap_or_default();
                let Some(number) = target.rsplit('/').next().and_then(|number| number.parse::<usize>().ok()) else {
                    return;
                };
                let written = &cases[number].backend;
                if stream.write_all(&wire(written)).await.is_err()
                    || written.to_lowercase().contains("\nconnection: close")
                {
                    return;
                }
            }
        }
    })
    .await;
    let routes = "  c: {path: /c/**, scope: contacts, limit: none, upstream: main}\n  limited: {path: /limited/**, scope: contacts, upstream: main}\n  open: {path: /open/**, access: public, limit: none, upstream: main}\n";
    let config = simple(&[backend], "general: {requests: 100000, per: 1m}", routes);
    let gateway = Gateway::start(&format!("errors: {{body_bytes: 4KiB}}\n{config}")).await;
    let mut is = String::new();
    let mut different = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let client = answer(&gateway, number, &case.request).await;
        is.push_str(&format!("{TITLE}{}\n{}\n{BACKEND}{}{CLIENT}{client}", case.title, case.request, case.backend));
        if client.trim_end() != case.client.trim_end() {
            different.push(format!("{}\n--- expected\n{}--- is\n{client}", case.title, case.client));
        }
        is.push('\n');
    }
    if std::env::var("GOLDEN").is_ok_and(|word| word == "write") {
        std::fs::write(FILE, is.trim_end().to_owned() + "\n").unwrap();
        return;
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
