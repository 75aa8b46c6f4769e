//! Revocations: a Redis stream that the application writes and every gateway follows.
//!
//! Entries are `type revoke` with one of `digest`, `id`, `user` and `workspace`. They are marks that hold for good, looked at on every
//! use of a token, so a look-up that was under way when one came cannot bring the token back. The stream is read from its beginning
//! when a gateway starts and from where it was after a reconnect. An entry that is lost (a failover that had not copied it) costs what
//! it would have cost without the stream: the token goes on for as long as it is cached.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::RwLock;
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::policy::credential::{Form, TokenDigest};
use crate::policy::principal::Principal;
use crate::policy::time::{UnixMillis, UnixSeconds};
use crate::ports::Clock;
use crate::redis::{self as link, Link, QueryError};
use crate::telemetry::metrics::Metrics;

/// Entries that the stream keeps, and marks that are remembered.
const MOST: usize = 100_000;
/// Entries that are read at a time.
const BATCH: usize = 1000;
/// How long one read waits for an entry. A connection that says nothing for longer is dead.
const BLOCK: Duration = Duration::from_secs(1);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a publisher waits for the gateways, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// For how long a gateway's word that it has seen an entry is kept.
const SEEN_FOR_SECONDS: u64 = 60;

/// Whose tokens end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One token, by its digest.
    Digest(TokenDigest),
    /// One token, by its public id.
    Id(String),
    /// All tokens of a user made before the entry.
    User(String),
    /// All tokens of a workspace made before the entry.
    Workspace(String),
}

impl Subject {
    /// The field and the value of its entry.
    pub fn field(&self) -> (&'static str, String) {
        match self {
            Self::Digest(digest) => ("digest", digest.to_hex()),
            Self::Id(id) => ("id", id.clone()),
            Self::User(user) => ("user", user.clone()),
            Self::Workspace(workspace) => ("workspace", workspace.clone()),
        }
    }

    /// Reads an entry; `None` for one that is no revocation, or of nobody.
    fn read(entry: &StreamId) -> Option<Self> {
        let text = |name| entry.get::<String>(name).filter(|text| !text.is_empty());
        if text("type")? != "revoke" {
            return None;
        }
        let digest = || TokenDigest::from_hex(&text("digest")?).map(Self::Digest);
        let owner = || text("user").map(Self::User).or_else(|| text("workspace").map(Self::Workspace));
        digest().or_else(|| text("id").map(Self::Id)).or_else(owner)
    }
}

fn stream_key(prefix: &str) -> String {
    format!("{prefix}token:events")
}

/// Where a gateway says which entry it has seen last.
fn seen_key(prefix: &str, replica: &str) -> String {
    format!("{prefix}token:seen:{replica}")
}

/// What came of publishing a revocation.
#[derive(Debug)]
pub struct Published {
    /// Gateways that were alive.
    pub live: usize,
    /// Those of them that have not said in time that they have seen it.
    pub silent: Vec<String>,
    /// How long the others took, from the entry to the last word.
    pub took: Duration,
}

/// Writes a revocation into the stream, and waits for every gateway that is alive to say that it is in force there.
pub async fn publish(link: &Link, subject: &Subject) -> Result<Published, String> {
    let prefix = link.key_prefix();
    let failed = |error: QueryError| error.to_string();
    let live = link.gateways().await.map_err(failed)?;
    let began = Instant::now();
    let (field, value) = subject.field();
    let stream = stream_key(prefix);
    let mut entry = redis::cmd("XADD");
    entry.arg(&stream).arg("MAXLEN").arg("~").arg(MOST).arg("*");
    entry.arg("type").arg("revoke").arg(field).arg(value);
    let written: String = link.query("revoke", &stream, &entry, RESPONSE_TIMEOUT).await.map_err(failed)?;
    let written = EntryId::parse(&written).ok_or_else(|| "no entry id".to_owned())?;
    let mut silent = live.clone();
    loop {
        let mut still_silent = Vec::new();
        for replica in silent {
            let key = seen_key(prefix, &replica);
            let mut question = redis::cmd("GET");
            question.arg(&key);
            let seen: Option<String> = link.query("seen", &key, &question, RESPONSE_TIMEOUT).await.map_err(failed)?;
            if seen.and_then(|seen| EntryId::parse(&seen)).is_none_or(|seen| seen < written) {
                still_silent.push(replica);
            }
        }
        silent = still_silent;
        if silent.is_empty() || began.elapsed() >= PATIENCE {
            return Ok(Published { live: live.len(), silent, took: began.elapsed() });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The id of a stream entry: Unix milliseconds on the server's clock and a number within them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct EntryId(u64, u64);

impl EntryId {
    /// Reads `ms-n`.
    fn parse(text: &str) -> Option<Self> {
        let (millis, number) = text.split_once('-')?;
        Some(Self(millis.parse().ok()?, number.parse().ok()?))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// The tokens that have ended before their time.
pub struct Revocations {
    marks: RwLock<Marks>,
    is_empty: AtomicBool,
    doubted_before: AtomicU64,
    caught_up: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Marks {
    made_at: HashMap<Subject, UnixSeconds>,
    order: VecDeque<Subject>,
}

impl Marks {
    fn add(&mut self, subject: Subject, at: UnixSeconds) {
        if self.made_at.insert(subject.clone(), at).is_none() {
            self.order.push_back(subject);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.made_at.remove(&oldest);
        }
    }

    fn end(&self, digest: TokenDigest, form: Form<'_>, principal: &Principal) -> bool {
        let is_marked = |subject| self.made_at.contains_key(&subject);
        let is_older = |subject| {
            let Some(mark) = self.made_at.get(&subject) else { return false };
            match (principal.created_at(), form) {
                // Nothing but this mark ends a signed token, so the second they share counts against it.
                (Some(made), Form::Signed { .. }) => made <= *mark,
                (Some(made), Form::Opaque { .. }) => made < *mark,
                (None, _) => true,
            }
        };
        is_marked(Subject::Digest(digest))
            || is_marked(Subject::Id(principal.token_id().to_owned()))
            || is_older(Subject::User(principal.user().to_owned()))
            || is_older(Subject::Workspace(principal.workspace().to_owned()))
    }
}

impl Revocations {
    /// Nobody revokes anything while there is no Redis.
    pub fn none(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            marks: RwLock::default(),
            is_empty: AtomicBool::new(true),
            doubted_before: AtomicU64::new(0),
            caught_up: watch::Sender::new(true),
            clock,
            metrics,
        })
    }

    /// Follows the stream on a connection of its own, until this or `link` is dropped. Must be called on a tokio runtime.
    pub fn follow(link: &Arc<Link>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Arc<Self> {
        let revocations = Self::none(clock, metrics);
        revocations.caught_up.send_replace(false);
        tokio::spawn(follow(Arc::downgrade(&revocations), Arc::downgrade(link)));
        revocations
    }

    /// Waits until everything that the stream holds is in force.
    pub async fn settle(&self) {
        // The sender is ours, so it is there.
        let _ = self.caught_up.subscribe().wait_for(|caught_up| *caught_up).await;
    }

    /// Whether this token has been revoked.
    pub fn end(&self, digest: TokenDigest, form: Form<'_>, principal: &Principal) -> bool {
        !self.is_empty.load(Ordering::Acquire) && self.marks.read().end(digest, form, principal)
    }

    /// What was found before this point may have been revoked while nobody could hear it.
    pub fn doubted_before(&self) -> UnixMillis {
        UnixMillis(self.doubted_before.load(Ordering::Acquire))
    }

    fn doubt(&self) {
        tracing::warn!("the stream of revocations has lost entries: every cached token is looked up again");
        self.doubted_before.store(self.clock.steady().0 + 1, Ordering::Release);
    }

    /// Puts entries in force.
    fn take(&self, entries: &[StreamId]) {
        let is_replay = !*self.caught_up.borrow();
        let now = self.clock.now();
        let mut marks = self.marks.write();
        for entry in entries {
            let Some(EntryId(made_at, _)) = EntryId::parse(&entry.id) else { continue };
            let Some(subject) = Subject::read(entry) else {
                tracing::warn!(entry = entry.id, "this entry revokes nothing: it needs `type revoke` and a subject");
                continue;
            };
            marks.add(subject, UnixMillis(made_at).seconds());
            self.is_empty.store(false, Ordering::Release);
            if !is_replay {
                self.metrics.token_revoked(now.since(UnixMillis(made_at)));
            }
        }
    }
}

/// Connects and reads, for ever, whatever the error.
async fn follow(revocations: Weak<Revocations>, link: Weak<Link>) {
    let mut seen = EntryId::default();
    let mut pause = Duration::from_millis(50);
    while let (Some(link_now), true) = (link.upgrade(), revocations.strong_count() > 0) {
        let mut follower = Follower {
            key: stream_key(link_now.key_prefix()),
            link: Weak::clone(&link),
            revocations: Weak::clone(&revocations),
        };
        let connected = link_now.dedicated(&follower.key, RESPONSE_TIMEOUT).await;
        drop(link_now);
        let ended = match connected {
            Ok(mut connection) => {
                pause = Duration::from_millis(50);
                follower.read(&mut connection, &mut seen).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            // The link tells when Redis is away. What it does not see is a user who may not read the stream.
            if error.code().is_some() {
                tracing::error!("the stream of revocations cannot be read: {}", link::name(&error));
            }
            tokio::time::sleep(link::jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// One connection that reads the stream.
struct Follower {
    key: String,
    link: Weak<Link>,
    revocations: Weak<Revocations>,
}

impl Follower {
    /// Reads until nobody listens any more.
    async fn read(&mut self, connection: &mut MultiplexedConnection, seen: &mut EntryId) -> Result<(), RedisError> {
        self.resume(connection, seen).await?;
        loop {
            let Some(revocations) = self.revocations.upgrade() else { return Ok(()) };
            let is_caught_up = *revocations.caught_up.borrow();
            drop(revocations);
            let mut command = redis::cmd("XREAD");
            command.arg("COUNT").arg(BATCH);
            if is_caught_up {
                command.arg("BLOCK").arg(BLOCK.as_millis());
            }
            command.arg("STREAMS").arg(&self.key).arg(seen.to_string());
            let reply: Option<StreamReadReply> = command.query_async(connection).await?;
            let entries = reply.and_then(|reply| reply.keys.into_iter().next()).map(|stream| stream.ids);
            let Some(revocations) = self.revocations.upgrade() else { return Ok(()) };
            match entries.as_deref() {
                None | Some([]) => {
                    revocations.caught_up.send_replace(true);
                }
                Some(entries) => {
                    revocations.take(entries);
                    *seen = entries.last().and_then(|last| EntryId::parse(&last.id)).unwrap_or(*seen);
                    self.acknowledge(*seen).await;
                }
            }
        }
    }

    /// After a reconnect: a stream that ends before what was read, or begins behind it, has lost entries.
    async fn resume(&self, connection: &mut MultiplexedConnection, seen: &mut EntryId) -> Result<(), RedisError> {
        if *seen == EntryId::default() {
            return Ok(());
        }
        let end = async |connection: &mut MultiplexedConnection, verb, from, to| {
            let mut command = redis::cmd(verb);
            command.arg(&self.key).arg(from).arg(to).arg("COUNT").arg(1);
            let reply: StreamRangeReply = command.query_async(connection).await?;
            Ok::<_, RedisError>(reply.ids.first().and_then(|entry| EntryId::parse(&entry.id)))
        };
        let first = end(connection, "XRANGE", "-", "+").await?;
        let last = end(connection, "XREVRANGE", "+", "-").await?;
        let goes_on = first.is_some_and(|first| first <= *seen) && last.is_some_and(|last| last >= *seen);
        if !goes_on {
            *seen = EntryId::default();
            if let Some(revocations) = self.revocations.upgrade() {
                revocations.doubt();
            }
        }
        Ok(())
    }

    /// Tells whoever waits for it that everything up to `seen` is in force here.
    async fn acknowledge(&self, seen: EntryId) {
        // A tool that only looks is no gateway, and nobody waits for its word.
        let Some(link) = self.link.upgrade().filter(|link| !link.replica_id().is_empty()) else { return };
        let key = seen_key(link.key_prefix(), link.replica_id());
        let mut command = redis::cmd("SET");
        command.arg(&key).arg(seen.to_string()).arg("EX").arg(SEEN_FOR_SECONDS);
        // `token revoke` then says that this gateway has not answered.
        let _ = link.query::<()>("seen", &key, &command, RESPONSE_TIMEOUT).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::principal::{Lifetime, TokenRecord};

    fn principal(made: Option<u64>) -> Principal {
        let life = Lifetime { created_at: made.map(UnixSeconds), expires_at: Some(UnixSeconds(1000)) };
        TokenRecord::new("7", "w1", "u1", [], life).unwrap().opaque(UnixMillis(0), None).unwrap()
    }

    fn end(subject: Subject, form: Form<'_>, made: Option<u64>) -> bool {
        let mut marks = Marks::default();
        marks.add(subject, UnixSeconds(100));
        marks.end(TokenDigest::of("t"), form, &principal(made))
    }

    const OPAQUE: Form<'static> = Form::Opaque { id: None };
    const SIGNED: Form<'static> = Form::Signed { jwt: "" };

    #[test]
    fn a_token_ends_by_its_digest_and_by_its_id_whenever_it_was_made() {
        assert!(end(Subject::Digest(TokenDigest::of("t")), OPAQUE, Some(500)));
        assert!(!end(Subject::Digest(TokenDigest::of("other")), OPAQUE, Some(0)));
        assert!(end(Subject::Id("7".into()), SIGNED, Some(500)));
        assert!(!end(Subject::Id("8".into()), OPAQUE, Some(0)));
    }

    #[test]
    fn an_owners_tokens_end_that_were_made_before() {
        for subject in [Subject::User("u1".into()), Subject::Workspace("w1".into())] {
            assert!(end(subject.clone(), OPAQUE, Some(99)));
            assert!(!end(subject.clone(), OPAQUE, Some(100)), "the store is asked, and knows");
            assert!(end(subject.clone(), SIGNED, Some(100)), "nobody else knows");
            assert!(!end(subject.clone(), SIGNED, Some(101)));
            assert!(end(subject, OPAQUE, None), "nobody can say that it is younger");
        }
        assert!(!end(Subject::User("w1".into()), OPAQUE, None));
    }

    #[test]
    fn the_oldest_marks_make_room_for_new_ones() {
        let mut marks = Marks::default();
        for n in 0..=MOST {
            marks.add(Subject::Id(n.to_string()), UnixSeconds(0));
        }
        assert_eq!(marks.made_at.len(), MOST);
        assert!(!marks.made_at.contains_key(&Subject::Id("0".into())));
        assert!(marks.made_at.contains_key(&Subject::Id(MOST.to_string())));
    }

    #[test]
    fn entry_ids_are_compared_as_numbers() {
        assert!(EntryId::parse("9-2") < EntryId::parse("10-0"));
        assert!(EntryId::parse("9-2") < EntryId::parse("9-10"));
        assert_eq!(EntryId::parse("9"), None);
    }
}
