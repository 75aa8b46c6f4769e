//! The `sql` source against MariaDB and PostgreSQL, with the table as Laravel makes and writes it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::backend::{Backend, scripted};
use crate::harness::client::{Connection, Response};
use crate::harness::database::{Database, Kind, PASSWORD, Row, written};
use crate::harness::gateway::{CONTACTS, Gateway, config};
use crate::harness::token::{digest, now, opaque};
use crate::harness::wait_for;

/// Every promise once with each database.
macro_rules! with_each_database {
    ($($promise:ident),+ $(,)?) => {
        mod mariadb {
            $(#[tokio::test] async fn $promise() { super::$promise(super::Kind::MariaDb).await })+
        }
        mod postgres {
            $(#[tokio::test] async fn $promise() { super::$promise(super::Kind::Postgres).await })+
        }
    };
}

with_each_database!(
    a_token_of_the_table_is_let_in_as_who_its_row_says,
    a_token_ends_when_it_ends_in_laravel_whatever_the_time_zone_of_the_server,
    a_broken_row_is_500_and_lets_nobody_in,
    a_query_of_the_operator_says_whose_token_is_disabled,
    two_hundred_first_uses_of_a_token_are_one_look_up,
    a_database_that_does_not_answer_is_503_in_time_and_cached_tokens_go_on,
    a_connection_that_went_dead_in_the_middle_of_a_look_up_is_replaced,
    a_changed_password_is_read_from_its_file_again,
    uses_of_tokens_are_written_in_one_batch_at_the_end_and_never_set_back,
    uses_of_tokens_are_not_written_unless_that_is_wanted,
);

/// A gateway that finds tokens as `source` says, with more keys of `auth` if need be.
async fn with_source(backend: &Backend, source: &str, auth: &str) -> Gateway {
    let sections = format!(
        "auth: {{sources: [{{sql: {{timeout: 1s, {source}}}}}], failures: {{per_minute: 0}}, {auth}}}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"{}\"]}}}}\nroutes:\n{CONTACTS}",
        backend.address
    );
    Gateway::start(&config(&sections)).await
}

/// The same with the default query on `database`.
async fn with_table(database: &Database, backend: &Backend, auth: &str) -> Gateway {
    with_source(backend, &format!("url: \"{}\"", database.url(PASSWORD)), auth).await
}

/// The answer for a token that the database was asked about; on a busy machine that may take more than one request.
async fn answer(gateway: &Gateway, token: &str) -> Response {
    wait_for("the database", || async {
        let answer = gateway.get("/api/v1/contacts", token).await;
        (answer.status != 503).then_some(answer)
    })
    .await
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    answer(gateway, token).await.status
}

async fn a_token_of_the_table_is_let_in_as_who_its_row_says(kind: Kind) {
    let (database, backend) = (Database::start(kind).await, Backend::start().await);
    let gateway = with_table(&database, &backend, "").await;
    let tokens = ["good", "all", "none", "null", "empty"].map(opaque);
    let [good, all, none, null, empty] = &tokens;
    let good_row = Row { user: 42, workspace: Some("w7"), abilities: Some(r#"["contacts","ai"]"#), ..Row::of(7, good) };
    database
        .write(&[
            good_row,
            Row { abilities: Some(r#"["*"]"#), ..Row::of(8, all) },
            Row { abilities: Some("[]"), ..Row::of(9, none) },
            Row { abilities: None, ..Row::of(10, null) },
            Row { abilities: Some(""), ..Row::of(11, empty) },
        ])
        .await;
    assert_eq!(status(&gateway, &format!("8|{good}")).await, 401, "another row's id, when nothing is cached");
    assert_eq!(status(&gateway, good).await, 200);
    assert_eq!(status(&gateway, &format!("7|{good}")).await, 200, "its own id");
    assert_eq!(status(&gateway, &format!("8|{good}")).await, 401, "another row's id, cached");
    assert_eq!(status(&gateway, all).await, 200);
    for token in [none, null, empty] {
        assert_eq!(status(&gateway, token).await, 403);
    }
    let unknown = answer(&gateway, &opaque("unknown")).await;
    unknown.assert_envelope(401, "UNAUTHENTICATED", "Missing or invalid API token.");
    let seen = backend.seen();
    assert_eq!(seen.len(), 3);
    let names = ["x-workspace-id", "x-user-id", "x-token-id", "x-token-scopes"];
    assert_eq!(names.map(|name| seen[0].header(name).unwrap()), ["w7", "42", "7", "ai contacts"]);
    assert_eq!(names.map(|name| seen[2].header(name).unwrap()), ["w1", "41", "8", "*"]);
}

async fn a_token_ends_when_it_ends_in_laravel_whatever_the_time_zone_of_the_server(kind: Kind) {
    let (database, backend) = (Database::start(kind).await, Backend::start().await);
    let gateway = with_table(&database, &backend, "expiration: 4h").await;
    let names = ["good", "over", "old", "old but long", "young but over", "only an end", "timeless"];
    let tokens = names.map(opaque);
    let hours = |hours: i64| Some(now().saturating_add_signed(hours * 3600));
    let times = [
        (hours(1), hours(-3)),
        (hours(-1), hours(-3)),
        (None, hours(-5)),
        (hours(1), hours(-5)),
        (hours(-1), hours(0)),
        (hours(1), None),
        (None, None),
    ];
    let rows: Vec<Row> = (1..)
        .zip(&tokens)
        .zip(times)
        .map(|((id, token), (expires_at, created_at))| Row { expires_at, created_at, ..Row::of(id, token) })
        .collect();
    database.write(&rows).await;
    let mut seen = Vec::new();
    for token in &tokens {
        seen.push(status(&gateway, token).await);
    }
    assert_eq!(seen, [200, 401, 401, 401, 401, 200, 401], "{names:?}");
    let (soon, end) = (opaque("soon"), now() + 1);
    database.write(&[Row { expires_at: Some(end), ..Row::of(20, &soon) }]).await;
    wait_for("the cached token to end", || async {
        let (asked, status) = (now(), status(&gateway, &soon).await);
        assert!(status == 401 || status == 200 && asked < end, "{status}");
        (status == 401).then(|| assert!(now() >= end))
    })
    .await;
}

async fn a_broken_row_is_500_and_lets_nobody_in(kind: Kind) {
    let (database, backend) = (Database::start(kind).await, Backend::start().await);
    let gateway = with_table(&database, &backend, "").await;
    let seeds = ["no list", "a map", "numbers", "no workspace", "an odd workspace"];
    let tokens = seeds.map(opaque);
    let [no_list, map, numbers, no_workspace, odd_workspace] = &tokens;
    database
        .write(&[
            Row { abilities: Some("contacts"), ..Row::of(1, no_list) },
            Row { abilities: Some(r#"{"contacts":true}"#), ..Row::of(2, map) },
            Row { abilities: Some("[1]"), ..Row::of(3, numbers) },
            Row { workspace: None, ..Row::of(4, no_workspace) },
            Row { workspace: Some("w 1"), ..Row::of(5, odd_workspace) },
        ])
        .await;
    for (seed, token) in seeds.iter().zip(&tokens) {
        let answer = answer(&gateway, token).await;
        assert_eq!(answer.status, 500, "{seed}");
        answer.assert_envelope(500, "SERVER_ERROR", "An internal server error occurred.");
    }
    assert!(backend.seen().is_empty());
    let told = gateway.log_lines(5, |line| line["digest"].is_string()).await;
    assert!(told.iter().all(|line| line["level"] == "error" && line["source"] == "sql"), "{told:?}");
}

/// A query for an application that keeps the workspace with the user and can switch both off.
fn joined(kind: Kind) -> String {
    let (user, placeholder) = match kind {
        Kind::MariaDb => ("user", "?"),
        Kind::Postgres => ("\\\"user\\\"", "$1"),
    };
    format!(
        "SELECT t.id, u.workspace_id AS workspace, u.id AS {user}, t.abilities, t.expires_at, t.created_at, \
         COALESCE(u.deleted_at, w.suspended_at) AS disabled FROM personal_access_tokens t \
         JOIN users u ON t.tokenable_id = u.id JOIN workspaces w ON w.id = u.workspace_id WHERE t.token = {placeholder};"
    )
}

async fn a_query_of_the_operator_says_whose_token_is_disabled(kind: Kind) {
    let (database, backend) = (Database::start(kind).await, Backend::start().await);
    database
        .execute(
            "CREATE TABLE users (id bigint, workspace_id bigint, deleted_at timestamp NULL);
             CREATE TABLE workspaces (id bigint, suspended_at timestamp NULL);
             INSERT INTO workspaces VALUES (1, NULL), (2, '2020-01-01 00:00:00'), (3, NULL), (3, NULL);
             INSERT INTO users VALUES (11, 1, NULL), (12, 1, '2020-01-01 00:00:00'), (13, 2, NULL), (14, 3, NULL);",
        )
        .await;
    let source = format!("url: \"{}\", query: \"{}\"", database.url(PASSWORD), joined(kind));
    let gateway = with_source(&backend, &source, "").await;
    let owners =
        [("good", 11, 200), ("deleted", 12, 401), ("suspended", 13, 401), ("twice", 14, 500), ("gone", 15, 401)];
    for (id, (seed, user, expected)) in (1..).zip(owners) {
        let token = opaque(seed);
        database.write(&[Row { user, workspace: None, ..Row::of(id, &token) }]).await;
        assert_eq!(status(&gateway, &token).await, expected, "{seed}");
    }
    let seen = backend.only();
    assert_eq!((seen.header("x-workspace-id"), seen.header("x-user-id")), (Some("1"), Some("11")));
    for (reason, count) in [("token_disabled", 2.0), ("token_unknown", 1.0)] {
        let series = format!(r#"gateway_refusals_total{{code="UNAUTHENTICATED",reason="{reason}",route="contacts"}}"#);
        assert_eq!(gateway.metric(&series).await, count, "{reason}");
    }
}

async fn two_hundred_first_uses_of_a_token_are_one_look_up(kind: Kind) {
    let (database, backend) = (Database::start(kind).await, Backend::start().await);
    let gateway = with_table(&database, &backend, "").await;
    let mut connections = Vec::new();
    for _ in 0..200 {
        connections.push(Connection::open(gateway.address).await);
    }
    // On a busy machine two hundred requests can make the one look-up late; then the next token is tried.
    for id in 1.. {
        let token = opaque(&format!("token {id}"));
        // Without the scope, so that no backend has to take two hundred connections.
        database.write(&[Row { abilities: Some("[]"), ..Row::of(id, &token) }]).await;
        let request =
            format!("GET /api/v1/contacts HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n");
        for connection in &mut connections {
            connection.write(request.as_bytes()).await;
        }
        let mut seen = HashSet::new();
        for connection in &mut connections {
            seen.insert(connection.read(request.as_bytes()).await.unwrap().status);
        }
        if seen == HashSet::from([403]) {
            assert_eq!(database.look_ups(&token), 1);
            return;
        }
        assert!(id < 30 && seen.contains(&503), "{seen:?}");
    }
}

async fn a_database_that_does_not_answer_is_503_in_time_and_cached_tokens_go_on(kind: Kind) {
    let (mut database, backend) = (Database::start(kind).await, Backend::start().await);
    let gateway = with_table(&database, &backend, "").await;
    let tokens = ["known", "new", "newer"].map(opaque);
    let [known, new, newer] = &tokens;
    database.write(&[Row::of(1, known), Row::of(2, new), Row::of(3, newer)]).await;
    assert_eq!(status(&gateway, known).await, 200);

    database.signal("STOP");
    for token in [new, &opaque("unknown")] {
        let asked = Instant::now();
        let answer = gateway.get("/api/v1/contacts", token).await;
        answer.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
        assert_eq!(answer.number("retry-after"), 1);
        assert!(asked.elapsed() < Duration::from_secs(5));
        assert_eq!(gateway.get("/api/v1/contacts", known).await.status, 200);
    }
    assert_eq!(gateway.metric(r#"gateway_store_up{store="sql"}"#).await, 0.0);
    database.signal("CONT");
    assert_eq!(status(&gateway, new).await, 200);

    database.restart().await;
    assert_eq!(status(&gateway, newer).await, 200);
    assert_eq!(gateway.metric(r#"gateway_store_up{store="sql"}"#).await, 1.0);
    assert_eq!(status(&gateway, &opaque("unknown")).await, 401);
}

/// A way to the database on `port` whose connections go dead, without a word, when `last_words` pass.
async fn way_with_a_hole(port: u16, last_words: String) -> SocketAddr {
    scripted(move |mut client| {
        let last_words = last_words.clone();
        async move {
            let mut database = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (mut said, mut chunks) = (Vec::new(), [[0; 4096]; 2]);
            let [from_client, from_database] = &mut chunks;
            while !said.windows(last_words.len()).any(|words| words == last_words.as_bytes()) {
                tokio::select! {
                    Ok(length @ 1..) = client.read(from_client) => {
                        said.extend_from_slice(&from_client[..length]);
                        database.write_all(&from_client[..length]).await.unwrap();
                    }
                    Ok(length @ 1..) = database.read(from_database) => {
                        client.write_all(&from_database[..length]).await.unwrap();
                    }
                    else => return,
                }
            }
            std::future::pending().await
        }
    })
    .await
}

async fn a_connection_that_went_dead_in_the_middle_of_a_look_up_is_replaced(kind: Kind) {
    let (database, backend) = (Database::start(kind).await, Backend::start().await);
    let tokens = ["known", "unlucky", "next"].map(opaque);
    let [known, unlucky, next] = &tokens;
    database.write(&[Row::of(1, known), Row::of(2, unlucky), Row::of(3, next)]).await;
    let way = way_with_a_hole(database.port(), digest(unlucky)).await;
    let url = database.url(PASSWORD).replace(&format!(":{}/", database.port()), &format!(":{}/", way.port()));
    let gateway = with_source(&backend, &format!("url: \"{url}\", pool: 1"), "").await;
    assert_eq!(status(&gateway, known).await, 200);
    assert_eq!(gateway.get("/api/v1/contacts", unlucky).await.status, 503);
    assert_eq!(status(&gateway, next).await, 200);
}

async fn a_changed_password_is_read_from_its_file_again(kind: Kind) {
    let (database, backend) = (Database::start(kind).await, Backend::start().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    let say = |file: &Path, password: &str| std::fs::write(file, format!("{}\n", database.url(password))).unwrap();
    say(&file, PASSWORD);
    let gateway = with_source(&backend, &format!("url_file: \"{}\"", file.display()), "").await;
    let tokens = ["first", "second"].map(opaque);
    let [first, second] = &tokens;
    database.write(&[Row::of(1, first), Row::of(2, second)]).await;
    assert_eq!(status(&gateway, first).await, 200);

    let change = match kind {
        Kind::MariaDb => "ALTER USER gateway@'127.0.0.1' IDENTIFIED BY 'the-second-password'; KILL USER gateway",
        Kind::Postgres => {
            "ALTER USER gateway PASSWORD 'the-second-password';
             SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'gateway'"
        }
    };
    database.execute(change).await;
    assert_eq!(gateway.get("/api/v1/contacts", second).await.status, 503, "nobody knows the password yet");
    say(&file, "the-second-password");
    assert_eq!(status(&gateway, second).await, 200);
    let output = gateway.output();
    assert!(!output.contains(PASSWORD) && !output.contains("the-second-password"), "{output}");
}

const USED_AT: &str = "SELECT CAST(last_used_at AS char(19)) FROM personal_access_tokens WHERE id = ";

async fn uses_of_tokens_are_written_in_one_batch_at_the_end_and_never_set_back(kind: Kind) {
    let (database, backend) = (Database::start(kind).await, Backend::start().await);
    let source = format!("url: \"{}\", last_used_at: true", database.url(PASSWORD));
    let mut gateway = with_source(&backend, &source, "").await;
    let tokens = ["first", "again", "ahead", "unused"].map(opaque);
    let [first, again, ahead, unused] = &tokens;
    let began = now();
    let later = Some(began + 3600);
    database
        .write(&[
            Row::of(1, first),
            Row { last_used_at: Some(began - 3600), ..Row::of(2, again) },
            Row { last_used_at: later, ..Row::of(3, ahead) },
            Row::of(4, unused),
        ])
        .await;
    for token in [first, again, ahead, again, first] {
        assert_eq!(status(&gateway, token).await, 200);
    }
    assert_eq!(status(&gateway, &format!("1|{unused}")).await, 401);
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    assert_eq!(database.executed("UPDATE personal_access_tokens"), 1);
    let used_at = async |id: u64| database.text(&format!("{USED_AT}{id}")).await;
    let since_then: Vec<String> = (began..=now()).map(written).collect();
    for id in [1, 2] {
        let used_at = used_at(id).await.unwrap();
        assert!(since_then.contains(&used_at), "{id}: {used_at} of {since_then:?}");
    }
    assert_eq!(used_at(3).await, later.map(written));
    assert_eq!(used_at(4).await, None);
}

async fn uses_of_tokens_are_not_written_unless_that_is_wanted(kind: Kind) {
    let (database, backend) = (Database::start(kind).await, Backend::start().await);
    let mut gateway = with_table(&database, &backend, "").await;
    let token = opaque("good");
    database.write(&[Row::of(1, &token)]).await;
    assert_eq!(status(&gateway, &token).await, 200);
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    assert_eq!(database.executed("UPDATE"), 0);
    assert_eq!(database.text(&format!("{USED_AT}1")).await, None);
}
