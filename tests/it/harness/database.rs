//! A MariaDB or PostgreSQL of the test's own, far from UTC, with Laravel's table.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::macros::format_description;

use super::token::{digest, now};
use super::{free_port, wait_for};

/// What the gateway logs in with until a test says otherwise.
pub const PASSWORD: &str = "the-first-password";
/// PostgreSQL refuses to run as root; nobody has this number, as a user and as a group.
const NOBODY: u32 = 65534;

/// As Laravel's migration makes it, with the column that the default query expects.
const MARIADB_SCHEMA: &str = "
    CREATE DATABASE app DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
    USE app;
    CREATE TABLE personal_access_tokens (
        id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
        tokenable_type varchar(255) NOT NULL, tokenable_id bigint unsigned NOT NULL,
        name text NOT NULL, token varchar(64) NOT NULL, abilities text NULL,
        last_used_at timestamp NULL, expires_at timestamp NULL, created_at timestamp NULL, updated_at timestamp NULL,
        workspace_id varchar(255) NULL
    );
    ALTER TABLE personal_access_tokens ADD UNIQUE personal_access_tokens_token_unique (token);
    CREATE USER gateway@'127.0.0.1' IDENTIFIED BY 'the-first-password';
    GRANT SELECT, UPDATE ON app.* TO gateway@'127.0.0.1';";
const POSTGRES_SCHEMA: &str = "
    CREATE TABLE personal_access_tokens (
        id bigserial NOT NULL PRIMARY KEY,
        tokenable_type varchar(255) NOT NULL, tokenable_id bigint NOT NULL,
        name text NOT NULL, token varchar(64) NOT NULL, abilities text NULL,
        last_used_at timestamp(0) without time zone NULL, expires_at timestamp(0) without time zone NULL,
        created_at timestamp(0) without time zone NULL, updated_at timestamp(0) without time zone NULL,
        workspace_id varchar(255) NULL
    );
    ALTER TABLE personal_access_tokens ADD CONSTRAINT personal_access_tokens_token_unique UNIQUE (token);
    CREATE USER gateway PASSWORD 'the-first-password';
    GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO gateway;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO gateway;";
/// Everybody comes in but the gateway, who has to say its password.
const POSTGRES_DOORS: &str = "host all gateway 127.0.0.1/32 scram-sha-256\nlocal all all trust\n";

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    MariaDb,
    Postgres,
}

/// A running server with an empty `personal_access_tokens`. It is killed when it is dropped.
pub struct Database {
    /// Which one it is.
    pub kind: Kind,
    process: Child,
    port: u16,
    folder: TempDir,
}

/// A row of `personal_access_tokens`. Times are Unix seconds.
pub struct Row<'a> {
    pub id: u64,
    pub token: &'a str,
    pub user: u64,
    pub workspace: Option<&'a str>,
    pub abilities: Option<&'a str>,
    pub last_used_at: Option<u64>,
    pub expires_at: Option<u64>,
    pub created_at: Option<u64>,
}

impl<'a> Row<'a> {
    /// A row that lets `token` in to contacts.
    pub fn of(id: u64, token: &'a str) -> Self {
        Self {
            id,
            token,
            user: 41,
            workspace: Some("w1"),
            abilities: Some(r#"["contacts"]"#),
            last_used_at: None,
            expires_at: None,
            created_at: Some(now()),
        }
    }
}

impl Database {
    /// Starts a server on a free port and waits until it answers.
    pub async fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        kind.install(folder.path());
        let (process, port) = loop {
            let port = free_port();
            if let Some(process) = try_start(kind, folder.path(), port).await {
                break (process, port);
            }
        };
        let database = Self { kind, process, port, folder };
        Session::open(kind, database.folder.path(), port, None).await.unwrap().execute(kind.schema()).await;
        database
    }

    /// Ends the server as a crash does, and starts it again where it was.
    pub async fn restart(&mut self) {
        self.end();
        self.process = try_start(self.kind, self.folder.path(), self.port).await.expect("the port is free");
    }

    /// The url that the gateway is given.
    pub fn url(&self, password: &str) -> String {
        let (scheme, database) = match self.kind {
            Kind::MariaDb => ("mysql", "app"),
            Kind::Postgres => ("postgres", "postgres"),
        };
        format!("{scheme}://gateway:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    async fn session(&self) -> Session {
        let database = match self.kind {
            Kind::MariaDb => Some("app"),
            Kind::Postgres => None,
        };
        Session::open(self.kind, self.folder.path(), self.port, database).await.unwrap()
    }

    /// Runs statements in a session as Laravel has it by default: in the server's own time zone.
    pub async fn execute(&self, statements: &str) {
        self.session().await.execute(statements).await;
    }

    /// The one value of a query, as text and as Laravel reads it.
    pub async fn text(&self, query: &str) -> Option<String> {
        let query = AssertSqlSafe(query.to_owned());
        match self.session().await {
            Session::MariaDb(mut connection) => sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap(),
            Session::Postgres(mut connection) => sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap(),
        }
    }

    /// Writes rows as Laravel does: times as text in UTC.
    pub async fn write(&self, rows: &[Row<'_>]) {
        for row in rows {
            let quoted = |text: Option<&str>| text.map_or("NULL".to_owned(), |text| format!("'{text}'"));
            let at =
                |seconds: Option<u64>| seconds.map_or("NULL".to_owned(), |seconds| format!("'{}'", written(seconds)));
            let values = [
                row.id.to_string(),
                quoted(Some("App\\Models\\User")),
                row.user.to_string(),
                quoted(Some("a token")),
                quoted(Some(&digest(row.token))),
                quoted(row.workspace),
                quoted(row.abilities),
                at(row.last_used_at),
                at(row.expires_at),
                at(row.created_at),
            ];
            self.execute(&format!(
                "INSERT INTO personal_access_tokens (id, tokenable_type, tokenable_id, name, token, workspace_id, abilities, \
                 last_used_at, expires_at, created_at) VALUES ({})",
                values.join(", ")
            ))
            .await;
        }
    }

    /// How many prepared statements with these words were executed.
    pub fn executed(&self, words: &str) -> usize {
        self.logged(|line| line.to_lowercase().contains("execute") && line.contains(words))
    }

    /// How many times a token was asked for: the log has the values that a statement was executed with.
    pub fn look_ups(&self, token: &str) -> usize {
        let digest = digest(token);
        self.logged(|line| line.contains(&digest) && !line.contains("INSERT"))
    }

    fn logged(&self, is_counted: impl Fn(&str) -> bool) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.lines().filter(|line| is_counted(line)).count()
    }

    /// Sends the server's processes a signal by name.
    pub fn signal(&self, name: &str) {
        let server = self.process.id().to_string();
        let children = Command::new("pgrep").args(["-P", &server]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        for process in std::iter::once(server.as_str()).chain(children.lines()) {
            // A child may have ended.
            let _ = Command::new("kill").args([&format!("-{name}"), process]).stderr(Stdio::null()).status().unwrap();
        }
    }

    /// At once and without tidying up, but for the shared memory of PostgreSQL.
    fn end(&mut self) {
        self.signal("CONT");
        match self.kind {
            Kind::MariaDb => drop(self.process.kill()),
            Kind::Postgres => drop(Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status()),
        }
        let _ = self.process.wait();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.end();
    }
}

/// A time as Laravel writes it.
pub fn written(seconds: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap().format(format).unwrap()
}

/// Starts a server and waits until it answers; `None` if another test was faster to take the port.
async fn try_start(kind: Kind, folder: &Path, port: u16) -> Option<Child> {
    let mut process = kind.run(folder, port);
    let is_up = wait_for("the database", || {
        let has_ended = process.try_wait().unwrap().is_some();
        async move { if has_ended { Some(false) } else { Session::open(kind, folder, port, None).await.map(|_| true) } }
    });
    is_up.await.then_some(process)
}

impl Kind {
    fn schema(self) -> &'static str {
        match self {
            Self::MariaDb => MARIADB_SCHEMA,
            Self::Postgres => POSTGRES_SCHEMA,
        }
    }

    /// Makes an empty server in a folder.
    fn install(self, folder: &Path) {
        let data = folder.join("data");
        let mut command = match self {
            Self::MariaDb => {
                // One that starts removes temporary tables from its folder for them, which must not be another's.
                let mut command = Command::new("mariadb-install-db");
                command.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
                command.arg(format!("--datadir={}", data.display())).arg(format!("--tmpdir={}", folder.display()));
                if is_root(folder) {
                    command.arg("--user=root");
                }
                command
            }
            Self::Postgres => {
                let mut command = postgres(folder, "initdb");
                command.args(["--auth=trust", "--no-sync", "--no-locale", "--encoding=UTF8", "--username=postgres"]);
                command.arg(format!("--pgdata={}", data.display()));
                command
            }
        };
        let output = command.output().expect("MariaDB and PostgreSQL; tests/run installs them");
        assert!(output.status.success(), "{output:?}");
        if self == Self::Postgres {
            std::fs::write(data.join("pg_hba.conf"), POSTGRES_DOORS).unwrap();
        }
    }

    /// Runs the server of a folder, which writes all statements to the file `log`.
    fn run(self, folder: &Path, port: u16) -> Child {
        let (data, log) = (folder.join("data"), folder.join("log"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = match self {
            Self::MariaDb => {
                let mut command = Command::new("mariadbd");
                command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--general-log"]);
                command.args(["--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0"]);
                command.args(["--default-time-zone=-11:00", &format!("--port={port}")]);
                command.arg(format!("--datadir={}", data.display())).arg(format!("--tmpdir={}", folder.display()));
                command.arg(format!("--socket={}", folder.join("socket").display()));
                command.arg(format!("--general-log-file={}", log.display()));
                if is_root(folder) {
                    command.arg("--user=root");
                }
                command
            }
            Self::Postgres => {
                let mut command = postgres(folder, "postgres");
                command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-k"]).arg(folder);
                for setting in [
                    "listen_addresses=127.0.0.1",
                    "timezone=Pacific/Kiritimati",
                    "shared_buffers=16MB",
                    "fsync=off",
                    "log_statement=all",
                ] {
                    command.args(["-c", setting]);
                }
                command
            }
        };
        command.stdout(Stdio::null()).stderr(file).spawn().unwrap()
    }
}

/// A program of PostgreSQL, from where Debian keeps it, run by a user who may.
fn postgres(folder: &Path, program: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().map(Result::unwrap);
    let installed = versions.map(|version| version.path().join("bin").join(program)).filter(|path| path.exists()).max();
    let mut command = Command::new(installed.unwrap_or_else(|| PathBuf::from(program)));
    command.current_dir(folder);
    if is_root(folder) || std::fs::metadata(folder).unwrap().uid() == NOBODY {
        chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Whether these tests, whose folder this is, are run by root.
fn is_root(folder: &Path) -> bool {
    std::fs::metadata(folder).unwrap().uid() == 0
}

/// A session by the server's own socket, where nobody else's server can answer.
enum Session {
    MariaDb(MySqlConnection),
    Postgres(PgConnection),
}

impl Session {
    async fn open(kind: Kind, folder: &Path, port: u16, database: Option<&str>) -> Option<Self> {
        match kind {
            Kind::MariaDb => {
                let options = MySqlConnectOptions::new().username("root").socket(folder.join("socket")).timezone(None);
                let options = database.into_iter().fold(options, MySqlConnectOptions::database);
                options.connect().await.ok().map(Self::MariaDb)
            }
            Kind::Postgres => {
                let options = PgConnectOptions::new_without_pgpass().username("postgres").socket(folder).port(port);
                options.connect().await.ok().map(Self::Postgres)
            }
        }
    }

    async fn execute(&mut self, statements: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        match self {
            Self::MariaDb(connection) => drop(statements.execute(connection).await.unwrap()),
            Self::Postgres(connection) => drop(statements.execute(connection).await.unwrap()),
        }
    }
}
