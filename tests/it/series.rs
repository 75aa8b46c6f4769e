//! No client can make the metrics grow: a hundred thousand tokens and paths, and not one series more.

use std::net::SocketAddr;
use std::ops::Range;

use crate::harness::backend::Backend;
use crate::harness::client::Connection;
use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::token::{opaque, token};

/// Requests of every kind, and how many are written before their answers are read.
const REQUESTS: usize = 100_000;
const AT_ONCE: usize = 50;
const CONNECTIONS: usize = 4;

/// The `n`th request, unlike all others in its token, its path, its id and, now and then, its method; and what it is answered with.
fn request(n: usize) -> (String, u16) {
    let (target, token, status) = match n % 8 {
        0 => (format!("GET /api/v1/contacts/{n}"), token(&format!("w{n}"), "contacts"), 200),
        1 => (format!("GET /api/v1/contacts/f{n}"), token(&format!("w{n}"), "ai"), 403),
        2 | 3 => (format!("GET /api/v1/contacts/u{n}"), opaque(&format!("{n}x")), 401),
        4 => (format!("GET /api/v1/contacts/m{n}"), format!("mb_{n}"), 401),
        5 => (format!("BREW{n} /api/v1/contacts/b{n}"), opaque(&format!("{n}x")), 405),
        6 => (format!("GET /api/v1/%2f{n}"), opaque(&format!("{n}x")), 400),
        _ => (format!("GET /api/v1/x{n}/{n}"), opaque(&format!("{n}x")), 404),
    };
    let fields = format!("Host: h{n}\r\nX-Request-Id: r{n}\r\nUser-Agent: a{n}\r\nAuthorization: Bearer {token}");
    (format!("{target} HTTP/1.1\r\n{fields}\r\n\r\n"), status)
}

/// Sends these requests on one connection, many at a time.
async fn send(gateway: SocketAddr, numbers: Range<usize>) {
    let mut connection = Connection::open(gateway).await;
    let numbers: Vec<usize> = numbers.collect();
    for numbers in numbers.chunks(AT_ONCE) {
        let (requests, statuses): (Vec<_>, Vec<_>) = numbers.iter().map(|n| request(*n)).unzip();
        connection.write(requests.concat().as_bytes()).await;
        for (request, status) in requests.iter().zip(statuses) {
            let answer = connection.read(request.as_bytes()).await.expect("an answer");
            assert_eq!(answer.status, status, "{request}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_tokens_and_paths_make_no_series_more() {
    let backend = Backend::start().await;
    let auth = "auth:\n  failures: {per_minute: 0}\n  look_ups: {per_second: 1000000, in_flight: 1000}";
    let config = simple(&[backend.address], "", CONTACTS).replace("auth:", auth);
    let config = config.replace("[contacts]", "[contacts, ai]");
    let gateway = Gateway::start(&config).await;
    // A hundred thousand lines are not what this is about.
    std::fs::write(gateway.config_path(), format!("observability: {{log: {{level: error}}}}\n{config}")).unwrap();
    gateway.signal("HUP");
    // Names and labels without values, and how often a request was counted.
    let metrics = async || {
        let text = gateway.admin("/metrics").await.text();
        let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap());
        let requests = series.clone().filter(|(name, _)| name.starts_with("gateway_requests_total{"));
        let requests: f64 = requests.map(|(_, value)| value.parse::<f64>().unwrap()).sum();
        (series.map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), requests)
    };
    // One of each kind makes the series that there are.
    send(gateway.address, 0..8).await;
    let (before, _) = metrics().await;
    let share = REQUESTS / CONNECTIONS;
    let parts = (0..CONNECTIONS).map(|part| 8 + part * share..8 + (part + 1) * share);
    let sending: Vec<_> = parts.map(|part| tokio::spawn(send(gateway.address, part))).collect();
    for part in sending {
        part.await.unwrap();
    }
    let (after, requests) = metrics().await;
    assert_eq!(requests, (8 + REQUESTS) as f64);
    let more: Vec<&String> = after.iter().filter(|series| !before.contains(series)).take(5).collect();
    assert_eq!((after.len(), more), (before.len(), vec![]), "the number of series, and some that are new");
}
