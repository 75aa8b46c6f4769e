//! A redis-server of the test's own.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::token::{digest, now};
use super::{free_port, wait_for};

/// A running redis-server without persistence, in a folder of its own. It is killed when it is dropped.
pub struct Redis {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Redis {
    /// Starts one on a free port and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with more arguments.
    pub async fn start_with(arguments: &[&str]) -> Self {
        loop {
            if let Some(redis) = Self::try_start(free_port(), arguments).await {
                return redis;
            }
        }
    }

    /// Starts one on a port.
    pub async fn start_on(port: u16) -> Self {
        Self::try_start(port, &[]).await.expect("the port is free")
    }

    /// Starts one that copies another.
    pub async fn start_replica_of(primary: &Self) -> Self {
        let port = primary.port.to_string();
        let replica = Self::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]).await;
        wait_for("the replica", async || replica.says(&["INFO", "replication"], "master_link_status:up").await).await;
        replica
    }

    /// Starts a sentinel that watches `primary` under the name `main`.
    pub async fn start_sentinel_of(primary: &Self) -> Self {
        loop {
            let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
            let config = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 1000\n",
                primary.port
            );
            let file = folder.path().join("sentinel.conf");
            std::fs::write(&file, config).unwrap();
            if let Some(sentinel) = Self::run(port, &[file.to_str().unwrap(), "--sentinel"], folder).await {
                return sentinel;
            }
        }
    }

    /// `None` if another test was faster to take the port.
    pub(super) async fn try_start(port: u16, arguments: &[&str]) -> Option<Self> {
        let (folder, number) = (tempfile::tempdir().unwrap(), port.to_string());
        let usual = ["--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        Self::run(port, &[&usual, arguments].concat(), folder).await
    }

    async fn run(port: u16, arguments: &[&str], folder: TempDir) -> Option<Self> {
        let process = Command::new("redis-server")
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server; deploy/prepare redis-server installs it");
        let mut redis = Self { process, port, _folder: folder };
        let answers = wait_for("redis-server", || {
            let has_ended = redis.process.try_wait().unwrap().is_some();
            let connection = redis.connection();
            async move { if has_ended { Some(false) } else { connection.await.map(|_| true) } }
        });
        answers.await.then_some(redis)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its url.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of the test's own.
    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        self.connection().await.expect("redis")
    }

    /// The same, if it answers.
    pub fn connection(&self) -> impl Future<Output = Option<redis::aio::MultiplexedConnection>> + use<> {
        let url = self.url();
        async move { redis::Client::open(url).ok()?.get_multiplexed_async_connection().await.ok() }
    }

    /// Sends one command.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        send(&mut self.connect().await, words).await
    }

    /// How many requests the window under a key has counted; 0 where there is none.
    pub async fn counted(&self, key: &str) -> usize {
        let value = self.command::<Option<Vec<u8>>>(&["GET", key]).await;
        value.map_or(0, |value| f64::from_le_bytes(value[8..].try_into().unwrap()) as usize)
    }

    /// Something, once there is an answer to a command and it contains `wanted`.
    pub async fn says(&self, words: &[&str], wanted: &str) -> Option<()> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer: String = command.query_async(&mut self.connection().await?).await.ok()?;
        answer.contains(wanted).then_some(())
    }

    /// A number of INFO.
    pub async fn info(&self, section: &str, name: &str) -> u64 {
        let information: String = self.command(&["INFO", section]).await;
        let value = information.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {name} in {information}")).trim().parse().unwrap()
    }

    /// How often `command` was carried out since the start.
    pub async fn calls(&self, command: &str) -> u64 {
        let statistics: String = self.command(&["INFO", "commandstats"]).await;
        let line = statistics.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    /// Writes a token as the application does: made just now, with the scope `contacts`, and with `fields` besides or instead.
    pub async fn write_token(&self, token: &str, id: &str, fields: &[&str]) {
        let (key, made) = (format!("mb:token:{}", digest(token)), (now() - 10).to_string());
        let usual = ["id", id, "workspace", "w1", "user", "u1", "scopes", "contacts", "created_at", made.as_str()];
        self.command::<()>(&[&["HSET", key.as_str()], &usual[..], fields].concat()).await;
    }

    /// Takes a token away, as the application does, and tells nobody.
    pub async fn delete_token(&self, token: &str) {
        self.command::<()>(&["DEL", &format!("mb:token:{}", digest(token))]).await;
    }

    /// Writes a revocation into the stream and waits for nobody.
    pub async fn revoke(&self, field: &str, value: &str) {
        self.command::<String>(&["XADD", "mb:token:events", "*", "type", "revoke", field, value]).await;
    }

    /// Waits until so many gateways have said that they are alive.
    pub async fn knows_gateways(&self, count: usize) {
        wait_for("the gateways to be known", || async {
            (self.command::<usize>(&["ZCARD", "mb:gateways"]).await == count).then_some(())
        })
        .await;
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

/// Sends one command on a connection.
pub async fn send<T: redis::FromRedisValue>(connection: &mut redis::aio::MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(word);
    });
    command.query_async(connection).await.unwrap()
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
