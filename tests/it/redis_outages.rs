//! Limits while Redis is away and when it comes back: cases 19 and 20 of the research.

use std::time::Duration;

use crate::harness::backend::{Backend, nobody};
use crate::harness::client::Response;
use crate::harness::gateway::{Gateway, counting_in};
use crate::harness::load::{Load, with_status};
use crate::harness::redis::Redis;
use crate::harness::token::{now, token};
use crate::harness::wait_for;

const UP: &str = r#"gateway_store_up{store="redis"}"#;

/// Two gateways on one Redis that know of each other.
async fn two(redis: &Redis, backend: &Backend, limits: &str) -> [Gateway; 2] {
    let config = counting_in(&redis.url(), "deadline: 2s", backend.address, limits);
    // The first would be told of the other some seconds later; so somebody stands in for it.
    redis.command::<()>(&["ZADD", "mb:gateways", &now().to_string(), "stand-in"]).await;
    let one = Gateway::start(&config).await;
    redis.knows_gateways(2).await;
    redis.command::<()>(&["ZREM", "mb:gateways", "stand-in"]).await;
    let other = Gateway::start(&config).await;
    redis.knows_gateways(2).await;
    [one, other]
}

async fn get(gateway: &Gateway, token: &str) -> Response {
    gateway.get("/api/v1/contacts", token).await
}

async fn lost(gateway: &Gateway) {
    wait_for("the loss", async || (gateway.metric(UP).await == 0.0).then_some(())).await;
}

/// Sends requests until one is refused; how many passed, and what the first was told.
async fn spend(gateway: &Gateway, token: &str) -> (usize, Response) {
    let first = get(gateway, token).await;
    let mut answer = first.clone();
    let mut passed = 0;
    while answer.status == 200 {
        passed += 1;
        assert!(passed < 1_000, "it never ends");
        answer = get(gateway, token).await;
    }
    assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (429, 0));
    (passed, first)
}

#[tokio::test]
async fn case_19_without_redis_each_limit_goes_its_own_way_at_once() {
    let backend = Backend::start().await;
    let url = format!("redis://{}", nobody().await);
    for (policy, expected, headers) in
        [("local", [200, 200, 429], true), ("allow", [200; 3], false), ("deny", [503; 3], false)]
    {
        let limit = format!("contacts: {{requests: 2, per: 1m, on_store_failure: {policy}}}");
        let gateway = Gateway::start(&counting_in(&url, "", backend.address, &limit)).await;
        for status in expected {
            let answer = get(&gateway, &token("w", "contacts")).await;
            assert_eq!(answer.status, status, "{policy}");
            assert_eq!(answer.header("x-ratelimit-remaining").is_some(), headers, "{policy}");
            if status == 503 {
                answer.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
                assert_eq!(answer.number("retry-after"), 1);
            }
        }
        assert_eq!(gateway.metric(UP).await, 0.0);
    }
}

#[tokio::test]
async fn case_19_a_share_begins_with_what_redis_last_said_was_left() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateways = two(&redis, &backend, "contacts: {requests: 40, per: 1m}").await;
    let (known, fresh) = (token("known", "contacts"), token("fresh", "contacts"));
    let mut told = None;
    for gateway in gateways.iter().flat_map(|gateway| [gateway; 8]) {
        told = Some(get(gateway, &known).await);
    }
    let told = told.unwrap();
    assert_eq!(told.number("x-ratelimit-remaining"), 24);
    drop(redis);
    // The first was last told that 32 are left, the other that 24 are; each has half of that, and half of a counter nobody knows.
    for (gateway, of_known) in gateways.iter().zip([16, 12]) {
        lost(gateway).await;
        let (passed, first) = spend(gateway, &known).await;
        assert_eq!(passed, of_known);
        assert_eq!(
            (first.number("x-ratelimit-limit"), first.number("x-ratelimit-remaining")),
            (20, of_known as u64 - 1)
        );
        assert_eq!(first.number("x-ratelimit-reset"), told.number("x-ratelimit-reset"), "the window is the same");
        let (passed, first) = spend(gateway, &fresh).await;
        assert_eq!((passed, first.number("x-ratelimit-limit")), (20, 20));
    }
}

/// Asks until the store has decided about a request.
async fn counted_again(gateway: &Gateway, token: &str) {
    let before = gateway.decided_by("store").await;
    wait_for("Redis to count again", async || {
        get(gateway, token).await;
        (gateway.decided_by("store").await > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn case_20_what_was_let_through_meanwhile_is_counted_once_when_redis_is_back() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateways = two(&redis, &backend, "contacts: {requests: 1000, per: 1m}").await;
    let token = token("w", "contacts");
    for gateway in &gateways {
        assert_eq!(get(gateway, &token).await.status, 200);
    }
    // Nothing is forgotten: it is the same Redis, which lets nobody near its keys.
    redis.command::<()>(&["ACL", "SETUSER", "default", "resetkeys", "~none"]).await;
    for gateway in &gateways {
        wait_for("decisions without it", async || {
            assert_eq!(get(gateway, &token).await.status, 200);
            (gateway.decided_by("local").await >= 10.0).then_some(())
        })
        .await;
    }
    redis.command::<()>(&["ACL", "SETUSER", "default", "allkeys"]).await;
    for round in 0..3 {
        for gateway in &gateways {
            counted_again(gateway, &token).await;
        }
        let counted = redis.counted("mb:rl:3:{ww}:contacts:60").await;
        assert_eq!(counted, backend.seen().len(), "round {round}");
        assert!(counted < 1_000);
    }
}

#[tokio::test]
async fn case_20_what_one_gateway_let_through_meanwhile_is_not_given_away_again_by_another() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateways = two(&redis, &backend, "contacts: {requests: 40, per: 1m}").await;
    let token = token("w", "contacts");
    for gateway in &gateways {
        assert_eq!(get(gateway, &token).await.status, 200);
    }
    redis.command::<()>(&["ACL", "SETUSER", "default", "resetkeys", "~none"]).await;
    let [quiet, busy] = &gateways;
    let (passed, _) = spend(quiet, &token).await;
    redis.command::<()>(&["ACL", "SETUSER", "default", "allkeys"]).await;
    // Nobody asks the first for this counter again.
    wait_for("the debt to be paid", async || {
        let counted = redis.counted("mb:rl:3:{ww}:contacts:60").await;
        (counted == 2 + passed).then_some(())
    })
    .await;
    counted_again(busy, &token).await;
    let _ = spend(busy, &token).await;
    assert_eq!(backend.seen().len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_20_a_redis_that_comes_back_is_not_fallen_upon() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateways = two(&redis, &backend, "contacts: {requests: 100000, per: 1m}").await;
    let tokens: Vec<String> = (0..20).map(|n| token(&format!("w{n}"), "contacts")).collect();
    let load = Load::start(&gateways.each_ref().map(|gateway| gateway.address), &tokens, Duration::from_millis(50));
    let port = redis.port();
    drop(redis);
    for gateway in &gateways {
        wait_for("decisions without it", async || (gateway.decided_by("local").await > 100.0).then_some(())).await;
    }
    let redis = Redis::start_on(port).await;
    for gateway in &gateways {
        let before = gateway.decided_by("store").await;
        wait_for("Redis to count again", async || (gateway.decided_by("store").await > before + 200.0).then_some(()))
            .await;
    }
    let connections = redis.info("stats", "total_connections_received").await;
    let mut answered = load.stop().await;
    assert_eq!(with_status(&answered, 200), answered.len());
    // For each gateway the link and the stream of revocations; the rest are this test's own questions.
    assert!(connections < 20, "{connections} connections");
    answered.sort_by_key(|answered| answered.at);
    for gateway in 0..gateways.len() {
        // A share is a half.
        let shares: Vec<bool> = answered
            .iter()
            .filter(|answered| answered.gateway == gateway)
            .map(|answered| answered.response.number("x-ratelimit-limit") == 50_000)
            .collect();
        let began_again = shares.windows(2).position(|two| two == [true, false]).unwrap();
        let still_alone = shares[began_again + 1..].iter().filter(|is_share| **is_share).count();
        assert!(still_alone > 0, "a tenth of the requests asks first, not all at once");
    }
}
