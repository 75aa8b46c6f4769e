//! The store of tokens is away: case 29 of the research.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::PATIENCE;
use crate::harness::backend::Backend;
use crate::harness::client::Response;
use crate::harness::gateway::{Gateway, with_redis};
use crate::harness::redis::Redis;
use crate::harness::token::{now, opaque};
use crate::harness::wait_for;

const TTL: Duration = Duration::from_secs(1);
const STALE_CAP: Duration = Duration::from_secs(3);
const CACHE: &str = "  cache: {ttl: 1s, stale_cap: 3s, negative_ttl: 0s}";

struct Tokens {
    cached: String,
    ending: String,
    revoked: String,
    unseen: String,
}

impl Tokens {
    /// Four tokens, of which the second ends in three seconds.
    async fn write(redis: &Redis) -> Self {
        let [cached, ending, revoked, unseen] = ["cached", "ending", "revoked", "unseen"].map(opaque);
        redis.write_token(&cached, "1", &[]).await;
        redis.write_token(&ending, "2", &["expires_at", &(now() + 3).to_string()]).await;
        redis.write_token(&revoked, "3", &[]).await;
        redis.write_token(&unseen, "4", &[]).await;
        Self { cached, ending, revoked, unseen }
    }
}

async fn get(gateway: &Gateway, token: &str) -> Response {
    gateway.get("/api/v1/contacts", token).await
}

#[track_caller]
fn assert_unavailable(answer: &Response) {
    answer.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
    assert_eq!(answer.number("retry-after"), 1);
}

async fn revoke_third(redis: &Redis, gateway: &Gateway, tokens: &Tokens) {
    redis.revoke("id", "3").await;
    wait_for("the revocation", async || (get(gateway, &tokens.revoked).await.status == 401).then_some(())).await;
}

#[tokio::test]
async fn case_29_while_redis_is_away_known_tokens_go_on_for_so_long_and_no_valid_token_is_401() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateway = Gateway::start(&with_redis(&redis, &[backend.address], CACHE)).await;
    let tokens = Tokens::write(&redis).await;
    let ends = Instant::now() + Duration::from_secs(3);
    assert_eq!(get(&gateway, &tokens.revoked).await.status, 200);
    revoke_third(&redis, &gateway, &tokens).await;
    assert_eq!(get(&gateway, &tokens.ending).await.status, 200);
    let known_at = Instant::now();
    assert_eq!(get(&gateway, &tokens.cached).await.status, 200);
    let port = redis.port();
    drop(redis);
    assert_unavailable(&get(&gateway, &tokens.unseen).await);
    let mut stale = 0;
    loop {
        let asked_at = Instant::now();
        let answer = get(&gateway, &tokens.cached).await;
        if answer.status != 200 {
            assert_unavailable(&answer);
            break;
        }
        stale += usize::from(asked_at - known_at > TTL);
        assert!(asked_at - known_at < PATIENCE, "known for ever");
        assert_ne!(get(&gateway, &tokens.revoked).await.status, 200, "what is revoked stays revoked");
        let asked_at = Instant::now();
        let is_let_in = get(&gateway, &tokens.ending).await.status == 200;
        assert!(!is_let_in || asked_at < ends, "let in after its end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(known_at.elapsed() >= TTL + STALE_CAP - Duration::from_millis(10), "{:?}", known_at.elapsed());
    assert!(stale > 0, "it was let in without having been asked about");
    assert_eq!(get(&gateway, &tokens.ending).await.status, 401, "its end is known without a store");
    let redis = Redis::start_on(port).await;
    let tokens = Tokens::write(&redis).await;
    for token in [&tokens.cached, &tokens.unseen] {
        back(&gateway, token).await;
    }
    assert_eq!(get(&gateway, &tokens.revoked).await.status, 401);
}

/// Waits until a valid token is let in again; until then it is 503 and never 401.
async fn back(gateway: &Gateway, token: &str) {
    wait_for("the token to be let in", async || {
        let answer = get(gateway, token).await;
        if answer.status == 200 {
            return Some(());
        }
        assert_unavailable(&answer);
        None
    })
    .await;
}

#[tokio::test]
async fn case_29_while_redis_hangs_it_is_the_same_and_nobody_waits_for_long() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateway = Gateway::start(&with_redis(&redis, &[backend.address], CACHE)).await;
    let tokens = Tokens::write(&redis).await;
    assert_eq!(get(&gateway, &tokens.revoked).await.status, 200);
    revoke_third(&redis, &gateway, &tokens).await;
    let known_at = Instant::now();
    assert_eq!(get(&gateway, &tokens.cached).await.status, 200);
    redis.signal("STOP");
    wait_for("a stale token", async || {
        let asked_at = Instant::now();
        assert_eq!(get(&gateway, &tokens.cached).await.status, 200);
        assert_eq!(get(&gateway, &tokens.revoked).await.status, 401);
        (asked_at - known_at > TTL).then_some(())
    })
    .await;
    let asked_at = Instant::now();
    assert_unavailable(&get(&gateway, &tokens.unseen).await);
    assert!(asked_at.elapsed() < Duration::from_secs(5), "{:?}", asked_at.elapsed());
    redis.signal("CONT");
    for token in [&tokens.unseen, &tokens.cached] {
        back(&gateway, token).await;
    }
    assert_eq!(get(&gateway, &tokens.revoked).await.status, 401);
}
