//! The gateway as a process of its own, on ports that the system chose.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;
use tempfile::TempDir;

use super::client::{self, Response};
use super::footprint::Footprint;
use super::redis::Redis;
use super::schema::complaints;
use super::token::{self, SECRET};
use super::wait_for;

/// The binary under test.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailtrixy-gateway"));
    command.env_clear().env("MB_SIGNING_SECRET", SECRET);
    command
}

/// Runs a command of the binary to its end.
pub fn command(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

/// A running gateway. It is killed when it is dropped, and nothing that it has written by then may hold a secret.
pub struct Gateway {
    process: Child,
    folder: TempDir,
    lines: Arc<Mutex<Vec<String>>>,
    errors: Arc<Mutex<Vec<String>>>,
    reloads: Arc<AtomicUsize>,
    readers: Vec<JoinHandle<()>>,
    presented: Mutex<Vec<String>>,
    /// Where clients connect.
    pub address: SocketAddr,
    /// /metrics, /livez, /readyz.
    pub admin: SocketAddr,
}

/// A configuration around `sections`: ports of the system's choice, the signing key of [`super::token`], a scope, a limit.
pub fn config(sections: &str) -> String {
    format!(
        "version: 1\nthreads: 1\nlisteners: [{{address: \"127.0.0.1:0\"}}]\nadmin: {{address: \"127.0.0.1:0\"}}\nbase_path: /api/v1\n{sections}\n"
    )
}

/// The `auth:` section of most tests.
pub const AUTH: &str = r#"
auth:
  sources:
    - signed: {issuer: mailtrixy, audience: mailtrixy-api, keys: [{id: k1, algorithm: HS256, secret: "${MB_SIGNING_SECRET}"}]}
"#;

/// A gateway with one upstream `main` on `servers`, a scope `contacts`, and the given limits and routes.
pub fn simple(servers: &[SocketAddr], limits: &str, routes: &str) -> String {
    let servers: Vec<String> = servers.iter().map(|address| format!("\"{address}\"")).collect();
    config(&format!(
        "{AUTH}\nscopes: [contacts]\nlimits: {{{limits}}}\nupstreams:\n  main: {{servers: [{}], timeouts: {{connect: 1s, response: 2s}}}}\nroutes:\n{routes}",
        servers.join(", ")
    ))
}

/// A route for everything below /contacts that needs the scope of that name and is not limited.
pub const CONTACTS: &str = "  contacts: {path: /contacts/**, scope: contacts, limit: none, upstream: main}\n";

/// The same with Redis, which knows tokens too: `auth` is the rest of the auth section.
pub fn with_redis(redis: &Redis, servers: &[SocketAddr], auth: &str) -> String {
    let source = "\n    - redis: {key_prefix: \"mb:token:\"}\n";
    let simple = simple(servers, "", CONTACTS).replacen(AUTH, &format!("{}{source}{auth}\n", AUTH.trim_end()), 1);
    format!("redis: {{url: \"{}\"}}\n{simple}", redis.url())
}

/// A gateway whose limits are counted in the Redis at `url`: `redis` is the rest of its section. Its route needs the limit `contacts`.
pub fn counting_in(url: &str, redis: &str, backend: SocketAddr, limits: &str) -> String {
    let limited = "  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main}\n";
    format!("redis: {{url: \"{url}\", {redis}}}\n{}", simple(&[backend], limits, limited))
}

/// How the log says that a reload is over, good or refused.
const TELLS_OF_A_RELOAD: [&str; 2] =
    [r#""message":"configuration reloaded"#, r#""message":"configuration not reloaded"#];

impl Gateway {
    /// Starts the gateway on a configuration and waits until it listens.
    pub async fn start(config: &str) -> Self {
        Self::start_with(config, &[]).await
    }

    /// The same with variables in its environment.
    pub async fn start_with(config: &str, environment: &[(&str, &str)]) -> Self {
        assert_eq!(complaints(config), [""; 0], "an editor would mark what runs");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.yaml"), config).unwrap();
        let mut command = binary();
        command.current_dir(folder.path()).arg("run").envs(environment.iter().copied());
        Self::spawn(command, folder).await
    }

    /// The same with its files in `folder`.
    pub async fn start_in(folder: TempDir, config: &str) -> Self {
        assert_eq!(complaints(config), [""; 0], "an editor would mark what runs");
        std::fs::write(folder.path().join("gateway.yaml"), config).unwrap();
        let mut command = binary();
        command.current_dir(folder.path()).arg("run");
        Self::spawn(command, folder).await
    }

    /// Starts `command`, which is to log JSON lines.
    pub async fn spawn(mut command: Command, folder: TempDir) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, errors) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let reloads = Arc::<AtomicUsize>::default();
        let told = Arc::clone(&reloads);
        let readers = vec![
            collect(process.stdout.take().unwrap(), Arc::clone(&lines), move |line| {
                if TELLS_OF_A_RELOAD.iter().any(|message| line.contains(message)) {
                    told.fetch_add(1, Ordering::SeqCst);
                }
            }),
            collect(process.stderr.take().unwrap(), Arc::clone(&errors), |line| {
                drop(writeln!(std::io::stderr(), "{line}"))
            }),
        ];
        let find = |message: &'static str| {
            let lines = Arc::clone(&lines);
            move || {
                let lines = lines.lock().unwrap();
                let found = lines
                    .iter()
                    .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                    .find(|line| line["message"] == message);
                std::future::ready(found.and_then(|line| line["address"].as_str()?.parse::<SocketAddr>().ok()))
            }
        };
        let address = wait_for("the listener", find("listening")).await;
        let admin = wait_for("the admin listener", find("admin listening")).await;
        let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
        Self { process, folder, lines, errors, reloads, readers, presented: Mutex::default(), address, admin }
    }

    /// Where its files are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Where each of its listeners is, in the order of the configuration.
    pub async fn listeners(&self, count: usize) -> Vec<SocketAddr> {
        let lines = self.log_lines(count, |line| line["message"] == "listening").await;
        lines.iter().map(|line| line["address"].as_str().unwrap().parse().unwrap()).collect()
    }

    /// The file it runs on.
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("gateway.yaml")
    }

    /// GET with a token.
    pub async fn get(&self, path: &str, token: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n")).await
    }

    /// One request on a connection of its own.
    pub async fn send(&self, request: &str) -> Response {
        self.presented.lock().unwrap().extend(token::secrets(request));
        client::send(self.address, request.as_bytes()).await
    }

    /// GET on the admin listener.
    pub async fn admin(&self, path: &str) -> Response {
        client::send(self.admin, format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n").as_bytes()).await
    }

    /// The value of one series, 0 where it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// How many limits were decided by `store`, `deny_cache` or `local`.
    pub async fn decided_by(&self, who: &str) -> f64 {
        let text = self.admin("/metrics").await.text();
        let wanted = format!("by=\"{who}\"");
        let decisions = text.lines().filter(|line| line.starts_with("gateway_ratelimit_decisions_total{"));
        decisions
            .filter(|line| line.contains(&wanted))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Asks until the store has decided about a request; all are answered with 200.
    pub async fn counted_again(&self, token: &str) {
        let before = self.decided_by("store").await;
        wait_for("Redis to count again", async || {
            assert_eq!(self.get("/api/v1/contacts", token).await.status, 200);
            (self.decided_by("store").await > before).then_some(())
        })
        .await;
    }

    /// Everything it has written.
    pub fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The log lines that satisfy `wanted`, as soon as there are `count`.
    pub async fn log_lines(&self, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let read = std::cell::RefCell::new((0, Vec::<Value>::new()));
        wait_for("log lines", || {
            let mut read = read.borrow_mut();
            let lines = self.lines.lock().unwrap();
            let (known, found) = &mut *read;
            found.extend(lines.iter().skip(*known).filter_map(|line| serde_json::from_str(line).ok()).filter(&wanted));
            *known = lines.len();
            std::future::ready((found.len() >= count).then(|| found.clone()))
        })
        .await
    }

    /// How many reloads it has told of, good and refused.
    pub fn reloads(&self) -> usize {
        self.reloads.load(Ordering::SeqCst)
    }

    /// The access lines, as soon as there are `count`.
    pub async fn access_lines(&self, count: usize) -> Vec<Value> {
        self.log_lines(count, |line| line["message"] == "request").await
    }

    /// What it holds.
    pub fn footprint(&self) -> Footprint {
        Footprint::of(self.process.id())
    }

    /// Which process it is.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for it to end.
    pub async fn ended(&mut self) -> ExitStatus {
        let process = &mut self.process;
        wait_for("the gateway to end", || std::future::ready(process.try_wait().unwrap())).await
    }
}

impl Gateway {
    /// Asserts that no line of the log or of standard error holds a token, a part of one that was presented, or the signing secret.
    ///
    /// What `demo` prints to be pasted is no log.
    fn assert_discreet(&self) {
        let log = self.lines.lock().unwrap();
        let errors = self.errors.lock().unwrap();
        let presented = self.presented.lock().unwrap();
        for line in log.iter().filter(|line| line.starts_with('{')).chain(errors.iter()) {
            let known = presented.iter().find(|secret| line.contains(secret.as_str()));
            assert_eq!(known, None, "a secret in {line}");
            assert_eq!(token::secrets(line).next(), None, "a token in {line}");
            assert!(!line.contains(SECRET), "the signing secret in {line}");
        }
    }
}

/// Collects the lines of `output` on a thread of its own, and shows each to `tell`.
fn collect(
    output: impl Read + Send + 'static,
    lines: Arc<Mutex<Vec<String>>>,
    tell: impl Fn(&str) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            tell(&line);
            lines.lock().unwrap().push(line);
        }
    })
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if !std::thread::panicking() {
            self.assert_discreet();
        }
    }
}
