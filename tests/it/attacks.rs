//! Measures what attacks cost ordinary clients: `cargo nextest run --release --run-ignored only attacks --no-capture -j 1`.
//!
//! Ten clients send a request every ten milliseconds each, for as long as an attack lasts, and are served by a good backend. Attackers
//! have a thread of their own, on the same machine, and begin again whenever they are thrown out. Each attack meets a new gateway.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::harness::backend::{Backend, Recorded, json};
use crate::harness::crowd::Crowd;
use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::http2::{
    CONTINUATION, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
    get_block,
};
use crate::harness::token::token;

const LASTS: Duration = Duration::from_secs(8);
/// From the end of an attack to when memory is looked at again.
const REST: Duration = Duration::from_secs(3);
/// Between two octets of those who are slow.
const SLOWLY: Duration = Duration::from_millis(500);

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
type Attack = fn(SocketAddr) -> Running;

const ATTACKS: [(&str, Attack); 14] = [
    ("none", |_| Box::pin(std::future::pending())),
    ("500 heads, an octet each half second", |to| many(500, move || slow_head(to))),
    ("500 bodies, an octet each half second", |to| many(500, move || slow_body(to))),
    ("200 readers of 1 MiB that do not read", |to| many(200, move || no_reader(to))),
    ("1,000 connections that say nothing", |to| many(1000, move || idle(to))),
    ("1,000 connections, a request a second each", |to| many(1000, move || leisurely(to))),
    ("heads of 15 KiB, as many as can be sent", |to| many(8, move || large_heads(to))),
    ("refusals, as many as can be had", |to| many(8, move || refusals(to))),
    ("HTTP/2 rapid reset", |to| many(4, move || rapid_reset(to))),
    ("MadeYouReset", |to| many(4, move || made_you_reset(to))),
    ("CONTINUATION flood", |to| many(4, move || continuation(to))),
    ("HPACK bomb", |to| many(4, move || header_bomb(to))),
    ("SETTINGS and PING flood", |to| many(4, move || pings(to))),
    ("2,000 HTTP/2 streams of 1 MiB without a window", |to| many(20, move || no_window(to))),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "measures"]
async fn attacks_and_what_ordinary_clients_notice() {
    println!("| attack | requests | p50 ms | p99 ms | max ms | failed | MiB before | peak | after |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, attack) in ATTACKS {
        println!("| {name} | {}", under(attack).await);
    }
}

/// The rest of one line of the table.
async fn under(attack: Attack) -> String {
    let big = "x".repeat(1 << 20);
    let backend = Backend::answering(move |request: &Recorded| match request.target.as_str() {
        "/api/v1/big" => json(200, &big),
        target => json(200, target),
    })
    .await;
    let routes = format!("{CONTACTS}  big: {{path: /big, scope: contacts, limit: none, upstream: main}}\n");
    let listeners = "listeners: [{address: \"127.0.0.1:0\", http2: cleartext}]";
    let config = simple(&[backend.address], "", &routes).replace("listeners: [{address: \"127.0.0.1:0\"}]", listeners);
    let gateway = Gateway::start(&config).await;
    let ordinary = || Crowd::start(gateway.address, 10, "GET", Duration::from_millis(10));
    let crowd = ordinary();
    crowd.more(1000).await;
    crowd.end().await;
    let before = gateway.footprint().resident;
    let attackers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let running = attackers.spawn(attack(gateway.address));
    let crowd = ordinary();
    sleep(LASTS).await;
    let tally = crowd.end().await;
    let peak = gateway.footprint().peak;
    running.abort();
    attackers.shutdown_background();
    sleep(REST).await;
    let after = gateway.footprint().resident;
    let mut waits = tally.waits.clone();
    waits.sort();
    let at = |part: usize| waits[(waits.len() - 1) * part / 1000].as_secs_f64() * 1e3;
    let [before, peak, after] = [before, peak, after].map(|kib| kib as f64 / 1024.0);
    let (count, failed) = (waits.len(), tally.failed());
    let [p50, p99, max] = [500, 990, 1000].map(at);
    format!("{count} | {p50:.1} | {p99:.1} | {max:.1} | {failed} | {before:.1} | {peak:.1} | {after:.1} |")
}

/// So many attackers, each of whom begins again when it is thrown out.
fn many<F>(count: usize, attacker: impl Fn() -> F + Send + Sync + 'static) -> Running
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    Box::pin(async move {
        let mut attackers = JoinSet::new();
        for _ in 0..count {
            attackers.spawn(attacker());
        }
        while attackers.join_next().await.is_some() {
            sleep(Duration::from_millis(5)).await;
            attackers.spawn(attacker());
        }
    })
}

fn head(method: &str, path: &str, more: &str) -> String {
    let token = token("attacker", "contacts");
    format!("{method} /api/v1/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
}

/// Reads until the other side closes.
async fn drain(stream: &mut TcpStream) -> Option<()> {
    let mut chunk = [0; 16 << 10];
    while stream.read(&mut chunk).await.ok()? > 0 {}
    None
}

async fn slow_head(to: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(to).await.ok()?;
    for octet in head("GET", "contacts", "").bytes() {
        stream.write_all(&[octet]).await.ok()?;
        sleep(SLOWLY).await;
    }
    drain(&mut stream).await
}

async fn slow_body(to: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(to).await.ok()?;
    stream.write_all(head("POST", "contacts", "Content-Length: 1000000\r\n").as_bytes()).await.ok()?;
    loop {
        stream.write_all(b"x").await.ok()?;
        sleep(SLOWLY).await;
    }
}

async fn no_reader(to: SocketAddr) -> Option<()> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.set_recv_buffer_size(4 << 10).ok()?;
    let mut stream = socket.connect(to).await.ok()?;
    stream.write_all(head("GET", "big", "").as_bytes()).await.ok()?;
    std::future::pending().await
}

async fn idle(to: SocketAddr) -> Option<()> {
    drain(&mut TcpStream::connect(to).await.ok()?).await
}

async fn leisurely(to: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(to).await.ok()?;
    let (request, mut answer) = (head("GET", "contacts", ""), [0; 4 << 10]);
    loop {
        stream.write_all(request.as_bytes()).await.ok()?;
        stream.read(&mut answer).await.ok().filter(|length| *length > 0)?;
        sleep(Duration::from_secs(1)).await;
    }
}

async fn large_heads(to: SocketAddr) -> Option<()> {
    let fields: String = (0..80).map(|n| format!("X-Field-{n}: {}\r\n", "y".repeat(170))).collect();
    repeat(to, head("GET", "nothing", &fields)).await
}

async fn refusals(to: SocketAddr) -> Option<()> {
    let field = "Authorization: Bearer mb_nonsense";
    repeat(to, format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n")).await
}

async fn repeat(to: SocketAddr, request: String) -> Option<()> {
    let mut stream = TcpStream::connect(to).await.ok()?;
    let mut answer = [0; 4 << 10];
    loop {
        stream.write_all(request.as_bytes()).await.ok()?;
        stream.read(&mut answer).await.ok().filter(|length| *length > 0)?;
    }
}

/// One stream after the other, each opened by a request and followed by what `then` makes of its number, until thrown out.
async fn streams(to: SocketAddr, then: fn(u32) -> Vec<u8>) -> Option<()> {
    let mut frames = Frames::connect(to).await;
    let fields = get_block("/api/v1/contacts", &token("attacker", "contacts"));
    for stream in (1..200_000).step_by(2) {
        let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields);
        frames.send_all(&[request, then(stream)].concat()).await.then_some(())?;
    }
    None
}

async fn rapid_reset(to: SocketAddr) -> Option<()> {
    streams(to, |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await
}

async fn made_you_reset(to: SocketAddr) -> Option<()> {
    streams(to, |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())).await
}

async fn continuation(to: SocketAddr) -> Option<()> {
    let mut frames = Frames::connect(to).await;
    frames.send(HEADERS, 0, 1, &get_block("/api/v1/contacts", "t")).await.then_some(())?;
    let more = frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(1000))]));
    while frames.send_all(&more).await {}
    None
}

async fn header_bomb(to: SocketAddr) -> Option<()> {
    let mut frames = Frames::connect(to).await;
    // One large field is put into the table and then named again and again, an octet each time (RFC 7541 sections 6.1 and 6.2.1).
    let mut bomb = get_block("/api/v1/contacts", "t");
    let mut large = block(&[("x", &"y".repeat(3000))]);
    large[0] = 0x40;
    bomb.extend(large);
    bomb.extend([0x80 | 62; 12_000]);
    for stream in (1..200_000).step_by(2) {
        frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &bomb).await.then_some(())?;
    }
    None
}

async fn pings(to: SocketAddr) -> Option<()> {
    let mut frames = Frames::connect(to).await;
    let both = [frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[0; 8])].concat().repeat(50);
    while frames.send_all(&both).await {}
    None
}

async fn no_window(to: SocketAddr) -> Option<()> {
    let mut frames = Frames::connect(to).await;
    // SETTINGS_INITIAL_WINDOW_SIZE (4) is 0.
    frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await.then_some(())?;
    let fields = get_block("/api/v1/big", &token("attacker", "contacts"));
    for stream in (1..200).step_by(2) {
        frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &fields).await.then_some(())?;
    }
    while frames.next().await.is_some() {}
    None
}
