//! What a client may present: how it is spelled, whose id stands in front of it, until when it holds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::harness::backend::{Backend, read_head, scripted};
use crate::harness::client;
use crate::harness::gateway::{CONTACTS, Gateway, config, with_redis};
use crate::harness::redis::Redis;
use crate::harness::token::{now, opaque};
use crate::harness::wait_for;

/// A token of Sanctum's own making.
const SANCTUM: &str = "mb_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcdf8c8ab1e";
/// Its random part alone, as Sanctum before 3.3 made them.
const WITHOUT_CHECKSUM: &str = "mb_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcd";

/// A GET with exactly these lines of fields.
async fn with_fields(gateway: &Gateway, fields: &[u8]) -> client::Response {
    let request = [b"GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\n", fields, b"\r\n\r\n"].concat();
    client::send(gateway.address, &request).await
}

/// How often a request was refused for `reason`.
async fn refusals(gateway: &Gateway, reason: &str) -> f64 {
    let told = gateway.admin("/metrics").await.text();
    let label = format!("reason=\"{reason}\"");
    let is_meant = |line: &&str| line.starts_with("gateway_refusals_total") && line.contains(&label);
    told.lines().filter(is_meant).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn case_24_a_token_is_read_in_one_way_and_a_backend_is_sent_that_one() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    redis.write_token(SANCTUM, "7", &[]).await;
    redis.write_token(WITHOUT_CHECKSUM, "8", &[]).await;
    let gateway = Gateway::start(&with_redis(&redis, &[backend.address], "")).await;
    for (field, forwarded) in [
        (format!("Authorization: Bearer {SANCTUM}"), SANCTUM.to_owned()),
        (format!("authorization: bearer {SANCTUM}"), SANCTUM.to_owned()),
        (format!("AUTHORIZATION: BEARER {SANCTUM}"), SANCTUM.to_owned()),
        (format!("Authorization: bEARER  {SANCTUM}"), SANCTUM.to_owned()),
        (format!("Authorization:  Bearer {SANCTUM}  "), SANCTUM.to_owned()),
        (format!("Authorization: Bearer 7|{SANCTUM}"), format!("7|{SANCTUM}")),
        (format!("Authorization: Bearer {WITHOUT_CHECKSUM}"), WITHOUT_CHECKSUM.to_owned()),
    ] {
        assert_eq!(with_fields(&gateway, field.as_bytes()).await.status, 200, "{field}");
        let seen = backend.seen().pop().unwrap();
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {forwarded}").as_str()), "{field}");
    }
    assert_eq!(redis.calls("hgetall").await, 2, "each of the two tokens was looked up once");
}

#[tokio::test]
async fn case_24_whatever_is_not_exactly_one_token_is_refused_without_a_look_up() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    redis.write_token(SANCTUM, "7", &[]).await;
    let gateway = Gateway::start(&with_redis(&redis, &[backend.address], "")).await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let one = bearer(SANCTUM);
    for (fields, status, reason) in [
        ("Accept: */*".into(), 401, "no_token"),
        ("Authorization:".into(), 401, "no_token"),
        ("Authorization: Basic dXNlcjpwYXNz".into(), 401, "no_token"),
        (format!("Authorization: {SANCTUM}"), 401, "no_token"),
        (format!("Authorization: Basic x, Bearer {SANCTUM}"), 401, "no_token"),
        (format!("{one}\r\n{one}"), 400, "many_authorizations"),
        (format!("{one}\r\nauthorization: Basic x"), 400, "many_authorizations"),
        (format!("{one}, Bearer {SANCTUM}"), 401, "token_malformed"),
        (format!("{one},"), 401, "token_malformed"),
        (format!("{one} x"), 401, "token_malformed"),
        (format!("Authorization: Bearer\t{SANCTUM}"), 401, "token_malformed"),
        (format!("Authorization: Bearer \t{SANCTUM}"), 401, "token_malformed"),
        ("Authorization: Bearer".into(), 401, "token_malformed"),
        (bearer("1|"), 401, "token_malformed"),
        (bearer(&format!("0|{SANCTUM}")), 401, "token_malformed"),
        (bearer(&format!("07|{SANCTUM}")), 401, "token_malformed"),
        (bearer(&format!("a|{SANCTUM}")), 401, "token_malformed"),
        (bearer(&format!("7|7|{SANCTUM}")), 401, "token_malformed"),
        (bearer(&format!("99999999999999999999|{SANCTUM}")), 401, "token_malformed"),
        (bearer(&SANCTUM.replace("f8c8ab1e", "f8c8ab1f")), 401, "token_malformed"),
        (bearer(&SANCTUM.replace("f8c8ab1e", "F8C8AB1E")), 401, "token_malformed"),
        (bearer(&SANCTUM.replace("mb_", "MB_")), 401, "token_malformed"),
        (bearer(&SANCTUM.replace("mb_", "")), 401, "token_malformed"),
        (bearer(&format!("mb_a.b.{}", "c".repeat(4097 - 7))), 401, "token_malformed"),
        (bearer(&format!("mb_a.b.{}", "c".repeat(4096 - 7))), 401, "token_signature"),
        (bearer("mb_\u{e4}"), 401, "token_malformed"),
        (format!("{one}\r\n {SANCTUM}"), 400, "head_field"),
        (format!("Authorization: Bearer\0{SANCTUM}"), 400, "head_field_value"),
        (format!("{one}\n"), 400, "head_bare_lf"),
    ] {
        let refused_before = refusals(&gateway, reason).await;
        let answer = with_fields(&gateway, fields.as_bytes()).await;
        match status {
            400 => answer.assert_envelope(400, "BAD_REQUEST", "The request is malformed."),
            _ => answer.assert_envelope(401, "UNAUTHENTICATED", "Missing or invalid API token."),
        }
        let challenge = match reason {
            _ if status == 400 => None,
            "no_token" => Some(r#"Bearer realm="mailtrixy""#),
            _ => Some(r#"Bearer realm="mailtrixy", error="invalid_token""#),
        };
        assert_eq!(answer.header("www-authenticate"), challenge, "{fields}");
        assert_eq!(refusals(&gateway, reason).await, refused_before + 1.0, "{reason}: {fields}");
    }
    let in_query = format!("GET /api/v1/contacts?token={SANCTUM}&access_token={SANCTUM} HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(gateway.send(&in_query).await.status, 401);
    let body = format!("access_token={SANCTUM}");
    let form = "Content-Type: application/x-www-form-urlencoded";
    let length = body.len();
    let in_body =
        format!("POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\n{form}\r\nContent-Length: {length}\r\n\r\n{body}");
    assert_eq!(gateway.send(&in_body).await.status, 401);
    assert_eq!(redis.calls("hgetall").await, 0);
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn case_25_the_id_in_front_of_a_token_is_that_tokens_own_cached_or_not() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let (seven, eight) = (opaque("seven"), opaque("eight"));
    redis.write_token(&seven, "7", &[]).await;
    redis.write_token(&eight, "8", &[]).await;
    let gateway = Gateway::start(&with_redis(&redis, &[backend.address], "")).await;
    let status = async |token: &str| gateway.get("/api/v1/contacts", token).await.status;
    assert_eq!(status(&format!("7|{eight}")).await, 401, "never seen before");
    assert_eq!(status(&format!("8|{eight}")).await, 200, "the refusal above was not the token's");
    assert_eq!(status(&format!("7|{eight}")).await, 401, "cached");
    assert_eq!(status(&format!("18446744073709551615|{eight}")).await, 401);
    assert_eq!(status(&eight).await, 200);
    assert_eq!(status(&format!("8|{seven}")).await, 401);
    assert_eq!(status(&format!("7|{seven}")).await, 200);
    assert_eq!(refusals(&gateway, "token_wrong_id").await, 4.0);
    assert_eq!(redis.calls("hgetall").await, 2);
    assert_eq!(backend.seen().len(), 3);
}

fn milliseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

#[tokio::test]
async fn case_26_a_cached_token_ends_at_expires_at_or_by_its_age_whichever_is_first() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let end = now() + 3;
    let (by_date, by_age) = (opaque("by date"), opaque("by age"));
    redis.write_token(&by_date, "7", &["expires_at", &end.to_string()]).await;
    let made = (end - 4 * 3600).to_string();
    redis.write_token(&by_age, "8", &["expires_at", &(end + 3600).to_string(), "created_at", &made]).await;
    let auth = "  expiration: 4h\n  cache: {ttl: 1h}";
    let gateway = Gateway::start(&with_redis(&redis, &[backend.address], auth)).await;
    for token in [&by_date, &by_age] {
        assert_eq!(gateway.get("/api/v1/contacts", token).await.status, 200);
    }
    wait_for("both tokens to end", async || {
        let statuses = [in_time(&gateway, &by_date, end).await, in_time(&gateway, &by_age, end).await];
        (statuses == [401, 401]).then_some(())
    })
    .await;
    assert_eq!(redis.calls("hgetall").await, 2, "nobody was asked again");
}

/// The status of a request that is let in before its token's end alone, and refused after it alone.
async fn in_time(gateway: &Gateway, token: &str, end: u64) -> u16 {
    let end = u128::from(end) * 1000;
    let asked_at = milliseconds();
    let status = gateway.get("/api/v1/contacts", token).await.status;
    match status {
        200 => assert!(asked_at < end, "let in after its end"),
        _ => assert!(milliseconds() >= end, "{status} before its end"),
    }
    status
}

#[tokio::test]
async fn case_26_a_token_that_ends_while_it_is_looked_up_is_not_let_in() {
    let backend = Backend::start().await;
    let (answer, answers) = watch::channel(String::new());
    let service = scripted(move |mut stream| {
        let mut answers = answers.clone();
        async move {
            read_head(&mut stream).await;
            let body = answers.wait_for(|body| !body.is_empty()).await.unwrap().clone();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    })
    .await;
    let sections = format!(
        "auth: {{sources: [{{introspection: {{url: \"http://{service}/\", secret: \"a secret of the service\", timeout: 2s}}}}]}}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"{}\"]}}}}\nroutes:\n{CONTACTS}",
        backend.address
    );
    let gateway = Gateway::start(&config(&sections)).await;
    // Late in a second, so that the next one is nearer than a look-up's deadline.
    wait_for("the end of a second", || std::future::ready((milliseconds() % 1000 > 700).then_some(()))).await;
    let end = milliseconds() / 1000 + 1;
    let token = opaque("ends");
    let request = gateway.get("/api/v1/contacts", &token);
    let answering = async {
        wait_for("the token's end", || std::future::ready((milliseconds() >= end * 1000).then_some(()))).await;
        answer.send_replace(format!(
            r#"{{"active":true,"sub":"u","workspace":"w","scope":"contacts","jti":"1","exp":{end}}}"#
        ));
    };
    let (answer, ()) = tokio::join!(request, answering);
    assert_ne!(answer.status, 200);
    assert!(backend.seen().is_empty());
    let settled = tokio::time::timeout(Duration::from_secs(10), gateway.get("/api/v1/contacts", &token)).await;
    assert_eq!(settled.unwrap().status, 401);
}
