//! Limits as a client meets them.

use std::collections::BTreeSet;

use crate::harness::backend::{Backend, json, typed};
use crate::harness::client::{Connection, Response};
use crate::harness::gateway::{Gateway, counting_in, simple};
use crate::harness::proxy::Wire;
use crate::harness::redis::Redis;
use crate::harness::token::{now, token};
use crate::harness::wait_for;
use crate::reloading::reload;

const ROUTES: &str = "  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main}\n";

#[tokio::test]
async fn case_01_exactly_the_limit_passes_and_every_answer_says_where_one_stands() {
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
async fn case_03_waiting_as_long_as_retry_after_says_is_enough() {
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
    let backend = Backend::answering(|_| json(500, "{}")).await;
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
                let mut connection = Connection::open(address).await;
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
async fn case_02_exactly_the_limit_passes_however_many_come_at_once() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "contacts: {requests: 120, per: 1m}", ROUTES)).await;
    let answers = storm(&[gateway], 10, 100).await;
    assert_eq!(outcome(&answers), (120, 880, 1));
    assert_eq!(backend.seen().len(), 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_02_four_gateways_on_one_redis_let_exactly_the_limit_through_with_one_reset() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateways = gateways(4, &redis, &backend, "contacts: {requests: 120, per: 1m}").await;
    let answers = storm(&gateways, 10, 50).await;
    assert_eq!(answers.len(), 2_000);
    assert_eq!(outcome(&answers), (120, 1_880, 1));
    assert_eq!(backend.seen().len(), 120);
}

/// Some gateways that count in one Redis.
async fn gateways(count: usize, redis: &Redis, backend: &Backend, limits: &str) -> Vec<Gateway> {
    let config = counting_in(&redis.url(), "deadline: 10s", backend.address, limits);
    let mut gateways = Vec::new();
    for _ in 0..count {
        let gateway = Gateway::start(&config).await;
        gateway.log_lines(1, |line| line["message"] == "connected to Redis").await;
        gateways.push(gateway);
    }
    gateways
}

#[tokio::test]
async fn case_01_it_is_the_same_through_four_gateways_in_turn() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateways = gateways(4, &redis, &backend, "contacts: {requests: 60, per: 1m}").await;
    let token = token("w", "contacts");
    let mut resets = BTreeSet::new();
    for (left, gateway) in (0..60).rev().zip(gateways.iter().cycle()) {
        let answer = gateway.get("/api/v1/contacts", &token).await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, left));
        resets.insert(answer.number("x-ratelimit-reset"));
    }
    for gateway in &gateways {
        let refused = gateway.get("/api/v1/contacts", &token).await;
        assert_eq!((refused.status, refused.number("x-ratelimit-remaining")), (429, 0));
        resets.insert(refused.number("x-ratelimit-reset"));
    }
    assert_eq!(resets.len(), 1, "one window has one end: {resets:?}");
}

#[tokio::test]
async fn case_03_waiting_for_the_reset_is_enough_on_every_gateway() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateways = gateways(2, &redis, &backend, "contacts: {requests: 1, per: 2s}").await;
    let token = token("w", "contacts");
    assert_eq!(gateways[0].get("/api/v1/contacts", &token).await.status, 200);
    let refused = gateways[1].get("/api/v1/contacts", &token).await;
    assert_eq!(refused.status, 429);
    let reset = std::time::UNIX_EPOCH + std::time::Duration::from_secs(refused.number("x-ratelimit-reset"));
    wait_for("the reset", async || (std::time::SystemTime::now() >= reset).then_some(())).await;
    let again = gateways[1].get("/api/v1/contacts", &token).await;
    assert_eq!((again.status, again.number("x-ratelimit-remaining")), (200, 0));
}

#[tokio::test]
async fn an_idle_counter_costs_one_call_a_request() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateways = gateways(1, &redis, &backend, "contacts: {requests: 100, per: 1m}").await;
    let token = token("w", "contacts");
    assert_eq!(gateways[0].get("/api/v1/contacts", &token).await.status, 200);
    let before = redis.calls("evalsha").await;
    for _ in 0..20 {
        assert_eq!(gateways[0].get("/api/v1/contacts", &token).await.status, 200);
    }
    assert_eq!(redis.calls("evalsha").await - before, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_share_their_calls_and_none_is_counted_twice() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let wire = Wire::to(redis.port()).await;
    wire.delay(std::time::Duration::from_millis(5));
    let config = counting_in(
        &format!("redis://{}", wire.address),
        "deadline: 10s",
        backend.address,
        "contacts: {requests: 100000, per: 1m}",
    );
    let gateway = Gateway::start(&config).await;
    gateway.log_lines(1, |line| line["message"] == "connected to Redis").await;
    let before = redis.calls("evalsha").await;
    let answers = storm(&[gateway], 10, 100).await;
    let left: BTreeSet<u64> = answers.iter().map(|answer| answer.number("x-ratelimit-remaining")).collect();
    assert_eq!((left.len(), left.first()), (1_000, Some(&99_000)), "each was told its own number");
    let calls = redis.calls("evalsha").await - before;
    assert!(calls < 200, "{calls} calls for 1000 requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_10_a_flood_on_a_used_up_counter_costs_the_store_no_more_than_the_limit_and_the_gateways() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateways = gateways(2, &redis, &backend, "contacts: {requests: 30, per: 1m}").await;
    let answers = storm(&gateways, 100, 10).await;
    assert_eq!(outcome(&answers), (30, 1_970, 1));
    // A call in flight for each gateway, which asks for all who came meanwhile, and one EVAL where the script was not known yet.
    let calls = redis.calls("evalsha").await + redis.calls("eval").await;
    let announced = 2 * u64::try_from(gateways.len()).unwrap();
    assert!(calls <= 30 + 2 + 2 + announced, "{calls} calls for 2000 requests");
    let refused = gateways[0].decided_by("deny_cache").await + gateways[1].decided_by("deny_cache").await;
    assert!(refused > 1_800.0, "{refused}");
}

#[tokio::test]
async fn case_11_a_raised_limit_lets_the_next_request_through_on_every_gateway_at_once() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let limits = |requests: u32| format!("contacts: {{requests: {requests}, per: 1m}}");
    let gateways = gateways(2, &redis, &backend, &limits(3)).await;
    let token = token("w", "contacts");
    for gateway in [&gateways[0], &gateways[0], &gateways[1]] {
        assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 200);
    }
    for gateway in gateways.iter().flat_map(|gateway| [gateway, gateway]) {
        assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 429);
    }
    assert_eq!(gateways[0].decided_by("deny_cache").await, 1.0, "it is remembered that nothing is left");
    for (gateway, left) in gateways.iter().zip([2, 1]) {
        let config = counting_in(&redis.url(), "deadline: 10s", backend.address, &limits(6));
        reload(gateway, &config, 1).await;
        let answer = gateway.get("/api/v1/contacts", &token).await;
        assert_eq!(
            (answer.status, answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-remaining")),
            (200, 6, left)
        );
    }
}

#[tokio::test]
async fn case_23_a_backends_own_rate_limit_headers_are_replaced_by_one_set_of_the_tightest_limit() {
    let backend = Backend::answering(|_| {
        let mut answer = typed(200, "application/json", "{}");
        for name in ["x-ratelimit-limit", "X-RateLimit-Remaining", "x-ratelimit-reset", "ratelimit", "ratelimit-policy"]
        {
            answer.headers_mut().append(http::HeaderName::try_from(name).unwrap(), "9999".parse().unwrap());
            answer.headers_mut().append(http::HeaderName::try_from(name).unwrap(), "8888".parse().unwrap());
        }
        answer
    })
    .await;
    let limits = "wide: {requests: 50, per: 1m}, narrow: {requests: 20, per: 1m, by: token}";
    let routes = "  both: {path: /both, scope: contacts, limit: [wide, narrow], upstream: main}\n";
    let gateway = Gateway::start(&simple(&[backend.address], limits, routes)).await;
    let answer = gateway.get("/api/v1/both", &token("w", "contacts")).await;
    // `number` and `header` fail where a field is there twice.
    assert_eq!((answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-remaining")), (20, 19));
    assert!(answer.number("x-ratelimit-reset").abs_diff(now() + 60) <= 2);
    let other = gateway.get("/api/v1/both", &token("w", "contacts")).await;
    assert_eq!(
        (other.number("x-ratelimit-limit"), other.number("x-ratelimit-remaining")),
        (20, 19),
        "a token of its own"
    );
}

#[tokio::test]
async fn a_limit_in_shadow_refuses_nobody_and_tells_the_operator() {
    let backend = Backend::start().await;
    let limits = "contacts: {requests: 50, per: 1m}, planned: {requests: 1, per: 1m, mode: shadow}";
    let routes = "  contacts: {path: /contacts/**, scope: contacts, limit: [contacts, planned], upstream: main}\n";
    let gateway = Gateway::start(&simple(&[backend.address], limits, routes)).await;
    for left in [49, 48, 47] {
        let answer = gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
        assert_eq!(
            (answer.status, answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-remaining")),
            (200, 50, left)
        );
    }
    let counted = async |decision: &str, limit: &str| {
        let series =
            format!(r#"gateway_ratelimit_decisions_total{{by="store",decision="{decision}",limit="{limit}"}}"#);
        gateway.metric(&series).await
    };
    assert_eq!([counted("allowed", "contacts").await, counted("allowed", "planned").await], [3.0, 1.0]);
    assert_eq!([counted("shadow_limited", "planned").await, counted("limited", "planned").await], [2.0, 0.0]);
    let told = gateway.log_lines(2, |line| line["shadow_limited"] == "planned").await;
    assert_eq!(told.len(), 2);
}

#[tokio::test]
async fn a_route_takes_what_it_costs() {
    let backend = Backend::start().await;
    let routes = "  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main}\n  export: {path: /export, scope: contacts, limit: contacts, cost: 4, upstream: main}\n";
    let gateway = Gateway::start(&simple(&[backend.address], "contacts: {requests: 10, per: 1m}", routes)).await;
    let token = token("w", "contacts");
    let mut seen = Vec::new();
    for path in ["export", "contacts", "export", "export", "contacts", "contacts"] {
        let answer = gateway.get(&format!("/api/v1/{path}"), &token).await;
        seen.push((answer.status, answer.number("x-ratelimit-remaining")));
    }
    assert_eq!(seen, [(200, 6), (200, 5), (200, 1), (429, 1), (200, 0), (429, 0)]);
}

#[tokio::test]
async fn each_algorithm_says_when_the_next_request_passes_and_keeps_its_word() {
    let backend = Backend::start().await;
    let limits = "window: {requests: 2, per: 1m}, log: {requests: 2, per: 1m, algorithm: sliding_log}, even: {requests: 30, per: 1m, algorithm: gcra, burst: 1}";
    let routes: String = ["window", "log", "even"]
        .map(|name| format!("  {name}: {{path: /{name}, scope: contacts, limit: {name}, upstream: main}}\n"))
        .concat();
    let gateway = Gateway::start(&simple(&[backend.address], limits, &routes)).await;
    let token = token("w", "contacts");
    for (name, at_once, waits) in [("window", 2, 50..=60), ("log", 2, 50..=60), ("even", 1, 1..=2)] {
        let path = format!("/api/v1/{name}");
        for _ in 0..at_once {
            assert_eq!(gateway.get(&path, &token).await.status, 200, "{name}");
        }
        let refused = gateway.get(&path, &token).await;
        assert_eq!(refused.status, 429, "{name}");
        assert!(waits.contains(&refused.number("retry-after")), "{name} {refused:?}");
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let again = gateway.get("/api/v1/even", &token).await;
    assert_eq!((again.status, again.number("x-ratelimit-remaining")), (200, 0));
    assert_eq!(gateway.get("/api/v1/window", &token).await.status, 429);
}
