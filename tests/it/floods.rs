//! What tokens that nobody knows can cost the stores, and what they cannot cost anybody else: case 28 of the research.

use std::cell::Cell;

use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::harness::backend::{Backend, read_head, scripted};
use crate::harness::client::{Connection, Response};
use crate::harness::gateway::{CONTACTS, Gateway, config, with_redis};
use crate::harness::redis::Redis;
use crate::harness::token::opaque;
use crate::harness::wait_for;

fn get(token: &str) -> String {
    format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
}

/// A GET from a client at `address`, of whom a trusted proxy tells.
async fn from(gateway: &Gateway, address: &str, token: &str) -> Response {
    let fields = format!("Host: x\r\nX-Forwarded-For: {address}\r\nAuthorization: Bearer {token}\r\n");
    gateway.send(&format!("GET /api/v1/contacts HTTP/1.1\r\n{fields}\r\n")).await
}

#[tokio::test]
async fn case_28_a_flood_of_unknown_tokens_costs_the_store_no_more_than_its_budget_and_known_tokens_nothing() {
    const FLOOD: usize = 3000;
    const A_SECOND: u64 = 50;
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let budget = format!(
        "  look_ups: {{per_second: {A_SECOND}, in_flight: 8}}\n  failures: {{per_minute: 0}}\n  cache: {{ttl: 1h}}"
    );
    let gateway = Gateway::start(&with_redis(&redis, &[backend.address], &budget)).await;
    let known = opaque("known");
    redis.write_token(&known, "7", &[]).await;
    let began = Instant::now();
    assert_eq!(gateway.get("/api/v1/contacts", &known).await.status, 200);
    let is_over = Cell::new(0);
    let flood = async |part: usize| {
        let mut connection = Connection::open(gateway.address).await;
        let mut refused = 0;
        for number in 0..FLOOD / 4 {
            let answer = connection.request(&get(&opaque(&format!("flood{part}x{number}x")))).await.unwrap();
            match answer.status {
                401 => {}
                503 => {
                    assert_eq!(answer.number("retry-after"), 1);
                    refused += 1;
                }
                other => panic!("{other}"),
            }
        }
        is_over.set(is_over.get() + 1);
        refused
    };
    let customer = async {
        let mut connection = Connection::open(gateway.address).await;
        let mut served = 0;
        while is_over.get() < 4 {
            assert_eq!(connection.request(&get(&known)).await.unwrap().status, 200);
            served += 1;
        }
        served
    };
    let (served, a, b, c, d) = tokio::join!(customer, flood(0), flood(1), flood(2), flood(3));
    let look_ups = redis.calls("hgetall").await;
    let bound = A_SECOND * (began.elapsed().as_secs() + 2);
    assert!((1..=bound).contains(&look_ups), "{look_ups} look-ups, {bound} allowed");
    assert_eq!(look_ups + a + b + c + d, FLOOD as u64 + 1, "whoever was not looked up was told that nobody knows");
    // A refusal has one hop, the customer's request two.
    assert!(served > FLOOD / 20, "{served}");
    assert_eq!(
        gateway.metric(r#"gateway_refusals_total{code="SERVER_ERROR",reason="look_up_budget",route="contacts"}"#).await,
        (a + b + c + d) as f64
    );
}

#[tokio::test]
async fn case_28_an_address_with_too_many_unknown_tokens_learns_nothing_more_and_known_tokens_go_on() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let auth = "  failures: {per_minute: 3}\n  cache: {ttl: 1h, negative_ttl: 1h}";
    let text = with_redis(&redis, &[backend.address], auth) + "\ntrusted_proxies: [127.0.0.1/32]\n";
    let gateway = Gateway::start(&text).await;
    let (known, new, other) = (opaque("known"), opaque("new"), opaque("other"));
    for (token, id) in [(&known, "7"), (&new, "8"), (&other, "9")] {
        redis.write_token(token, id, &[]).await;
    }
    let (guilty, neighbour) = ("192.0.2.1", "192.0.2.2");
    assert_eq!(from(&gateway, guilty, &known).await.status, 200);
    for number in 0..3 {
        assert_eq!(from(&gateway, guilty, &opaque(&format!("guess{number}"))).await.status, 401);
    }
    let look_ups = redis.calls("hgetall").await;
    let (unknown, valid) = (from(&gateway, guilty, &opaque("guess4")).await, from(&gateway, guilty, &new).await);
    for answer in [&unknown, &valid] {
        answer.assert_envelope(429, "RATE_LIMITED", "Rate limit exceeded, retry after the specified window.");
        assert!((1..=60).contains(&answer.number("retry-after")));
    }
    let names = |answer: &Response| answer.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&unknown), names(&valid), "nothing tells a token that exists from one that does not");
    assert_eq!(redis.calls("hgetall").await, look_ups, "nobody was asked");
    assert_eq!(from(&gateway, guilty, &known).await.status, 200, "a customer behind the same address");
    assert_eq!(from(&gateway, guilty, &opaque("guess0")).await.status, 401, "known to be unknown");
    assert_eq!(from(&gateway, neighbour, &other).await.status, 200);
    assert_eq!(from(&gateway, neighbour, &opaque("guess5")).await.status, 401);
}

#[tokio::test]
async fn case_28_a_thousand_first_uses_at_once_are_one_look_up() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let text = with_redis(&redis, &[backend.address], "").replacen("threads: 1", "threads: 2", 1);
    let gateway = Gateway::start(&text).await;
    let token = opaque("popular");
    // Another scope than the route's, so that no request goes further than its token.
    redis.write_token(&token, "7", &["scopes", "ai"]).await;
    let mut connections = Vec::new();
    for _ in 0..1000 {
        connections.push(Connection::open(gateway.address).await);
    }
    let request = get(&token);
    for connection in &mut connections {
        connection.write(request.as_bytes()).await;
    }
    for connection in &mut connections {
        assert_eq!(connection.read(request.as_bytes()).await.unwrap().status, 403);
    }
    assert_eq!(redis.calls("hgetall").await, 1);
}

#[tokio::test]
async fn case_28_whoever_came_first_may_go_away_and_the_others_are_let_in() {
    let backend = Backend::start().await;
    let ((asked, mut was_asked), (go, may_go)) = (watch::channel(0), watch::channel(false));
    let service = scripted(move |mut stream| {
        let (asked, mut may_go) = (asked.clone(), may_go.clone());
        async move {
            read_head(&mut stream).await;
            asked.send_modify(|count| *count += 1);
            may_go.wait_for(|may_go| *may_go).await.unwrap();
            let body = r#"{"active":true,"sub":"u","workspace":"w","scope":"contacts","jti":"1"}"#;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    })
    .await;
    let sections = format!(
        "auth: {{sources: [{{introspection: {{url: \"http://{service}/\", secret: \"a secret of the service\", timeout: 5s}}}}]}}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"{}\"]}}}}\nroutes:\n{CONTACTS}",
        backend.address
    );
    let gateway = Gateway::start(&config(&sections)).await;
    let request = get(&opaque("shared"));
    let mut first = Connection::open(gateway.address).await;
    let mut others = Vec::new();
    for _ in 0..10 {
        others.push(Connection::open(gateway.address).await);
    }
    first.write(request.as_bytes()).await;
    was_asked.wait_for(|count| *count == 1).await.unwrap();
    for other in &mut others {
        other.write(request.as_bytes()).await;
    }
    let in_flight = format!(r#"gateway_requests_in_flight{{listener="{}"}}"#, gateway.address);
    wait_for("the others", async || (gateway.metric(&in_flight).await >= 11.0).then_some(())).await;
    drop(first);
    go.send_replace(true);
    for other in &mut others {
        assert_eq!(other.read(request.as_bytes()).await.unwrap().status, 200);
    }
    assert_eq!(gateway.send(&request).await.status, 200);
    assert_eq!(*was_asked.borrow(), 1);
}
