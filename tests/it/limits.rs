//! Limits as a client meets them.

use std::collections::BTreeSet;

use crate::harness::backend::{Backend, nobody};
use crate::harness::client::Response;
use crate::harness::gateway::{AUTH, Gateway, config, simple};
use crate::harness::redis::Redis;
use crate::harness::token::{now, token};

const ROUTES: &str = "  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main}\n";

#[tokio::test]
async fn exactly_the_limit_passes_and_every_answer_says_where_one_stands() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "contacts: {requests: 5, per: 1m}", ROUTES)).await;
    let token = token("w", "contacts");
    let mut resets = BTreeSet::new();
    for left in [4, 3, 2, 1, 0] {
        let answer = gateway.get("/api/v1/contacts", &token).await;
        assert_eq!(
            (answer.status, answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-remaining")),
            (200, 5, left)
        );
        assert_eq!(answer.header("retry-after"), None);
        resets.insert(answer.number("x-ratelimit-reset"));
    }
    let refused = gateway.get("/api/v1/contacts", &token).await;
    assert_eq!((refused.status, refused.number("x-ratelimit-remaining")), (429, 0));
    resets.insert(refused.number("x-ratelimit-reset"));
    assert_eq!(resets.len(), 1, "one window has one end: {resets:?}");
    let left = resets.first().unwrap() - now();
    assert!(refused.number("retry-after").abs_diff(left) <= 1, "{refused:?}");
    assert_eq!(backend.seen().len(), 5);
}

#[tokio::test]
async fn a_workspace_shares_its_quota_between_all_its_tokens_and_with_nobody_else() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "contacts: {requests: 2, per: 1m}", ROUTES)).await;
    let status = async |workspace: &str| gateway.get("/api/v1/contacts", &token(workspace, "contacts")).await.status;
    assert_eq!([status("a").await, status("a").await, status("a").await, status("b").await], [200, 200, 429, 200]);
}

#[tokio::test]
async fn the_full_quota_is_back_when_the_window_ends_and_waiting_for_it_is_enough() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "contacts: {requests: 1, per: 2s}", ROUTES)).await;
    let token = token("w", "contacts");
    assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 200);
    let refused = gateway.get("/api/v1/contacts", &token).await;
    assert_eq!(refused.status, 429);
    tokio::time::sleep(std::time::Duration::from_secs(refused.number("retry-after"))).await;
    let again = gateway.get("/api/v1/contacts", &token).await;
    assert_eq!((again.status, again.number("x-ratelimit-remaining")), (200, 0));
}

#[tokio::test]
async fn what_was_refused_before_the_limit_takes_nothing_and_what_comes_after_does() {
    let backend = Backend::answering(|_| crate::harness::backend::json(500, "{}")).await;
    let routes = "  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main, pagination: {sort_by: [name]}}\n";
    let gateway = Gateway::start(&simple(&[backend.address], "contacts: {requests: 10, per: 1m}", routes)).await;
    let token = token("w", "contacts");
    let get = async |path: &str, token: &str| gateway.get(path, token).await;
    let unlimited =
        |answer: &Response| answer.headers.iter().all(|(name, _)| !name.to_lowercase().starts_with("x-ratelimit"));
    assert!(unlimited(&get("/api/v1/contacts", "mb_x").await), "401");
    assert!(unlimited(&get("/api/v1/contacts", &crate::harness::token::token("w", "ai")).await), "403");
    assert!(unlimited(&get("/api/v1/x", &token).await), "404");
    let invalid = get("/api/v1/contacts?page=0", &token).await;
    assert_eq!(
        (invalid.status, invalid.number("x-ratelimit-remaining")),
        (422, 9),
        "pagination is checked after the limit"
    );
    let failed = get("/api/v1/contacts", &token).await;
    assert_eq!((failed.status, failed.number("x-ratelimit-remaining")), (500, 8), "a backend's error was a request");
}

#[tokio::test]
async fn several_limits_are_taken_together_or_not_at_all_and_the_tightest_is_shown() {
    let backend = Backend::start().await;
    let limits = "wide: {requests: 5, per: 1m}, narrow: {requests: 2, per: 1m, by: token}";
    let routes = "  both: {path: /both, scope: contacts, limit: [wide, narrow], upstream: main}\n  wide: {path: /wide, scope: contacts, limit: wide, upstream: main}\n";
    let gateway = Gateway::start(&simple(&[backend.address], limits, routes)).await;
    let (one, other) = (token("w", "contacts"), token("w", "contacts"));
    for left in [1, 0] {
        assert_eq!(gateway.get("/api/v1/both", &one).await.number("x-ratelimit-remaining"), left);
    }
    let refused = gateway.get("/api/v1/both", &one).await;
    assert_eq!((refused.status, refused.number("x-ratelimit-limit")), (429, 2));
    let wide = gateway.get("/api/v1/wide", &other).await;
    assert_eq!(wide.number("x-ratelimit-remaining"), 2, "the refused request took nothing of the other limit");
}

#[tokio::test]
async fn the_drafts_fields_come_when_they_are_asked_for() {
    let backend = Backend::start().await;
    let simple = simple(&[backend.address], "contacts: {requests: 5, per: 1m}", ROUTES);
    let gateway = Gateway::start(&format!("rate_limit_headers: {{ietf: true}}\n{simple}")).await;
    let answer = gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
    assert_eq!(answer.header("ratelimit-policy"), Some(r#""contacts";q=5;w=60"#));
    assert_eq!(answer.header("ratelimit"), Some(r#""contacts";r=4;t=60"#));
}

#[tokio::test]
async fn a_public_route_is_counted_by_the_clients_address() {
    let backend = Backend::start().await;
    let routes = "  open: {path: /open, access: public, limit: open, upstream: main}\n";
    let simple = simple(&[backend.address], "open: {requests: 1, per: 1m, by: client_ip}", routes);
    let gateway = Gateway::start(&format!("trusted_proxies: [127.0.0.0/8]\n{simple}")).await;
    let status = async |address: &str| {
        gateway
            .send(&format!("GET /api/v1/open HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\n\r\n"))
            .await
            .status
    };
    assert_eq!([status("192.0.2.1").await, status("192.0.2.1").await, status("192.0.2.2").await], [200, 429, 200]);
    assert_eq!(
        [status("2001:db8::1").await, status("2001:db8::2").await, status("2001:db8:0:1::1").await],
        [200, 429, 200]
    );
}

/// Sends `count` requests from `width` connections each to `gateways` and returns the answers.
async fn storm(gateways: &[Gateway], count: usize, width: usize) -> Vec<Response> {
    let token = token("stormy", "contacts");
    let request = format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    let lanes: Vec<_> = (0..gateways.len() * width)
        .map(|lane| {
            let (address, request) = (gateways[lane % gateways.len()].address, request.clone());
            tokio::spawn(async move {
                let mut connection = crate::harness::client::Connection::open(address).await;
                let mut answers = Vec::new();
                for _ in 0..count {
                    answers.push(connection.request(&request).await.expect("an answer"));
                }
                answers
            })
        })
        .collect();
    let mut answers = Vec::new();
    for lane in lanes {
        answers.extend(lane.await.unwrap());
    }
    answers
}

fn outcome(answers: &[Response]) -> (usize, usize, usize) {
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    let resets: BTreeSet<u64> = answers.iter().map(|answer| answer.number("x-ratelimit-reset")).collect();
    (passed, refused, resets.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_limit_passes_however_many_come_at_once() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "contacts: {requests: 120, per: 1m}", ROUTES)).await;
    let answers = storm(&[gateway], 10, 100).await;
    assert_eq!(outcome(&answers), (120, 880, 1));
    assert_eq!(backend.seen().len(), 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_gateways_on_one_redis_let_exactly_the_limit_through_with_one_reset() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let config = shared(&redis.url(), &backend, "deadline: 10s", "contacts: {requests: 120, per: 1m}");
    let mut gateways = Vec::new();
    for _ in 0..4 {
        let gateway = Gateway::start(&config).await;
        gateway.log_lines(1, |line| line["message"] == "connected to Redis").await;
        gateways.push(gateway);
    }
    let answers = storm(&gateways, 10, 50).await;
    assert_eq!(answers.len(), 2_000);
    assert_eq!(outcome(&answers), (120, 1_880, 1));
    assert_eq!(backend.seen().len(), 120);
}

/// A gateway's configuration with a Redis.
fn shared(url: &str, backend: &Backend, redis: &str, limits: &str) -> String {
    config(&format!(
        "redis: {{url: \"{url}\", {redis}}}\n{AUTH}\nscopes: [contacts]\nlimits: {{{limits}}}\nupstreams: {{main: {{servers: [\"{}\"]}}}}\nroutes:\n{ROUTES}",
        backend.address
    ))
}

#[tokio::test]
async fn without_redis_each_limit_goes_its_own_way_at_once() {
    let backend = Backend::start().await;
    let url = format!("redis://{}", nobody().await);
    for (policy, expected, headers) in
        [("local", [200, 200, 429], true), ("allow", [200; 3], false), ("deny", [503; 3], false)]
    {
        let limit = format!("contacts: {{requests: 2, per: 1m, on_store_failure: {policy}}}");
        let gateway = Gateway::start(&shared(&url, &backend, "", &limit)).await;
        for status in expected {
            let answer = gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
            assert_eq!(answer.status, status, "{policy}");
            assert_eq!(answer.header("x-ratelimit-remaining").is_some(), headers, "{policy}");
            if status == 503 {
                answer.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
                assert_eq!(answer.number("retry-after"), 1);
            }
        }
        assert_eq!(gateway.metric(r#"gateway_store_up{store="redis"}"#).await, 0.0);
    }
}

#[tokio::test]
async fn a_paused_redis_costs_its_deadline_and_comes_back_by_itself() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let config = shared(&redis.url(), &backend, "", "contacts: {requests: 1000, per: 1m}");
    let gateway = Gateway::start(&config).await;
    gateway.log_lines(1, |line| line["message"] == "connected to Redis").await;
    let token = token("w", "contacts");
    redis.signal("STOP");
    let answer = gateway.get("/api/v1/contacts", &token).await;
    assert_eq!(
        (answer.status, answer.number("x-ratelimit-limit")),
        (200, 1000),
        "this replica's share, which is all of it"
    );
    assert!(gateway.metric(r#"gateway_store_errors_total{operation="take",store="redis"}"#).await >= 1.0);
    redis.signal("CONT");
    crate::harness::wait_for("Redis to count again", || async {
        gateway.get("/api/v1/contacts", &token).await;
        let counted: Option<String> = redis.command(&["HGET", "mb:rl:1:{ww}:contacts:60", "c"]).await;
        counted
    })
    .await;
}

#[tokio::test]
async fn a_restarted_redis_is_found_again_and_knows_its_scripts_again() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let config =
        shared(&redis.url(), &backend, "deadline: 2s", "contacts: {requests: 1000, per: 1m, on_store_failure: deny}");
    let gateway = Gateway::start(&config).await;
    gateway.log_lines(1, |line| line["message"] == "connected to Redis").await;
    let token = token("w", "contacts");
    assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 200);
    redis.command::<()>(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(gateway.get("/api/v1/contacts", &token).await.number("x-ratelimit-remaining"), 998);
    let port = redis.port();
    drop(redis);
    assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 503);
    let _redis = Redis::start_on(port).await;
    crate::harness::wait_for("the gateway to find Redis", || async {
        (gateway.get("/api/v1/contacts", &token).await.status == 200).then_some(())
    })
    .await;
}
