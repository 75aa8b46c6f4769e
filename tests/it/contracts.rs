//! The watch over success bodies: what it sees, and that nobody else notices it.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Full};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::harness::backend::{Backend, Recorded, json, read_head, scripted, typed};
use crate::harness::client::Connection;
use crate::harness::gateway::{Gateway, binary, simple};
use crate::harness::token::token;
use crate::harness::wait_for;

const ROUTES: &str = "  contacts: {path: /contacts/**, scope: contacts, limit: none, upstream: main}
  list: {path: /list, scope: contacts, limit: none, upstream: main, pagination: {sort_by: [created_at]}}
  stream: {path: /stream, scope: contacts, limit: none, upstream: main, streaming: true}
";

/// Every success body is looked at.
const ALL: &str = "contract: watch, contract_sample: 1";

async fn watching(errors: &str, backend: std::net::SocketAddr) -> Gateway {
    Gateway::start(&format!("errors: {{{errors}}}\n{}", simple(&[backend], "", ROUTES))).await
}

/// How many bodies of a route were not as agreed in a field.
async fn drifted(gateway: &Gateway, route: &str, field: &str) -> f64 {
    gateway.metric(&format!(r#"gateway_contract_drift_total{{field="{field}",route="{route}"}}"#)).await
}

async fn drifts(gateway: &Gateway, route: &str, field: &str, count: f64) {
    wait_for("the drifts", async || (drifted(gateway, route, field).await >= count).then_some(())).await;
    assert_eq!(drifted(gateway, route, field).await, count, "{route} {field}");
}

#[tokio::test]
async fn what_is_not_as_agreed_is_counted_each_time_and_told_once_and_passes_untouched() {
    let backend = Backend::answering(|request: &Recorded| json(200, request.header("x-answer").unwrap())).await;
    let gateway = watching(ALL, backend.address).await;
    let token = token("w", "contacts");
    let get = async |path: &str, body: &str| {
        let fields = format!("Host: x\r\nAuthorization: Bearer {token}\r\nX-Answer: {body}\r\n");
        let answer = gateway.send(&format!("GET /api/v1/{path} HTTP/1.1\r\n{fields}\r\n")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, body));
    };
    for _ in 0..5 {
        get("contacts", r#"{ "id":7 }"#).await;
        get("contacts", r#"{"success":true,"data":{}}"#).await;
        get("list", r#"{"success":true,"data":[]}"#).await;
        get("list", r#"{"success":true,"data":[],"meta":{"page":1}}"#).await;
        get("list", "<!doctype html>").await;
    }
    for (route, field) in [("contacts", "success"), ("contacts", "data"), ("list", "meta"), ("list", "body")] {
        drifts(&gateway, route, field, 5.0).await;
    }
    let lines = gateway.log_lines(4, |line| line["field"].is_string()).await;
    let mut told: Vec<String> =
        lines.iter().map(|line| format!("{} {} {}", line["level"], line["route"], line["field"])).collect();
    told.sort();
    assert_eq!(
        told,
        [
            r#""warn" "contacts" "data""#,
            r#""warn" "contacts" "success""#,
            r#""warn" "list" "body""#,
            r#""warn" "list" "meta""#
        ]
    );
}

#[tokio::test]
async fn it_is_off_unless_somebody_asks_for_it_and_looks_at_a_part() {
    let backend = Backend::answering(|_| json(200, "{}")).await;
    let asked = async |gateway: &Gateway| {
        let mut connection = Connection::open(gateway.address).await;
        let token = token("w", "contacts");
        let request = format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        for _ in 0..400 {
            assert_eq!(connection.request(&request).await.unwrap().status, 200);
        }
    };
    let half = watching("contract: watch, contract_sample: 0.5", backend.address).await;
    asked(&half).await;
    wait_for("a part of them", async || (drifted(&half, "contacts", "data").await > 100.0).then_some(())).await;
    assert!(drifted(&half, "contacts", "data").await < 300.0);
    let off = Gateway::start(&simple(&[backend.address], "", ROUTES)).await;
    asked(&off).await;
    assert!(!off.admin("/metrics").await.text().contains("gateway_contract_drift_total{"));
}

#[tokio::test]
async fn what_the_contract_is_not_about_is_not_judged() {
    let long = format!(r#"{{"data":"{}"}}"#, "x".repeat(2000));
    let squeezed = |text: &str| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let (compressed_long, compressed) = (squeezed(&long), squeezed(r#"{"success":true}"#));
    let coded = |coding: &'static str, body: Vec<u8>| {
        let mut answer = json(200, "").map(|_| Full::from(body).boxed());
        answer.headers_mut().insert("content-encoding", coding.parse().unwrap());
        answer
    };
    let backend = Backend::answering(move |request: &Recorded| match request.target.rsplit('/').next().unwrap() {
        "stream" | "head" => json(200, "{}"),
        "csv" => typed(200, "text/csv", "a,b"),
        "partial" => json(206, "{"),
        "nothing" => json(204, ""),
        "moved" => json(302, "{}"),
        "error" => json(404, "{}"),
        "long" => json(200, &long),
        "compressed-long" => coded("gzip", compressed_long.clone()),
        "unknown" => coded("compress", b"{}".to_vec()),
        "compressed" => coded("gzip", compressed.clone()),
        other => panic!("{other}"),
    })
    .await;
    let gateway = watching(&format!("{ALL}, contract_bytes: 1KiB"), backend.address).await;
    let token = token("w", "contacts");
    let ask = async |method: &str, path: &str| {
        gateway
            .send(&format!("{method} /api/v1/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"))
            .await
    };
    for path in ["csv", "partial", "nothing", "moved", "error", "long", "compressed-long", "unknown"] {
        ask("GET", &format!("contacts/{path}")).await;
    }
    ask("HEAD", "contacts/head").await;
    ask("GET", "stream").await;
    ask("GET", "contacts/compressed").await;
    drifts(&gateway, "contacts", "data", 1.0).await;
    let metrics = gateway.admin("/metrics").await.text();
    let counted = metrics.lines().filter(|line| line.starts_with("gateway_contract_drift_total{"));
    assert_eq!(counted.collect::<Vec<_>>(), [r#"gateway_contract_drift_total{field="data",route="contacts"} 1"#]);
}

#[tokio::test]
async fn a_body_that_is_looked_at_passes_as_it_comes_and_one_that_breaks_off_is_not_judged() {
    let seen = Arc::new(Notify::new());
    let was_seen = Arc::clone(&seen);
    let backend = scripted(move |mut stream| {
        let seen = Arc::clone(&was_seen);
        async move {
            let head = String::from_utf8(read_head(&mut stream).await).unwrap();
            let answer =
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{ \r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            seen.notified().await;
            if !head.contains("/breaks") {
                stream.write_all(b"1\r\n}\r\n0\r\n\r\n").await.unwrap();
                read_head(&mut stream).await;
            }
        }
    })
    .await;
    let gateway = watching(ALL, backend).await;
    let token = token("w", "contacts");
    for (path, rest) in [("breaks", None), ("whole", Some(&b"}"[..]))] {
        let mut connection = Connection::open(gateway.address).await;
        let request =
            format!("GET /api/v1/contacts/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        connection.write(request.as_bytes()).await;
        assert_eq!(connection.head().await.unwrap().status, 200);
        assert_eq!(connection.chunk().await.unwrap(), b"{ ", "before the backend has sent the rest");
        seen.notify_one();
        assert_eq!(connection.chunk().await.as_deref(), rest);
    }
    drifts(&gateway, "contacts", "success", 1.0).await;
    assert_eq!(drifted(&gateway, "contacts", "body").await, 0.0);
}

#[test]
fn bounds_that_make_no_sense_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = simple(&["127.0.0.1:1".parse().unwrap()], "", ROUTES);
    for (errors, said) in [
        ("contract_sample: 0", "errors.contract_sample is above 0 and at most 1"),
        ("contract_sample: 1.5", "errors.contract_sample is above 0 and at most 1"),
        ("contract_sample: .nan", "contract_sample"),
        ("contract_bytes: 1GiB", "errors.contract_bytes must be from 1.0 KiB to 16.0 MiB"),
        ("contract: on", "contract"),
    ] {
        std::fs::write(folder.path().join("gateway.yaml"), format!("{text}\nerrors: {{{errors}}}\n")).unwrap();
        let output = binary().current_dir(folder.path()).arg("check").output().unwrap();
        let report = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}: {report}");
        assert!(report.contains(said), "{errors}: {report}");
    }
}
