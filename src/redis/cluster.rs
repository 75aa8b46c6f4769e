//! A Cluster: which node owns a key, and what a node says that does not.
//!
//! Not redis-rs' cluster client: it sends a command again when a connection breaks or an answer is late, and a script that takes from a
//! limit may have run. Here a command is sent again only to the node that a MOVED or ASK names, which proves that it has not.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use crc::{CRC_16_XMODEM, Crc};
use redis::{ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::config::settings::LinkSettings;
use crate::redis::QueryError;
use crate::redis::connect::{self, connect};
use crate::redis::node::Node;

const SLOTS: u16 = 16_384;
const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
/// The map is read again so often without a reason, and at most so often with one.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
const REFRESH_AT_MOST_EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_millis(500);

/// The nodes that own slots, and their connections.
pub(super) struct Cluster {
    settings: LinkSettings,
    map: ArcSwap<Map>,
    is_stale: Notify,
    told: Box<dyn Fn(bool) + Send + Sync>,
}

/// Who owns what.
#[derive(Default)]
struct Map {
    ranges: Vec<Range>,
    nodes: HashMap<String, Arc<Node>>,
}

/// Slots in a row that one node owns.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    host: String,
}

/// The slot of a key: the CRC16 of its hash tag, if it has one, else of all of it (Cluster specification).
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    CRC.checksum(hashed.as_bytes()) % SLOTS
}

impl Cluster {
    /// Starts reading the map, which ends when this is dropped.
    pub(super) fn start(settings: LinkSettings, told: impl Fn(bool) + Send + Sync + 'static) -> Arc<Self> {
        let cluster =
            Arc::new(Self { settings, map: ArcSwap::default(), is_stale: Notify::new(), told: Box::new(told) });
        (cluster.told)(false);
        tokio::spawn(keep_up(Arc::downgrade(&cluster)));
        cluster
    }

    /// Whether every node that owns slots has a connection.
    pub(super) fn is_up(&self) -> bool {
        let map = self.map.load();
        !map.ranges.is_empty() && map.nodes.values().all(|node| node.is_up())
    }

    /// Whether any node has a connection.
    pub(super) fn is_partly_up(&self) -> bool {
        self.map.load().nodes.values().any(|node| node.is_up())
    }

    /// Sends a command to the node that owns `key`, and once more to the one that it names instead.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        key: &str,
        command: &redis::Cmd,
        deadline: Duration,
    ) -> Result<T, QueryError> {
        let late_at = tokio::time::Instant::now() + deadline;
        let owner = self.map.load().owner(slot(key));
        let answer = match owner {
            Some(node) => node.ask(command, false, deadline).await,
            None => Err(QueryError::Down),
        };
        let Err(error) = &answer else { return answer };
        self.is_stale.notify_one();
        let Some((host, is_asking)) = redirection(error) else { return answer };
        let Some(node) = self.map.load().nodes.get(&host).map(Arc::clone) else { return answer };
        node.ask(command, is_asking, late_at.saturating_duration_since(tokio::time::Instant::now())).await
    }

    async fn refresh(self: &Arc<Self>) -> Result<(), RedisError> {
        let known = self.map.load_full();
        let ranges = read_map(&self.settings, &known.hosts()).await?;
        let mut nodes = HashMap::new();
        for range in &ranges {
            let start = || {
                let cluster = Arc::downgrade(self);
                Node::start(self.settings.clone(), Some(range.host.clone()), move |_| {
                    if let Some(cluster) = cluster.upgrade() {
                        cluster.has_changed();
                    }
                })
            };
            nodes
                .entry(range.host.clone())
                .or_insert_with(|| known.nodes.get(&range.host).map_or_else(start, Arc::clone));
        }
        self.map.store(Arc::new(Map { ranges, nodes }));
        (self.told)(self.is_up());
        Ok(())
    }

    /// A connection has come or gone. With a node that is gone, somebody else may own what it had.
    fn has_changed(&self) {
        let is_up = self.is_up();
        (self.told)(is_up);
        if !is_up {
            self.is_stale.notify_one();
        }
    }
}

impl Map {
    /// Where nodes are, those with a connection first.
    fn hosts(&self) -> Vec<String> {
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|(_, node)| !node.is_up());
        nodes.into_iter().map(|(host, _)| host.clone()).collect()
    }

    fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        let range = self.ranges.iter().find(|range| (range.first..=range.last).contains(&slot))?;
        self.nodes.get(&range.host).map(Arc::clone)
    }
}

/// Where a node says that a command belongs, and whether only this once.
fn redirection(error: &QueryError) -> Option<(String, bool)> {
    let QueryError::Failed(error) = error else { return None };
    let is_asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
    error.redirect_node().map(|(host, _)| (host.to_owned(), is_asking))
}

/// Reads the map when it may be out of date, as long as somebody holds the cluster.
async fn keep_up(cluster: Weak<Cluster>) {
    let mut is_reported = false;
    while let Some(strong) = cluster.upgrade() {
        match strong.refresh().await {
            Ok(()) => is_reported = false,
            Err(error) if !is_reported => {
                tracing::error!("no node of the Redis Cluster tells who owns what: {}", crate::redis::name(&error));
                is_reported = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(REFRESH_AT_MOST_EVERY).await;
        let wait = if strong.is_up() { REFRESH_EVERY } else { PATIENCE };
        let _ = timeout(wait, strong.is_stale.notified()).await;
    }
}

/// The map as the first node that answers has it: one that is known, or one that the url names.
async fn read_map(settings: &LinkSettings, known: &[String]) -> Result<Vec<Range>, RedisError> {
    let url = connect::url(settings)?;
    let mut last_error = (ErrorKind::Io, "no node is named").into();
    for host in known.iter().chain(url.hosts.iter().filter(|host| !known.contains(host))) {
        let answer = async {
            let mut connection = connect(&url, host, settings, PATIENCE).await?;
            redis::cmd("CLUSTER").arg("SLOTS").query_async::<Value>(&mut connection).await
        };
        match answer.await {
            Ok(reply) => {
                let asked = host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host);
                let ranges = read_ranges(&reply, asked);
                if !ranges.is_empty() {
                    return Ok(ranges);
                }
                last_error = (ErrorKind::Client, "the node knows of no slots").into();
            }
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// The node that owns `key` now.
pub(super) async fn owner(settings: &LinkSettings, key: &str) -> Result<String, RedisError> {
    let slot = slot(key);
    let ranges = read_map(settings, &[]).await?;
    let owner = ranges.into_iter().find(|range| (range.first..=range.last).contains(&slot));
    owner.map(|range| range.host).ok_or_else(|| (ErrorKind::Client, "nobody owns the slot").into())
}

/// Reads the reply of CLUSTER SLOTS: first slot, last slot, the master, and its replicas. A node without a name is the one that was asked.
fn read_ranges(reply: &Value, asked: &str) -> Vec<Range> {
    let Value::Array(entries) = reply else { return Vec::new() };
    let read = |entry: &Value| {
        let Value::Array(fields) = entry else { return None };
        let [first, last, Value::Array(master), ..] = fields.as_slice() else { return None };
        let [host, port, ..] = master.as_slice() else { return None };
        let host = String::from_redis_value_ref(host).ok().filter(|host| !host.is_empty() && host != "?");
        let host = host.unwrap_or_else(|| asked.to_owned());
        let port = u16::from_redis_value_ref(port).ok()?;
        Some(Range {
            first: u16::from_redis_value_ref(first).ok()?,
            last: u16::from_redis_value_ref(last).ok()?,
            host: if host.contains(':') && !host.starts_with('[') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            },
        })
    };
    entries.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hashed_by_its_tag() {
        // The examples of the Cluster specification.
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_eq!(slot("foo{}{bar}"), CRC.checksum(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot("foo{{bar}}zap"), CRC.checksum(b"{bar") % SLOTS);
    }

    #[test]
    fn the_map_names_masters_and_the_one_that_was_asked_need_not_name_itself() {
        let text = |text: &str| Value::BulkString(text.into());
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let entry =
            |first, last, nodes: Vec<Value>| Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat());
        let reply = Value::Array(vec![
            entry(0, 5460, vec![node(text("10.0.0.1"), 7000), node(text("10.0.0.4"), 7003)]),
            entry(5461, 16_383, vec![node(text(""), 7001)]),
            Value::Nil,
        ]);
        let range = |first, last, host: &str| Range { first, last, host: host.to_owned() };
        assert_eq!(read_ranges(&reply, "seed"), [range(0, 5460, "10.0.0.1:7000"), range(5461, 16_383, "seed:7001")]);
    }
}
