//! The link to Redis: one supervised connection that requests use and never wait for.
//!
//! Not redis-rs' `ConnectionManager`: it lets a command wait for a reconnect without a deadline, keeps a half-open connection that
//! only times out, and stops trying after errors that are not I/O errors. Here a background task connects, checks the connection
//! every half second and replaces it, for ever, whatever the error; a request takes what is published, or is told at once that
//! there is nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisError};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::config::settings::LinkSettings;
use crate::telemetry::metrics::Metrics;

/// What metrics call it.
const STORE: &str = "redis";
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const CHECK_EVERY: Duration = Duration::from_millis(500);
const CHECK_TIMEOUT: Duration = Duration::from_millis(200);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a replica says that it is alive, and for how long that counts.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);
const ALIVE_FOR_SECONDS: u64 = 15;
/// Longer than any deadline of ours; those decide.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

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

/// A connection that is there or not, at the moment.
pub struct Link {
    settings: LinkSettings,
    connection: ArcSwapOption<MultiplexedConnection>,
    doubts: Notify,
    replicas: AtomicU32,
    replica_id: String,
    metrics: Arc<Metrics>,
}

impl Link {
    /// Starts a link and its supervisor, which ends when the link is dropped. Must be called on a tokio runtime.
    pub fn start(settings: LinkSettings, replica_id: String, metrics: Arc<Metrics>) -> Arc<Self> {
        let link = Arc::new(Self {
            settings,
            connection: ArcSwapOption::empty(),
            doubts: Notify::new(),
            replicas: AtomicU32::new(1),
            replica_id,
            metrics,
        });
        link.metrics.store_up(STORE, false);
        tokio::spawn(supervise(Arc::downgrade(&link)));
        link
    }

    /// In front of every key of ours.
    pub fn key_prefix(&self) -> &str {
        &self.settings.key_prefix
    }

    /// This gateway's name among the replicas.
    pub fn replica_id(&self) -> &str {
        &self.replica_id
    }

    /// What this link was started with.
    pub fn settings(&self) -> &LinkSettings {
        &self.settings
    }

    /// How many gateways shared this Redis when it last said so; one before it ever did.
    pub fn replicas(&self) -> u32 {
        self.replicas.load(Ordering::Relaxed)
    }

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.connection.load().is_some()
    }

    /// Sends one command on the connection there is and waits for its answer until `deadline`, or fails at once. `operation` is what
    /// metrics call it.
    ///
    /// Never repeated: a command that failed may have been carried out.
    pub async fn query<T: FromRedisValue>(
        &self,
        operation: &str,
        command: &redis::Cmd,
        deadline: Duration,
    ) -> Result<T, QueryError> {
        let answer = self.ask(operation, command, deadline).await;
        if let Err(error) = &answer {
            self.metrics.store_failed(STORE, operation);
            if !matches!(error, QueryError::Down) {
                self.doubt();
            }
        }
        answer
    }

    async fn ask<T: FromRedisValue>(
        &self,
        operation: &str,
        command: &redis::Cmd,
        deadline: Duration,
    ) -> Result<T, QueryError> {
        let connection = self.connection.load_full().ok_or(QueryError::Down)?;
        let began = Instant::now();
        let mut connection = MultiplexedConnection::clone(&connection);
        let answer = timeout(deadline, command.query_async(&mut connection)).await.map_err(|_| QueryError::Late)?;
        let answer = answer.map_err(QueryError::Failed)?;
        self.metrics.store_answered(STORE, operation, began.elapsed());
        Ok(answer)
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

    /// Has the connection checked now: something about it was not right.
    pub fn doubt(&self) {
        self.doubts.notify_one();
    }

    /// A connection of its own for somebody who waits on it: an answer may take as long as `response_timeout`.
    pub async fn dedicated(&self, response_timeout: Duration) -> Result<MultiplexedConnection, RedisError> {
        connect(&self.settings, response_timeout).await
    }

    /// Writes this replica down as alive and reads how many are, on the server's clock.
    async fn announce(&self, connection: &mut MultiplexedConnection) {
        const SCRIPT: &str = "local now = tonumber(redis.call('TIME')[1]) \
            redis.call('ZADD', KEYS[1], now, ARGV[1]) \
            redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2])) \
            redis.call('EXPIRE', KEYS[1], 60) \
            return redis.call('ZCARD', KEYS[1])";
        let mut command = redis::cmd("EVAL");
        command.arg(SCRIPT).arg(1).arg(replicas_key(self.key_prefix())).arg(&self.replica_id).arg(ALIVE_FOR_SECONDS);
        if let Ok(Ok(alive)) = timeout(CHECK_TIMEOUT, command.query_async::<u32>(connection)).await {
            self.replicas.store(alive.max(1), Ordering::Relaxed);
        }
    }

    fn publish(&self, connection: Option<MultiplexedConnection>) {
        self.metrics.store_up(STORE, connection.is_some());
        self.connection.store(connection.map(Arc::new));
    }
}

/// Connects to a server that takes writes. An answer may take as long as `response_timeout`.
pub async fn connect(settings: &LinkSettings, response_timeout: Duration) -> Result<MultiplexedConnection, RedisError> {
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(redis::io::tcp::socket2::TcpKeepalive::new().with_time(Duration::from_secs(5)))
        .set_user_timeout(Duration::from_secs(2));
    let info = url(settings).as_str().into_connection_info()?.set_tcp_settings(tcp);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response_timeout));
    let attempt = async {
        let mut connection = Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?;
        check(&mut connection).await?;
        Ok(connection)
    };
    timeout(2 * CONNECT_TIMEOUT, attempt).await.unwrap_or_else(|_| Err((ErrorKind::Io, "no connection in time").into()))
}

/// The url as it is now: a file is read again, and the last known one serves while it cannot be.
fn url(settings: &LinkSettings) -> String {
    let read = settings.url_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
    read.map_or_else(|| settings.url.0.clone(), |text| text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Where replicas write down that they are alive: a sorted set of their names by Unix seconds.
fn replicas_key(prefix: &str) -> String {
    format!("{prefix}gateways")
}

/// The names of the gateways that were alive a moment ago, on the server's clock.
pub async fn replicas(connection: &mut MultiplexedConnection, prefix: &str) -> Result<Vec<String>, RedisError> {
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
    let since = seconds.saturating_sub(ALIVE_FOR_SECONDS);
    redis::Cmd::zrangebyscore(replicas_key(prefix), since, "+inf").query_async(connection).await
}

/// What kind of error it is, without the text of a server, which may say anything.
pub fn name(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{} ({code})", error.category()),
        None => error.category().to_owned(),
    }
}

/// A connection is good if its server answers and takes writes. A server that keeps its role to itself is taken at its word.
async fn check(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let role = match redis::cmd("ROLE").query_async::<redis::Value>(connection).await {
        Err(error) if error.code() == Some("NOPERM") => return redis::cmd("PING").query_async(connection).await,
        role => role?,
    };
    let is_replica = match &role {
        redis::Value::Array(fields) => {
            fields.first().is_some_and(|name| String::from_redis_value_ref(name).is_ok_and(|name| name != "master"))
        }
        _ => false,
    };
    if is_replica { Err((ErrorKind::Io, "this Redis is a replica: it takes no writes").into()) } else { Ok(()) }
}

/// Connects, watches, reconnects: as long as somebody holds the link.
async fn supervise(link: std::sync::Weak<Link>) {
    let mut pause = SHORTEST_PAUSE;
    let mut is_reported = false;
    while let Some(strong) = link.upgrade() {
        match strong.dedicated(RESPONSE_TIMEOUT).await {
            Ok(connection) => {
                tracing::info!("connected to Redis");
                (pause, is_reported) = (SHORTEST_PAUSE, false);
                strong.publish(Some(connection.clone()));
                drop(strong);
                let why = watch(&link, connection).await;
                if let Some(link) = link.upgrade() {
                    link.publish(None);
                    tracing::error!("lost Redis: {why}; limits go by their on_store_failure until it is back");
                    is_reported = true;
                }
            }
            Err(error) => {
                if !is_reported {
                    tracing::error!("no connection to Redis: {}; trying again for ever", name(&error));
                    is_reported = true;
                }
                drop(strong);
                tokio::time::sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Returns when the connection is no longer good, or nobody needs it.
async fn watch(link: &std::sync::Weak<Link>, mut connection: MultiplexedConnection) -> String {
    let mut announce_at = Instant::now();
    loop {
        let Some(strong) = link.upgrade() else { return "the link was dropped".into() };
        match timeout(CHECK_TIMEOUT, check(&mut connection)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return name(&error),
            Err(_) => return "it does not answer".into(),
        }
        if Instant::now() >= announce_at {
            strong.announce(&mut connection).await;
            announce_at = Instant::now() + ANNOUNCE_EVERY;
        }
        // A doubt is looked into at once, but a stream of them not more often than every 50 ms.
        let _ = timeout(CHECK_EVERY, strong.doubts.notified()).await;
        drop(strong);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Half to all of a pause, so that replicas do not come back in step.
pub fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
