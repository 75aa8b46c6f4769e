//! Changes under load, and the end of a process: nothing that has begun is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::harness::backend::{Backend, read_head, scripted};
use crate::harness::client::Connection;
use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::token::token;
use crate::harness::wait_for;

const LIMITED: &str = "  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main}\n";

/// Rewrites the file, has it reloaded, and waits until the `count`th reload is told.
pub async fn reload(gateway: &Gateway, config: &str, count: usize) {
    std::fs::write(gateway.config_path(), config).unwrap();
    gateway.signal("HUP");
    wait_for("the reload", || async { (gateway.reloads() >= count).then_some(()) }).await;
}

#[tokio::test]
async fn a_changed_limit_applies_at_once_and_keeps_the_count() {
    let backend = Backend::start().await;
    let with =
        |requests: u32| simple(&[backend.address], &format!("contacts: {{requests: {requests}, per: 1m}}"), LIMITED);
    let gateway = Gateway::start(&with(2)).await;
    let token = token("w", "contacts");
    let status = async || gateway.get("/api/v1/contacts", &token).await.status;
    assert_eq!([status().await, status().await, status().await], [200, 200, 429]);
    reload(&gateway, &with(4), 1).await;
    let answer = gateway.get("/api/v1/contacts", &token).await;
    assert_eq!(
        (answer.status, answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-remaining")),
        (200, 4, 1)
    );
}

#[tokio::test]
async fn a_file_that_is_saved_is_reloaded_without_a_signal() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let token = token("w", "contacts");
    assert_eq!(gateway.get("/api/v1/more", &token).await.status, 404);
    let more = "  more: {path: /more, scope: contacts, limit: none, upstream: main}\n";
    std::fs::write(gateway.config_path(), simple(&[backend.address], "", &format!("{CONTACTS}{more}"))).unwrap();
    wait_for("the reload", || async { (gateway.get("/api/v1/more", &token).await.status == 200).then_some(()) }).await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_told_with_its_place() {
    let backend = Backend::start().await;
    let good = simple(&[backend.address], "", CONTACTS);
    let gateway = Gateway::start(&good).await;
    reload(&gateway, &good.replace("scope: contacts", "scope: contcts"), 1).await;
    assert_eq!(gateway.get("/api/v1/contacts", &token("w", "contacts")).await.status, 200);
    assert_eq!(gateway.metric("gateway_config_last_reload_successful").await, 0.0);
    let told = &gateway.log_lines(1, |line| line["level"] == "error").await[0];
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("gateway.yaml:")
            && message.contains("there is no scope `contcts`")
            && message.contains("did you mean `contacts`?"),
        "{message}"
    );
    reload(&gateway, &good, 2).await;
    assert_eq!(gateway.metric("gateway_config_last_reload_successful").await, 1.0);
}

#[tokio::test]
async fn a_changed_upstream_with_a_name_is_usable_at_once_and_stays_on_the_metric() {
    let backend = Backend::start().await;
    let config = simple(&[backend.address], "", CONTACTS)
        .replace("127.0.0.1:", "localhost:")
        .replace("\"localhost:0\"", "\"127.0.0.1:0\"");
    let gateway = Gateway::start(&config).await;
    let token = token("w", "contacts");
    for round in 1..=5 {
        reload(&gateway, &config.replace("response: 2s", &format!("response: 2{round}s")), round).await;
        assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 200, "{round}");
    }
    let series =
        format!(r#"gateway_upstream_server_healthy{{server="localhost:{}",upstream="main"}}"#, backend.address.port());
    wait_for("the metric", || async { (gateway.metric(&series).await == 1.0).then_some(()) }).await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_applies() {
    let backend = Backend::start().await;
    let config = simple(&[backend.address], "", CONTACTS);
    let gateway = Gateway::start(&config).await;
    reload(&gateway, &config.replace("threads: 1", "threads: 2").replace("/contacts/**", "/people/**"), 1).await;
    assert_eq!(gateway.get("/api/v1/people", &token("w", "contacts")).await.status, 200);
    gateway.log_lines(1, |line| line["message"] == "`threads` changed: it stays as it is until a restart").await;
}

/// Clients that never stop asking, each on a connection that it keeps.
pub struct Load {
    stop: Arc<AtomicBool>,
    lanes: Vec<tokio::task::JoinHandle<()>>,
    /// Requests that were answered with 200.
    pub answered: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
}

impl Load {
    /// Begins on so many connections.
    pub fn start(gateway: &Gateway, lanes: usize) -> Self {
        Self::begin(gateway, lanes, false)
    }

    /// The same with clients that open another connection when an answer was the last of theirs.
    pub fn start_again_and_again(gateway: &Gateway, lanes: usize) -> Self {
        Self::begin(gateway, lanes, true)
    }

    fn begin(gateway: &Gateway, lanes: usize, reconnects: bool) -> Self {
        let request = format!(
            "GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
            token("w", "contacts")
        );
        let (stop, answered, failed) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let lane = |_| {
            let (address, request) = (gateway.address, request.clone());
            let (stop, answered, failed) = (Arc::clone(&stop), Arc::clone(&answered), Arc::clone(&failed));
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                while !stop.load(Ordering::SeqCst) {
                    match connection.request(&request).await {
                        Some(answer) if answer.status == 200 => {
                            answered.fetch_add(1, Ordering::SeqCst);
                            match answer.header("connection") == Some("close") {
                                true if reconnects => connection = Connection::open(address).await,
                                true => return,
                                false => {}
                            }
                        }
                        _ => {
                            failed.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                    }
                }
            })
        };
        let lanes = (0..lanes).map(lane).collect();
        Self { stop, lanes, answered, failed }
    }

    /// Ends the load: how many requests were answered with 200, and how many were not.
    pub async fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        for lane in self.lanes {
            lane.await.unwrap();
        }
        (self.answered.load(Ordering::SeqCst), self.failed.load(Ordering::SeqCst))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_good_and_broken_under_load_cost_no_request() {
    let backend = Backend::start().await;
    let config = |name: &str| {
        simple(
            &[backend.address],
            "contacts: {requests: 1000000, per: 1m}",
            &LIMITED.replace("  contacts:", &format!("  {name}:")),
        )
    };
    let gateway = Gateway::start(&config("contacts")).await;
    let load = Load::start(&gateway, 8);
    for round in 1..=100 {
        let next = match round % 4 {
            0 => config("contacts"),
            1 => "routes: [".to_owned(),
            2 => config("people"),
            _ => config("contacts").replace("upstream: main", "upstream: mian"),
        };
        reload(&gateway, &next, round).await;
    }
    let (answered, failed) = load.end().await;
    assert_eq!(failed, 0, "of {answered}");
    assert!(answered > 100, "{answered}");
    let series = |name: &str| format!(r#"gateway_requests_total{{method="GET",route="{name}",status="200"}}"#);
    assert!(gateway.metric(&series("people")).await > 0.0 && gateway.metric(&series("contacts")).await > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_request_that_has_begun() {
    let backend = Backend::start().await;
    let mut gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let load = Load::start(&gateway, 8);
    wait_for("some load", || std::future::ready((load.answered.load(Ordering::SeqCst) > 100).then_some(()))).await;
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let (answered, failed) = load.end().await;
    assert_eq!(failed, 0, "of {answered}");
}

#[tokio::test]
async fn sigterm_waits_for_a_request_in_flight_while_readyz_says_no() {
    let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, wait) = (Arc::clone(&began), Arc::clone(&go_on));
    let backend = scripted(move |mut stream| {
        let (begin, wait) = (Arc::clone(&begin), Arc::clone(&wait));
        async move {
            read_head(&mut stream).await;
            begin.notify_one();
            wait.notified().await;
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
                .await
                .unwrap();
        }
    })
    .await;
    let mut gateway = Gateway::start(&simple(&[backend], "", CONTACTS)).await;
    let mut connection = Connection::open(gateway.address).await;
    connection
        .write(
            format!(
                "GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
                token("w", "contacts")
            )
            .as_bytes(),
        )
        .await;
    began.notified().await;
    gateway.signal("TERM");
    wait_for("draining", || async { (gateway.admin("/readyz").await.status == 503).then_some(()) }).await;
    assert_eq!(gateway.admin("/livez").await.status, 200);
    wait_for("the listener to close", || async { tokio::net::TcpStream::connect(gateway.address).await.err() }).await;
    go_on.notify_one();
    let answer = connection.read(b"GET").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str(), answer.header("connection")), (200, "done", Some("close")));
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_is_cut_off() {
    let began = Arc::new(Notify::new());
    let begin = Arc::clone(&began);
    let backend = scripted(move |mut stream| {
        let begin = Arc::clone(&begin);
        async move {
            read_head(&mut stream).await;
            begin.notify_one();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let mut gateway =
        Gateway::start(&format!("shutdown: {{grace: 300ms}}\n{}", simple(&[backend], "", CONTACTS))).await;
    let mut connection = Connection::open(gateway.address).await;
    connection
        .write(
            format!(
                "GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
                token("w", "contacts")
            )
            .as_bytes(),
        )
        .await;
    began.notified().await;
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    gateway
        .log_lines(1, |line| line["message"].as_str().is_some_and(|text| text.starts_with("the grace is over")))
        .await;
}

#[tokio::test]
async fn with_a_delay_new_connections_are_served_while_readiness_is_gone_already_and_a_second_signal_ends_it() {
    let backend = Backend::start().await;
    let config = simple(&[backend.address], "", CONTACTS);
    let mut gateway = Gateway::start(&format!("shutdown: {{delay: 1h, grace: 5s}}\n{config}")).await;
    let get = async || gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
    gateway.signal("TERM");
    wait_for("no readiness", async || (gateway.admin("/readyz").await.status == 503).then_some(())).await;
    for _ in 0..3 {
        let answer = get().await;
        assert_eq!((answer.status, answer.header("connection")), (200, None));
    }
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
}
