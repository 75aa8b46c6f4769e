//! A redis-server of the test's own.

use std::process::{Child, Command, Stdio};

use super::token::{digest, now};
use super::{free_port, wait_for};

/// A running redis-server without persistence. It is killed when it is dropped.
pub struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    /// Starts one on a free port and waits until it answers.
    pub async fn start() -> Self {
        loop {
            if let Some(redis) = Self::try_start(free_port()).await {
                return redis;
            }
        }
    }

    /// Starts one on a port.
    pub async fn start_on(port: u16) -> Self {
        Self::try_start(port).await.expect("the port is free")
    }

    /// `None` if another test was faster to take the port.
    async fn try_start(port: u16) -> Option<Self> {
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server; deploy/prepare redis-server installs it");
        let mut redis = Self { process, port };
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
