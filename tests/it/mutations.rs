//! Requests in which anything may have been changed, sent to a running gateway: it lives on, answers in HTTP or not at all, and whatever
//! a backend is sent is one well-formed request of an authorised caller.
//!
//! A few thousand of them in every run; `MUTATED_REQUESTS=1000000` sends as many as that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::backend::scripted;
use crate::harness::client::send;
use crate::harness::gateway::{Gateway, simple};
use crate::harness::message::Message;
use crate::harness::token::token;

/// So many connections are under way at a time, each with requests that follow each other.
const AT_A_TIME: usize = 64;
/// What is put in somewhere.
const WORDS: [&str; 36] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    "\0",
    ";",
    ",",
    "\u{7f}",
    "\u{c3}\u{bf}",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "ffffffffffffffff\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 99999\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: x\r\n",
    "Host: y\r\n",
    "Connection: close\r\n",
    "Connection: x-user-id\r\n",
    "X-User-Id: 1\r\n",
    "X_User_Id: 1\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\n",
    "Upgrade: h2c\r\n",
    "HTTP/1.0",
    "HTTP/1.1",
    "GET ",
    "POST ",
    "/../",
    "%2e%2e/",
    "http://x/",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// A backend that reads strictly, and notes what it could not read.
#[derive(Clone, Default)]
struct Reader {
    read: Arc<AtomicUsize>,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Reader {
    async fn serve(self, mut stream: TcpStream) {
        let Ok(address) = stream.local_addr() else { return };
        let (mut octets, mut piece) = (Vec::new(), [0; 8192]);
        while let Ok(length @ 1..) = stream.read(&mut piece).await {
            octets.extend_from_slice(&piece[..length]);
            while let Some((message, rest)) = Message::first(&octets) {
                message.assert_clean(address);
                let path = message.target.split('?').next().unwrap_or_default();
                assert!(path == "/c" || path.starts_with("/c/"), "{}", message.target);
                octets = rest.to_vec();
                self.read.fetch_add(1, Ordering::Relaxed);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn seeds() -> Vec<String> {
    let head = format!("Host: x\r\nAuthorization: Bearer {}\r\n", token("w", "contacts"));
    vec![
        format!("GET /c/1?page=2 HTTP/1.1\r\n{head}Accept: */*\r\nUser-Agent: x\r\n\r\n"),
        format!("POST /c/2 HTTP/1.1\r\n{head}Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"),
        format!("PUT /c/3 HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nyou\r\n0\r\n\r\n"),
        format!("HEAD /c/4/ HTTP/1.1\r\n{head}Cookie: a=b\r\nConnection: keep-alive\r\n\r\n"),
        format!("GET /c//5/./%7e HTTP/1.0\r\n{head}Connection: keep-alive\r\n\r\n"),
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
    ]
}

/// Some requests, one behind the other, with changes; and one behind them that ends the connection, if it is seen as one.
fn mutated(seeds: &[String], requests: usize, random: &mut Rng) -> Vec<u8> {
    let mut octets = Vec::new();
    for _ in 0..requests {
        octets.extend_from_slice(seeds[random.usize(..seeds.len())].as_bytes());
    }
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=octets.len());
        let end = (at + random.usize(..8)).min(octets.len());
        match random.u8(..4) {
            0 => drop(octets.splice(at..at, WORDS[random.usize(..WORDS.len())].bytes())),
            1 => drop(octets.splice(at..end, WORDS[random.usize(..WORDS.len())].bytes())),
            2 => drop(octets.splice(at..end, [])),
            _ => octets[at..end].iter_mut().for_each(|octet| *octet ^= 1 << random.u8(..8)),
        }
    }
    octets.extend_from_slice(b"\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    octets
}

/// Sends octets and reads to the end of the connection. A gateway may close before it was sent everything.
async fn exchange(address: std::net::SocketAddr, octets: Vec<u8>) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("a gateway that listens");
    let (mut read, mut answers) = (Vec::new(), [0; 8192]);
    let _ = stream.write_all(&octets).await;
    while let Ok(length @ 1..) = stream.read(&mut answers).await {
        read.extend_from_slice(&answers[..length]);
    }
    read
}

/// Every answer has a status line, and nothing else has come but a 101 that nobody asked for.
fn assert_answers(octets: &[u8]) {
    let mut rest = octets;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 "), "{:?}", String::from_utf8_lossy(rest));
    while let Some(at) = rest.windows(9).position(|window| window == b"HTTP/1.1 ") {
        rest = &rest[at + 9..];
        let status: u16 = std::str::from_utf8(&rest[..3]).unwrap().parse().expect("a status");
        assert!((100..600).contains(&status) && status != 101 && status != 500, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_changed_in_requests_the_gateway_lives_on_and_backends_are_sent_requests() {
    let wanted: usize = std::env::var("MUTATED_REQUESTS").map_or(4_000, |count| count.parse().expect("a number"));
    let reader = Reader::default();
    let (serving, complaints) = (reader.clone(), Arc::clone(&reader.complaints));
    let backend = scripted(move |stream| {
        let (served, complaints) = (tokio::spawn(serving.clone().serve(stream)), Arc::clone(&complaints));
        async move {
            if let Err(error) = served.await {
                complaints.lock().unwrap().push(error.to_string());
            }
        }
    })
    .await;
    let routes = "  c: {path: /c/**, methods: [GET, POST, PUT], scope: contacts, limit: none, upstream: main}\n";
    let config = simple(&[backend], "", routes).replace("base_path: /api/v1\n", "");
    let short = "request: {header_timeout: 300ms, body_timeout: 300ms}\n";
    let gateway = Gateway::start(&format!("{short}{config}")).await;
    let (address, sent) = (gateway.address, Arc::new(AtomicUsize::new(0)));
    let senders: Vec<_> = (0..AT_A_TIME as u64)
        .map(|number| {
            let (sent, seeds) = (Arc::clone(&sent), seeds());
            tokio::spawn(async move {
                let mut random = Rng::with_seed(number);
                let mut requests = random.usize(1..4);
                while sent.fetch_add(requests, Ordering::Relaxed) < wanted {
                    assert_answers(&exchange(address, mutated(&seeds, requests, &mut random)).await);
                    requests = random.usize(1..4);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(*reader.complaints.lock().unwrap(), Vec::<String>::new());
    let read = reader.read.load(Ordering::Relaxed);
    assert!(read > wanted / 10, "of {wanted} requests {read} arrived");
    assert_eq!(send(address, seeds()[0].as_bytes()).await.status, 200);
    assert!(!gateway.output().contains("panicked"));
}
