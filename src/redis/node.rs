//! One server: a supervised connection that requests use and never wait for.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt as _;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, RedisError};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::config::redis_url::Shape;
use crate::config::settings::LinkSettings;
use crate::redis::connect::check;
use crate::redis::{QueryError, connect, jittered, name, sentinel};

const CHECK_EVERY: Duration = Duration::from_millis(500);
const CHECK_TIMEOUT: Duration = Duration::from_millis(300);
/// Checks in a row without an answer that condemn a connection: one may be a machine that was busy.
const MISSES: u32 = 2;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Longer than any deadline of ours; those decide.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that is there or not, at the moment.
pub(super) struct Node {
    settings: LinkSettings,
    /// `host:port`, or nothing where the url says whom to connect to.
    host: Option<String>,
    connection: ArcSwapOption<MultiplexedConnection>,
    doubts: Notify,
    moved: Notify,
    told: Box<dyn Fn(bool) + Send + Sync>,
}

impl Node {
    /// Starts a supervisor, which ends when the node is dropped, and tells each time a connection comes or goes.
    pub(super) fn start(
        settings: LinkSettings,
        host: Option<String>,
        told: impl Fn(bool) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let node = Arc::new(Self {
            settings,
            host,
            connection: ArcSwapOption::empty(),
            doubts: Notify::new(),
            moved: Notify::new(),
            told: Box::new(told),
        });
        (node.told)(false);
        tokio::spawn(supervise(Arc::downgrade(&node)));
        node
    }

    pub(super) fn settings(&self) -> &LinkSettings {
        &self.settings
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.load().is_some()
    }

    /// Has the connection checked now: something about it was not right.
    pub(super) fn doubt(&self) {
        self.doubts.notify_one();
    }

    /// Has the connection replaced: somebody else is the master.
    pub(super) fn has_moved(&self) {
        self.moved.notify_one();
    }

    /// Sends a command on the connection there is, behind `ASKING` where another node has said so, and waits until `deadline`.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        command: &redis::Cmd,
        is_asking: bool,
        deadline: Duration,
    ) -> Result<T, QueryError> {
        let connection = self.connection.load_full().ok_or(QueryError::Down)?;
        let mut connection = MultiplexedConnection::clone(&connection);
        let answer = async {
            if !is_asking {
                return command.query_async(&mut connection).await;
            }
            let mut pipeline = redis::pipe();
            pipeline.cmd("ASKING").ignore().add_command(command.clone());
            pipeline.query_async::<(T,)>(&mut connection).await.map(|(answer,)| answer)
        };
        let answer = timeout(deadline, answer).await.unwrap_or(Err((ErrorKind::Io, "no answer in time").into()));
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => {
                self.doubt();
                Err(if error.is_timeout() || error.code().is_none() && error.kind() == ErrorKind::Io {
                    QueryError::Late
                } else {
                    QueryError::Failed(error)
                })
            }
        }
    }

    /// Connects to the server as it is to be found now, and looks whether it takes writes.
    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        // News from before the question is no news.
        let _ = self.moved.notified().now_or_never();
        let url = connect::url(&self.settings)?;
        let host = match (&self.host, &url.shape) {
            (Some(host), _) => host.clone(),
            (None, Shape::Sentinel(service)) => sentinel::master(&url, service, &self.settings).await?,
            (None, _) => url.hosts.first().cloned().unwrap_or_default(),
        };
        let mut connection = connect::connect(&url, &host, &self.settings, RESPONSE_TIMEOUT).await?;
        let late = || Err((ErrorKind::Io, "no answer in time").into());
        timeout(CHECK_TIMEOUT, check(&mut connection)).await.unwrap_or_else(|_| late())?;
        Ok(connection)
    }

    fn publish(&self, connection: Option<MultiplexedConnection>) {
        let is_up = connection.is_some();
        self.connection.store(connection.map(Arc::new));
        (self.told)(is_up);
    }

    /// How the log calls it.
    fn title(&self) -> String {
        self.host.as_ref().map_or_else(|| "Redis".to_owned(), |host| format!("Redis node {host}"))
    }
}

/// Connects, watches, reconnects: as long as somebody holds the node.
async fn supervise(node: Weak<Node>) {
    let mut pause = SHORTEST_PAUSE;
    // Why it was not possible to connect, as it was last told.
    let mut told = String::new();
    while let Some(strong) = node.upgrade() {
        let title = strong.title();
        match strong.connect().await {
            Ok(connection) => {
                tracing::info!("connected to {title}");
                pause = SHORTEST_PAUSE;
                told.clear();
                strong.publish(Some(connection.clone()));
                drop(strong);
                let why = watch(&node, connection).await;
                if let Some(node) = node.upgrade() {
                    node.publish(None);
                    tracing::error!("lost {title}: {why}; limits go by their on_store_failure until it is back");
                }
            }
            Err(error) => {
                let why = name(&error);
                if why != told {
                    tracing::error!("no connection to {title}: {why}; trying again for ever");
                    told = why;
                }
                drop(strong);
                tokio::time::sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Returns when the connection is no longer good, or nobody needs it.
async fn watch(node: &Weak<Node>, mut connection: MultiplexedConnection) -> String {
    let mut misses = 0;
    loop {
        let Some(strong) = node.upgrade() else { return "nobody needs it".into() };
        match timeout(CHECK_TIMEOUT, check(&mut connection)).await {
            Ok(Ok(())) => misses = 0,
            Ok(Err(error)) => return name(&error),
            Err(_) if misses + 1 < MISSES => {
                misses += 1;
                continue;
            }
            Err(_) => return "it does not answer".into(),
        }
        let next = Instant::now() + CHECK_EVERY;
        tokio::select! {
            () = strong.moved.notified() => return "another server is the master".into(),
            // A doubt is looked into at once, but a stream of them not more often than every 50 ms.
            () = strong.doubts.notified() => tokio::time::sleep(Duration::from_millis(50)).await,
            () = tokio::time::sleep_until(next) => {}
        }
    }
}
