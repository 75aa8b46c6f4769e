//! `explain --admin`: what a running gateway adds, and what becomes of the explanation where it adds nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use crate::harness::backend::{Backend, nobody};
use crate::harness::gateway::{Gateway, binary, counting_in, simple};
use crate::harness::redis::Redis;
use crate::harness::token::{secrets, token};
use crate::harness::wait_for;

const LIST: &str = "  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main, pagination: {sort_by: [name]}}\n";
const NAMED: &str = "console: {workspaces: true}\n";

/// Explains GET `path` by the gateway's file and with the help of `admin`.
fn explain(gateway: &Gateway, path: &str, token: &str, admin: SocketAddr) -> (Option<i32>, String) {
    let admin = format!("http://{admin}");
    let arguments = ["explain", "GET", path, "--token", token, "--admin", &admin];
    let output = binary().current_dir(gateway.folder()).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test]
async fn what_is_left_of_a_limit_is_shown_and_has_its_part_in_the_verdict_and_looking_is_free() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let config = counting_in(&redis.url(), "", backend.address, "contacts: {requests: 2, per: 1h}");
    let (before, _) = config.split_once("routes:\n").unwrap();
    let gateway = Gateway::start(&format!("{NAMED}{before}routes:\n{LIST}")).await;
    let token = token("w&co", "contacts");
    let explained = |path| explain(&gateway, path, &token, gateway.admin);
    for left in ["2 of 2", "1 of 2"] {
        for _ in 0..2 {
            let (exit, printed) = explained("/api/v1/contacts");
            assert!(printed.contains(&format!("{left} are left now")), "{printed}");
            assert!(printed.contains(&format!("{}: in use, 0 requests at the moment", backend.address)), "{printed}");
            assert!(!printed.contains("another configuration"), "{printed}");
            assert_eq!(exit, Some(0));
        }
        assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 200);
    }
    for path in ["/api/v1/contacts", "/api/v1/contacts?page=0"] {
        let (exit, printed) = explained(path);
        assert!(printed.contains("no: 429 RATE_LIMITED, reason limit"), "{printed}");
        assert!(printed.contains("  NO  limit     contacts: 2 in 1h by workspace"), "{printed}");
        assert_eq!((exit, gateway.get(path, &token).await.status), (Some(1), 429));
    }
}

#[tokio::test]
async fn without_its_switch_nobody_is_told_what_a_workspace_has_used() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "contacts: {requests: 2, per: 1h}", LIST)).await;
    let (exit, printed) = explain(&gateway, "/api/v1/contacts", &token("w", "contacts"), gateway.admin);
    assert!(printed.contains("only with `console: {workspaces: true}`"), "{printed}");
    assert!(!printed.contains("left now") && printed.contains(": in use"), "{printed}");
    assert_eq!(exit, Some(0));
    let answer = gateway.admin("/explain?route=contacts&workspace=w").await.json();
    assert_eq!((&answer["limits"], &answer["is_usable"]), (&serde_json::Value::Null, &true.into()));
    assert_eq!(gateway.admin("/explain?route=nothing").await.status, 404);
}

#[tokio::test]
async fn an_upstream_without_a_server_is_said_before_a_request_finds_out() {
    let health = "health: {path: /up, every: 100ms, timeout: 50ms, unhealthy_after: 1, healthy_after: 1}";
    let config = simple(&[nobody().await], "", LIST).replacen("timeouts:", &format!("{health}, timeouts:"), 1);
    let gateway = Gateway::start(&config.replacen("limit: contacts", "limit: none", 1)).await;
    wait_for("the check to fail", async || (gateway.admin("/readyz").await.status == 503).then_some(())).await;
    let token = token("w", "contacts");
    let (exit, printed) = explain(&gateway, "/api/v1/contacts", &token, gateway.admin);
    assert!(printed.contains("no: 503 SERVER_ERROR, reason no_healthy_server"), "{printed}");
    assert!(printed.contains(": unhealthy"), "{printed}");
    assert_eq!((exit, gateway.get("/api/v1/contacts", &token).await.status), (Some(1), 503));
}

/// Whoever listens where the admin listener should be: takes one question, says `answer`, and waits for the other side to go.
fn stranger(answer: Vec<u8>) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = Vec::new();
        while !question.ends_with(b"\r\n\r\n") {
            let mut octets = [0; 4096];
            let read = stream.read(&mut octets).unwrap();
            question.extend_from_slice(&octets[..read]);
        }
        // It may have heard enough.
        let _ = stream.write_all(&answer);
        // Who speaks HTTP has said all of it; anybody else keeps the other side waiting.
        if answer.starts_with(b"HTTP") {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        let _ = stream.read_to_end(&mut Vec::new());
        String::from_utf8(question).unwrap()
    });
    (address, asked)
}

#[tokio::test]
async fn a_question_names_only_what_a_counter_needs_and_never_a_token() {
    let backend = Backend::start().await;
    let token = token("w&co", "contacts");
    for (console, expected) in
        [(NAMED, "GET /explain?route=contacts&workspace=w%26co HTTP/1.1"), ("", "GET /explain?route=contacts HTTP/1.1")]
    {
        let limits = "contacts: {requests: 2, per: 1h}";
        let config = simple(&[backend.address], limits, LIST);
        let gateway = Gateway::start(&format!("{console}{config}")).await;
        let (address, asked) = stranger(b"HTTP/1.1 404 Not Found\r\n\r\nthere is \x1b[2J nothing".to_vec());
        let (exit, printed) = explain(&gateway, "/api/v1/contacts", &token, address);
        assert!(printed.contains("was not of help: there is \\u{1b}[2J nothing"), "{printed}");
        assert_eq!(exit, Some(0));
        let question = asked.join().unwrap();
        assert_eq!(question.lines().next(), Some(expected));
        assert!(!question.contains(&secrets(&token).next().unwrap()));
    }
}

#[tokio::test]
async fn whoever_answers_nonsense_too_much_or_nothing_leaves_the_rest_of_the_explanation_standing() {
    let backend = Backend::start().await;
    let routes = LIST.replace("limit: contacts", "limit: none");
    let gateway = Gateway::start(&simple(&[backend.address], "", &routes)).await;
    let token = token("w", "contacts");
    let ok = b"HTTP/1.1 200 OK\r\n\r\n".as_slice();
    for (answer, expected) in [
        (b"SSH-2.0-x\r\n".to_vec(), "within 2s"),
        (Vec::new(), "within 2s"),
        ([ok, "{\"configuration\":".as_bytes(), &vec![b' '; 1 << 20]].concat(), "is not its admin listener"),
    ] {
        let (address, asked) = stranger(answer);
        let (exit, printed) = explain(&gateway, "/api/v1/contacts", &token, address);
        assert!(printed.contains(expected) && printed.contains("yes: it would be forwarded to main"), "{printed}");
        assert_eq!(exit, Some(0));
        asked.join().unwrap();
    }
    let (exit, printed) = explain(&gateway, "/api/v1/contacts", &token, nobody().await);
    assert!(printed.contains("was not of help: no answer from"), "{printed}");
    assert_eq!(exit, Some(0));
}
