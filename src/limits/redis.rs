//! The shared store: one script on the server's clock, counted exactly for any number of replicas.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::{ErrorKind, RedisError, Script, ServerErrorKind};

use crate::policy::limit::{Ask, Count, Tally};
use crate::policy::time::{UnixMillis, millis};
use crate::ports::{LimitStore, StoreError};
use crate::redis::{Link, QueryError};

/// The version of what is stored under a counter's key.
const FORMAT: &str = "rl:1:";

/// What metrics call it.
const TAKE_NAME: &str = "take";

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take.lua")));

/// Counters in Redis.
pub struct RedisStore {
    link: Arc<Link>,
    deadline: Duration,
}

impl RedisStore {
    /// Counts through `link`, waiting `deadline` at the most for each decision.
    pub fn new(link: Arc<Link>, deadline: Duration) -> Self {
        Self { link, deadline }
    }

    fn command(&self, verb: &str, script: &str, asks: &[Ask]) -> redis::Cmd {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(asks.len());
        for ask in asks {
            command.arg(format!("{}{FORMAT}{}", self.link.key_prefix(), ask.key.as_str()));
        }
        for ask in asks {
            command.arg(ask.limit.requests).arg(millis(ask.limit.window));
        }
        command
    }
}

#[async_trait]
impl LimitStore for RedisStore {
    /// A server that does not have the script is sent it once; every other error may have counted, so it is not asked again.
    async fn take(&self, asks: &[Ask]) -> Result<Count, StoreError> {
        let late_at = Instant::now() + self.deadline;
        let reply =
            match self.link.query(TAKE_NAME, &self.command("EVALSHA", TAKE.get_hash(), asks), self.deadline).await {
                Err(QueryError::Failed(error)) if is_no_script(&error) => {
                    let left = late_at.saturating_duration_since(Instant::now());
                    self.link.query(TAKE_NAME, &self.command("EVAL", include_str!("take.lua"), asks), left).await
                }
                reply => reply,
            };
        let reply: Vec<i64> = reply.map_err(|error| match error {
            QueryError::Down => StoreError::Down,
            QueryError::Late => StoreError::Late,
            QueryError::Failed(_) => StoreError::Failed,
        })?;
        read(&reply, asks.len()).ok_or(StoreError::Failed)
    }
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn read(reply: &[i64], asks: usize) -> Option<Count> {
    let (&[granted, now], tallies) = reply.split_first_chunk::<2>()?;
    let point = |millis: i64| u64::try_from(millis).ok().map(UnixMillis);
    let tallies = tallies
        .chunks_exact(2)
        .map(|pair| match pair {
            [remaining, ends] => Some(Tally { remaining: u32::try_from(*remaining).ok()?, ends: point(*ends)? }),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    (tallies.len() == asks).then_some(Count { granted: granted == 1, now: point(now)?, tallies })
}
