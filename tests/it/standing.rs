//! GET /rate-limits: where a caller stands.

use serde_json::{Value, json};

use crate::harness::backend::{Backend, nobody};
use crate::harness::gateway::{Gateway, counting_in, simple};
use crate::harness::token::{now, token};

const LIMITS: &str = "contacts: {requests: 5, per: 1m}, mine: {requests: 3, per: 10s, by: user}, ai: {requests: 7, per: 1m}, planned: {requests: 1, per: 1m, mode: shadow}";
const ROUTES: &str = "  contacts: {path: /contacts/**, scope: contacts, limit: [contacts, mine, planned], upstream: main}\n  ai: {path: /ai/**, scope: ai, limit: ai, upstream: main}\n";

fn with_two_scopes(backend: &Backend, sections: &str) -> String {
    let simple = simple(&[backend.address], LIMITS, ROUTES).replacen("[contacts]", "[contacts, ai]", 1);
    format!("{sections}\n{simple}")
}

/// Name, subject, limit, window and what remains, of each entry.
fn entries(answer: &Value) -> Vec<String> {
    let entry = |entry: &Value| {
        let [name, by, limit, window, remaining] =
            ["name", "by", "limit", "window", "remaining"].map(|key| entry[key].to_string().replace('"', ""));
        format!("{name} {by} {limit} {window} {remaining}")
    };
    answer["data"].as_array().unwrap().iter().map(entry).collect()
}

#[tokio::test]
async fn a_caller_sees_their_own_limits_and_looking_is_free() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&with_two_scopes(&backend, "")).await;
    let (contacts, both) = (token("w", "contacts"), token("other", "contacts ai"));
    for _ in 0..2 {
        assert_eq!(gateway.get("/api/v1/contacts", &contacts).await.status, 200);
    }
    for _ in 0..3 {
        let answer = gateway.get("/api/v1/rate-limits", &contacts).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
        assert_eq!(answer.json()["success"], true);
        assert_eq!(entries(&answer.json()), ["contacts workspace 5 60 3", "mine user 3 10 1"]);
        let reset = answer.json()["data"][0]["reset"].as_u64().unwrap();
        assert!(reset.abs_diff(now() + 60) <= 20, "{reset}");
        assert!(answer.header("x-request-id").is_some());
        assert_eq!(answer.header("x-ratelimit-limit"), None, "nothing was counted");
    }
    let others = gateway.get("/api/v1/rate-limits", &both).await.json();
    assert_eq!(entries(&others), ["ai workspace 7 60 7", "contacts workspace 5 60 5", "mine user 3 10 3"]);
    assert_eq!(backend.seen().len(), 2, "the backend is not asked");
}

#[tokio::test]
async fn nobody_without_a_valid_token_is_told_anything() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&with_two_scopes(&backend, "")).await;
    let answer = gateway.send("GET /api/v1/rate-limits HTTP/1.1\r\nHost: x\r\n\r\n").await;
    answer.assert_envelope(401, "UNAUTHENTICATED", "Missing or invalid API token.");
    assert_eq!(gateway.get("/api/v1/rate-limits", "mb_no").await.status, 401);
    let request = format!(
        "POST /api/v1/rate-limits HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
        token("w", "contacts")
    );
    assert_eq!(gateway.send(&request).await.status, 405);
}

#[tokio::test]
async fn its_path_is_the_operators_choice() {
    let backend = Backend::start().await;
    let token = token("w", "contacts");
    let elsewhere = Gateway::start(&with_two_scopes(&backend, "rate_limit_endpoint: {path: /me/limits}")).await;
    assert_eq!(entries(&elsewhere.get("/api/v1/me/limits", &token).await.json()).len(), 2);
    assert_eq!(elsewhere.get("/api/v1/rate-limits", &token).await.status, 404);
    let nowhere = Gateway::start(&with_two_scopes(&backend, "rate_limit_endpoint: {path: \"\"}")).await;
    assert_eq!(nowhere.get("/api/v1/rate-limits", &token).await.status, 404);
}

#[tokio::test]
async fn a_route_of_the_file_goes_before_it() {
    let backend = Backend::start().await;
    let own = "  own: {path: /rate-limits, scope: contacts, limit: contacts, upstream: main}\n";
    let config = with_two_scopes(&backend, "").replacen("routes:\n", &format!("routes:\n{own}"), 1);
    let gateway = Gateway::start(&config).await;
    let answer = gateway.get("/api/v1/rate-limits", &token("w", "contacts")).await;
    assert_eq!((answer.json(), answer.number("x-ratelimit-remaining")), (json!({"success": true, "data": []}), 4));
    assert_eq!(backend.only().target, "/api/v1/rate-limits");
}

#[tokio::test]
async fn without_redis_it_tells_of_this_gateways_shares_and_of_nothing_that_is_not_counted() {
    let backend = Backend::start().await;
    let limits = "contacts: {requests: 5, per: 1m}, free: {requests: 5, per: 1m, on_store_failure: allow}";
    let url = format!("redis://{}", nobody().await);
    let config =
        counting_in(&url, "", backend.address, limits).replacen("limit: contacts", "limit: [contacts, free]", 1);
    let gateway = Gateway::start(&config).await;
    let token = token("w", "contacts");
    assert_eq!(gateway.get("/api/v1/contacts", &token).await.number("x-ratelimit-remaining"), 4);
    let answer = gateway.get("/api/v1/rate-limits", &token).await;
    assert_eq!(entries(&answer.json()), ["contacts workspace 5 60 4"]);
}
