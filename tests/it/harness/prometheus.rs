//! A Prometheus of the test's own, and promtool.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{client, free_port, wait_for};

/// A running Prometheus. It is killed when it is dropped.
pub struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

/// A file of the repository.
pub fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Runs promtool with `input`, and returns whether it is content and all it has to say.
pub fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(repository("")).stdin(Stdio::piped());
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut process = spawned.expect("promtool; deploy/prepare prometheus installs it");
    // A command that reads nothing may have ended.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    let output = process.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|octets| String::from_utf8(octets).unwrap()).concat();
    (output.status.success(), said)
}

impl Prometheus {
    /// Starts one on the repository's own configuration, which scrapes `gateway` several times a second, and waits until it is ready.
    pub async fn scraping(gateway: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = std::fs::read_to_string(repository("deploy/prometheus.yml")).unwrap();
        let rules = repository("deploy/prometheus/").display().to_string();
        for (written, here) in [
            ("gateway:9090", &*gateway.to_string()),
            ("scrape_interval: 15s, evaluation_interval: 15s", "scrape_interval: 200ms, evaluation_interval: 1s"),
            ("[prometheus/rules.yml, prometheus/alerts.yml]", &format!("[{rules}rules.yml, {rules}alerts.yml]")),
        ] {
            assert!(config.contains(written), "{written}");
            config = config.replace(written, here);
        }
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let process = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("prometheus; deploy/prepare prometheus installs it");
        let prometheus = Self { process, address, _folder: folder };
        wait_for("Prometheus", async || {
            tokio::net::TcpStream::connect(address).await.ok()?;
            (client::send(address, b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n").await.status == 200).then_some(())
        })
        .await;
        prometheus
    }

    /// The values that an expression has now, NaN left out.
    pub async fn query(&self, expression: &str) -> Vec<f64> {
        let form = format!("query={}", form_encoded(expression));
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let length = form.len();
        let request =
            format!("POST /api/v1/query HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{form}");
        let answer = client::send(self.address, request.as_bytes()).await.json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let result = answer["data"]["result"].as_array().unwrap();
        let values = result.iter().map(|series| series["value"][1].as_str().unwrap().parse::<f64>().unwrap());
        values.filter(|value| !value.is_nan()).collect()
    }

    /// What it knows under a path of its API.
    pub async fn api(&self, path: &str) -> Value {
        let request = format!("GET /api/v1/{path} HTTP/1.1\r\nHost: x\r\n\r\n");
        client::send(self.address, request.as_bytes()).await.json()["data"].take()
    }
}

fn form_encoded(text: &str) -> String {
    let encoded = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(encoded).collect()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
