//! What is done again and again leaves nothing behind, and what has begun is finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::backend::{Backend, Recorded, json, read_head, scripted};
use crate::harness::client::Connection;
use crate::harness::crowd::Crowd;
use crate::harness::footprint::Footprint;
use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::token::token;
use crate::harness::wait_for;
use crate::reloading::reload;

/// Reloads a running gateway so often, each time into something else, under load that must not notice. What it held after a tenth of
/// the reloads, and at the end.
async fn reloaded(times: usize) -> (Footprint, Footprint) {
    let backend = Backend::answering(|request: &Recorded| json(200, &request.target)).await;
    // Pools, limits, the identifier and routes are made anew, or are not, or the file is broken.
    let config = simple(&[backend.address], "contacts: {requests: 1000000, per: 1m}", CONTACTS);
    let limited = config.replace("limit: none", "limit: contacts");
    let variants = [
        config.clone(),
        config.replace("response: 2s", "response: 3s, total: 20s"),
        limited.replace("audience: mailtrixy-api", "audience: mailtrixy-api, leeway: 31s"),
        format!("{limited}\ntrusted_proxies: [10.0.0.0/8]\n"),
        config.replace("main: {", "main: {health: {path: /up, every: 50ms, timeout: 1s}, "),
        config.replace("scope: contacts", "scope: contcts"),
    ];
    let gateway = Gateway::start(&config).await;
    let crowd = Crowd::start(gateway.address, 4, "GET", Duration::from_millis(5));
    let mut early = gateway.footprint();
    for round in 1..=times {
        reload(&gateway, &variants[round % variants.len()], round).await;
        if round == times / 10 {
            early = gateway.footprint();
        }
    }
    let late = gateway.footprint();
    let tally = crowd.end().await;
    assert_eq!(tally.failed(), 0, "{}", tally.summary());
    assert!(tally.good() > times / 10, "{}", tally.summary());
    (early, late)
}

fn assert_flat((early, late): (Footprint, Footprint)) {
    assert_eq!(late.threads, early.threads, "{early:?} {late:?}");
    // A check of a server may be on its way at either moment.
    assert!(late.files <= early.files + 4, "{early:?} {late:?}");
    assert!(late.resident <= early.resident + (4 << 10), "{early:?} {late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_under_load_cost_no_request_and_leave_nothing_behind() {
    assert_flat(reloaded(1_000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some minutes and prints what it finds"]
async fn ten_thousand_reloads_under_load_cost_no_request_and_leave_nothing_behind() {
    let (early, late) = reloaded(10_000).await;
    println!("after 1,000 reloads:  {early:?}\nafter 10,000 reloads: {late:?}");
    assert_flat((early, late));
}

/// A backend that answers an upload with its length, and everything else with words without end.
async fn patient(words: Arc<AtomicUsize>) -> std::net::SocketAddr {
    scripted(move |mut stream| {
        let words = Arc::clone(&words);
        async move {
            let head = String::from_utf8(read_head(&mut stream).await).unwrap();
            let (fields, begun) = head.split_once("\r\n\r\n").unwrap();
            let length =
                fields.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if let Some(length) = length {
                let length: usize = length;
                stream.read_exact(&mut vec![0; length - begun.len()]).await.unwrap();
                let text = length.to_string();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                return drop(stream.write_all(answer.as_bytes()).await);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            while stream.write_all(b"5\r\nword \r\n").await.is_ok() {
                words.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn sigterm_lets_uploads_come_to_their_end_and_ends_streams_when_the_grace_is_over() {
    let words = Arc::new(AtomicUsize::new(0));
    let backend = patient(Arc::clone(&words)).await;
    let routes = CONTACTS.replace("upstream: main}", "upstream: main, streaming: true}");
    let mut gateway = Gateway::start(&format!("shutdown: {{grace: 2s}}\n{}", simple(&[backend], "", &routes))).await;
    let token = token("w", "contacts");
    let head = |method: &str, more: &str| {
        format!("{method} /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
    };
    let half = vec![b'x'; 500_000];
    let (mut uploads, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut upload = Connection::open(gateway.address).await;
        upload.write(head("POST", "Content-Length: 1000000\r\n").as_bytes()).await;
        upload.write(&half).await;
        uploads.push(upload);
        let mut stream = Connection::open(gateway.address).await;
        stream.write(head("GET", "").as_bytes()).await;
        assert_eq!(stream.head().await.unwrap().status, 200);
        streams.push(stream);
    }
    gateway.signal("TERM");
    wait_for("draining", async || (gateway.admin("/readyz").await.status == 503).then_some(())).await;
    for upload in &mut uploads {
        upload.write(&half).await;
        let answer = upload.read(b"POST").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "1000000"));
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let before = words.load(Ordering::SeqCst);
    wait_for("more words", || std::future::ready((words.load(Ordering::SeqCst) > before + 8).then_some(()))).await;
    for stream in &mut streams {
        while let Some(chunk) = stream.chunk().await {
            assert!(!chunk.is_empty(), "a stream that has not come to its end must not look as if it had");
        }
    }
    assert!(gateway.ended().await.success());
}
