//! Which server a request goes to, and what bounds there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::harness::backend::{Backend, json, read_head, scripted};
use crate::harness::client::Connection;
use crate::harness::gateway::{AUTH, CONTACTS, Gateway, config};
use crate::harness::token::token;
use crate::harness::wait_for;

/// A gateway with one upstream `main` of these servers and settings.
pub async fn gateway(servers: &[String], settings: &str) -> Gateway {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    Gateway::start(&config(&format!(
        "{AUTH}\nscopes: [contacts]\nupstreams: {{main: {{servers: [{}], {settings}}}}}\nroutes:\n{CONTACTS}",
        servers.join(", ")
    )))
    .await
}

#[tokio::test]
async fn servers_take_turns_by_their_weights() {
    let (light, heavy) = (Backend::start().await, Backend::start().await);
    let servers = [light.address.to_string(), format!("{}?weight=3", heavy.address)];
    let gateway = gateway(&servers, "balance: round_robin").await;
    let token = token("w", "contacts");
    for _ in 0..12 {
        assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 200);
    }
    assert_eq!((light.seen().len(), heavy.seen().len()), (3, 9));
}

#[tokio::test]
async fn a_workspace_keeps_its_server_and_workspaces_are_spread() {
    let backends = [Backend::start().await, Backend::start().await, Backend::start().await];
    let servers: Vec<String> = backends.iter().map(|backend| backend.address.to_string()).collect();
    let gateway = gateway(&servers, "balance: hash").await;
    for n in 0..24 {
        for _ in 0..2 {
            assert_eq!(gateway.get("/api/v1/contacts", &token(&format!("w{n}"), "contacts")).await.status, 200);
        }
    }
    let workspaces = |backend: &Backend| {
        let seen = backend.seen();
        seen.iter()
            .map(|request| request.header("x-workspace-id").unwrap().to_owned())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let spread: Vec<usize> = backends.iter().map(|backend| workspaces(backend).len()).collect();
    assert_eq!(spread.iter().sum::<usize>(), 24, "no workspace was seen by two: {spread:?}");
    assert!(spread.iter().all(|count| *count > 0), "{spread:?}");
}

#[tokio::test]
async fn a_busy_server_is_left_to_its_work_and_when_all_are_busy_a_request_is_503() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = scripted({
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        move |mut stream| {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            async move {
                read_head(&mut stream).await;
                begun.notify_one();
                go.notified().await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
            }
        }
    })
    .await;
    let gateway = gateway(&[slow.to_string()], "in_flight: 1, in_flight_wait: 50ms").await;
    let token = token("w", "contacts");
    let request = format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut first = Connection::open(gateway.address).await;
    first.write(request.as_bytes()).await;
    begun.notified().await;
    let refused = gateway.get("/api/v1/contacts", &token).await;
    refused.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
    assert_eq!(refused.number("retry-after"), 1);
    let series = r#"gateway_refusals_total{code="SERVER_ERROR",reason="upstream_busy",route="contacts"}"#;
    assert_eq!(gateway.metric(series).await, 1.0);
    go.notify_one();
    assert_eq!(first.read(request.as_bytes()).await.unwrap().status, 200);
    let second = tokio::spawn({
        let (address, request) = (gateway.address, request.clone());
        async move { crate::harness::client::send(address, request.as_bytes()).await.status }
    });
    begun.notified().await;
    go.notify_one();
    assert_eq!(second.await.unwrap(), 200, "the place is free again");
}

#[tokio::test]
async fn an_exchange_that_takes_longer_than_its_total_time_is_ended_except_on_a_streaming_route() {
    // The head comes at once, and a byte of body each time somebody looks.
    let endless = scripted(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n").await;
        for byte in b"12345678" {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let _ = stream.write_all(&[*byte]).await;
        }
    })
    .await;
    let silent = scripted(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let timeouts = "timeouts: {connect: 1s, response: 10s, total: 300ms}";
    let routes = "  contacts: {path: /contacts/**, scope: contacts, limit: none, upstream: main}\n  streamed: {path: /streamed, scope: contacts, limit: none, upstream: main, streaming: true}\n  silent: {path: /silent, scope: contacts, limit: none, upstream: silent}\n";
    let gateway = Gateway::start(&config(&format!(
        "{AUTH}\nscopes: [contacts]\nupstreams:\n  main: {{servers: [\"{endless}\"], {timeouts}}}\n  silent: {{servers: [\"{silent}\"], {timeouts}}}\nroutes:\n{routes}"
    )))
    .await;
    let token = token("w", "contacts");
    let get = async |path: &str| {
        let mut connection = Connection::open(gateway.address).await;
        let request = format!("GET /api/v1/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        connection.request(&request).await
    };
    assert!(get("contacts").await.is_none(), "the answer is cut short, and the connection with it");
    assert_eq!(get("streamed").await.unwrap().body, b"12345678");
    get("silent").await.unwrap().assert_envelope(504, "SERVER_ERROR", "The service took too long to answer.");
}

#[tokio::test]
async fn servers_that_fail_do_not_get_every_request_twice() {
    let broken = [hangs_up().await, hangs_up().await];
    let servers = broken.iter().map(|(address, _)| address.to_string()).collect::<Vec<_>>();
    let gateway = gateway(&servers, "eject: {failures: 1000, for: 30s}").await;
    let token = token("w", "contacts");
    for _ in 0..50 {
        assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 502);
    }
    let seen: usize = broken.iter().map(|(_, seen)| seen.load(std::sync::atomic::Ordering::SeqCst)).sum();
    assert!((60..=71).contains(&seen), "fifty requests, ten that were saved up and a fifth of fifty: {seen}");
}

/// A server that closes without an answer, and how often it did.
async fn hangs_up() -> (std::net::SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let seen = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let address = scripted(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            read_head(&mut stream).await;
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    })
    .await;
    (address, seen)
}

#[tokio::test]
async fn the_less_busy_of_two_servers_is_asked() {
    let go = Arc::new(Notify::new());
    let (stuck, begun) = (Arc::clone(&go), Arc::new(Notify::new()));
    let seen = Arc::clone(&begun);
    let slow = scripted(move |mut stream| {
        let (stuck, seen) = (Arc::clone(&stuck), Arc::clone(&seen));
        async move {
            read_head(&mut stream).await;
            seen.notify_one();
            stuck.notified().await;
        }
    })
    .await;
    let quick = Backend::answering(|_| json(200, "{}")).await;
    let gateway = gateway(&[slow.to_string(), quick.address.to_string()], "balance: least_requests").await;
    let token = token("w", "contacts");
    let request = format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    // Of two idle servers either is asked first; once the slow one has a request, the quick one gets the rest.
    let mut open = Vec::new();
    let asked = tokio::spawn(async move { begun.notified().await });
    while !asked.is_finished() {
        let mut connection = Connection::open(gateway.address).await;
        connection.write(request.as_bytes()).await;
        open.push(connection);
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for _ in 0..10 {
        assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 200);
    }
}

#[tokio::test]
async fn an_upstream_that_fails_again_and_again_is_left_alone_until_it_is_well() {
    let is_well = Arc::new(AtomicBool::new(false));
    let answer = Arc::clone(&is_well);
    let backend = Backend::answering(move |_| match answer.load(Ordering::SeqCst) {
        true => json(200, r#"{"success":true,"data":[]}"#),
        false => json(500, r#"{"message":"Server Error"}"#),
    })
    .await;
    let gateway = gateway(&[backend.address.to_string()], "circuit: {failures: 3, for: 1s}").await;
    let get = async || gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
    for _ in 0..3 {
        assert_eq!(get().await.status, 500);
    }
    let refused = get().await;
    refused.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
    assert_eq!((refused.number("retry-after"), backend.seen().len()), (1, 3), "the server was not asked");
    let series = r#"gateway_upstream_circuit_open{upstream="main"}"#;
    assert_eq!(gateway.metric(series).await, 1.0);
    is_well.store(true, Ordering::SeqCst);
    wait_for("a trial", async || (get().await.status == 200).then_some(())).await;
    assert_eq!(get().await.status, 200);
    assert_eq!(gateway.metric(series).await, 0.0);
}

#[tokio::test]
async fn a_route_may_wait_longer_or_shorter_than_its_upstream() {
    let silent = scripted(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let config = config(&format!(
        "{AUTH}\nupstreams: {{main: {{servers: [\"{silent}\"], timeouts: {{response: 20s}}}}}}\nroutes:\n  quick: {{path: /quick, access: public, limit: none, upstream: main, timeouts: {{response: 50ms}}}}\n  total: {{path: /total, access: public, limit: none, upstream: main, timeouts: {{total: 50ms}}}}\n"
    ));
    let gateway = Gateway::start(&config).await;
    for path in ["quick", "total"] {
        assert_eq!(
            gateway.send(&format!("GET /api/v1/{path} HTTP/1.1\r\nHost: x\r\n\r\n")).await.status,
            504,
            "{path}"
        );
    }
}
