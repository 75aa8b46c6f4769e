//! The log: lines for people, how much is written, and that nobody waits for whoever reads it.

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::backend::{Backend, json};
use crate::harness::client::{self, Connection};
use crate::harness::gateway::{CONTACTS, Gateway, binary, simple};
use crate::harness::token::{SECRET, token};
use crate::harness::{free_port, wait_for};

/// A gateway whose output is the test's own affair. It is killed when it is dropped.
struct Quiet {
    process: Child,
    address: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

impl Quiet {
    /// Starts what `command` makes of a folder with `config` in it, on ports of the test's choice, and waits until it listens.
    async fn start(config: &str, command: impl FnOnce(&TempDir) -> Command) -> Self {
        let (port, admin) = (free_port(), free_port());
        let config = config.replacen(":0", &format!(":{port}"), 1).replacen(":0", &format!(":{admin}"), 1);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.yaml"), config).unwrap();
        let process = command(&folder).current_dir(folder.path()).spawn().unwrap();
        let [address, admin] = [port, admin].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        wait_for("the gateway", || async { tokio::net::TcpStream::connect(admin).await.ok() }).await;
        Self { process, address, admin, folder }
    }

    /// The same with its output in a file.
    async fn into_file(config: &str) -> Self {
        Self::start(config, |folder| {
            let mut command = binary();
            command.arg("run").stdout(std::fs::File::create(folder.path().join("log")).unwrap());
            command
        })
        .await
    }

    async fn get(&self, path: &str, fields: &str) -> u16 {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        client::send(self.address, request.as_bytes()).await.status
    }

    /// What is in its file, as soon as that contains `wanted`.
    async fn log(&self, wanted: &str) -> String {
        wait_for(wanted, async || {
            std::fs::read_to_string(self.folder.path().join("log")).ok().filter(|log| log.contains(wanted))
        })
        .await
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Where a terminal was put around it, the gateway is not the process that was started.
        if let Ok(pid) = std::fs::read_to_string(self.folder.path().join("pid")) {
            let _ = Command::new("kill").args(["-KILL", pid.trim()]).status();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A line for people with everything replaced that differs from run to run.
fn settled(line: &str, backend: SocketAddr) -> String {
    let columns: Vec<char> = line.chars().collect();
    let text = |columns: &[char]| columns.iter().collect::<String>();
    let time: String = columns[..24].iter().map(|c| if c.is_ascii_digit() { '0' } else { *c }).collect();
    assert!(text(&columns[35..42]).ends_with('s'), "{line}");
    let rest = text(&columns[42..]).replace(&backend.to_string(), "SERVER");
    let known = rest.split(' ').map(|word| match word.split_once('=') {
        Some((key @ ("upstream_took" | "token"), _)) => format!("{key}=…"),
        Some(("id", id)) if id != "id-1" => "id=…".to_owned(),
        _ => word.to_owned(),
    });
    format!("{time}{}   TOOK{}", text(&columns[24..35]), known.collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn a_line_for_people_has_its_columns_and_its_reason() {
    let backend = Backend::answering(|request| json(if request.target.ends_with('9') { 500 } else { 200 }, "{}")).await;
    let routes = "  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main}\n";
    let config = simple(&[backend.address], "contacts: {requests: 2, per: 1m}", routes);
    let gateway = Quiet::into_file(&format!("observability: {{log: {{format: text}}}}\n{config}")).await;
    let fields = format!("X-Request-Id: id-1\r\nAuthorization: Bearer {}\r\n", token("w1", "contacts"));
    for path in ["/api/v1/contacts/8?secret=query", "/api/v1/contacts/9", "/api/v1/contacts", "/nothing"] {
        gateway.get(path, &fields).await;
    }
    client::send(gateway.address, b"nonsense\r\n\r\n").await;
    let log = gateway.log("reason=head_request_line").await;
    let lines = log.lines().filter(|line| line.contains("client="));
    let lines: Vec<_> = lines.map(|line| settled(line, backend.address)).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    0000-00-00T00:00:00.000Z INFO  200    TOOK GET    /api/v1/contacts/8                   route=contacts upstream=main@SERVER upstream_took=… workspace=w1 user=user-1 token=… limit=contacts:1 client=127.0.0.1 id=id-1
    0000-00-00T00:00:00.000Z WARN  500    TOOK GET    /api/v1/contacts/9                   route=contacts upstream=main@SERVER upstream_took=… workspace=w1 user=user-1 token=… limit=contacts:0 client=127.0.0.1 id=id-1
    0000-00-00T00:00:00.000Z INFO  429    TOOK GET    /api/v1/contacts                     reason=limit route=contacts workspace=w1 user=user-1 token=… limit=contacts:0 client=127.0.0.1 id=id-1
    0000-00-00T00:00:00.000Z INFO  404    TOOK GET    /nothing                             reason=no_route client=127.0.0.1 id=id-1
    0000-00-00T00:00:00.000Z INFO  400    TOOK -      -                                    reason=head_request_line client=127.0.0.1 id=…
    ");
    assert!(log.lines().next().unwrap()[24..].starts_with(" INFO  listening address=127.0.0.1:"), "{log}");
    assert!(!log.contains('\u{1b}') && !log.contains("secret"), "{log}");
}

#[tokio::test]
async fn a_terminal_is_shown_the_status_in_colour_unless_it_wants_none() {
    let backend = Backend::start().await;
    let config = format!("observability: {{log: {{format: text}}}}\n{}", simple(&[backend.address], "", CONTACTS));
    for (no_colour, shown) in [("", " \u{1b}[33m404\u{1b}[0m "), ("1", " 404 ")] {
        // `script` gives the gateway a terminal, and writes what is shown there into a file.
        let gateway = Quiet::start(&config, |_| {
            let mut command = Command::new("script");
            let line = format!("echo $$ >pid; exec {} run", env!("CARGO_BIN_EXE_mailtrixy-gateway"));
            command.args(["--quiet", "--flush", "--command", &line, "log"]).env_clear();
            command.env("MB_SIGNING_SECRET", SECRET).env("NO_COLOR", no_colour);
            command.env("PATH", std::env::var_os("PATH").unwrap()).stdin(Stdio::null()).stdout(Stdio::null());
            command
        })
        .await;
        gateway.get("/nothing", "").await;
        let log = gateway.log("reason=no_route").await;
        assert!(log.contains(shown), "{log:?}");
    }
}

#[tokio::test]
async fn a_demonstration_on_a_terminal_has_a_log_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Command::new("script");
    let line = format!("echo $$ >pid; exec {} demo", env!("CARGO_BIN_EXE_mailtrixy-gateway"));
    terminal.args(["--quiet", "--flush", "--command", &line, "log"]).current_dir(folder.path());
    let process = terminal.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let demonstration = Quiet { process, address: nowhere, admin: nowhere, folder };
    demonstration.log(" INFO  admin listening address=").await;
}

#[tokio::test]
async fn of_successes_a_share_is_written_and_every_failure() {
    let backend =
        Backend::answering(|request| json(if request.target.ends_with("bad") { 500 } else { 200 }, "{}")).await;
    let config = format!("observability: {{log: {{sample: 0.5}}}}\n{}", simple(&[backend.address], "", CONTACTS));
    let gateway = Gateway::start(&config).await;
    let token = token("w", "contacts");
    let mut connection = Connection::open(gateway.address).await;
    for path in ["good", "bad"].repeat(200) {
        let request =
            format!("GET /api/v1/contacts/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        connection.request(&request).await.unwrap();
    }
    assert_eq!(gateway.get("/last", "x").await.status, 404);
    gateway.log_lines(1, |line| line["path"] == "/last").await;
    let output = gateway.output();
    let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let written = |status: u64| lines.iter().filter(|line| line["status"] == status).count();
    assert_eq!(written(500), 200);
    assert!((50..150).contains(&written(200)), "{}", written(200));
    let counted = gateway.metric("gateway_requests_total{method=\"GET\",route=\"contacts\",status=\"200\"}").await;
    assert_eq!(counted, 200.0);
}

#[tokio::test]
async fn level_and_format_change_with_a_reload() {
    let backend = Backend::start().await;
    let config = |log: &str| format!("observability: {{log: {{{log}}}}}\n{}", simple(&[backend.address], "", CONTACTS));
    let gateway = Gateway::start(&config("level: info")).await;
    let reload = async |log: &str| {
        let before = gateway.metric("gateway_config_last_reload_timestamp_seconds").await;
        std::fs::write(gateway.config_path(), config(log)).unwrap();
        gateway.signal("HUP");
        wait_for("the reload", async || {
            (gateway.metric("gateway_config_last_reload_timestamp_seconds").await > before).then_some(())
        })
        .await;
    };
    gateway.get("/at-info", "x").await;
    reload("level: warn").await;
    gateway.get("/at-warn", "x").await;
    reload("level: debug, format: text").await;
    gateway.get("/at-debug", "x").await;
    wait_for("the last line", async || gateway.output().contains("/at-debug").then_some(())).await;
    let output = gateway.output();
    let line = |path: &str| output.lines().find(|line| line.contains(path));
    assert!(line("/at-info").unwrap().starts_with('{'));
    assert_eq!(line("/at-warn"), None);
    assert!(line("/at-debug").unwrap().contains(" INFO  404 "), "{output}");
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_no_request_up() {
    const REQUESTS: usize = 20_000;
    let backend = Backend::start().await;
    let mut gateway = Quiet::start(&simple(&[backend.address], "", CONTACTS), |_| {
        let mut command = binary();
        command.arg("run").stdout(Stdio::piped());
        command
    })
    .await;
    Connection::open(gateway.address).await.refused(REQUESTS).await;
    let dropped = async || {
        let metrics = client::send(gateway.admin, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.text();
        let count = metrics.lines().find_map(|line| line.strip_prefix("gateway_log_lines_dropped_total "));
        count.unwrap().parse::<usize>().unwrap()
    };
    let counted = dropped().await;
    assert!(counted > 0 && counted < REQUESTS, "{counted}");
    assert_eq!(dropped().await, counted, "a line is counted once");
    // Who reads at last finds the rest whole.
    let mut output = gateway.process.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        text
    });
    assert!(Command::new("kill").arg(gateway.process.id().to_string()).status().unwrap().success());
    wait_for("the end", || std::future::ready(gateway.process.try_wait().unwrap())).await;
    let text = reading.join().unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(lines.filter(|line| line["message"] == "request").count() + counted, REQUESTS);
}

#[tokio::test]
async fn the_end_of_the_process_does_not_wait_for_a_reader_that_does_not_read() {
    let backend = Backend::start().await;
    let mut gateway = Quiet::start(&simple(&[backend.address], "", CONTACTS), |_| {
        let mut command = binary();
        command.arg("run").stdout(Stdio::piped());
        command
    })
    .await;
    // More than a pipe holds.
    Connection::open(gateway.address).await.refused(1_000).await;
    assert!(Command::new("kill").arg(gateway.process.id().to_string()).status().unwrap().success());
    wait_for("the end", || std::future::ready(gateway.process.try_wait().unwrap())).await;
}
