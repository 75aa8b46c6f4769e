//! Who is let in, and who is not.

use serde_json::json;

use crate::harness::backend::Backend;
use crate::harness::gateway::{CONTACTS, Gateway, config, simple};
use crate::harness::redis::Redis;
use crate::harness::token::{claims, digest, now, opaque, sign, token};

#[tokio::test]
async fn a_signed_token_is_let_in_as_who_it_says() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let mut said = claims("workspace-9", "contacts ai");
    said["jti"] = "token-9".into();
    assert_eq!(gateway.get("/api/v1/contacts", &sign(&said)).await.status, 200);
    let seen = backend.only();
    assert_eq!(seen.header("x-workspace-id"), Some("workspace-9"));
    assert_eq!(seen.header("x-user-id"), Some("user-1"));
    assert_eq!(seen.header("x-token-id"), Some("token-9"));
    assert_eq!(seen.header("x-token-scopes"), Some("ai contacts"));
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {}", sign(&said)).as_str()));
}

#[tokio::test]
async fn a_token_that_is_not_for_us_is_refused_with_one_message_for_every_reason() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = claims("w", "contacts");
        claims[key] = value;
        sign(&claims)
    };
    let mut broken = token("w", "contacts");
    broken.pop();
    for (token, reason) in [
        (with("exp", (now() - 31).into()), "token_expired"),
        (with("iat", (now() + 100).into()), "token_claims"),
        (with("iss", "other".into()), "token_claims"),
        (with("aud", "other".into()), "token_claims"),
        (with("workspace", json!(null)), "token_claims"),
        (broken, "token_signature"),
        (opaque("unknown"), "token_unknown"),
        (format!("{}00000000", &opaque("wrong checksum")[..43]), "token_malformed"),
        ("mb_".to_owned(), "token_malformed"),
    ] {
        let answer = gateway.get("/api/v1/contacts", &token).await;
        answer.assert_envelope(401, "UNAUTHENTICATED", "Missing or invalid API token.");
        let series = format!(r#"gateway_refusals_total{{code="UNAUTHENTICATED",reason="{reason}",route="contacts"}}"#);
        assert!(gateway.metric(&series).await > 0.0, "{reason}");
    }
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn opaque_tokens_of_a_file_are_known_by_their_digest() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.yaml");
    let list = format!(
        "tokens:\n- {{digest: {}, id: 7, workspace: w7, user: u7, scopes: [contacts]}}\n- {{digest: {}, id: 8, workspace: w8, user: u8, scopes: [contacts], disabled: true}}\n- {{digest: {}, id: 9, workspace: w9, user: u9, scopes: [contacts], expires_at: \"2020-01-01T00:00:00Z\"}}\n- {{digest: {}, id: 10, workspace: w10, user: u10, scopes: [\"*\"]}}\n",
        digest(&opaque("good")),
        digest(&opaque("disabled")),
        digest(&opaque("expired")),
        digest(&opaque("star"))
    );
    std::fs::write(&path, list).unwrap();
    let sections = format!(
        "auth: {{sources: [{{file: {{path: \"{}\"}}}}]}}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"{}\"]}}}}\nroutes:\n{CONTACTS}",
        path.display(),
        backend.address
    );
    let gateway = Gateway::start(&config(&sections)).await;
    let status = async |token: String| gateway.get("/api/v1/contacts", &token).await.status;
    assert_eq!(status(opaque("good")).await, 200);
    assert_eq!(status(format!("7|{}", opaque("good"))).await, 200, "with its own id");
    assert_eq!(status(format!("8|{}", opaque("good"))).await, 401, "with another row's id, cached");
    assert_eq!(status(opaque("star")).await, 200);
    for seed in ["disabled", "expired", "unknown"] {
        assert_eq!(status(opaque(seed)).await, 401, "{seed}");
    }
    assert_eq!(backend.seen()[1].header("authorization"), Some(format!("Bearer 7|{}", opaque("good")).as_str()));
}

/// A gateway that finds tokens in `redis`.
async fn with_redis(redis: &Redis, backend: &Backend, cache: &str) -> Gateway {
    let sections = format!(
        "redis: {{url: \"{}\"}}\nauth: {{expiration: 4h, sources: [{{redis: {{key_prefix: \"mb:token:\"}}}}], cache: {cache}}}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"{}\"]}}}}\nroutes:\n{CONTACTS}",
        redis.url(),
        backend.address
    );
    let gateway = Gateway::start(&config(&sections)).await;
    gateway.log_lines(1, |line| line["message"] == "connected to Redis").await;
    gateway
}

async fn write(redis: &Redis, token: &str, fields: &[&str]) {
    let key = format!("mb:token:{}", digest(token));
    redis.command::<()>(&[&["HSET", key.as_str()], fields].concat()).await;
}

#[tokio::test]
async fn opaque_tokens_that_the_application_wrote_to_redis_are_known() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateway = with_redis(&redis, &backend, "{}").await;
    let created = now().to_string();
    let good = ["id", "7", "workspace", "w7", "user", "u7", "scopes", "ai contacts", "created_at", created.as_str()];
    write(&redis, &opaque("good"), &good).await;
    write(&redis, &opaque("old"), &[&good[..8], &["created_at", &(now() - 4 * 3600).to_string()]].concat()).await;
    write(&redis, &opaque("timeless"), &good[..8]).await;
    write(&redis, &opaque("disabled"), &[&good[..], &["disabled", "1"]].concat()).await;
    write(
        &redis,
        &opaque("other scope"),
        &["id", "8", "workspace", "w", "user", "u", "scopes", "ai", "created_at", &created],
    )
    .await;
    write(&redis, &opaque("broken"), &["id", "9"]).await;
    let status = async |seed: &str| gateway.get("/api/v1/contacts", &opaque(seed)).await.status;
    assert_eq!(status("good").await, 200);
    for seed in ["old", "timeless", "disabled", "unknown"] {
        assert_eq!(status(seed).await, 401, "{seed}");
    }
    assert_eq!(status("other scope").await, 403);
    assert_eq!(status("broken").await, 500, "a broken record lets nobody in and is not the caller's fault");
    assert_eq!(backend.only().header("x-workspace-id"), Some("w7"));
}

#[tokio::test]
async fn a_public_route_needs_no_token_and_makes_nobody_of_anyone() {
    let backend = Backend::start().await;
    let routes = "  open: {path: /open, access: public, limit: none, upstream: main}\n  any: {path: /any, access: token, limit: none, upstream: main}\n";
    let gateway = Gateway::start(&simple(&[backend.address], "", routes)).await;
    let answer = gateway
        .send("GET /api/v1/open HTTP/1.1\r\nHost: x\r\nX-User-Id: 1\r\nCookie: a=b\r\nAuthorization: Basic x\r\n\r\n")
        .await;
    assert_eq!(answer.status, 200);
    let seen = backend.only();
    assert_eq!(
        (seen.header("x-user-id"), seen.header("cookie"), seen.header("authorization")),
        (None, Some("a=b"), Some("Basic x"))
    );
    assert_eq!(gateway.send("GET /api/v1/any HTTP/1.1\r\nHost: x\r\n\r\n").await.status, 401);
    assert_eq!(gateway.get("/api/v1/any", &token("w", "")).await.status, 200);
}
