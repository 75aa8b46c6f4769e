//! `last_used_at`, kept up to date on the side: in batches, sorted by id, at most once a minute for a token.
//!
//! Sanctum writes it on every request and is known to deadlock on it under load. Here a use is noted in memory, and one task writes
//! what was noted. What a crash loses is a quarter of a minute of times.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::auth::remote::Remote;
use crate::auth::sql::Database;
use crate::policy::principal::Principal;
use crate::policy::time::{UnixMillis, UnixSeconds};
use crate::telemetry::metrics::Metrics;

const WRITE_EVERY: Duration = Duration::from_secs(15);
const ONCE_IN: Duration = Duration::from_secs(60);
/// Rows in one statement.
const BATCH: usize = 500;
/// Tokens that are remembered; more than that are not noted until some are written.
const MOST: usize = 200_000;
/// The longest wait for one statement, and for everything when the process ends.
const DEADLINE: Duration = Duration::from_secs(2);

/// Notes uses of tokens and writes them down.
pub(super) struct LastUsed {
    uses: Arc<Mutex<HashMap<u64, Use>>>,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
}

/// When a token was used, and what of that the database knows since when.
#[derive(Clone, Copy)]
struct Use {
    used_at: UnixSeconds,
    written: Option<(UnixSeconds, Instant)>,
}

impl Use {
    fn is_news(&self) -> bool {
        self.written.is_none_or(|(value, _)| value != self.used_at)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.written.is_none_or(|(_, at)| now.duration_since(at) >= ONCE_IN)
    }
}

impl LastUsed {
    /// Starts the task that writes, which writes once more and ends when this is dropped.
    pub(super) fn start(database: Database, metrics: Arc<Metrics>) -> Self {
        let (flushes, orders) = mpsc::channel(1);
        let uses: Arc<Mutex<HashMap<u64, Use>>> = Arc::default();
        let remote = Remote::new("sql", "last_used", DEADLINE, metrics);
        let writer = Writer { uses: Arc::clone(&uses), database, remote };
        tokio::spawn(writer.run(orders));
        Self { uses, flushes }
    }

    /// Notes that the token of `principal` was used. Ids that are no row numbers are not ours.
    pub(super) fn note(&self, principal: &Principal, now: UnixMillis) {
        let Ok(id) = principal.token_id().parse() else { return };
        let mut uses = self.uses.lock();
        if let Some(known) = uses.get_mut(&id) {
            known.used_at = now.seconds();
        } else if uses.len() < MOST {
            uses.insert(id, Use { used_at: now.seconds(), written: None });
        }
    }

    /// Writes everything that is not written yet, as far as that goes within two seconds.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let flush = async {
            if self.flushes.send(done).await.is_ok() {
                // The writer says why it could not.
                let _ = written.await;
            }
        };
        let _ = timeout(DEADLINE, flush).await;
    }
}

struct Writer {
    uses: Arc<Mutex<HashMap<u64, Use>>>,
    database: Database,
    remote: Remote,
}

impl Writer {
    async fn run(self, mut orders: mpsc::Receiver<oneshot::Sender<()>>) {
        loop {
            let pause = WRITE_EVERY.mul_f64(0.8 + fastrand::f64() * 0.4);
            match timeout(pause, orders.recv()).await {
                Err(_) => self.write(Use::is_due).await,
                Ok(Some(done)) => {
                    self.write(|_, _| true).await;
                    // Whoever asked may have lost patience.
                    let _ = done.send(());
                }
                Ok(None) => return self.write(|_, _| true).await,
            }
        }
    }

    async fn write(&self, is_wanted: impl Fn(&Use, Instant) -> bool) {
        let now = Instant::now();
        let mut news: Vec<(u64, UnixSeconds)> = {
            let mut uses = self.uses.lock();
            uses.retain(|_, known| known.is_news() || !known.is_due(now));
            uses.iter()
                .filter(|(_, known)| known.is_news() && is_wanted(known, now))
                .map(|(id, u)| (*id, u.used_at))
                .collect()
        };
        news.sort_unstable();
        for batch in news.chunks(BATCH) {
            if self.remote.ask(self.database.execute(statement(&self.database, batch))).await.is_err() {
                // The rest is still noted.
                return;
            }
            let mut uses = self.uses.lock();
            for (id, value) in batch {
                if let Some(known) = uses.get_mut(id) {
                    known.written = Some((*value, now));
                }
            }
        }
    }
}

/// One statement for a batch. There are only numbers in it; a time is never set back.
fn statement(database: &Database, batch: &[(u64, UnixSeconds)]) -> String {
    let cases: Vec<String> = batch.iter().map(|(id, at)| format!("WHEN {id} THEN {}", at.0)).collect();
    let ids: Vec<String> = batch.iter().map(|(id, _)| id.to_string()).collect();
    let (cases, ids) = (cases.join(" "), ids.join(", "));
    let used_at = match database {
        // FROM_UNIXTIME() would be in the time zone of the session, and Laravel writes UTC there too.
        Database::MySql(_) => format!("TIMESTAMPADD(SECOND, CASE id {cases} END, TIMESTAMP'1970-01-01 00:00:00')"),
        Database::Postgres(_) => format!("to_timestamp(CASE id {cases} END) AT TIME ZONE 'UTC'"),
    };
    format!(
        "UPDATE personal_access_tokens SET last_used_at = GREATEST(COALESCE(last_used_at, {used_at}), {used_at}) WHERE id IN ({ids})"
    )
}
