//! The shared store: one script on the server's clock, counted exactly for any number of replicas.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::{ErrorKind, RedisError, Script, ServerErrorKind};

use crate::limits::local::Debts;
use crate::limits::script::{self, Call};
use crate::policy::limit::{Ask, Count};
use crate::ports::{LimitStore, StoreError};
use crate::redis::{Link, QueryError};

/// The version of what is stored under a counter's key.
const FORMAT: &str = "rl:3:";
/// What metrics call it.
const TAKE_NAME: &str = "take";

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(script::SOURCE));

/// Counters in Redis.
pub struct RedisStore {
    link: Arc<Link>,
    deadline: Duration,
}

/// How many of `requests` fit that ask the same.
pub(super) struct Question<'q> {
    pub asks: &'q [Ask],
    pub requests: u32,
    /// What is owed for these asks.
    pub debts: &'q Debts,
}

impl RedisStore {
    /// Counts through `link`, waiting `deadline` at the most for each decision.
    pub fn new(link: Arc<Link>, deadline: Duration) -> Self {
        Self { link, deadline }
    }

    /// The longest wait for one decision.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The connection.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Answers questions in one call, `within` some time. In a Cluster, where counters live on different nodes, it is to be one question.
    ///
    /// A server that does not have the script is sent it once; every other error may have counted, so it is not asked again.
    pub(super) async fn ask(
        &self,
        questions: &[Question<'_>],
        within: Duration,
    ) -> Result<Vec<Result<Count, StoreError>>, StoreError> {
        let late_at = Instant::now() + within;
        let first = questions.first().and_then(|question| question.asks.first()).ok_or(StoreError::Failed)?;
        let key = self.key(first);
        let command = self.command("EVALSHA", TAKE.get_hash(), questions);
        let reply = match self.link.query(TAKE_NAME, &key, &command, within).await {
            Err(QueryError::Failed(error)) if is_no_script(&error) => {
                let left = late_at.saturating_duration_since(Instant::now());
                let command = self.command("EVAL", script::SOURCE, questions);
                self.link.query(TAKE_NAME, &key, &command, left).await
            }
            reply => reply,
        };
        let reply: Vec<u8> = reply.map_err(|error| match error {
            QueryError::Down => StoreError::Down,
            QueryError::Late => StoreError::Late,
            QueryError::Failed(_) => StoreError::Failed,
        })?;
        script::answers(&reply, questions.iter().map(|question| question.asks.len())).ok_or(StoreError::Failed)
    }

    fn key(&self, ask: &Ask) -> String {
        [self.link.key_prefix(), FORMAT, ask.key.as_str()].concat()
    }

    fn command(&self, verb: &str, script: &str, questions: &[Question<'_>]) -> redis::Cmd {
        let mut command = redis::cmd(verb);
        let asks = || questions.iter().flat_map(|question| question.asks);
        command.arg(script).arg(asks().count());
        for ask in asks() {
            command.arg(self.key(ask));
        }
        let mut call = Call::default();
        for question in questions {
            call.ask(question.asks, question.requests, |at| question.debts.of(at));
        }
        for argument in call.arguments() {
            command.arg(argument);
        }
        command
    }
}

#[async_trait]
impl LimitStore for RedisStore {
    async fn take(&self, asks: &[Ask], requests: u32) -> Result<Count, StoreError> {
        let question = Question { asks, requests, debts: &Debts::NONE };
        let answers = self.ask(&[question], self.deadline).await?;
        answers.into_iter().next().unwrap_or(Err(StoreError::Failed))
    }
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
