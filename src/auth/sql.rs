//! The `sql` source: Laravel's own `personal_access_tokens`, in MySQL, MariaDB or PostgreSQL.
//!
//! Every query, the default one and an operator's, is wrapped in one that turns its columns into text and Unix seconds, so that the
//! types of a schema do not matter. Times without a time zone are UTC, as Laravel writes them while `app.timezone` is UTC. MySQL turns a
//! TIMESTAMP into the time zone of the session, so a session has the zone that Laravel's have, and what Laravel wrote is what is read.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool};
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::auth::borrowed::Borrowed;
use crate::auth::last_used::LastUsed;
use crate::auth::remote::Remote;
use crate::config::settings::{SqlKind, SqlSettings};
use crate::policy::principal::{BrokenRecord, Lifetime, TokenRecord};
use crate::policy::time::{UnixMillis, UnixSeconds};
use crate::ports::{LookUpError, Question, TokenSource, Verdict};
use crate::telemetry::metrics::Metrics;

const DEFAULT_MYSQL: &str = "SELECT id, workspace_id AS workspace, tokenable_id AS user, abilities, expires_at, created_at, \
    NULL AS disabled FROM personal_access_tokens WHERE token = ?";
const DEFAULT_POSTGRES: &str = "SELECT id, workspace_id AS workspace, tokenable_id AS \"user\", abilities, expires_at, created_at, \
    NULL AS disabled FROM personal_access_tokens WHERE token = $1";

/// Tokens in a database.
pub struct SqlTokens {
    database: Database,
    settings: SqlSettings,
    query: Arc<str>,
    max_age: Option<Duration>,
    remote: Remote,
    metrics: Arc<Metrics>,
}

/// A pool of connections that are made when they are needed.
#[derive(Clone)]
pub(super) enum Database {
    MySql(MySqlPool),
    Postgres(PgPool),
}

/// A row of the wrapping query: id, workspace, user, abilities, expires_at, created_at, disabled.
type Row = (Text, Text, Text, Text, Option<i64>, Option<i64>, Text);
type Text = Option<String>;

impl SqlTokens {
    /// Looks tokens up as `settings` say. Must be called on a tokio runtime.
    pub fn new(settings: &SqlSettings, max_age: Option<Duration>, metrics: Arc<Metrics>) -> Self {
        Self {
            database: Database::new(settings),
            settings: settings.clone(),
            query: wrapped(settings).into(),
            max_age,
            remote: Remote::new("sql", "token", settings.timeout, Arc::clone(&metrics)),
            metrics,
        }
    }

    /// Who keeps `last_used_at` up to date, where that is wanted.
    pub(super) fn last_used(&self) -> Option<LastUsed> {
        self.settings.last_used_at.then(|| LastUsed::start(self.database.clone(), Arc::clone(&self.metrics)))
    }

    async fn rows(&self, digest: String) -> Result<Vec<Row>, sqlx::Error> {
        let query = AssertSqlSafe(Arc::clone(&self.query));
        match &self.database {
            Database::MySql(pool) => {
                sqlx::query_as(query).bind(digest).fetch_all(&mut *Borrowed::from(pool).await?).await
            }
            Database::Postgres(pool) => {
                sqlx::query_as(query).bind(digest).fetch_all(&mut *Borrowed::from(pool).await?).await
            }
        }
    }

    /// Takes over what the file with the url says now: a password may have been changed.
    fn reread(&self) {
        if let Some(url) = self.settings.url_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()) {
            self.database.connect_with(url.trim_end_matches(['\r', '\n']));
        }
    }
}

impl Database {
    fn new(settings: &SqlSettings) -> Self {
        fn pool<DB: sqlx::Database>(settings: &SqlSettings) -> PoolOptions<DB> {
            PoolOptions::new().max_connections(settings.pool).acquire_timeout(settings.timeout)
        }
        // The compiler has parsed the url; one that it had not would lead nowhere.
        match settings.kind {
            SqlKind::MySql => {
                let options = mysql(&settings.url.0).unwrap_or_else(|| MySqlConnectOptions::new().port(0));
                Self::MySql(pool(settings).connect_lazy_with(options))
            }
            SqlKind::Postgres => {
                let options = postgres(&settings.url.0).unwrap_or_else(|| PgConnectOptions::new().port(0));
                Self::Postgres(pool(settings).connect_lazy_with(options))
            }
        }
    }

    fn connect_with(&self, url: &str) {
        match self {
            Self::MySql(pool) => mysql(url).into_iter().for_each(|options| pool.set_connect_options(options)),
            Self::Postgres(pool) => postgres(url).into_iter().for_each(|options| pool.set_connect_options(options)),
        }
    }

    /// Runs a statement that answers nothing.
    pub(super) async fn execute(&self, statement: String) -> Result<(), sqlx::Error> {
        let query = AssertSqlSafe(statement);
        match self {
            Self::MySql(pool) => {
                sqlx::query(query).persistent(false).execute(&mut *Borrowed::from(pool).await?).await.map(drop)
            }
            Self::Postgres(pool) => {
                sqlx::query(query).persistent(false).execute(&mut *Borrowed::from(pool).await?).await.map(drop)
            }
        }
    }
}

/// The session has the server's time zone, unless the url has a `timezone`: as with `timezone` in Laravel's config/database.php.
fn mysql(url: &str) -> Option<MySqlConnectOptions> {
    let options: MySqlConnectOptions = url.parse().ok()?;
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let has_zone = parameters.split('&').any(|one| one.starts_with("timezone=") || one.starts_with("time-zone="));
    Some(if has_zone { options } else { options.timezone(None) }.disable_statement_logging())
}

/// The session is in UTC.
fn postgres(url: &str) -> Option<PgConnectOptions> {
    url.parse().ok().map(PgConnectOptions::disable_statement_logging)
}

/// The query with its columns as text and Unix seconds. Two rows are enough to know that there is more than one.
fn wrapped(settings: &SqlSettings) -> String {
    let default = match settings.kind {
        SqlKind::MySql => DEFAULT_MYSQL,
        SqlKind::Postgres => DEFAULT_POSTGRES,
    };
    let query = settings.query.as_deref().unwrap_or(default).trim().trim_end_matches(';');
    match settings.kind {
        SqlKind::MySql => {
            // A time that is no date has been, as far as anybody can tell. UNIX_TIMESTAMP() would end in 2038.
            let seconds = |column: &str| {
                format!(
                    "CASE WHEN t.{column} IS NOT NULL THEN COALESCE(TIMESTAMPDIFF(SECOND, '1970-01-01 00:00:00', t.{column}), 0) END AS {column}"
                )
            };
            format!(
                "SELECT CAST(t.id AS CHAR) AS id, CAST(t.workspace AS CHAR) AS workspace, CAST(t.user AS CHAR) AS owner, \
                 CAST(t.abilities AS CHAR) AS abilities, {}, {}, CAST(t.disabled AS CHAR) AS disabled FROM ({query}\n) AS t LIMIT 2",
                seconds("expires_at"),
                seconds("created_at"),
            )
        }
        SqlKind::Postgres => {
            let seconds = |column: &str| format!("floor(extract(epoch FROM t.{column}))::bigint AS {column}");
            format!(
                "SELECT t.id::text AS id, t.workspace::text AS workspace, t.\"user\"::text AS owner, t.abilities::text AS abilities, \
                 {}, {}, t.disabled::text AS disabled FROM ({query}\n) AS t LIMIT 2",
                seconds("expires_at"),
                seconds("created_at"),
            )
        }
    }
}

fn record(
    (id, workspace, user, abilities, expires_at, created_at, disabled): &Row,
) -> Result<TokenRecord, BrokenRecord> {
    let text = |value: &Text| value.clone().unwrap_or_default();
    let time = |seconds: Option<i64>| seconds.map(|seconds| UnixSeconds(u64::try_from(seconds).unwrap_or(0)));
    let life = Lifetime { created_at: time(*created_at), expires_at: time(*expires_at) };
    // Eloquent reads NULL as no abilities.
    let abilities: Vec<String> = match abilities.as_deref() {
        None | Some("" | "null") => Vec::new(),
        Some(json) => serde_json::from_str(json).map_err(|_| BrokenRecord("abilities"))?,
    };
    let abilities = abilities.iter().map(String::as_str);
    let is_disabled = !matches!(disabled.as_deref(), None | Some("" | "0" | "f" | "false"));
    Ok(TokenRecord::new(&text(id), &text(workspace), &text(user), abilities, life)?.disabled(is_disabled))
}

#[async_trait]
impl TokenSource for SqlTokens {
    fn name(&self) -> &'static str {
        "sql"
    }

    async fn look_up(&self, question: &Question, now: UnixMillis) -> Result<Verdict, LookUpError> {
        let answer = self.remote.ask(self.rows(question.digest.to_hex())).await;
        let rows = answer.inspect_err(|_| self.reread())?;
        let row = match rows.as_slice() {
            [] => return Ok(Verdict::Unknown),
            [row] => row,
            _ => return Err(LookUpError::Broken(BrokenRecord("row: there are several"))),
        };
        let record = record(row).map_err(LookUpError::Broken)?;
        Ok(record.opaque(now, self.max_age).map(Arc::new).map_or_else(Verdict::Refused, Verdict::Valid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(abilities: Option<&str>, disabled: Option<&str>) -> Row {
        let text = |text: &str| Some(text.to_owned());
        (text("7"), text("w"), text("u"), abilities.map(str::to_owned), None, Some(-5), disabled.map(str::to_owned))
    }

    #[test]
    fn abilities_are_what_eloquent_reads() {
        let scopes = |abilities| {
            let record = record(&row(abilities, None))?;
            Ok::<_, BrokenRecord>(
                record.opaque(UnixMillis(0), None).map(|p| p.scopes().to_string()).unwrap_or_default(),
            )
        };
        assert_eq!(scopes(Some(r#"["contacts","ai"]"#)).as_deref(), Ok("ai contacts"));
        assert_eq!(scopes(Some(r#"["*"]"#)).as_deref(), Ok("*"));
        assert_eq!(scopes(None).as_deref(), Ok(""));
        assert_eq!(scopes(Some("contacts")), Err(BrokenRecord("abilities")));
        assert_eq!(scopes(Some(r#"{"contacts":true}"#)), Err(BrokenRecord("abilities")));
    }

    #[test]
    fn anything_that_is_not_null_or_false_disables() {
        for (value, disables) in [
            (None, false),
            (Some("0"), false),
            (Some("false"), false),
            (Some("1"), true),
            (Some("2026-01-01 00:00:00"), true),
        ] {
            let judged = record(&row(None, value)).unwrap().opaque(UnixMillis(0), None);
            assert_eq!(judged.is_err(), disables, "{value:?}");
        }
    }

    #[test]
    fn a_query_may_end_as_people_end_queries() {
        let settings = SqlSettings {
            kind: SqlKind::Postgres,
            url: crate::config::units::Secret("postgres://localhost/x".into()),
            url_file: None,
            query: Some("SELECT 1 -- all of it\n;\n".into()),
            timeout: Duration::from_secs(1),
            pool: 1,
            last_used_at: false,
        };
        assert!(wrapped(&settings).ends_with("FROM (SELECT 1 -- all of it\n\n) AS t LIMIT 2"));
    }
}
