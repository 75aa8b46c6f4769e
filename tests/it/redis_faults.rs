//! What Redis may do to a gateway that counts in it: cases 13 to 17 of the research, and a few more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::harness::backend::Backend;
use crate::harness::gateway::{Gateway, counting_in};
use crate::harness::load::{Load, longest, with_status};
use crate::harness::proxy::Wire;
use crate::harness::redis::Redis;
use crate::harness::token::token;
use crate::harness::wait_for;

/// Generous: a machine may be busy. What is meant is the deadline and 100 ms, which is measured and written into the release notes.
const SOON: Duration = Duration::from_secs(1);
const PLENTY: &str = "contacts: {requests: 100000, per: 1m}";

async fn connected(config: &str) -> Gateway {
    let gateway = Gateway::start(config).await;
    gateway.log_lines(1, |line| line["message"] == "connected to Redis").await;
    gateway
}

/// How much of the counter of workspace `w` is used.
async fn used(redis: &Redis) -> usize {
    redis.counted("mb:rl:3:{ww}:contacts:60").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_13_scripts_that_are_flushed_under_load_cost_no_request_and_count_none_twice() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let config = counting_in(&redis.url(), "deadline: 10s", backend.address, PLENTY);
    let (one, other) = (connected(&config).await, connected(&config).await);
    let addresses = [one.address, other.address];
    let load = Load::start(&addresses, &vec![token("w", "contacts"); 5], Duration::from_millis(10));
    for flush in 0..20 {
        redis.command::<()>(&["SCRIPT", "FLUSH"]).await;
        wait_for("more requests", async || (backend.seen().len() > 20 * flush).then_some(())).await;
    }
    let answered = load.stop().await;
    assert_eq!(with_status(&answered, 200), answered.len());
    assert_eq!(used(&redis).await, answered.len(), "each was counted once");
    let left: BTreeSet<u64> = answered.iter().map(|a| a.response.number("x-ratelimit-remaining")).collect();
    assert_eq!(left.len(), answered.len(), "each was told its own number");
    let (asked, resent) = (redis.calls("evalsha").await, redis.calls("eval").await);
    assert!(asked <= answered.len() as u64 && resent <= asked, "{asked} calls, {resent} with the script");
    assert_eq!(one.decided_by("local").await + other.decided_by("local").await, 0.0);
}

#[tokio::test]
async fn case_14_an_answer_that_comes_too_late_is_decided_here_and_never_asked_for_again() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let wire = Wire::to(redis.port()).await;
    let url = format!("redis://{}", wire.address);
    let gateway = connected(&counting_in(&url, "", backend.address, "contacts: {requests: 10, per: 1m}")).await;
    wire.delay(Duration::from_millis(20));
    let before = redis.calls("evalsha").await;
    let token = token("w", "contacts");
    let mut statuses = Vec::new();
    for _ in 0..30 {
        let asked_at = Instant::now();
        let answer = gateway.get("/api/v1/contacts", &token).await;
        assert!(asked_at.elapsed() < SOON, "{:?}", asked_at.elapsed());
        assert!(answer.header("x-ratelimit-remaining").is_some());
        statuses.push(answer.status);
    }
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(passed, 10, "this gateway's share is the whole limit: {statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert_eq!(gateway.decided_by("store").await, 0.0);
    let failures = gateway.metric(r#"gateway_store_errors_total{operation="take",store="redis"}"#).await;
    wait_for("what was sent", async || {
        let calls = redis.calls("evalsha").await + redis.calls("eval").await - before;
        (calls as f64 >= failures).then_some(())
    })
    .await;
    // The breaker's probes are calls too; nobody knows how many, but each request asked once at the most.
    assert!(used(&redis).await <= 10);
    assert!(wire.opened() <= 3, "the link and the stream of revocations, which may have begun again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_15_a_wire_that_swallows_everything_is_noticed_and_replaced() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let wire = Wire::to(redis.port()).await;
    let url = format!("redis://{}", wire.address);
    let gateway = connected(&counting_in(&url, "", backend.address, PLENTY)).await;
    let token = token("w", "contacts");
    let load = Load::start(&[gateway.address], &vec![token.clone(); 4], Duration::from_millis(10));
    wait_for("requests", async || (gateway.decided_by("store").await > 20.0).then_some(())).await;
    wire.swallow(true);
    let up = r#"gateway_store_up{store="redis"}"#;
    wait_for("the loss", async || (gateway.metric(up).await == 0.0).then_some(())).await;
    wire.swallow(false);
    let ended_at = Instant::now();
    gateway.counted_again(&token).await;
    let recovery = ended_at.elapsed();
    let answered = load.stop().await;
    assert_eq!(with_status(&answered, 200), answered.len());
    assert!(recovery < 3 * SOON, "{recovery:?}");
    assert!(longest(&answered) < SOON, "{:?}", longest(&answered));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_redis_costs_its_deadline_and_comes_back_by_itself() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateway = connected(&counting_in(&redis.url(), "", backend.address, PLENTY)).await;
    let token = token("w", "contacts");
    let load = Load::start(&[gateway.address], &vec![token.clone(); 4], Duration::from_millis(10));
    wait_for("requests", async || (gateway.decided_by("store").await > 20.0).then_some(())).await;
    redis.signal("STOP");
    wait_for("decisions without it", async || (gateway.decided_by("local").await > 50.0).then_some(())).await;
    redis.signal("CONT");
    gateway.counted_again(&token).await;
    let answered = load.stop().await;
    assert_eq!(with_status(&answered, 200), answered.len());
    assert!(longest(&answered) < SOON, "{:?}", longest(&answered));
    let errors = gateway.metric(r#"gateway_store_errors_total{operation="take",store="redis"}"#).await;
    assert!(errors < 50.0, "{errors}: a store that does not answer is left alone");
}

#[tokio::test]
async fn a_restarted_redis_is_found_again_and_knows_its_scripts_again() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let limits = "contacts: {requests: 1000, per: 1m, on_store_failure: deny}";
    let gateway = connected(&counting_in(&redis.url(), "deadline: 2s", backend.address, limits)).await;
    let token = token("w", "contacts");
    assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 200);
    redis.command::<()>(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(gateway.get("/api/v1/contacts", &token).await.number("x-ratelimit-remaining"), 998);
    let port = redis.port();
    drop(redis);
    assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 503);
    let _redis = Redis::start_on(port).await;
    wait_for("the gateway to find Redis", async || {
        (gateway.get("/api/v1/contacts", &token).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_16_a_master_that_becomes_a_replica_under_its_clients_is_left_and_found_again() {
    let (redis, other, backend) = (Redis::start().await, Redis::start().await, Backend::start().await);
    let gateway = connected(&counting_in(&redis.url(), "", backend.address, PLENTY)).await;
    let token = token("w", "contacts");
    let load = Load::start(&[gateway.address], &vec![token.clone(); 4], Duration::from_millis(10));
    wait_for("requests", async || (gateway.decided_by("store").await > 20.0).then_some(())).await;
    redis.command::<()>(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).await;
    let up = r#"gateway_store_up{store="redis"}"#;
    wait_for("the loss", async || (gateway.metric(up).await == 0.0).then_some(())).await;
    redis.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    gateway.counted_again(&token).await;
    let answered = load.stop().await;
    assert_eq!(with_status(&answered, 200), answered.len());
    assert!(longest(&answered) < SOON, "{:?}", longest(&answered));
}

#[tokio::test]
async fn case_17_a_password_that_is_wrong_for_a_while_is_tried_until_it_is_right() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let allowed = ["on", "~mb:*", "+@all"];
    redis.command::<()>(&[&["ACL", "SETUSER", "gateway", ">first"], &allowed[..]].concat()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "first\n").unwrap();
    let url = format!("redis://gateway:ignored@127.0.0.1:{}", redis.port());
    let section = format!("password_file: {}", file.display());
    let gateway = connected(&counting_in(&url, &section, backend.address, PLENTY)).await;
    let token = token("w", "contacts");
    gateway.counted_again(&token).await;
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "resetpass", ">second"]).await;
    redis.command::<()>(&["CLIENT", "KILL", "USER", "gateway"]).await;
    gateway
        .log_lines(1, |line| line["message"].as_str().is_some_and(|message| message.contains("authentication failed")))
        .await;
    // redis-rs' own manager gives up after six attempts at such an error.
    let before = redis.info("stats", "total_error_replies").await;
    wait_for("many attempts", async || {
        let denied = redis.info("stats", "total_error_replies").await;
        assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 200);
        (denied > before + 8).then_some(())
    })
    .await;
    std::fs::write(&file, "second\n").unwrap();
    gateway.counted_again(&token).await;
    assert!(!gateway.output().contains("second"));
}

#[tokio::test]
async fn a_redis_that_is_full_is_left_alone_until_it_has_room() {
    let (redis, backend) = (Redis::start_with(&["--maxmemory-policy", "noeviction"]).await, Backend::start().await);
    let gateway = connected(&counting_in(&redis.url(), "", backend.address, PLENTY)).await;
    let token = token("w", "contacts");
    gateway.counted_again(&token).await;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let counted = used(&redis).await;
    let before = backend.seen().len();
    wait_for("decisions without it", async || {
        assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 200);
        (gateway.decided_by("local").await > 20.0).then_some(())
    })
    .await;
    assert_eq!(used(&redis).await, counted, "nothing is written by halves");
    let passed = backend.seen().len() - before;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    gateway.counted_again(&token).await;
    assert!(used(&redis).await > counted + passed, "what was let through meanwhile is counted");
    assert_eq!(gateway.metric(r#"gateway_store_up{store="redis"}"#).await, 1.0, "the connection was good all the time");
}
