//! The shared store: one script on the server's clock, counted exactly for any number of replicas.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::{ErrorKind, RedisError, Script, ServerErrorKind};

use crate::limits::local::Debts;
use crate::policy::limit::{Ask, Count, Tally};
use crate::policy::meter::Algorithm;
use crate::policy::time::{UnixMillis, millis};
use crate::ports::{LimitStore, StoreError};
use crate::redis::{Link, QueryError};

/// The version of what is stored under a counter's key.
const FORMAT: &str = "rl:1:";
/// What metrics call it.
const TAKE_NAME: &str = "take";
/// Calls that wait for an answer at the most; what comes on top is decided without the store.
const MOST_OUTSTANDING: usize = 2048;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take.lua")));

/// Counters in Redis.
pub struct RedisStore {
    link: Arc<Link>,
    deadline: Duration,
    outstanding: AtomicUsize,
}

/// One call that waits; counted as long as it lives.
struct Outstanding<'s>(&'s AtomicUsize);

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl RedisStore {
    /// Counts through `link`, waiting `deadline` at the most for each decision.
    pub fn new(link: Arc<Link>, deadline: Duration) -> Self {
        Self { link, deadline, outstanding: AtomicUsize::new(0) }
    }

    /// The longest wait for one decision.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The connection.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Takes requests, and what is owed from the time without the store, as [`LimitStore::take`].
    ///
    /// A server that does not have the script is sent it once; every other error may have counted, so it is not asked again.
    pub async fn take_with(&self, asks: &[Ask], requests: u32, debts: &Debts) -> Result<Count, StoreError> {
        let _outstanding = self.enter()?;
        let late_at = Instant::now() + self.deadline;
        let key = self.key(asks.first().ok_or(StoreError::Failed)?);
        let command = self.command("EVALSHA", TAKE.get_hash(), asks, requests, debts);
        let reply = match self.link.query(TAKE_NAME, &key, &command, self.deadline).await {
            Err(QueryError::Failed(error)) if is_no_script(&error) => {
                let left = late_at.saturating_duration_since(Instant::now());
                let command = self.command("EVAL", include_str!("take.lua"), asks, requests, debts);
                self.link.query(TAKE_NAME, &key, &command, left).await
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

    fn enter(&self) -> Result<Outstanding<'_>, StoreError> {
        let outstanding = Outstanding(&self.outstanding);
        let before = self.outstanding.fetch_add(1, Ordering::AcqRel);
        if before < MOST_OUTSTANDING { Ok(outstanding) } else { Err(StoreError::Down) }
    }

    fn key(&self, ask: &Ask) -> String {
        format!("{}{FORMAT}{}", self.link.key_prefix(), ask.key.as_str())
    }

    fn command(&self, verb: &str, script: &str, asks: &[Ask], requests: u32, debts: &Debts) -> redis::Cmd {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(asks.len());
        for ask in asks {
            command.arg(self.key(ask));
        }
        command.arg(requests);
        for (at, ask) in asks.iter().enumerate() {
            let rate = &ask.limit.rate;
            let algorithm = match rate.algorithm {
                Algorithm::FixedWindow => "window",
                Algorithm::SlidingLog => "log",
                Algorithm::Gcra => "gcra",
            };
            command.arg(algorithm).arg(rate.capacity).arg(rate.requests).arg(millis(rate.window));
            command.arg(ask.cost).arg(u8::from(ask.limit.is_enforced())).arg(debts.of(at));
        }
        command
    }
}

#[async_trait]
impl LimitStore for RedisStore {
    async fn take(&self, asks: &[Ask], requests: u32) -> Result<Count, StoreError> {
        self.take_with(asks, requests, &Debts::NONE).await
    }
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn read(reply: &[i64], asks: usize) -> Option<Count> {
    let (&[granted, now], tallies) = reply.split_first_chunk::<2>()?;
    let point = |millis: i64| u64::try_from(millis).ok().map(UnixMillis);
    let number = |number: i64| u32::try_from(number).ok();
    let tallies = tallies
        .chunks_exact(4)
        .map(|four| match *four {
            [taken, remaining, ends, free_at] => Some(Tally {
                taken: number(taken)?,
                remaining: number(remaining)?,
                ends: point(ends)?,
                free_at: point(free_at)?,
            }),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    (tallies.len() == asks).then_some(Count { granted: number(granted)?, now: point(now)?, tallies })
}
