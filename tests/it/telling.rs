//! What is told of a request, and what never is.

use mailtrixy_gateway::telemetry::metrics::FAMILIES;

use crate::harness::backend::Backend;
use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::token::{SECRET, opaque, token};

#[tokio::test]
async fn one_access_line_tells_a_request_in_the_documented_fields() {
    let backend = Backend::start().await;
    let routes = "  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main}\n";
    let gateway = Gateway::start(&simple(&[backend.address], "contacts: {requests: 5, per: 1m}", routes)).await;
    let request = format!(
        "POST /api/v1/contacts?secret=query HTTP/1.1\r\nHost: x\r\nX-Request-Id: id-1\r\nAuthorization: Bearer {}\r\nContent-Length: 5\r\n\r\nhello",
        token("w1", "contacts")
    );
    assert_eq!(gateway.send(&request).await.status, 200);
    let line = &gateway.access_lines(1).await[0];
    let fields: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "timestamp",
            "level",
            "message",
            "request_id",
            "route",
            "method",
            "path",
            "status",
            "duration_ms",
            "upstream_ms",
            "upstream",
            "server",
            "attempts",
            "workspace",
            "user",
            "token_id",
            "limit",
            "remaining",
            "client_ip",
            "bytes_in",
            "bytes_out"
        ]
    );
    for (field, value) in [
        ("level", "info"),
        ("request_id", "id-1"),
        ("route", "contacts"),
        ("method", "POST"),
        ("path", "/api/v1/contacts"),
        ("upstream", "main"),
        ("workspace", "w1"),
        ("user", "user-1"),
        ("limit", "contacts"),
        ("client_ip", "127.0.0.1"),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    for (field, value) in [("status", 200), ("attempts", 1), ("remaining", 4), ("bytes_in", 5), ("bytes_out", 26)] {
        assert_eq!(line[field], value, "{field}");
    }
}

#[tokio::test]
async fn the_level_of_a_line_says_whose_doing_it_was() {
    let backend = Backend::answering(|_| crate::harness::backend::json(500, "{}")).await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    gateway.get("/api/v1/nothing", "x").await;
    gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
    let lines = gateway.access_lines(2).await;
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["status"].as_u64().unwrap(), line["code"].as_str().unwrap(), line["level"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [(404, "NOT_FOUND", "info"), (500, "SERVER_ERROR", "warn")]);
}

#[tokio::test]
async fn the_level_decides_which_lines_are_written() {
    let backend = Backend::answering(|request| {
        crate::harness::backend::json(if request.target.ends_with("bad") { 500 } else { 200 }, "{}")
    })
    .await;
    let config = format!("observability: {{log: {{level: warn}}}}\n{}", simple(&[backend.address], "", CONTACTS));
    // Nothing below warn is written, so the ports are not either: they are chosen here.
    let (port, admin) = (crate::harness::free_port(), crate::harness::free_port());
    let config = config.replacen(":0", &format!(":{port}"), 1).replacen(":0", &format!(":{admin}"), 1);
    let port = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), config).unwrap();
    let output = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut process =
        crate::harness::gateway::binary().current_dir(folder.path()).arg("run").stdout(output).spawn().unwrap();
    crate::harness::wait_for("the gateway", || async { tokio::net::TcpStream::connect(port).await.ok() }).await;
    for path in ["good", "bad"] {
        let request = format!(
            "GET /api/v1/contacts/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
            token("w", "contacts")
        );
        crate::harness::client::send(port, request.as_bytes()).await;
    }
    let log = crate::harness::wait_for("a line", || {
        std::future::ready(std::fs::read_to_string(folder.path().join("log")).ok().filter(|log| log.contains("bad")))
    })
    .await;
    assert!(!log.contains("good") && !log.contains("listening"), "{log}");
    process.kill().unwrap();
    process.wait().unwrap();
}

#[tokio::test]
async fn every_family_is_on_the_admin_listener_and_nowhere_else() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
    let text = gateway.admin("/metrics").await.text();
    for seen in [
        "gateway_requests_total",
        "gateway_request_duration_seconds",
        "gateway_overhead_duration_seconds",
        "gateway_upstream_duration_seconds",
        "gateway_token_lookups_total",
        "gateway_upstream_server_healthy",
        "gateway_requests_in_flight",
        "gateway_connections",
        "gateway_config_last_reload_successful",
        "gateway_config_last_reload_timestamp_seconds",
        "gateway_build_info",
    ] {
        assert!(FAMILIES.iter().any(|(name, ..)| *name == seen), "{seen} is documented");
        assert!(text.contains(&format!("# TYPE {seen} ")), "{seen}");
    }
    for path in ["/metrics", "/livez", "/readyz", "/"] {
        assert_eq!(gateway.get(path, "x").await.status, 404, "{path}");
        assert_eq!(gateway.admin(path).await.status, 200, "{path}");
    }
    assert_eq!(gateway.admin("/nothing").await.status, 404);
}

#[tokio::test]
async fn no_secret_is_ever_written() {
    let backend = Backend::start().await;
    let config = format!("observability: {{log: {{level: debug}}}}\n{}", simple(&[backend.address], "", CONTACTS));
    let gateway = Gateway::start(&config).await;
    let (good, bad) = (token("w", "contacts"), opaque("nobody knows me"));
    for token in [&good, &bad, &format!("{good}x"), &format!("7|{bad}")] {
        gateway.get(&format!("/api/v1/contacts?token={token}"), token).await;
    }
    gateway.send(&format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nCookie: {good}\r\nX-Api-Key: {bad}\r\nAuthorization: Bearer {good}\r\n\r\n")).await;
    gateway.access_lines(5).await;
    let told = format!("{}\n{}", gateway.output(), gateway.admin("/metrics").await.text());
    for secret in [SECRET, good.as_str(), bad.as_str(), good.rsplit('.').next().unwrap(), &bad[3..40]] {
        assert!(!told.contains(secret), "{secret}");
    }
}
