//! The link to Redis, whatever its shape: requests use what connections there are, and never wait for one.
//!
//! Not redis-rs' `ConnectionManager`: it lets a command wait for a reconnect without a deadline, keeps a half-open connection that
//! only times out, and stops trying after errors that are not I/O errors. Here a background task for each server connects, checks the
//! connection every half second and replaces it, for ever, whatever the error; a request takes what is published, or is told at once
//! that there is nothing.

mod cluster;
mod connect;
mod node;
mod sentinel;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisError};
use tokio::time::{Instant, timeout};

use crate::config::redis_url::Shape;
use crate::config::settings::LinkSettings;
use crate::redis::cluster::Cluster;
use crate::redis::connect::check;
use crate::redis::node::Node;
use crate::telemetry::metrics::Metrics;

/// What metrics call it.
const STORE: &str = "redis";
/// How often a replica says that it is alive, and for how long that counts.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);
const ANNOUNCE_AGAIN_IN: Duration = Duration::from_millis(250);
const ALIVE_FOR_SECONDS: u64 = 15;
/// The longest wait for an answer that no request waits for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Why a command has no answer.
#[derive(Debug)]
pub enum QueryError {
    /// There was no connection, so nothing was sent.
    Down,
    /// It was sent, or may have been, and no answer came in time.
    Late,
    /// It was sent, or may have been.
    Failed(RedisError),
}

impl std::fmt::Display for QueryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down => f.write_str("there is no connection"),
            Self::Late => f.write_str("no answer in time"),
            Self::Failed(error) => f.write_str(&name(error)),
        }
    }
}

/// The connections to a Redis.
pub struct Link {
    settings: LinkSettings,
    servers: Servers,
    replicas: AtomicU32,
    /// This gateway's name among the replicas; a tool that only looks has none.
    replica_id: Option<String>,
    metrics: Arc<Metrics>,
}

/// What there is to connect to.
enum Servers {
    /// One server, or the one that sentinels name.
    One(Arc<Node>),
    /// The nodes of a Cluster.
    Many(Arc<Cluster>),
}

impl Link {
    /// Starts the connections, which end when the link is dropped. Must be called on a tokio runtime.
    ///
    /// With a `replica_id` it takes part in the count of gateways that share this Redis.
    pub fn start(settings: LinkSettings, replica_id: Option<String>, metrics: Arc<Metrics>) -> Arc<Self> {
        let told = {
            let metrics = Arc::clone(&metrics);
            move |is_up| metrics.store_up(STORE, is_up)
        };
        let shape = connect::url(&settings).map(|url| url.shape);
        let servers = match shape {
            Ok(Shape::Cluster) => Servers::Many(Cluster::start(settings.clone(), told)),
            Ok(Shape::Sentinel(_)) => {
                let node = Node::start(settings.clone(), None, told);
                sentinel::start(&node);
                Servers::One(node)
            }
            Ok(Shape::Single) | Err(_) => Servers::One(Node::start(settings.clone(), None, told)),
        };
        let link = Arc::new(Self { settings, servers, replicas: AtomicU32::new(1), replica_id, metrics });
        if link.replica_id.is_some() {
            tokio::spawn(announce(Arc::downgrade(&link)));
        }
        link
    }

    /// In front of every key of ours.
    pub fn key_prefix(&self) -> &str {
        &self.settings.key_prefix
    }

    /// This gateway's name among the replicas.
    pub fn replica_id(&self) -> &str {
        self.replica_id.as_deref().unwrap_or_default()
    }

    /// What this link was started with.
    pub fn settings(&self) -> &LinkSettings {
        &self.settings
    }

    /// How many gateways shared this Redis when it last said so; one before it ever did.
    pub fn replicas(&self) -> u32 {
        self.replicas.load(Ordering::Relaxed)
    }

    /// Whether there is a connection, in a Cluster to every master.
    pub fn is_up(&self) -> bool {
        match &self.servers {
            Servers::One(node) => node.is_up(),
            Servers::Many(cluster) => cluster.is_up(),
        }
    }

    /// Whether all keys are on one server.
    pub fn is_one_server(&self) -> bool {
        matches!(self.servers, Servers::One(_))
    }

    /// Whether there is a connection, in a Cluster to any master.
    pub fn is_partly_up(&self) -> bool {
        match &self.servers {
            Servers::One(node) => node.is_up(),
            Servers::Many(cluster) => cluster.is_partly_up(),
        }
    }

    /// Sends one command about `key` on the connection there is and waits for its answer until `deadline`, or fails at once.
    /// `operation` is what metrics call it.
    ///
    /// Never repeated, because a command that failed may have been carried out, except where a Cluster node has said that it was not.
    pub async fn query<T: FromRedisValue>(
        &self,
        operation: &str,
        key: &str,
        command: &redis::Cmd,
        deadline: Duration,
    ) -> Result<T, QueryError> {
        let began = Instant::now();
        let answer = match &self.servers {
            Servers::One(node) => node.ask(command, false, deadline).await,
            Servers::Many(cluster) => cluster.ask(key, command, deadline).await,
        };
        match &answer {
            Ok(_) => self.metrics.store_answered(STORE, operation, began.elapsed()),
            Err(_) => self.metrics.store_failed(STORE, operation),
        }
        answer
    }

    /// Waits until there is a connection, for `patience` at the most.
    pub async fn settle(&self, patience: Duration) {
        let connected = async {
            while !self.is_up() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Without it, limits go by their on_store_failure.
        let _ = timeout(patience, connected).await;
    }

    /// A connection of its own, to the server that has `key`, for somebody who waits on it: an answer may take as long as
    /// `response_timeout`.
    pub async fn dedicated(&self, key: &str, response_timeout: Duration) -> Result<MultiplexedConnection, RedisError> {
        let url = connect::url(&self.settings)?;
        let host = match &url.shape {
            Shape::Single => url.hosts.first().cloned().unwrap_or_default(),
            Shape::Sentinel(service) => sentinel::master(&url, service, &self.settings).await?,
            Shape::Cluster => cluster::owner(&self.settings, key).await?,
        };
        let mut connection = connect::connect(&url, &host, &self.settings, response_timeout).await?;
        check(&mut connection).await?;
        Ok(connection)
    }

    /// The names of the gateways that were alive a moment ago, on the server's clock.
    pub async fn gateways(&self) -> Result<Vec<String>, QueryError> {
        const SCRIPT: &str = "local since = tonumber(redis.call('TIME')[1]) - tonumber(ARGV[1]) \
            return redis.call('ZRANGEBYSCORE', KEYS[1], since, '+inf')";
        let key = self.replicas_key();
        let mut command = redis::cmd("EVAL");
        command.arg(SCRIPT).arg(1).arg(&key).arg(ALIVE_FOR_SECONDS);
        self.query("gateways", &key, &command, PATIENCE).await
    }

    /// Takes this replica out of the count: it is about to end.
    pub async fn leave(&self) {
        let Some(replica_id) = &self.replica_id else { return };
        let key = self.replicas_key();
        // It would be taken out a quarter of a minute later anyhow.
        let _ = self.query::<u32>("announce", &key, redis::cmd("ZREM").arg(&key).arg(replica_id), PATIENCE).await;
    }

    /// Writes this replica down as alive and reads how many are, on the server's clock.
    async fn announce(&self) -> Result<(), QueryError> {
        const SCRIPT: &str = "local now = tonumber(redis.call('TIME')[1]) \
            redis.call('ZADD', KEYS[1], now, ARGV[1]) \
            redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2])) \
            redis.call('EXPIRE', KEYS[1], 60) \
            return redis.call('ZCARD', KEYS[1])";
        let key = self.replicas_key();
        let mut command = redis::cmd("EVAL");
        command.arg(SCRIPT).arg(1).arg(&key).arg(self.replica_id()).arg(ALIVE_FOR_SECONDS);
        let alive: u32 = self.query("announce", &key, &command, PATIENCE).await?;
        self.replicas.store(alive.max(1), Ordering::Relaxed);
        Ok(())
    }

    /// Where replicas write down that they are alive: a sorted set of their names by Unix seconds.
    fn replicas_key(&self) -> String {
        format!("{}gateways", self.key_prefix())
    }
}

/// Says that this replica is alive, as long as somebody holds the link. What it knows of the others stays while Redis is away.
async fn announce(link: Weak<Link>) {
    while let Some(strong) = link.upgrade() {
        let is_told = strong.is_up() && strong.announce().await.is_ok();
        drop(strong);
        let pause = if is_told { ANNOUNCE_EVERY } else { ANNOUNCE_AGAIN_IN };
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// What kind of error it is, without the text of a server, which may say anything.
pub fn name(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{} ({code})", error.category()),
        None => error.category().to_owned(),
    }
}

/// Half to all of a pause, so that replicas do not come back in step.
pub fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
