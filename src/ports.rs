//! The seams: what the pipeline needs of the world, and what it costs to get each wrong.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::policy::credential::TokenDigest;
use crate::policy::limit::{Ask, Count};
use crate::policy::principal::{BrokenRecord, Principal};
use crate::policy::refusal::TokenProblem;
use crate::policy::time::UnixMillis;

/// Whoever knows opaque tokens.
///
/// Asked for a token that is not cached, by a task that outlives the request which wanted to know. A source that answers
/// [`Verdict::Unknown`] when it merely could not look would turn every customer's valid token into a 401 and make clients throw it
/// away; that is what [`LookUpError`] is for. A source that answers [`Verdict::Valid`] from anything but the record of this very
/// digest lets strangers in.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// The `source` label.
    fn name(&self) -> &'static str;

    /// Looks a token up and judges its record at `now`. Bounded in time by the source itself.
    async fn look_up(&self, question: &Question, now: UnixMillis) -> Result<Verdict, LookUpError>;
}

/// A well-formed opaque token that somebody has to know. Debug shows six digits of its digest.
pub struct Question {
    /// What stores know it by.
    pub digest: TokenDigest,
    /// The token as it was presented, for a service that has to be shown it. Dropped with the question.
    pub presented: Box<str>,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Question({:?})", self.digest)
    }
}

/// What a source says of a token.
#[derive(Debug)]
pub enum Verdict {
    /// It is valid, and this is who calls.
    Valid(Arc<Principal>),
    /// It is known and not valid.
    Refused(TokenProblem),
    /// This source does not know it; the next one may.
    Unknown,
}

/// Why a source gave no verdict. Never to be read as "unknown".
#[derive(Clone, Debug)]
pub enum LookUpError {
    /// The store did not answer, or not in time. The text is for the log.
    Unavailable(String),
    /// The record cannot be used.
    Broken(BrokenRecord),
}

impl fmt::Display for LookUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => f.write_str(why),
            Self::Broken(record) => record.fmt(f),
        }
    }
}

/// Wherever counts are kept.
///
/// All limits of a request are decided in one atomic step on the store's clock: all are counted or none is, and a refused request
/// counts nowhere. A store that reads and writes in two steps lets concurrent requests through together; one that uses the
/// gateways' clocks has as many windows as there are clocks.
#[async_trait]
pub trait LimitStore: Send + Sync {
    /// Takes as many of `requests`, which all ask the same, as every enforced limit has room for; none of 0 tells where the
    /// counters stand.
    async fn take(&self, asks: &[Ask], requests: u32) -> Result<Count, StoreError>;
}

/// Why a store gave no decision. The request may have been counted all the same: it is never asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// There is no connection at the moment.
    Down,
    /// No answer within the deadline.
    Late,
    /// An answer that is none.
    Failed,
}

/// The time.
pub trait Clock: Send + Sync {
    /// Wall-clock time, for what others have written down: expiry dates.
    fn now(&self) -> UnixMillis;

    /// Time that only goes forward at an even pace, for windows of our own. Agrees with [`Clock::now`] when the process starts.
    fn steady(&self) -> UnixMillis;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
    started_at: UnixMillis,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: std::time::Instant::now(), started_at: wall_clock() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        wall_clock()
    }

    fn steady(&self) -> UnixMillis {
        self.started_at.plus(self.started.elapsed())
    }
}

fn wall_clock() -> UnixMillis {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(crate::policy::time::millis(since_epoch))
}
